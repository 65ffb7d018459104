"""However a rollout ends, each of its servers has one outcome, and that says no more than was seen."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from bms_async import (
    FleetReport,
    FleetRun,
    FleetTimeoutError,
    GroupBlockedError,
    NotReadyError,
    Outcome,
    OutcomeState,
    Rollout,
    Server,
)
from tests.fleet._helpers import assert_one_outcome_each, states
from tests.fleet.rollout._judge import books_of, judge
from tests.fleet.rollout._runs import asked, ended, errors_of, of_state, well
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


async def is_false(server: Server) -> bool:
    return False


async def end(how: str, run: FleetRun, sim: Simulated) -> None:
    match how:
        case "cancel" | "detach":
            run.cancel(detach=how == "detach")
        case "close":
            await sim.bms.aclose()
        case "thread":
            thread = threading.Thread(target=run.cancel)
            thread.start()
            await asyncio.to_thread(thread.join)


@pytest.mark.parametrize("how", ["detach", "close", "timeout"])
@pytest.mark.parametrize("canary", [0, 3])
def test_an_outcome_that_is_held_back_when_the_run_ends_is_unknown_and_says_why(how: str, canary: int) -> None:
    async def main() -> None:
        async with simulated(servers=9, job_seconds=(10, 10)) as sim:
            total_timeout = 60.0 if how == "timeout" else None
            rollout = Rollout(canary=canary, max_unavailable=3, ready=is_false, ready_timeout=900)
            run = sim.bms.fleet.reboot(sim.ids, rollout=rollout, total_timeout=total_timeout)
            await advance(30)
            assert run.progress.done == 0
            assert run.progress.in_flight == 3
            await end(how, run, sim)
            report = await ended(run, within=120)
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.UNKNOWN: 3, S.SKIPPED: 6}
            assert errors_of(report.outcomes, S.UNKNOWN) == {NotReadyError}
            for outcome in of_state(report.outcomes, S.UNKNOWN):
                assert "the run ended before the server was seen to be ready" in str(outcome.error)
                assert "returned False" in str(outcome.error)
            assert report.timed_out is (how == "timeout")
            # It was not the canary that ended the run.
            assert report.aborted is None
            assert report.cancelled is (how != "timeout")

    run_virtually(main)


@pytest.mark.parametrize("how", ["cancel", "thread"])
def test_a_cancelled_rollout_follows_what_is_under_way_until_it_is_ready(how: str) -> None:
    async def main() -> None:
        async with simulated(servers=9, job_seconds=(10, 10), boot_seconds=(100, 200)) as sim:
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=3, ready=well(sim)))
            await advance(30)
            await end(how, run, sim)
            report = await ended(run, within=600)
            assert states(report.outcomes) == {S.SUCCEEDED: 3, S.SKIPPED: 6}
            assert report.cancelled
            assert report.seconds > 100
            assert asked(sim) == 3

    run_virtually(main)


@pytest.mark.parametrize("how", ["detach", "close", "timeout"])
@pytest.mark.parametrize("first", ["cancelled", "all sent"])
def test_a_run_that_only_waits_for_readiness_can_be_ended(how: str, first: str) -> None:
    async def main() -> None:
        async with simulated(servers=6, job_seconds=(10, 10)) as sim:
            rollout = Rollout(max_unavailable=3 if first == "cancelled" else 6, ready=is_false)
            run = sim.bms.fleet.reboot(sim.ids, rollout=rollout, total_timeout=90 if how == "timeout" else None)
            await advance(5)
            if first == "cancelled":
                run.cancel()
            await advance(30)
            await end(how, run, sim)
            report = await ended(run, within=120)
            sent = 3 if first == "cancelled" else 6
            assert (report.by_state[S.UNKNOWN], report.by_state[S.SKIPPED]) == (sent, 6 - sent)
            assert errors_of(report.outcomes, S.UNKNOWN) == {NotReadyError}
            await sim.bms.aclose()
            assert len(asyncio.all_tasks()) == 1

    run_virtually(main)


@pytest.mark.parametrize("how", ["cancel", "detach", "close", "timeout"])
def test_a_rollout_whose_servers_settle_can_be_ended(how: str) -> None:
    async def main() -> None:
        async with simulated(servers=9, job_seconds=(10, 10)) as sim:
            timeout = 100.0 if how == "timeout" else None
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=3, settle=3600), total_timeout=timeout)
            await advance(60)
            assert run.progress.waits_for == "servers settle"
            await end(how, run, sim)
            report = await ended(run, within=120)
            assert states(report.outcomes) == {S.SUCCEEDED: 3, S.SKIPPED: 6}
            if how == "timeout":
                assert errors_of(report.outcomes, S.SKIPPED) == {FleetTimeoutError}

    run_virtually(main)


@pytest.mark.parametrize("how", ["cancel", "detach", "close"])
def test_a_rollout_can_be_ended_at_any_moment(how: str) -> None:
    async def main(after: float) -> None:
        async with simulated(
            servers=12, rack_size=3, job_seconds=(5, 20), boot_seconds=(0, 10), latency=(0.5, 3)
        ) as sim:
            sim.cloud.servers[sim.ids[3]].locked = True
            rollout = Rollout(
                canary=2, group_by="tag:rack", max_unavailable=1, ready=well(sim), settle=3, ready_timeout=30
            )
            run = sim.bms.fleet.reboot(sim.ids, rollout=rollout)
            await advance(after)
            await end(how, run, sim)
            report = await ended(run, within=600)
            assert_one_outcome_each(sim.ids, report.outcomes)
            reached = {absence.server_id for absence in sim.cloud.availability.absences()}
            for outcome in of_state(report.outcomes, S.SKIPPED):
                assert outcome.server_id not in reached
            await sim.bms.aclose()
            assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]

    for tenths in range(0, 900, 73):
        run_virtually(lambda after=tenths / 10: main(after))  # type: ignore[misc]


def test_leaving_the_block_of_a_rollout_ends_it() -> None:
    async def main() -> None:
        async with simulated(servers=9, job_seconds=(10, 10)) as sim:
            rollout = Rollout(max_unavailable=3, ready=is_false)
            run = sim.bms.fleet.reboot(sim.ids, rollout=rollout)

            async def leave() -> None:
                async with run:
                    await advance(30)
                    raise ValueError("left")

            with pytest.raises(ValueError, match="left"):
                await leave()
            assert run.report is not None
            assert states(run.report.outcomes) == {S.UNKNOWN: 3, S.SKIPPED: 6}

    run_virtually(main)


def test_servers_of_a_blocked_group_are_skipped_in_a_pause_too() -> None:
    async def main() -> None:
        async with simulated(servers=4, job_seconds=(10, 10), latency=(2, 2)) as sim:
            sim.cloud.servers[sim.ids[0]].locked = True
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=1))
            await advance(1)
            run.pause()
            report = await ended(run, within=600)
            assert states(report.outcomes) == {S.FAILED: 1, S.SKIPPED: 3}
            assert errors_of(report.outcomes, S.SKIPPED) == {GroupBlockedError}

    run_virtually(main)


def test_a_pause_keeps_a_group_whose_server_may_yet_be_well() -> None:
    async def main() -> None:
        async with simulated(servers=4, job_seconds=(10, 10), latency=(2, 2)) as sim:
            sim.cloud.servers[sim.ids[0]].locked = True
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=1, ready=well(sim)))
            await advance(3)
            run.pause()
            await advance(600)
            assert run.progress.done == 1
            run.resume()
            report = await ended(run)
            assert states(report.outcomes) == {S.FAILED: 1, S.SUCCEEDED: 3}

    run_virtually(main)


def test_a_blocked_group_names_the_servers_that_block_it_and_how_many_they_are() -> None:
    async def main() -> None:
        async with simulated(servers=100, job_seconds=(10, 10)) as sim:
            for server_id in sim.ids[:50]:
                sim.cloud.servers[server_id].locked = True
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=30)))
            assert report.by_state[S.FAILED] == 30
            (text,) = {str(outcome.error) for outcome in of_state(report.outcomes, S.SKIPPED)}
            assert "the 30 servers that may be unavailable in group (none) are so for good" in text

    run_virtually(main)


def test_outcomes_are_given_as_servers_become_ready_and_progress_says_what_is_waited_for() -> None:
    async def main() -> None:
        async with simulated(servers=6, job_seconds=(10, 10), boot_seconds=(20, 20)) as sim:
            given: list[Outcome] = []

            def counts() -> tuple[int, int, int]:
                return run.progress.done, run.progress.in_flight, len(given)

            run = sim.bms.fleet.reboot(
                sim.ids, rollout=Rollout(max_unavailable=3, ready=well(sim), settle=60), on_outcome=given.append
            )
            await advance(1)
            assert run.progress.waits_for == "as many servers of each group as may be are unavailable"
            await advance(14)
            assert counts() == (0, 3, 0)
            assert str(run.progress.waits_for).startswith("3 servers are not ready yet, the first: ")
            standing = run.progress.rollout
            assert standing is not None
            assert (standing.waiting, standing.under_way, standing.lost) == (3, 3, 0)
            await advance(20)
            assert counts() == (3, 0, 3)
            assert run.progress.waits_for == "servers settle"
            await ended(run)
            assert len(given) == 6
            assert run.progress.waits_for is None

    run_virtually(main)


def test_a_rollout_of_which_nobody_keeps_anything_is_freed() -> None:
    def left(kind: type) -> int:
        gc.collect()
        return sum(type(each) is kind for each in gc.get_objects())

    async def main() -> FleetReport:
        async with simulated(servers=9, job_seconds=(10, 10)) as sim:
            return await ended(sim.bms.fleet.reboot(sim.ids, rollout=Rollout(canary=2, ready=well(sim))))

    before = left(FleetRun)
    run_virtually(main)
    assert left(FleetRun) == before


def test_the_same_seed_makes_the_same_rollout() -> None:
    async def main() -> Sequence[Any]:
        async with simulated(servers=16, rack_size=4, job_seconds=(5, 30), latency=(0.05, 0.3), seed=7) as sim:
            rollout = Rollout(canary=3, group_by="tag:rack", max_unavailable=1, ready=well(sim), settle=5)
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rollout))
            judge(books_of(sim.cloud), canaries=sim.ids[:3], settle=5)
            return [
                *[(outcome.server_id, outcome.state) for outcome in report.outcomes],
                *[(absence.server_id, round(absence.asked, 2)) for absence in sim.cloud.availability.absences()],
            ]

    assert run_virtually(main) == run_virtually(main)
