"""What a rollout will be like, before it is begun."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import msgspec
import pytest

from bms_async import InvalidRequestError, Rollout, RolloutPlan, Window
from bms_async.fleet.rollout.forecast import MAX_WAVES, Forecast
from bms_async.fleet.rollout.planner import RolloutPlanner
from tests.support.clouds import simulated
from tests.support.virtual_clock import run_virtually

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
"""A Monday."""

SATURDAYS = Window("Sat 22:00-04:00", zone="Europe/Berlin")


def plan(servers: int, groups: int = 1, *, minutes: float = 5, limit: int | None = 50, **rules: Any) -> RolloutPlan:
    window = rules.pop("window", None)
    planner = RolloutPlanner(**rules)
    of = {f"s{number}": f"g{number % groups}" for number in range(servers)}
    for server_id, group in of.items():
        planner.add(server_id, group)
    planner.seal()
    forecast = Forecast(
        planner, of.__getitem__, start=NOON, seconds_each=60 * minutes, window=window, calls_a_minute=limit
    )
    for _ in forecast.steps():
        pass
    return forecast.result()


def minutes_to_end(found: RolloutPlan) -> float:
    assert found.ends is not None
    return (found.ends - NOON).total_seconds() / 60


def test_racks_go_side_by_side_one_server_of_each_in_one_call() -> None:
    found = plan(1000, 50, max_unavailable=1)
    assert (found.servers, found.groups, found.waves, found.calls) == (1000, 50, 20, 20)
    assert minutes_to_end(found) == 100
    first, second = found.first_waves[:2]
    assert (first.servers, first.groups, first.calls) == (50, 50, 1)
    assert first.first_groups == ("g0", "g1", "g2", "g3", "g4")
    assert second.begins - first.begins == timedelta(minutes=5)


def test_canaries_are_a_wave_of_their_own_and_settle_before_the_rest() -> None:
    found = plan(20, canary=3, settle=30)
    canaries, rest = found.first_waves
    assert (canaries.servers, canaries.is_canary) == (3, True)
    assert (rest.servers, rest.is_canary) == (17, False)
    assert rest.begins - canaries.begins == timedelta(minutes=5, seconds=30)


def test_what_settles_delays_the_next_of_its_group_and_not_the_end() -> None:
    assert minutes_to_end(plan(3, max_unavailable=1, settle=60)) == 17


def test_nothing_begins_outside_of_the_window_and_what_began_is_followed_to_its_end() -> None:
    found = plan(100, max_unavailable=1, window=SATURDAYS)
    # 72 Saturday slots of five minutes, from 22:00 to 03:55.
    assert found.begins == datetime(2026, 12, 5, 21, tzinfo=UTC)
    assert found.ends == datetime(2026, 12, 12, 21, tzinfo=UTC) + timedelta(minutes=5 * 28)
    late = plan(2, max_unavailable=1, minutes=400, window=SATURDAYS)
    assert late.ends == datetime(2026, 12, 12, 21, tzinfo=UTC) + timedelta(minutes=400)


def test_the_limit_of_the_calls_delays_what_the_rules_would_allow() -> None:
    found = plan(10_000, limit=5)
    assert (found.waves, found.calls) == (2, 10)
    assert minutes_to_end(found) == 6
    assert minutes_to_end(plan(10_000, limit=None)) == 5


def test_calls_that_wait_a_little_for_more_servers_are_of_one_wave() -> None:
    found = plan(20_000, 3, max_unavailable=0.1)
    assert (found.waves, found.calls) == (11, 21)
    assert minutes_to_end(found) == pytest.approx(55, rel=0.02)
    assert [(wave.servers, wave.calls) for wave in found.first_waves] == [(1998, 2)] * 10 + [(20, 1)]


def test_only_the_first_waves_are_described() -> None:
    found = plan(300, max_unavailable=1)
    assert (found.waves, len(found.first_waves)) == (300, MAX_WAVES)
    assert minutes_to_end(found) == 1500


@pytest.mark.parametrize(
    ("rules", "left"),
    [({"settle": 1e300}, 2), ({"minutes": 1e300}, 2), ({"minutes": 1e5, "window": SATURDAYS, "limit": 1}, 0)],
)
def test_an_end_that_is_years_away_is_not_computed(rules: dict[str, Any], left: int) -> None:
    found = plan(3, max_unavailable=1, **rules)
    assert (found.servers, found.left) == (3, left)
    assert (found.ends is None) == bool(left)


def test_nothing_is_foreseen_of_no_servers() -> None:
    found = plan(0)
    assert (found.servers, found.waves, found.begins, found.ends) == (0, 0, None, None)


def test_a_plan_reads_the_servers_and_comes_true() -> None:
    async def main() -> None:
        async with simulated(servers=60, job_seconds=(100, 100)) as sim:
            rollout = Rollout(canary=2, group_by="availability_zone", max_unavailable=3, settle=10)
            found = await sim.bms.fleet.plan([*sim.ids, "no-such-server", "no id"], rollout, seconds_each=101)
            zones = Counter([server.availability_zone async for server in sim.bms.servers.list()])
            assert (found.servers, found.skipped, found.groups) == (60, 2, len(zones))
            assert sim.cloud.call_counts().refused == 0
            assert all(server.action is None for server in sim.cloud.servers.values())
            began = anyio.current_time()
            report = await sim.bms.fleet.reboot(sim.ids, rollout=rollout)
            took = anyio.current_time() - began
            assert found.begins is not None
            assert found.ends is not None
            assert took == pytest.approx((found.ends - found.begins).total_seconds(), rel=0.05)
            assert report.batches == found.calls

    run_virtually(main)


def test_what_cannot_be_planned_is_refused() -> None:
    async def main() -> None:
        async with simulated(servers=2) as sim:
            fleet, rollout = sim.bms.fleet, Rollout(max_unavailable=1)
            wrong: list[tuple[str, Any]] = [
                ("seconds_each", {"seconds_each": 0}),
                ("wave_size", {"wave_size": 0}),
                ("start", {"start": datetime(2026, 1, 1)}),  # noqa: DTZ001 - that is what is refused
                ("action", {"action": "rename"}),
                ("rollout", {"rollout": None}),
            ]
            for argument, arguments in wrong:
                with pytest.raises(InvalidRequestError) as refused:
                    await fleet.plan(sim.ids, **{"rollout": rollout, "seconds_each": 60, **arguments})
                assert refused.value.argument == argument
            twice = msgspec.structs.replace(await sim.bms.servers.get(sim.ids[0]), tags=("rack-1", "rack-2"))
            with pytest.raises(InvalidRequestError, match="at most one such tag"):
                await fleet.plan([twice], Rollout(group_by="tag:rack"), seconds_each=60)

    run_virtually(main)
