"""Canaries decide for all, and a server that is not well takes its room for good."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bms_async import (
    GroupBlockedError,
    NotReadyError,
    OutcomeState,
    PermissionDeniedError,
    Rollout,
    Server,
)
from bms_async.simulator import Answer, Cloud, CutAfter, CutBefore
from bms_async.wire import NO_RETRY
from tests.fleet._helpers import assert_one_outcome_each, refuse, states
from tests.fleet.rollout._judge import books_of, judge, racks
from tests.fleet.rollout._runs import asked, ended, errors_of, nth_call, of_state, well
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


def lie(cloud: Cloud, server_id: str, code: int) -> None:
    """Have a server show another status than its job says."""
    server = cloud.servers[server_id]
    server._statuses[server.index] = code


def rolled(sim: Simulated, **options: Any) -> Rollout:
    """A rollout of a rack at a time, whose servers are well when they can be reached."""
    usual: dict[str, Any] = {"group_by": "tag:rack", "max_unavailable": 1, "ready": well(sim), "ready_timeout": 60}
    return Rollout(**(usual | options))


def test_the_rest_goes_when_all_canaries_are_well_and_have_settled() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(20, 40), boot_seconds=(10, 30)) as sim:
            rollout = Rollout(canary=5, ready=well(sim), settle=60)
            run = sim.bms.fleet.reboot(sim.ids, rollout=rollout)
            await advance(5)
            assert run.progress.waits_for == "the canaries are under way"
            report = await ended(run)
            assert states(report.outcomes) == {S.SUCCEEDED: 20}
            assert report.aborted is None
            judge(books_of(sim.cloud), canaries=sim.ids[:5], settle=60)

    run_virtually(main)


def test_more_canaries_than_servers_are_all_of_them() -> None:
    async def main() -> None:
        async with simulated(servers=5, job_seconds=(10, 10)) as sim:
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=Rollout(canary=50, settle=60)))
            assert states(report.outcomes) == {S.SUCCEEDED: 5}
            assert report.seconds < 30

    run_virtually(main)


def test_canaries_keep_to_the_limit_of_their_group() -> None:
    async def main() -> None:
        async with simulated(servers=9, rack_size=3, job_seconds=(10, 10)) as sim:
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rolled(sim, canary=3)))
            assert states(report.outcomes) == {S.SUCCEEDED: 9}
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=1, canaries=sim.ids[:3])

    run_virtually(main)


@pytest.mark.parametrize("how", ["fails", "hangs", "refused", "lost"])
def test_a_canary_that_is_not_well_aborts_the_run(how: str) -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(10, 10), refuse_batches=how == "refused") as sim:
            canary = sim.ids[1]
            match how:
                case "fails" | "refused":
                    sim.cloud.servers[canary].locked = True
                case "hangs":
                    sim.cloud.availability.never_back.add(canary)
                case "lost":
                    sim.cloud.faults.append(nth_call("servers.reboot", 1, CutAfter()))
                    sim.cloud.faults.append(refuse("servers.list", "servers.get"))
            rollout = Rollout(canary=3, ready=None if how == "lost" else well(sim), ready_timeout=60)
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rollout))
            assert_one_outcome_each(sim.ids, report.outcomes)
            state = S.UNKNOWN if how == "lost" else S.FAILED
            assert report.aborted == f"canary {sim.ids[0] if how == 'lost' else canary} is {state.value}"
            # Those that were refused with it wait to be sent again, and are not.
            assert report.by_state[S.SKIPPED] == (19 if how == "refused" else 17)
            assert report.by_state[state] == (3 if how == "lost" else 1)
            assert asked(sim) <= 3

    run_virtually(main)


def test_the_other_canaries_are_followed_to_their_end_when_one_fails() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(10, 10), boot_seconds=(100, 200)) as sim:
            sim.cloud.servers[sim.ids[0]].locked = True
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=Rollout(canary=3, ready=well(sim))))
            assert states(report.outcomes) == {S.FAILED: 1, S.SUCCEEDED: 2, S.SKIPPED: 17}
            assert report.seconds > 100

    run_virtually(main)


def test_a_canary_that_is_as_asked_already_is_well() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(10, 10)) as sim:
            report = await ended(sim.bms.fleet.start(sim.ids, rollout=Rollout(canary=3, ready=well(sim))))
            assert states(report.outcomes) == {S.UNCHANGED: 20}
            assert report.aborted is None

    run_virtually(main)


def test_without_canaries_a_failure_aborts_nothing() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(10, 10)) as sim:
            sim.cloud.servers[sim.ids[0]].locked = True
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=5)))
            assert states(report.outcomes) == {S.FAILED: 1, S.SUCCEEDED: 19}

    run_virtually(main)


def test_a_server_that_is_not_ready_in_time_is_failed_and_its_group_is_blocked() -> None:
    async def main() -> None:
        async with simulated(servers=12, rack_size=4, job_seconds=(10, 10), boot_seconds=(1, 5)) as sim:
            hung = sim.ids[1]
            sim.cloud.availability.never_back.add(hung)
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rolled(sim)))
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.SUCCEEDED: 9, S.FAILED: 1, S.SKIPPED: 2}
            (failed,) = of_state(report.outcomes, S.FAILED)
            assert isinstance(failed.error, NotReadyError)
            assert (failed.server_id, failed.error.server_id) == (hung, hung)
            assert failed.job_id is not None
            assert failed.error.seconds == 60
            for outcome in of_state(report.outcomes, S.SKIPPED):
                assert isinstance(outcome.error, GroupBlockedError)
                assert (outcome.error.group, outcome.error.unavailable) == ("rack-0", (hung,))
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=1)

    run_virtually(main)


def test_a_group_that_allows_two_goes_on_with_one_when_the_other_is_not_ready() -> None:
    async def main() -> None:
        async with simulated(servers=12, rack_size=4, job_seconds=(10, 10), boot_seconds=(1, 5)) as sim:
            sim.cloud.availability.never_back.add(sim.ids[1])
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rolled(sim, max_unavailable=2)))
            assert states(report.outcomes) == {S.SUCCEEDED: 11, S.FAILED: 1}
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=2)

    run_virtually(main)


def test_a_server_whose_job_failed_and_that_is_well_all_the_same_frees_its_room() -> None:
    async def main() -> None:
        async with simulated(servers=12, rack_size=4, job_seconds=(10, 10)) as sim:
            # A locked server is not rebooted, and so it can still be reached.
            sim.cloud.servers[sim.ids[0]].locked = True
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rolled(sim)))
            assert states(report.outcomes) == {S.SUCCEEDED: 11, S.FAILED: 1}
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rolled(sim, ready=None)))
            assert states(report.outcomes) == {S.SUCCEEDED: 8, S.FAILED: 1, S.SKIPPED: 3}
            assert errors_of(report.outcomes, S.SKIPPED) == {GroupBlockedError}

    run_virtually(main)


async def is_false(server: Server) -> bool:
    return False


async def raises(server: Server) -> bool:
    raise ValueError("no answer")


async def hangs(server: Server) -> bool:
    await asyncio.Event().wait()
    return True


async def cancels(server: Server) -> bool:
    raise asyncio.CancelledError


async def cancels_its_task(server: Server) -> bool:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return True


async def is_none(server: Server) -> Any:
    return None


async def exits(server: Server) -> bool:
    raise SystemExit(3)


def is_no_coroutine(server: Server) -> Any:
    return 7


async def never_ends(server: Server) -> bool:
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            if asyncio.get_running_loop().time() > 10_000:
                raise


@pytest.mark.parametrize(
    ("ready", "text"),
    [
        (is_false, "returned False"),
        (raises, "ValueError: no answer"),
        (hangs, "no answer within"),
        (cancels, "CancelledError"),
        (cancels_its_task, "cancelled"),
        (is_none, "returned None"),
        (exits, "SystemExit"),
        (is_no_coroutine, "value of type int"),
        (never_ends, "does not end though it was cancelled"),
    ],
)
def test_whatever_a_check_does_its_server_is_failed_and_the_run_ends(ready: Any, text: str) -> None:
    async def main() -> None:
        async with simulated(servers=6, rack_size=3, job_seconds=(10, 10)) as sim:
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rolled(sim, ready=ready)), within=3600)
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.FAILED: 2, S.SKIPPED: 4}
            for outcome in of_state(report.outcomes, S.FAILED):
                assert isinstance(outcome.error, NotReadyError)
                assert text in str(outcome.error)
            assert asked(sim) == 2
            if ready is never_ends:
                await advance(20_000)

    run_virtually(main)


def test_a_room_is_free_when_its_server_has_settled() -> None:
    async def main() -> None:
        async with simulated(servers=6, rack_size=3, job_seconds=(10, 10), boot_seconds=(5, 5)) as sim:
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rolled(sim, settle=30)))
            assert states(report.outcomes) == {S.SUCCEEDED: 6}
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=1, settle=30)
            assert 3 * 15 + 2 * 30 <= report.seconds <= 3 * 20 + 2 * 35

    run_virtually(main)


def test_servers_that_are_not_ready_count_as_failures_of_the_share() -> None:
    async def main() -> None:
        async with simulated(servers=100, rack_size=10, job_seconds=(10, 10), never_back_share=0.3) as sim:
            rollout = rolled(sim, max_unavailable=4, abort_above=0.1, abort_sample=10, settle=60)
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rollout))
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert "more than 10%" in str(report.aborted)
            assert report.by_state[S.SKIPPED] > 0
            rollout = rolled(sim, max_unavailable=9)
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rollout))
            assert report.aborted is None

    run_virtually(main)


def test_a_wave_bounds_a_rollout_too() -> None:
    async def main() -> None:
        async with simulated(servers=60, rack_size=3, job_seconds=(10, 10), boot_seconds=(1, 20)) as sim:
            report = await ended(sim.bms.fleet.reboot(sim.ids, wave_size=7, rollout=rolled(sim)))
            assert states(report.outcomes) == {S.SUCCEEDED: 60}
            judge(books_of(sim.cloud), allowed=7)
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=1)

    run_virtually(main)


def test_a_rollout_is_verified_at_its_end() -> None:
    async def main() -> None:
        async with simulated(servers=20, rack_size=5, job_seconds=(10, 10)) as sim:
            run = sim.bms.fleet.stop(sim.ids, verify=True, rollout=Rollout(group_by="tag:rack", max_unavailable=2))
            await advance(15)
            lie(sim.cloud, sim.ids[0], 1)
            report = await ended(run)
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert report.by_state[S.SUCCEEDED] == 19
            assert report.by_state[S.FAILED] == 1
            assert report.unverified == 0

    run_virtually(main)


def test_busy_servers_are_sent_again_and_keep_their_room_until_then() -> None:
    async def main() -> None:
        async with simulated(servers=12, rack_size=4, job_seconds=(10, 10), refuse_batches=True) as sim:
            await sim.bms.servers.reboot([sim.ids[0], sim.ids[4]])
            report = await ended(sim.bms.fleet.stop(sim.ids, rollout=rolled(sim, ready=None)))
            assert states(report.outcomes) == {S.SUCCEEDED: 12}
            assert max(outcome.attempts for outcome in report.outcomes) > 1

    run_virtually(main)


def test_refused_servers_take_no_room() -> None:
    async def main() -> None:
        async with simulated(servers=12, rack_size=4, job_seconds=(10, 10)) as sim:
            sim.cloud.faults.append(refuse("servers.reboot"))
            report = await ended(sim.bms.fleet.reboot(sim.ids, rollout=rolled(sim)))
            assert states(report.outcomes) == {S.FAILED: 12}
            assert errors_of(report.outcomes, S.FAILED) == {PermissionDeniedError}

    run_virtually(main)


def test_a_lost_answer_takes_the_room_for_good() -> None:
    async def main() -> None:
        async with simulated(servers=6, rack_size=3, job_seconds=(10, 10)) as sim:
            sim.cloud.faults += [nth_call("servers.reboot", 1, CutAfter()), refuse("servers.list", "servers.get")]
            racks_of = racks(sim.cloud)
            rollout = Rollout(group_by=lambda server: racks_of(server.id), max_unavailable=1)
            sim.cloud.faults.pop()
            servers = [server async for server in sim.bms.servers.list()]
            sim.cloud.faults.append(refuse("servers.list", "servers.get"))
            report = await ended(sim.bms.fleet.reboot(servers, rollout=rollout))
            assert states(report.outcomes) == {S.UNKNOWN: 2, S.SKIPPED: 4}
            assert errors_of(report.outcomes, S.SKIPPED) == {GroupBlockedError}
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=1)

    run_virtually(main)


@pytest.mark.parametrize("lost", [True, False], ids=["lost first", "only refused"])
def test_a_server_whose_answer_was_lost_is_unavailable_also_when_its_next_call_is_refused(lost: bool) -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(10, 10), retry=NO_RETRY) as sim:
            body = b'{"error": {"code": "BMS.0007", "message": "no"}}'

            def fail(name: str, nth: int, path: str) -> Answer | CutBefore | None:
                if name != "servers.stop" or nth > 2:
                    return None
                return CutBefore() if lost and nth == 1 else Answer(status=400, body=body)

            sim.cloud.faults.append(fail)
            report = await ended(sim.bms.fleet.stop(sim.ids, rollout=Rollout(max_unavailable=1)))
            if lost:
                assert states(report.outcomes) == {S.UNKNOWN: 1, S.SKIPPED: 2}
                assert errors_of(report.outcomes, S.SKIPPED) == {GroupBlockedError}
            else:
                assert states(report.outcomes) == {S.FAILED: 2, S.SUCCEEDED: 1}

    run_virtually(main)


def test_a_server_that_was_as_asked_and_is_not_ready_stays_unavailable() -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(10, 10), refuse_batches=True) as sim:
            report = await ended(sim.bms.fleet.start(sim.ids, rollout=Rollout(max_unavailable=1, ready=is_false)))
            assert states(report.outcomes) == {S.FAILED: 1, S.SKIPPED: 2}

    run_virtually(main)


def test_servers_of_a_blocked_group_are_skipped_a_few_at_a_time() -> None:
    async def main() -> None:
        async with simulated(servers=5000, job_seconds=(10, 10)) as sim:
            sim.cloud.servers[sim.ids[0]].locked = True
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=1))
            async for outcome in run:
                assert outcome.state is S.FAILED
                break
            most = 0
            while run.report is None:
                done = run.progress.done
                await asyncio.sleep(0)
                most = max(most, run.progress.done - done)
            assert run.report.by_state[S.SKIPPED] == 4999
            # What is not left to others in between holds the loop.
            assert most <= 500

    run_virtually(main)
