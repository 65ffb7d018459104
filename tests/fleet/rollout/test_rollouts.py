"""Rollouts over whole fleets, as the cloud's books show them: how long they take, and what they cost.

The judge decides whether a promise was kept, and knows nothing of the planner.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from bms_async import GroupBlockedError, NotReadyError, OutcomeState, Rollout, Window
from bms_async.testing import suspend
from tests.fleet._helpers import assert_one_outcome_each, states
from tests.fleet.rollout._judge import books_of, judge, racks, share, zones
from tests.fleet.rollout._runs import ended, errors_of, of_state, well
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState
BERLIN = ZoneInfo("Europe/Berlin")


def test_a_thousand_servers_in_fifty_racks_take_as_long_as_one_rack_and_a_fifth_of_the_calls() -> None:
    async def main() -> None:
        # One of a rack at a time, five minutes each: 20 rounds take 100 minutes at least.
        async with simulated(servers=1000, rack_size=20, job_seconds=(300, 300), latency=(0.05, 0.3)) as sim:
            rollout = Rollout(group_by="tag:rack", max_unavailable=1, ready=well(sim))
            report = await ended(sim.bms.fleet.reboot(sim.bms.servers.list(), rollout=rollout))
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.SUCCEEDED: 1000}
            group_of = racks(sim.cloud)
            assert len(set(map(group_of, sim.ids))) == 50
            judge(books_of(sim.cloud), group_of=group_of, allowed=1)
            assert 6000 <= report.seconds <= 6000 * 1.02
            assert report.batches <= 200

    run_virtually(main)


def test_racks_of_servers_that_boot_at_their_own_pace_stay_within_their_limit() -> None:
    async def main() -> None:
        async with simulated(
            servers=100, rack_size=10, job_seconds=(20, 40), boot_seconds=(5, 30), latency=(0.05, 0.3)
        ) as sim:
            rollout = Rollout(group_by="tag:rack", max_unavailable=1, ready=well(sim), settle=30)
            report = await ended(sim.bms.fleet.reboot(sim.bms.servers.list(), rollout=rollout))
            assert states(report.outcomes) == {S.SUCCEEDED: 100}
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=1, settle=30)

    run_virtually(main)


def test_ten_thousand_servers_in_three_zones_a_tenth_of_each_at_a_time() -> None:
    async def main() -> None:
        async with simulated(servers=10_000, job_seconds=(300, 300), latency=(0.05, 0.3)) as sim:
            group_of = zones(sim.cloud)
            rollout = Rollout(group_by="availability_zone", max_unavailable=0.1)
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rollout))
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.SUCCEEDED: 10_000}
            assert len(set(map(group_of, sim.ids))) == 3
            judge(books_of(sim.cloud), group_of=group_of, allowed=share(0.1, sim.ids, group_of))
            # Ten rounds, and one more of what the shares leave when they are rounded down.
            assert report.seconds <= 11 * 300 * 1.02
            assert report.extra_calls == 10

    run_virtually(main)


def test_thousands_of_servers_with_canaries_and_some_that_never_come_back() -> None:
    async def main() -> None:
        async with simulated(servers=3000, job_seconds=(300, 300), never_back_share=0.01, latency=(0.05, 0.3)) as sim:
            group_of = zones(sim.cloud)
            hung = set(sim.cloud.availability.never_back)
            ids = sorted(sim.ids, key=hung.__contains__)
            rollout = Rollout(
                canary=10,
                group_by="availability_zone",
                max_unavailable=0.1,
                ready=well(sim),
                ready_timeout=60,
                settle=30,
            )
            report = await ended(sim.bms.fleet.reboot(ids, rollout=rollout))
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.FAILED: len(hung), S.SUCCEEDED: 3000 - len(hung)}
            assert {outcome.server_id for outcome in of_state(report.outcomes, S.FAILED)} == hung
            assert errors_of(report.outcomes, S.FAILED) == {NotReadyError}
            judge(
                books_of(sim.cloud),
                group_of=group_of,
                allowed=share(0.1, sim.ids, group_of),
                canaries=ids[:10],
                settle=30,
            )

    run_virtually(main)


def test_racks_with_a_server_that_never_comes_back_keep_the_rest_of_their_servers() -> None:
    async def main() -> None:
        async with simulated(servers=500, rack_size=20, job_seconds=(300, 300), never_back_share=0.01) as sim:
            group_of = racks(sim.cloud)
            hung = set(sim.cloud.availability.never_back)
            rollout = Rollout(group_by="tag:rack", max_unavailable=1, ready=well(sim), ready_timeout=60)
            report = await ended(sim.bms.fleet.reboot(sim.bms.servers.list(), rollout=rollout))
            assert_one_outcome_each(sim.ids, report.outcomes)
            judge(books_of(sim.cloud), group_of=group_of, allowed=1)
            blocked = set(map(group_of, hung))
            skipped = Counter(group_of(outcome.server_id) for outcome in of_state(report.outcomes, S.SKIPPED))
            assert set(skipped) <= blocked
            assert errors_of(report.outcomes, S.SKIPPED) == {GroupBlockedError}
            assert report.by_state[S.FAILED] == len(blocked)
            done = Counter(group_of(outcome.server_id) for outcome in of_state(report.outcomes, S.SUCCEEDED))
            assert all(done[rack] == 20 for rack in set(map(group_of, sim.ids)) - blocked)

    run_virtually(main)


def at_night(at: datetime) -> bool:
    """From 22:00 until 4:00 in Berlin, in the night that begins on a Saturday or a Sunday."""
    here = at.astimezone(BERLIN)
    evening = here.hour >= 22 and here.weekday() in (5, 6)
    morning = here.hour < 4 and here.weekday() in (6, 0)
    return evening or morning


@pytest.mark.parametrize(
    ("begins", "hours", "servers"),
    [
        (datetime(2040, 3, 24, 21, 30, tzinfo=UTC), 5.0, 600),  # summer time begins in this night
        (datetime(2040, 10, 27, 20, 30, tzinfo=UTC), 7.0, 600),  # and ends in this one
        (datetime(2040, 6, 9, 20, 30, tzinfo=UTC), 6.0, 600),
    ],
    ids=["the short night", "the long night", "an ordinary night"],
)
def test_a_window_that_closes_in_the_middle_holds_the_rest_until_it_opens_again(
    begins: datetime, hours: float, servers: int
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        # The clock of the machine stands where the test begins.
        suspend(begins.timestamp() - loop.wall_time())  # type: ignore[attr-defined]
        async with simulated(servers=servers, job_seconds=(3600, 3600), latency=(0.05, 0.3)) as sim:
            window = Window("Sat,Sun 22:00-04:00", zone="Europe/Berlin")
            rollout = Rollout(group_by="availability_zone", max_unavailable=0.1, window=window)
            run = sim.bms.fleet.reboot(sim.ids, rollout=rollout)
            await advance(8 * 3600)
            assert 0 < run.progress.done < servers
            assert run.progress.in_flight == 0
            assert str(run.progress.waits_for).startswith("outside of the window ")
            report = await ended(run)
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.SUCCEEDED: servers}
            books, group_of = books_of(sim.cloud), zones(sim.cloud)
            judge(books, group_of=group_of, allowed=share(0.1, sim.ids, group_of), is_open=at_night, wire=0.3)
            # All of the night is used: what the last ones take does not count.
            first = [absence.asked for absence in books.absences if absence.asked < 12 * 3600]
            assert (hours - 0.5) * 3600 - 3700 <= max(first) - min(first) <= (hours - 0.5) * 3600

    run_virtually(main)


def test_a_run_that_has_ended_keeps_how_far_its_rollout_was_and_no_servers() -> None:
    async def main() -> None:
        async with simulated(servers=40, rack_size=10, job_seconds=(30, 30)) as sim:
            run = sim.bms.fleet.reboot(sim.bms.servers.list(), rollout=Rollout(group_by="tag:rack", max_unavailable=2))
            await run
            await advance(1)
            standing = run.progress.rollout
            assert standing is not None
            assert (standing.groups_done, standing.waiting, standing.under_way) == (4, 0, 0)
            walk = run._work.walk._rollout
            assert walk is not None
            assert not list(walk._planner.groups())

    run_virtually(main)
