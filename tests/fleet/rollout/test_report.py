"""What the report of a run says of its rollout."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from datetime import UTC, datetime, timedelta

import anyio
import msgspec
import pytest

from bms_async import FleetReport, FleetRun, Outcome, OutcomeState, Rollout, RolloutReport, Window
from bms_async.fleet.rollout.report import MAX_PAUSES, RolloutTally, closed_times
from bms_async.simulator import CloudSettings
from bms_async.testing import SimulatedCloud, run_virtually

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RACKS = Rollout(canary=3, group_by="tag:rack", max_unavailable=2)


def walked(rollout: Rollout, *, is_asked: bool = False, never_back_share: float = 0.0) -> FleetReport:
    """Reboot all servers of a cloud as a rollout says; whether one is well is asked of the cloud, or not at all."""
    settings = CloudSettings(servers=60, rack_size=10, seed=5, job_seconds=(60, 60), never_back_share=never_back_share)

    async def main() -> FleetReport:
        cloud = SimulatedCloud(settings)
        chosen = msgspec.structs.replace(rollout, ready=cloud.reachable) if is_asked else rollout
        async with cloud.client() as bms:
            run = bms.fleet.reboot(cloud.ids, rollout=chosen)
            await paused_for_a_while(run)
            return await run

    return run_virtually(main)


async def paused_for_a_while(run: FleetRun) -> None:
    await anyio.sleep(30)
    run.pause()
    run.pause()
    await anyio.sleep(120)
    run.resume()
    run.resume()


def told(report: FleetReport) -> RolloutReport:
    assert report.rollout is not None
    return report.rollout


@pytest.fixture(scope="module")
def report() -> FleetReport:
    return walked(RACKS)


def test_each_server_has_its_group_and_each_group_its_servers(report: FleetReport) -> None:
    rollout = told(report)
    assert len(rollout.groups) == 6
    assert len(rollout.places) == len(report.outcomes) == 60
    counted = Counter(place.group.name for place in rollout.places if place.group is not None)
    assert counted == {group.name: 10 for group in rollout.groups}
    for group in rollout.groups:
        assert (group.servers, group.allowed, group.lost, group.blocked) == (10, 2, 0, False)
        assert group.by_state == {OutcomeState.SUCCEEDED: 10}
        places = zip(report.outcomes, rollout.places, strict=True)
        mine = [outcome for outcome, place in places if place.group == group]
        assert group.started == min(outcome.started for outcome in mine if outcome.started)
        assert group.ended == max(outcome.ended for outcome in mine if outcome.ended)


def test_the_canaries_are_those_that_went_alone(report: FleetReport) -> None:
    rollout = told(report)
    asked = sorted((outcome.started or NOON, outcome.server_id) for outcome in report.outcomes)
    places = zip(report.outcomes, rollout.places, strict=True)
    canaries = {outcome.server_id for outcome, place in places if place.is_canary}
    assert canaries == {server_id for _, server_id in asked[:3]}
    assert sum(group.canaries for group in rollout.groups) == 3


def test_a_pause_is_kept_once_from_its_beginning_to_its_end(report: FleetReport) -> None:
    (pause,) = told(report).pauses
    assert pause.reason == "paused"
    assert (pause.ended - pause.started).total_seconds() == pytest.approx(120, abs=1)
    assert not [
        outcome for outcome in report.outcomes if outcome.started and pause.started < outcome.started < pause.ended
    ]


def test_a_server_that_never_comes_back_is_lost_and_its_group_blocked() -> None:
    rollout = Rollout(group_by="tag:rack", max_unavailable=1, ready_timeout=60)
    report = walked(rollout, is_asked=True, never_back_share=0.1)
    lost = {
        outcome.server_id for outcome, place in zip(report.outcomes, told(report).places, strict=True) if place.is_lost
    }
    assert lost == {outcome.server_id for outcome in report.outcomes if outcome.state is OutcomeState.FAILED}
    assert 0 < len(lost) < 20
    blocked = [group for group in told(report).groups if group.blocked]
    assert blocked
    assert all(group.lost == group.allowed and OutcomeState.SKIPPED in group.by_state for group in blocked)
    assert sum(group.lost for group in told(report).groups) == len(lost)


def test_without_groups_all_servers_are_one_and_without_a_rollout_there_is_none() -> None:
    (group,) = told(walked(Rollout(max_unavailable=30))).groups
    assert (group.name, group.servers) == ("", 60)
    assert walked(Rollout()).rollout is not None

    async def main() -> FleetReport:
        cloud = SimulatedCloud(CloudSettings(servers=3))
        async with cloud.client() as bms:
            return await bms.fleet.reboot(cloud.ids)

    plain = run_virtually(main)
    assert plain.rollout is None
    written = msgspec.json.decode(plain.to_json())
    assert "groups" not in written
    assert "group" not in written["outcomes"][0]


def test_what_is_no_id_has_no_group() -> None:
    async def main() -> FleetReport:
        cloud = SimulatedCloud(CloudSettings(servers=3))
        async with cloud.client() as bms:
            return await bms.fleet.reboot(["no id", *cloud.ids], rollout=RACKS)

    report = run_virtually(main)
    places = dict(zip((outcome.state for outcome in report.outcomes), told(report).places, strict=True))
    assert places[OutcomeState.SKIPPED].group is None
    assert places[OutcomeState.SUCCEEDED].group is not None


def test_the_json_of_a_report_has_the_groups(report: FleetReport) -> None:
    written = msgspec.json.decode(report.to_json())
    assert written["version"] == 1
    assert [group["name"] for group in written["groups"]] == [group.name for group in told(report).groups]
    assert written["pauses"][0]["reason"] == "paused"
    assert Counter(outcome["group"] for outcome in written["outcomes"]) == {
        each.name: 10 for each in told(report).groups
    }
    assert sum(outcome["canary"] for outcome in written["outcomes"]) == 3
    assert not any(outcome["lost"] for outcome in written["outcomes"])


@pytest.mark.parametrize("way", [lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy])
def test_it_can_be_sent_to_another_process(report: FleetReport, way: object) -> None:
    assert callable(way)
    assert way(report).rollout == report.rollout
    assert list(way(report).rollout.places) == list(told(report).places)


def test_a_place_takes_four_bytes() -> None:
    tally = RolloutTally()
    before = Outcome(server_id="a", state=OutcomeState.SUCCEEDED, started=NOON, ended=NOON)
    for number in range(1000):
        tally.add(before, f"rack-{number % 10}", is_canary=number < 5)
    groups = tuple(tally.groups(lambda _: 1, lambda _: False))
    places = tally.report(groups, ()).places
    assert len(pickle.dumps(places)) - len(pickle.dumps(groups)) < 4200
    assert [place.is_canary for place in places[:6]] == [True] * 5 + [False]
    assert places[-1].group == groups[9]
    with pytest.raises(IndexError):
        places[1000]


def test_the_times_outside_of_the_window_are_told_with_what_is_left_of_them() -> None:
    window = Window("22:00-04:00")
    closed = list(closed_times(window, NOON, NOON + timedelta(hours=20)))
    assert [(pause.started.hour, pause.ended.hour, pause.reason) for pause in closed] == [
        (12, 22, "window"),
        (4, 8, "window"),
    ]
    assert list(closed_times(window, NOON + timedelta(hours=11), NOON + timedelta(hours=12))) == []
    assert list(closed_times(None, NOON, NOON + timedelta(days=9))) == []
    assert list(closed_times(Window("00:00-24:00"), NOON, NOON + timedelta(days=9))) == []
    assert len(list(closed_times(window, NOON, NOON + timedelta(days=4000)))) == MAX_PAUSES
