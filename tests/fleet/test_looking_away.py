"""Who looks away from a run ends nothing; `cancel`, ``async with`` and closing the client do."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress

import anyio
import pytest

from bms_async import FleetRun, Limits, OutcomeState
from tests.fleet._helpers import assert_one_outcome_each, states
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


class SourceError(Exception):
    """What a source of ids raises."""


def broken_source(*ids: str) -> Iterator[str]:
    yield from ids
    raise SourceError("the table of servers is gone")


async def by_break(run: FleetRun) -> None:
    async for _ in run:
        break


async def by_a_timeout_of_asyncio(run: FleetRun) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run, 1)


async def look_on(run: FleetRun) -> None:
    async for _ in run:
        pass


async def by_a_block_with_a_timeout(run: FleetRun) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await look_on(run)


async def by_a_scope_of_anyio(run: FleetRun) -> None:
    with anyio.move_on_after(1):
        await run


async def by_a_cancelled_task(run: FleetRun) -> None:
    waiting = asyncio.ensure_future(run)
    await advance(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def by_an_error_in_the_loop(run: FleetRun) -> None:
    with suppress(LookupError):
        async for _ in run:
            raise LookupError


async def by_closing_the_iterator(run: FleetRun) -> None:
    outcomes = run.__aiter__()
    await anext(outcomes)
    await outcomes.aclose()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.parametrize("passes", [0, 3])
@pytest.mark.parametrize(
    "leave",
    [
        by_break,
        by_a_timeout_of_asyncio,
        by_a_block_with_a_timeout,
        by_a_scope_of_anyio,
        by_a_cancelled_task,
        by_an_error_in_the_loop,
        by_closing_the_iterator,
    ],
)
def test_looking_away_ends_nothing_however_it_is_done(leave: Callable[[FleetRun], object], passes: int) -> None:
    async def main() -> None:
        async with simulated(servers=1100, job_seconds=(5, 60)) as sim:
            run = sim.bms.fleet.stop(sim.ids)
            await leave(run)  # type: ignore[misc]  # each is a coroutine function
            for _ in range(passes):
                await anyio.lowlevel.checkpoint()
            assert run.report is None
            report = await run
            assert states(report.outcomes) == {S.SUCCEEDED: 1100}
            assert not report.cancelled

    run_virtually(main)


def test_a_run_that_nobody_ever_looked_at_goes_on_to_its_end() -> None:
    async def main() -> None:
        async with simulated(servers=2000) as sim:
            run = sim.bms.fleet.stop(sim.ids)
            await advance(200)
            assert run.report is not None
            assert states(run.report.outcomes) == {S.SUCCEEDED: 2000}

    run_virtually(main)


def test_a_run_whose_object_was_dropped_goes_on_to_its_end() -> None:
    async def main() -> None:
        async with simulated(servers=2000) as sim:
            sim.bms.fleet.stop(sim.ids)
            gc.collect()
            await advance(200)
            assert not any(server.powered for server in sim.cloud.servers.values())

    run_virtually(main)


def test_leaving_the_block_of_a_run_asks_for_nothing_more_and_sees_the_rest_to_its_end() -> None:
    async def main() -> None:
        async with simulated(servers=3000, job_seconds=(5, 60), limits=Limits({"servers.stop": 2})) as sim:
            ids = sim.ids
            async with sim.bms.fleet.stop(ids) as run:
                async for _ in run:
                    break
            assert run.report is not None
            assert_one_outcome_each(ids, run.report.outcomes)
            assert states(run.report.outcomes) == {S.SUCCEEDED: 2000, S.SKIPPED: 1000}
            assert run.report.cancelled

    run_virtually(main)


def test_a_run_that_is_awaited_in_its_block_ends_by_itself() -> None:
    async def main() -> None:
        async with simulated(servers=20) as sim:
            async with sim.bms.fleet.stop(sim.ids) as run:
                report = await run
            assert run.report is report
            assert not report.cancelled

    run_virtually(main)


async def fail_in_the_block_of(run: FleetRun, *, after: float) -> None:
    async with run:
        await advance(after)
        raise LookupError("elsewhere")


def test_an_error_in_the_block_of_a_run_lets_go_of_it_and_is_raised() -> None:
    async def main() -> None:
        async with simulated(servers=3000, job_seconds=(50, 60)) as sim:
            run = sim.bms.fleet.stop(sim.ids)
            with pytest.raises(LookupError, match="elsewhere"):
                await fail_in_the_block_of(run, after=10)
            assert anyio.current_time() < 12
            assert run.report is not None
            assert states(run.report.outcomes) == {S.UNKNOWN: 3000}
            assert all(outcome.job_id is not None for outcome in run.report.outcomes)

    run_virtually(main)


@pytest.mark.parametrize("how", ["asyncio", "anyio"])
def test_a_cancellation_in_the_block_of_a_run_lets_go_of_it_and_is_passed_on(how: str) -> None:
    async def main() -> None:
        async with simulated(servers=3000, job_seconds=(50, 60)) as sim:
            run = sim.bms.fleet.stop(sim.ids)

            async def work() -> None:
                async with run:
                    await run

            if how == "asyncio":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(work(), 10)
            else:
                with anyio.move_on_after(10) as scope:
                    await work()
                assert scope.cancelled_caught
            assert run.report is not None
            assert states(run.report.outcomes) == {S.UNKNOWN: 3000}
            assert anyio.current_time() < 12

    run_virtually(main)


def test_leaving_the_block_by_an_error_does_not_wait_for_ever_for_a_callback_that_hangs() -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            run = sim.bms.fleet.stop(sim.ids, on_outcome=lambda _: asyncio.sleep(10_000))
            with pytest.raises(LookupError, match="elsewhere"):
                await fail_in_the_block_of(run, after=60)
            assert anyio.current_time() < 200

    run_virtually(main)


def test_the_error_of_a_run_is_raised_where_its_block_ends() -> None:
    async def main() -> None:
        async with simulated(servers=2) as sim:
            with pytest.raises(SourceError):
                async with sim.bms.fleet.stop(broken_source(*sim.ids)):
                    await advance(60)

    run_virtually(main)


def logged_errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "never retrieved" in each.getMessage()]


@pytest.mark.parametrize("how", ["dropped", "closed", "left"])
def test_an_error_that_nobody_fetched_is_logged(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with simulated(servers=2) as sim:
            run: FleetRun | None = sim.bms.fleet.stop(broken_source(*sim.ids))
            if how == "left":
                assert run is not None
                await by_break(run)
            await advance(60)
            assert logged_errors(caplog) == []
            if how != "closed":
                run = None
                gc.collect()
                assert len(logged_errors(caplog)) == 1
        assert len(logged_errors(caplog)) == 1
        assert run is None or run.report is not None

    with caplog.at_level(logging.ERROR, "bms_async.fleet"):
        run_virtually(main)
    (logged,) = logged_errors(caplog)
    assert "servers.stop" in logged
    assert [each.exc_info[1].args for each in caplog.records if each.exc_info and each.exc_info[1]] == [
        ("the table of servers is gone",)
    ]


@pytest.mark.parametrize("how", ["awaited", "iterated", "awaited while the client is closed"])
def test_an_error_that_somebody_fetched_is_not_logged(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def fetch(sim: Simulated, run: FleetRun) -> None:
        if how == "awaited":
            await run
        elif how == "iterated":
            async for _ in run:
                pass
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sim.bms.aclose)
                await run

    async def main() -> None:
        async with simulated(servers=2, job_seconds=(100, 200)) as sim:
            run = sim.bms.fleet.stop(broken_source(*sim.ids))
            await advance(10)
            with pytest.raises((SourceError, ExceptionGroup)):
                await fetch(sim, run)
            del run
            gc.collect()

    run_virtually(main)
    assert logged_errors(caplog) == []


@pytest.mark.parametrize("detach", [False, True])
def test_a_run_may_be_cancelled_from_another_thread(detach: bool) -> None:
    async def main() -> None:
        async with simulated(servers=5000, job_seconds=(20, 30)) as sim:
            run = sim.bms.fleet.stop(sim.ids)
            await advance(5)
            before = run.progress
            thread = threading.Thread(target=lambda: run.cancel(detach=detach))
            thread.start()
            thread.join()
            # Nothing was touched from there: the loop does it, in its next pass.
            assert run.progress == before
            report = await run
            assert report.cancelled
            assert states(report.outcomes) == {S.UNKNOWN if detach else S.SUCCEEDED: 5000}

    run_virtually(main)


def test_cancelling_a_run_whose_loop_has_ended_does_nothing() -> None:
    async def main() -> FleetRun:
        async with simulated(servers=1) as sim:
            return sim.bms.fleet.stop(sim.ids)

    run = run_virtually(main)
    run.cancel()
    assert run.report is not None
    assert len(run.report) == 1


def test_a_run_that_is_cancelled_again_and_again_has_an_outcome_for_each_server_all_the_same() -> None:
    async def main() -> None:
        async with simulated(servers=8000, job_seconds=(50, 60)) as sim:
            ids = sim.ids
            run = sim.bms.fleet.stop(ids, on_outcome=lambda _: asyncio.sleep(1))
            await advance(30)
            (task,) = (each for each in asyncio.all_tasks() if each.get_name() == "bms_async fleet servers.stop")
            for passes in (0, 1, 2, 7, 3):
                for _ in range(passes):
                    await asyncio.sleep(0)
                task.cancel()
            report = await run
            assert_one_outcome_each(ids, report.outcomes)
            assert report.cancelled
            with pytest.raises(asyncio.CancelledError):
                await task

    run_virtually(main)


def test_the_error_of_a_run_holds_the_frames_of_one_waiter_however_many_there_were() -> None:
    def breaks(_: object) -> None:
        raise KeyError("mine")

    async def main() -> list[int]:
        async with simulated(servers=3) as sim:
            run = sim.bms.fleet.stop(sim.ids, on_outcome=breaks)
            lengths = []
            for _ in range(5):
                with pytest.raises(KeyError, match="mine") as caught:
                    await run
                lengths.append(len(list(traceback.walk_tb(caught.value.__traceback__))))
            return lengths

    lengths = run_virtually(main)
    assert len(set(lengths)) == 1
    assert lengths[0] > 3
