"""Servers that change without a call: by a plan, by chance, and by the hand of another operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from bms_async.simulator import Cloud, CloudSettings, Drift
from bms_async.simulator.__main__ import _parser, _read_options
from bms_async.simulator.core.refusals import Refusal
from tests.simulator._helpers import Hand, Worlds


def cloud_of(**settings: object) -> tuple[Cloud, Hand]:
    hand = Hand()
    return Cloud(CloudSettings(**{"servers": 100, **settings}), hand), hand  # type: ignore[arg-type]


def statuses(cloud: Cloud) -> list[str]:
    return [server.status for server in cloud.servers.values()]


def test_a_planned_server_changes_at_its_moment_and_not_before() -> None:
    cloud, hand = cloud_of(servers=3)
    first, second, _ = cloud.servers
    cloud.drifting.plan([Drift(60.0, second, "ERROR"), (30.0, first, "SHUTOFF"), (90.0, first)])
    hand.now += 29.0
    assert statuses(cloud) == ["ACTIVE"] * 3
    hand.now += 1.0
    assert statuses(cloud) == ["SHUTOFF", "ACTIVE", "ACTIVE"]
    assert cloud.server(first).updated == 130.0
    hand.now += 60.0
    assert statuses(cloud) == ["ACTIVE", "ERROR", "ACTIVE"]
    assert cloud.drifting.changes == 3
    assert [(server.starts, server.stops) for server in cloud.servers.values()] == [(0, 0)] * 3


def test_a_plan_may_be_without_end_and_is_asked_for_one_change_more_than_have_come() -> None:
    cloud, hand = cloud_of(servers=1)
    (server_id,) = cloud.servers
    asked: list[int] = []

    def flapping() -> Iterator[tuple[float, str]]:
        for minute in range(1, 10**9):
            asked.append(minute)
            yield 60.0 * minute, server_id

    cloud.drifting.plan(flapping())
    hand.now += 60 * 7 + 1
    assert statuses(cloud) == ["SHUTOFF"]
    assert asked == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ((-1.0, "known"), "0 or more seconds"),
        ((float("inf"), "known"), "no infinity"),
        ((1.0, "known", "REBOOT"), "expected one of ACTIVE, SHUTOFF, ERROR"),
        ((1.0, "known", "ACTIVE", -1.0), "0 or more seconds"),
        ((1.0, "strange"), "no such server"),
    ],
)
def test_a_change_that_cannot_happen_is_refused_and_none_of_its_plan_happens(
    entry: tuple[object, ...], why: str
) -> None:
    cloud, hand = cloud_of(servers=1)
    (server_id,) = cloud.servers
    after, named, *rest = entry
    with pytest.raises(ValueError, match=why):
        cloud.drifting.plan([(0.0, server_id), (after, server_id if named == "known" else named, *rest)])  # type: ignore[list-item]
    hand.now += 10
    assert statuses(cloud) == ["ACTIVE"]


def test_a_server_under_way_is_left_alone_and_its_job_wins() -> None:
    cloud, hand = cloud_of(servers=2, job_seconds=(60.0, 60.0))
    first, second = cloud.servers
    cloud.act("stop", [first])
    cloud.drifting.plan([(30.0, first, "ERROR"), (30.0, second, "ERROR")])
    hand.now += 30
    assert statuses(cloud) == ["ACTIVE", "ERROR"]
    hand.now += 30
    assert statuses(cloud) == ["SHUTOFF", "ERROR"]
    assert cloud.drifting.changes == 1


def test_what_is_seen_does_not_depend_on_when_it_is_looked() -> None:
    def seen(step: float) -> list[tuple[str, float | None, int]]:
        cloud, hand = cloud_of(drift_share=0.3, drift_error_share=0.2, drift_task_seconds=(0.0, 40.0), fail_share=0.1)
        ids = list(cloud.servers)
        for _ in range(5):
            for _ in range(round(100 / step)):
                hand.now += step
                assert len(cloud.count_servers()) >= 3
            cloud.act("stop", ids[::3])
            cloud.act("start", ids[1::3])
        return [(server.status, server.updated, server.stops) for server in cloud.servers.values()]

    assert seen(1.0) == seen(20.0) == seen(100.0)


def test_by_chance_so_many_drift_each_minute_and_the_same_ones_with_the_same_seed() -> None:
    cloud, hand = cloud_of(servers=5000, drift_share=0.01)
    again, again_hand = cloud_of(servers=5000, drift_share=0.01)
    hand.now += 600
    again_hand.now += 600
    assert statuses(cloud) == statuses(again)
    assert 400 <= cloud.drifting.changes <= 600
    assert Counter(statuses(cloud))["SHUTOFF"] == pytest.approx(476, abs=60)
    other, other_hand = cloud_of(servers=5000, drift_share=0.01, seed=1)
    other_hand.now += 600
    assert [server.status for server in other.servers.values()] != statuses(cloud)


def test_servers_in_error_recover_to_what_they_were() -> None:
    cloud, hand = cloud_of(stopped_share=0.5, drift_share=1.0, drift_error_share=1.0, drift_error_seconds=(1e4, 1e4))
    before = statuses(cloud)
    hand.now += 600
    assert Counter(statuses(cloud)) == {"ERROR": 100}
    cloud, hand = cloud_of(
        stopped_share=0.5, drift_share=0.001, drift_error_share=1.0, drift_error_seconds=(30.0, 60.0)
    )
    in_error = 0
    for _ in range(200):
        hand.now += 60
        shown = statuses(cloud)
        in_error += shown.count("ERROR")
        assert all(now in (once, "ERROR") for now, once in zip(shown, before, strict=True))
    assert in_error


def test_a_server_in_error_can_be_stopped_and_not_started() -> None:
    cloud, hand = cloud_of(servers=1, job_seconds=(10.0, 10.0))
    (server_id,) = cloud.servers
    cloud.drifting.plan([(0.0, server_id, "ERROR")])
    assert cloud.act("start", [server_id]).document(hand.now, cloud.wall, anonymous=False, order=None)
    hand.now += 20
    assert statuses(cloud) == ["ERROR"]
    cloud.act("stop", [server_id])
    hand.now += 20
    assert statuses(cloud) == ["SHUTOFF"]


async def test_another_operator_shows_a_task_and_power_operations_are_refused_meanwhile(world: Worlds) -> None:
    opened = world(servers=2, refuse_batches=True)
    first, second = opened.ids
    assert opened.cloud.drifting.switch(opened.cloud.server(first), "SHUTOFF", 30.0)
    shown = await opened.server(first)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", "powering-off")
    with pytest.raises(Refusal) as refused:
        opened.cloud.act("stop", [second, first])
    assert refused.value.code == "BMS.0036"
    assert not opened.cloud.drifting.switch(opened.cloud.server(first), "ACTIVE", 1.0)
    assert opened.cloud.drifting.switching == 1
    opened.hand.now += 30
    shown = await opened.server(first)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("SHUTOFF", None)
    assert (opened.cloud.drifting.switching, opened.cloud.server(first).stops) == (0, 0)
    assert not opened.cloud.drifting.switch(opened.cloud.server(first), "SHUTOFF", 1.0)


def test_a_server_that_is_deleted_while_it_is_switched_stays_deleted() -> None:
    cloud, hand = cloud_of(servers=1, job_seconds=(10.0, 10.0))
    (server,) = cloud.servers.values()
    cloud.drifting.plan([(100.0, server.id, "ERROR")])
    cloud.drifting.switch(server, "SHUTOFF", 30.0)
    cloud.delete(server)
    hand.now += 200
    assert cloud.count_servers()["SHUTOFF"] == 0
    assert server.is_deleted


def test_whoever_drifts_or_is_switched_is_reachable_as_the_books_of_who_is_away_say() -> None:
    cloud, hand = cloud_of(servers=1, job_seconds=(10.0, 10.0), boot_seconds=(20.0, 20.0))
    (server,) = cloud.servers.values()
    cloud.drifting.switch(server, "SHUTOFF", 5.0)
    hand.now += 5
    assert not cloud.is_reachable(server.id)
    cloud.drifting.switch(cloud.server(server.id), "ACTIVE", 5.0)
    hand.now += 5
    assert not cloud.is_reachable(server.id)
    hand.now += 20
    assert cloud.is_reachable(server.id)
    server.faulty = True
    cloud.act("reboot", [server.id])
    hand.now += 10
    cloud.drifting.plan([(0.0, server.id, "ACTIVE")])
    assert cloud.is_reachable(server.id)
    assert cloud.availability.absences()[-1].back == hand.now


async def test_a_server_shows_the_end_of_its_sub_job_later_if_states_lag(world: Worlds) -> None:
    opened = world(servers=2, job_seconds=(10.0, 10.0), state_lag_seconds=5.0)
    first, *_ = opened.ids
    accepted = opened.cloud.act("stop", [first])
    opened.hand.now += 10
    assert (await opened.bms.get(f"/jobs/{accepted.id}")).json()["status"] == "SUCCESS"
    shown = await opened.server(first)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", "powering-off")
    assert [work.kind for work in opened.cloud.activity.under_way()] == ["stop"]
    opened.hand.now += 5
    listed = (await opened.bms.get("/baremetalservers/detail?status=SHUTOFF")).json()
    assert [server["id"] for server in listed["servers"]] == [first]
    shown = await opened.server(first)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("SHUTOFF", None)
    assert list(opened.cloud.activity.under_way()) == []
    assert opened.cloud.activity.counts().ended == 1


@pytest.mark.parametrize(
    "wrong", [{"drift_share": -0.1}, {"drift_error_share": 1.1}, {"state_lag_seconds": float("inf")},
              {"drift_task_seconds": (2.0, 1.0)}],
)  # fmt: skip
def test_a_setting_that_no_cloud_can_have_is_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        CloudSettings(**wrong)  # type: ignore[arg-type]


def test_each_setting_has_a_flag() -> None:
    flags = ["--drift-share", "0.5", "--drift-error-share", "0.1", "--drift-error-seconds", "1", "2"]
    flags += ["--drift-task-seconds", "3", "4", "--state-lag-seconds", "5"]
    settings, _, _ = _read_options(_parser("simulator", ""), flags)
    assert (settings.drift_share, settings.drift_error_share, settings.state_lag_seconds) == (0.5, 0.1, 5.0)
    assert (settings.drift_error_seconds, settings.drift_task_seconds) == ((1.0, 2.0), (3.0, 4.0))


async def test_a_plan_is_accepted_by_http_and_a_wrong_one_refused(world: Worlds) -> None:
    opened = world(servers=1)
    (server_id,) = opened.ids
    for plan, status in (([[5.0, server_id, "SHUTOFF"]], 200), ([[5.0, "x", "SHUTOFF"]], 400), ([{"after": 1}], 400)):
        answer = await opened.bms.post("http://bms.test/_admin/drift", json=plan)
        assert answer.status_code == status, answer.text
    opened.hand.now += 5
    shown = (await opened.bms.get("http://bms.test/_admin/status")).json()["servers"]
    assert (shown["by_status"]["SHUTOFF"], shown["drifted"]) == (1, 1)
