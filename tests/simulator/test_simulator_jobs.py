"""Power operations on a clock in the test's hand."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from bms_async.simulator import Cloud, CloudSettings, Server
from bms_async.simulator.core.jobs import REASONS
from bms_async.simulator.core.refusals import Refusal
from bms_async.simulator.core.servers import Filters, PowerAction
from bms_async.simulator.core.settings import ReasonPlace


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 5000.25) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def job_of(cloud: Cloud, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = msgspec.json.decode(cloud.job_document(job_id))
    return job


def some(cloud: Cloud, count: int, first: int = 0) -> list[str]:
    return list(cloud.servers)[first : first + count]


def sub_jobs(job: dict[str, Any]) -> list[dict[str, Any]]:
    subs: list[dict[str, Any]] = job["entities"]["sub_jobs"]
    return subs


def test_a_job_begins_runs_and_succeeds() -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=100, job_seconds=(10.0, 20.0)), hand)
    ids = some(cloud, 40)
    job_id = cloud.act("stop", ids).id

    first = job_of(cloud, job_id)
    assert (first["status"], first["job_type"]) == ("INIT", "baremetalBatchOperate")
    assert first["entities"] == {"sub_jobs_total": 40}
    assert first["end_time"] is None

    seen = []
    for _ in range(200):
        hand.now += 0.1
        job = job_of(cloud, job_id)
        listed = job["entities"].get("sub_jobs", [])
        states = [each["status"] for each in listed]
        seen.append((job["status"], len(listed)))
        if job["status"] == "INIT":
            assert len(listed) < 40
            assert set(states) <= {"INIT"}
        else:
            assert [each["entities"]["server_id"] for each in listed] == ids
        if job["status"] == "RUNNING":
            assert set(states) - {"SUCCESS"}
    assert {status for status, _ in seen} == {"INIT", "RUNNING", "SUCCESS"}
    assert ("INIT", 20) in seen

    done = job_of(cloud, job_id)
    assert done["status"] == "SUCCESS"
    assert (done["error_code"], done["fail_reason"]) == (None, None)
    assert {each["status"] for each in sub_jobs(done)} == {"SUCCESS"}
    assert {each["job_type"] for each in sub_jobs(done)} == {"baremetalSingleOperate"}
    assert len({each["job_id"] for each in sub_jobs(done)} | {done["job_id"]}) == 41
    assert done["end_time"] == max(each["end_time"] for each in sub_jobs(done))
    assert all(each["begin_time"] < each["end_time"] for each in sub_jobs(done))


def test_timestamps_count_from_the_epoch() -> None:
    hand = Hand()
    epoch = datetime(2030, 5, 6, 7, 8, 9, 250_000, tzinfo=UTC)
    cloud = Cloud(CloudSettings(servers=1, job_seconds=(1.5, 1.5), epoch=epoch), hand)
    hand.now += 60.001
    job_id = cloud.act("stop", some(cloud, 1)).id
    hand.now += 10
    job = job_of(cloud, job_id)
    assert job["begin_time"] == "2030-05-06T07:09:09.251Z"
    assert job["end_time"] == "2030-05-06T07:09:10.751Z"


@pytest.mark.parametrize("action", ["stop", "reboot"])
def test_a_server_shows_what_is_done_to_it(action: PowerAction) -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=1, job_seconds=(100.0, 100.0)), hand)
    [server_id] = some(cloud, 1)

    def look() -> Server:
        return cloud.servers[server_id]

    cloud.act(action, [server_id])
    assert (look().status, look().task_state, look().updated) == ("ACTIVE", None, None)
    hand.now += 50
    during = (look().status, look().task_state, look().powered)
    began = look().updated
    assert (
        during
        == {
            "stop": ("ACTIVE", "powering-off", True),
            "reboot": ("HARD_REBOOT", "reboot_started_hard", True),
        }[action]
    )
    hand.now += 50
    assert look().task_state is None
    assert look().status == ("SHUTOFF" if action == "stop" else "ACTIVE")
    assert began is not None
    assert (look().updated or 0) > began
    assert (look().stops, look().reboots, look().starts) == (action == "stop", action == "reboot", 0)


def test_a_stopped_server_starts_and_may_be_rebooted() -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=2, stopped_share=1.0, job_seconds=(10.0, 10.0)), hand)
    one, other = some(cloud, 2)
    cloud.act("start", [one])
    cloud.act("reboot", [other])
    hand.now += 5
    assert (cloud.servers[one].status, cloud.servers[one].task_state) == ("SHUTOFF", "powering-on")
    assert (cloud.servers[other].status, cloud.servers[other].powered) == ("HARD_REBOOT", False)
    hand.now += 5
    assert cloud.count_servers() == {"ACTIVE": 2, "SHUTOFF": 0, "HARD_REBOOT": 0}
    assert (cloud.servers[one].starts, cloud.servers[other].reboots) == (1, 1)


@pytest.mark.parametrize(("action", "code"), [("stop", "BMS.0006"), ("reboot", "BMS.3037")])
def test_a_drawn_failure_leaves_the_power_as_it_was_and_after_a_reboot_off(action: PowerAction, code: str) -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=100, fail_share=0.1), hand)
    job_id = cloud.act(action, some(cloud, 100)).id
    hand.now += 100
    job = job_of(cloud, job_id)
    assert (job["status"], job["error_code"]) == ("FAIL", code)
    assert job["fail_reason"]
    failed = {each["entities"]["server_id"]: each for each in sub_jobs(job) if each["status"] == "FAIL"}
    assert set(failed) == {server.id for server in cloud.servers.values() if server.faulty}
    assert len(failed) == 10
    assert {each["error_code"] for each in failed.values()} == {code}
    for server in cloud.servers.values():
        done = not server.faulty
        assert server.status == ("SHUTOFF" if done is (action == "stop") else "ACTIVE")
        assert (server.stops + server.reboots) == done


BUSY: list[tuple[PowerAction, str]] = [("start", "BMS.0035"), ("stop", "BMS.0036"), ("reboot", "BMS.0037")]


@pytest.mark.parametrize(("action", "code"), BUSY)
@pytest.mark.parametrize("refuse", [False, True])
def test_a_busy_server_takes_no_second_order(action: PowerAction, code: str, refuse: bool) -> None:
    hand = Hand()
    stopped = 1.0 if action == "start" else 0.0
    cloud = Cloud(CloudSettings(servers=3, stopped_share=stopped, refuse_batches=refuse), hand)
    busy, free, _ = some(cloud, 3)
    cloud.act(action, [busy])
    if refuse:
        with pytest.raises(Refusal) as refused:
            cloud.act("reboot", [free, busy])
        assert (refused.value.status, refused.value.code) == (400, code)
        hand.now += 100
        assert cloud.servers[free].reboots == 0
        return
    job_id = cloud.act("reboot", [free, busy]).id
    hand.now += 100
    states = {each["entities"]["server_id"]: each for each in sub_jobs(job_of(cloud, job_id))}
    assert states[free]["status"] == "SUCCESS"
    assert (states[busy]["status"], states[busy]["error_code"]) == ("FAIL", code)
    assert cloud.servers[busy].reboots == (action == "reboot")


@pytest.mark.parametrize(("action", "stopped", "code"), [("start", 0.0, "BMS.0038"), ("stop", 1.0, "BMS.0039")])
@pytest.mark.parametrize("refuse", [False, True])
def test_what_is_so_already_is_not_done_again(action: PowerAction, stopped: float, code: str, refuse: bool) -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=1, stopped_share=stopped, refuse_batches=refuse), hand)
    if refuse:
        with pytest.raises(Refusal, match=code):
            cloud.act(action, some(cloud, 1))
        return
    job_id = cloud.act(action, some(cloud, 1)).id
    hand.now += 100
    [sub] = sub_jobs(job_of(cloud, job_id))
    assert (sub["status"], sub["error_code"]) == ("FAIL", code)
    assert sub["begin_time"] == sub["end_time"]
    [server] = cloud.servers.values()
    assert (server.starts, server.stops, server.updated) == (0, 0, None)


def test_an_unknown_server_refuses_the_batch_and_is_named() -> None:
    cloud = Cloud(CloudSettings(servers=5), Hand())
    stranger = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(Refusal, match=stranger) as refused:
        cloud.act("stop", [*some(cloud, 3), stranger])
    assert (refused.value.status, refused.value.code) == (400, "BMS.0040")
    assert all(server.action is None for server in cloud.servers.values())


def test_the_outcome_does_not_depend_on_when_anybody_looked() -> None:
    settings = CloudSettings(servers=300, seed=11, fail_share=0.05)
    answers = []
    for step in (0.37, 5.0, 1000.0):
        hand = Hand()
        cloud = Cloud(settings, hand)
        ids = some(cloud, 300)
        jobs = [cloud.act("stop", ids[:150]).id, cloud.act("reboot", ids[150:]).id]
        end = hand.now + 1000
        while hand.now < end:
            hand.now = min(end, hand.now + step)
            job_of(cloud, jobs[0])
        answers.append([cloud.job_document(each) for each in jobs] + [repr(cloud.servers[i]).encode() for i in ids])
    assert answers[0] == answers[1] == answers[2]


def test_a_job_read_often_reads_as_one_that_is_read_once() -> None:
    settings = CloudSettings(servers=20, seed=2, fail_share=0.2)
    hand = Hand()
    often = Cloud(settings, hand)
    ids = some(often, 20)
    job_id = often.act("reboot", ids).id
    seen = set()
    for tenths in range(950):
        hand.now = 5000.25 + tenths / 10
        other = Hand()
        once = Cloud(settings, other)
        once.act("reboot", ids)
        other.now = hand.now
        answer = often.job_document(job_id)
        assert answer == once.job_document(job_id)
        seen.add(answer)
    assert len(seen) > 40


def test_the_next_order_finds_the_last_one_done_though_nobody_looked() -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=1, refuse_batches=True), hand)
    ids = some(cloud, 1)
    orders: list[PowerAction] = ["stop", "start", "reboot", "stop"]
    for action in orders:
        cloud.act(action, ids)
        hand.now += 100
    [server] = cloud.servers.values()
    assert (server.status, server.stops, server.starts, server.reboots) == ("SHUTOFF", 2, 1, 1)


def test_a_sub_job_can_be_asked_for_by_its_own_id() -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=3), hand)
    job_id = cloud.act("stop", some(cloud, 3)).id
    hand.now += 100
    for sub in sub_jobs(job_of(cloud, job_id)):
        assert job_of(cloud, sub["job_id"]) == sub


@pytest.mark.parametrize("wrong", ["", "x", "0" * 32, "G" * 32])
def test_a_job_that_nobody_started_is_not_found(wrong: str) -> None:
    cloud = Cloud(CloudSettings(servers=3), Hand())
    job_id = cloud.act("stop", some(cloud, 3)).id
    for each in (wrong, job_id[:24] + "zzzzzzzz", f"{job_id[:24]}{(int(job_id[24:], 16) + 4) % 16**8:08x}"):
        with pytest.raises(Refusal) as refused:
            cloud.job_document(each)
        assert refused.value.status == 404


def test_a_job_may_appear_late_and_be_forgotten() -> None:
    hand = Hand()
    settings = CloudSettings(servers=1, job_seconds=(10.0, 10.0), job_hidden_seconds=2.0, job_kept_seconds=5.0)
    cloud = Cloud(settings, hand)
    job_id = cloud.act("stop", some(cloud, 1)).id
    seen = []
    for _ in range(16):
        try:
            seen.append(job_of(cloud, job_id)["status"])
        except Refusal as refused:
            seen.append(str(refused.status))
        hand.now += 1
    assert seen == ["404"] * 2 + ["RUNNING"] * 8 + ["SUCCESS"] * 5 + ["404"]
    assert [server.stops for server in cloud.servers.values()] == [1]


def test_sub_jobs_may_change_their_order_and_failed_ones_lose_their_server() -> None:
    hand = Hand()
    settings = CloudSettings(servers=50, fail_share=0.1, shuffle_sub_jobs=True, anonymous_failures=True)
    cloud = Cloud(settings, hand)
    job_id = cloud.act("stop", some(cloud, 50)).id
    hand.now += 100
    one, other = (sub_jobs(job_of(cloud, job_id)) for _ in range(2))
    assert one != other
    by_id = {each["job_id"]: each for each in one}
    assert by_id == {each["job_id"]: each for each in other}
    assert sum(each["entities"] == {} for each in one) == 5


def test_jobs_without_length_end_at_once() -> None:
    cloud = Cloud(CloudSettings(servers=2, job_seconds=(0.0, 0.0)), Hand())
    job_id = cloud.act("reboot", some(cloud, 2)).id
    assert job_of(cloud, job_id)["status"] == "SUCCESS"
    assert [server.reboots for server in cloud.servers.values()] == [1, 1]


async def test_a_list_by_status_sees_every_job_that_was_due() -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=100), hand)
    for first in range(0, 60, 5):
        cloud.act("stop", some(cloud, 5, first))
    hand.now += 1000
    count, page = await cloud.find(Filters(status="SHUTOFF", flavor="physical.o2.medium"), 2, 3)
    assert count == 20
    assert [server.index for server in page] == [6, 9, 12]


def watch(cloud: Cloud, hand: Hand, job_id: str, *, seconds: int = 100) -> list[dict[str, Any]]:
    """What a job has told, once a second."""
    told = []
    for _ in range(seconds):
        told.append(job_of(cloud, job_id))
        hand.now += 1
    return told


def test_a_job_may_say_fail_as_soon_as_one_sub_job_has_failed() -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=50, fail_share=0.1, early_failures=True), hand)
    told = watch(cloud, hand, cloud.act("stop", some(cloud, 50)).id)

    early = [job for job in told if job["status"] == "FAIL" and job["end_time"] is None]
    assert early
    assert all({"FAIL", "RUNNING"} <= {each["status"] for each in sub_jobs(job)} for job in early)
    assert early[0]["error_code"] == "BMS.0006"
    assert early[0]["fail_reason"].endswith("of 50 sub-jobs failed.")
    assert told[-1]["end_time"] is not None
    assert sorted(each["status"] for each in sub_jobs(told[-1])) == ["FAIL"] * 5 + ["SUCCESS"] * 45


def test_a_job_may_hang_though_its_servers_have_done_what_was_asked() -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=50, seed=1, stuck_share=0.1, job_kept_seconds=60.0), hand)
    job_id = cloud.act("stop", some(cloud, 50)).id
    hand.now += 10 * 86400

    job = job_of(cloud, job_id)
    states = [each["status"] for each in sub_jobs(job)]
    assert (job["status"], job["end_time"]) == ("RUNNING", None)
    assert 0 < states.count("RUNNING") == 50 - states.count("SUCCESS") < 15
    assert {each["end_time"] is None for each in sub_jobs(job) if each["status"] == "RUNNING"} == {True}
    assert {server.status for server in cloud.servers.values()} == {"SHUTOFF"}
    stuck = next(each for each in sub_jobs(job) if each["status"] == "RUNNING")
    assert job_of(cloud, stuck["job_id"]) == stuck


def test_a_failure_that_hangs_is_not_told_and_the_others_are() -> None:
    hand = Hand()
    settings = CloudSettings(servers=20, fail_share=1.0, stuck_share=0.5, early_failures=True)
    cloud = Cloud(settings, hand)
    job_id = cloud.act("stop", some(cloud, 20)).id
    hand.now += 1000

    job = job_of(cloud, job_id)
    failed = [each["status"] for each in sub_jobs(job)].count("FAIL")
    assert job["status"] == "FAIL"
    assert job["fail_reason"] == f"{failed} of 20 sub-jobs failed."
    assert 0 < failed < 20


def test_a_batch_may_fail_before_its_sub_jobs_are_made_and_then_touches_no_server() -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=3, stillborn_share=1.0), hand)
    job_id = cloud.act("stop", some(cloud, 3)).id
    hand.now += 100

    job = job_of(cloud, job_id)
    assert (job["status"], job["error_code"]) == ("FAIL", "BMS.0006")
    assert job["fail_reason"] == "The job could not be divided into sub-jobs."
    assert job["entities"] == {"sub_jobs_total": 3, "sub_jobs": []}
    assert {(server.status, server.stops) for server in cloud.servers.values()} == {("ACTIVE", 0)}
    assert dict(cloud.activity.power_counts()["stop"]) == {}
    with pytest.raises(Refusal):
        cloud.job_document(f"{job_id[:24]}{(int(job_id[24:], 16) + 1) % 16**8:08x}")


@pytest.mark.parametrize("place", ["sub_job", "entities", "job", "nowhere"])
def test_the_reason_of_a_failure_is_told_where_the_settings_have_it(place: ReasonPlace) -> None:
    hand = Hand()
    cloud = Cloud(CloudSettings(servers=1, fail_share=1.0, reason_place=place), hand)
    job_id = cloud.act("stop", some(cloud, 1)).id
    hand.now += 100

    job = job_of(cloud, job_id)
    [sub] = sub_jobs(job)
    words = REASONS["BMS.0006"]
    assert (sub["status"], job["status"]) == ("FAIL", "FAIL")
    assert sub["fail_reason"] == (words if place == "sub_job" else None)
    assert sub["entities"].get("errorcode_message") == (words if place == "entities" else None)
    assert sub["error_code"] == ("BMS.0006" if place in ("sub_job", "entities") else None)
    assert job["error_code"] == (None if place == "nowhere" else "BMS.0006")
    assert (job["fail_reason"] == words) == (place == "job")


def test_the_shape_of_jobs_changes_nothing_else_that_is_drawn() -> None:
    def ends(settings: CloudSettings) -> list[str]:
        hand = Hand()
        cloud = Cloud(settings, hand)
        job_id = cloud.act("reboot", some(cloud, 20)).id
        hand.now += 100
        return [each["begin_time"] for each in sub_jobs(job_of(cloud, job_id))]

    assert ends(CloudSettings(servers=20, seed=4)) == ends(
        CloudSettings(servers=20, seed=4, stuck_share=0.5, early_failures=True, reason_place="entities")
    )
