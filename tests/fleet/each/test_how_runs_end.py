"""A run of `each` ends early with one outcome a server, and leaves nothing behind (R2, R4)."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bms_async import FleetRun, FleetTimeoutError, Limits
from bms_async.simulator import CutBefore
from tests.fleet._helpers import assert_one_outcome_each, states
from tests.fleet.each._rename import S, reboot, rename, tasks_of_runs
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import advance, run_virtually

End = Callable[[Simulated, FleetRun], Awaitable[None]]


async def cancel(sim: Simulated, run: FleetRun) -> None:
    run.cancel()


async def let_go(sim: Simulated, run: FleetRun) -> None:
    run.cancel(detach=True)


async def close(sim: Simulated, run: FleetRun) -> None:
    await sim.bms.aclose()


async def leave(sim: Simulated, run: FleetRun) -> None:
    async with run:
        pass


async def leave_by_an_error(sim: Simulated, run: FleetRun) -> None:
    with pytest.raises(ZeroDivisionError):
        async with run:
            raise ZeroDivisionError


async def wait_for_its_timeout(sim: Simulated, run: FleetRun) -> None:
    await run


ENDS: list[End] = [cancel, let_go, close, leave, leave_by_an_error, wait_for_its_timeout]


@pytest.mark.parametrize("end", ENDS)
def test_calls_that_wait_for_their_slot_are_skipped_and_were_never_sent(end: End) -> None:
    async def main() -> None:
        async with simulated(servers=300) as sim:
            run = sim.bms.fleet.each(sim.ids, rename(sim.bms), total_timeout=30)
            await advance(10)
            assert run.progress.submitted == 99
            await end(sim, run)
            report = await run
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.SUCCEEDED: 99, S.SKIPPED: 201}
            assert sim.arrived("servers.rename") == 99
            skipped = [outcome for outcome in report.outcomes if outcome.state is S.SKIPPED]
            assert {(outcome.attempts, outcome.started) for outcome in skipped} == {(0, None)}
            assert run.progress.submitted == 99
            assert not tasks_of_runs()

    run_virtually(main)


@pytest.mark.parametrize("end", ENDS)
def test_calls_whose_answer_is_outstanding_are_unknown_unless_the_run_waits_for_them(end: End) -> None:
    async def main() -> None:
        async with simulated(servers=150, latency=(40, 40)) as sim:
            run = sim.bms.fleet.each(sim.ids, rename(sim.bms), total_timeout=30)
            await advance(1)
            await end(sim, run)
            report = await run
            assert_one_outcome_each(sim.ids, report.outcomes)
            sent = S.SUCCEEDED if end in (cancel, leave) else S.UNKNOWN
            if end in (cancel, leave):
                # The timeout comes first.
                sent = S.UNKNOWN
            assert states(report.outcomes) == {sent: 99, S.SKIPPED: 51}
            assert report.timed_out is (end in (cancel, leave, wait_for_its_timeout))
            assert not tasks_of_runs()

    run_virtually(main)


def test_a_run_that_is_cancelled_waits_for_what_is_under_way() -> None:
    async def main() -> None:
        async with simulated(servers=150, latency=(40, 40)) as sim:
            run = sim.bms.fleet.each(sim.ids, rename(sim.bms))
            await advance(1)
            run.cancel()
            assert states((await run).outcomes) == {S.SUCCEEDED: 99, S.SKIPPED: 51}

    run_virtually(main)


@pytest.mark.parametrize("end", [let_go, close, wait_for_its_timeout, leave_by_an_error])
def test_jobs_that_are_under_way_are_unknown_and_not_polled_any_more(end: End) -> None:
    async def main() -> None:
        async with simulated(servers=12, job_seconds=(300, 300)) as sim:
            run = sim.bms.fleet.each(sim.ids, reboot(sim.bms), total_timeout=100)
            await advance(60)
            await end(sim, run)
            report = await run
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.UNKNOWN: 12}
            assert all(outcome.job_id for outcome in report.outcomes)
            if end is wait_for_its_timeout:
                assert {type(outcome.error) for outcome in report.outcomes} == {FleetTimeoutError}
            polls = sim.arrived("jobs.get")
            await advance(1000)
            assert sim.arrived("jobs.get") <= polls + 12
            assert not tasks_of_runs()

    run_virtually(main)


def test_jobs_are_followed_to_their_end_by_a_run_that_is_cancelled() -> None:
    async def main() -> None:
        limits = Limits({"servers.reboot": 10})
        async with simulated(servers=15, job_seconds=(100, 100), limits=limits) as sim:
            run = sim.bms.fleet.each(sim.ids, reboot(sim.bms))
            await advance(10)
            run.cancel()
            assert states((await run).outcomes) == {S.SUCCEEDED: 10, S.SKIPPED: 5}

    run_virtually(main)


async def never_return(server_id: str) -> None:
    await asyncio.get_running_loop().create_future()


async def refuse_to_end_once(server_id: str) -> None:
    try:
        await asyncio.sleep(1e9)
    except asyncio.CancelledError:
        await asyncio.sleep(3)


class Stubborn:
    """A function that refuses to be cancelled, until it may end."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def __call__(self, server_id: str) -> None:
        while not self.may_end.is_set():
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                continue


@pytest.mark.parametrize("end", [let_go, close, wait_for_its_timeout, leave_by_an_error])
@pytest.mark.parametrize("call", [never_return, refuse_to_end_once, None])
def test_a_function_that_does_not_return_ends_no_later_than_a_grace_period_after_its_run(
    call: Callable[[str], Awaitable[None]] | None, end: End
) -> None:
    async def main() -> None:
        async with simulated(servers=150) as sim:
            stubborn = Stubborn()
            run = sim.bms.fleet.each(sim.ids, call or stubborn, total_timeout=100)
            await advance(10)
            assert run.progress.submitted == 100
            began = asyncio.get_running_loop().time()
            await end(sim, run)
            report = await run
            assert asyncio.get_running_loop().time() - began <= 125
            assert_one_outcome_each(sim.ids, report.outcomes)
            done = S.SUCCEEDED if call is refuse_to_end_once else S.UNKNOWN
            assert states(report.outcomes) in ({done: 100, S.SKIPPED: 50}, {S.UNKNOWN: 100, S.SKIPPED: 50})
            left = tasks_of_runs()
            assert len(left) == (100 if call is None else 0)
            stubborn.may_end.set()
            await advance(1)
            assert not tasks_of_runs()
            assert await run is report

    run_virtually(main)


def test_servers_that_wait_are_skipped_at_once_where_no_function_returns() -> None:
    async def main() -> None:
        async with simulated(servers=150) as sim:
            run = sim.bms.fleet.each(sim.ids, never_return, max_workers=7)
            await advance(10)
            run.cancel()
            await advance(1)
            assert run.progress.by_state[S.SKIPPED] == 143
            run.cancel(detach=True)
            assert states((await run).outcomes) == {S.UNKNOWN: 7, S.SKIPPED: 143}

    run_virtually(main)


def test_a_function_that_swallows_its_cancellation_while_it_waits_has_done_nothing() -> None:
    async def main() -> None:
        async with simulated(servers=110) as sim:

            async def call(server_id: str) -> str:
                try:
                    await sim.bms.servers.rename(server_id, "new")
                except asyncio.CancelledError:
                    return "never mind"
                return "renamed"

            run = sim.bms.fleet.each(sim.ids, call)
            await advance(10)
            run.cancel()
            report = await run
            assert states(report.outcomes) == {S.SUCCEEDED: 99, S.SKIPPED: 11}
            assert {outcome.result for outcome in report.outcomes} == {"renamed", None}

    run_virtually(main)


def test_a_call_that_waits_to_be_repeated_is_not_repeated_by_a_run_that_was_cancelled() -> None:
    async def main() -> None:
        async with simulated(servers=2, limits=None) as sim:
            sim.cloud.faults.append(lambda operation, *_: CutBefore() if operation == "servers.rename" else None)
            run = sim.bms.fleet.each(sim.ids, rename(sim.bms))
            await advance(0.01)
            run.cancel()
            report = await run
            assert {outcome.state for outcome in report.outcomes} <= {S.UNKNOWN, S.SKIPPED}

    run_virtually(main)


def test_a_run_aborts_above_its_share_of_failures_and_skips_the_rest() -> None:
    async def main() -> None:
        async with simulated(servers=1000) as sim:
            bad = set(sim.ids[::10])

            async def call(server_id: str) -> None:
                if server_id in bad:
                    raise ValueError(server_id)
                await sim.bms.servers.rename(server_id, "new")

            report = await sim.bms.fleet.each(sim.ids, call, abort_above=0.05)
            assert report.aborted is not None
            assert report.by_state[S.FAILED] <= 11
            assert report.by_state[S.SKIPPED] >= 890
            assert_one_outcome_each(sim.ids, report.outcomes)

    run_virtually(main)


@pytest.mark.parametrize("how", ["to its end", "let go", "with failures"])
def test_a_run_and_its_report_are_gone_when_nobody_holds_them(how: str) -> None:
    async def begin_and_end(sim: Simulated) -> list[weakref.ref[Any]]:
        run = sim.bms.fleet.each(sim.ids, reboot(sim.bms))
        await advance(10)
        if how == "let go":
            run.cancel(detach=True)
        await run
        return [weakref.ref(run), weakref.ref(run._tracker)]

    async def main() -> None:
        share = 0.5 if how == "with failures" else 0.0
        async with simulated(servers=20, fail_share=share, job_seconds=(30, 30)) as sim:
            left = await begin_and_end(sim)
            gc.collect()
            # Not only when the client is closed.
            assert [ref() for ref in left] == [None, None]

    run_virtually(main)
