"""Whatever the function of `each` does, its server has one outcome, and the others have theirs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from bms_async import (
    BadRequestError,
    BmsError,
    CallTimeoutError,
    FleetError,
    ForeignCodeError,
    InvalidRequestError,
    JobFailedError,
    Outcome,
    TransportError,
)
from bms_async.simulator import CutAfter
from tests.fleet._helpers import refusal, states
from tests.fleet.each._rename import S, outcome_of, outcomes_of, reboot, rename, tasks_of_runs
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import advance, run_virtually


def raising(error: BaseException) -> Callable[[str], Awaitable[object]]:
    async def call(server_id: str) -> object:
        await asyncio.sleep(0.01)
        raise error

    return call


async def cancel_oneself(server_id: str) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0.01)


async def cancel_oneself_and_return(server_id: str) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    task.cancel()


async def cancel_oneself_in_scopes(server_id: str) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await asyncio.sleep(1)
    try:
        async with asyncio.timeout(0.1):
            await asyncio.sleep(1)
    except TimeoutError:
        pass


async def await_something_cancelled(server_id: str) -> None:
    task = asyncio.ensure_future(asyncio.sleep(10))
    task.cancel()
    await task


async def stop_iterating(server_id: str) -> None:
    await asyncio.sleep(0)
    next(iter(()))


def stop_iterating_at_once(server_id: str) -> object:
    return next(iter(()))


@pytest.mark.parametrize(
    ("call", "error", "cause"),
    [
        (raising(ValueError("no")), FleetError, ValueError),
        (raising(asyncio.CancelledError()), ForeignCodeError, asyncio.CancelledError),
        (raising(SystemExit(3)), ForeignCodeError, SystemExit),
        (raising(GeneratorExit()), ForeignCodeError, GeneratorExit),
        (raising(ExceptionGroup("two", [ValueError("a"), KeyError("b")])), FleetError, ExceptionGroup),
        (raising(ExceptionGroup("one", [ExceptionGroup("more", [ValueError("a")])])), FleetError, ValueError),
        (raising(BaseExceptionGroup("base", [SystemExit(1)])), ForeignCodeError, BaseExceptionGroup),
        (raising(BmsError("their own")), BmsError, type(None)),
        (raising(MemoryError()), FleetError, MemoryError),
        (cancel_oneself, ForeignCodeError, asyncio.CancelledError),
        (await_something_cancelled, ForeignCodeError, asyncio.CancelledError),
        (stop_iterating, FleetError, RuntimeError),
        (stop_iterating_at_once, FleetError, RuntimeError),
        (lambda server_id, more: None, FleetError, TypeError),
    ],
)
def test_whatever_a_function_raises_fails_its_own_server_and_no_other(
    call: Callable[[str], object], error: type[BmsError], cause: type[BaseException]
) -> None:
    async def main() -> None:
        async with simulated(servers=250) as sim:
            outcome = await outcome_of(sim, call)
            assert outcome.state is S.FAILED
            assert type(outcome.error) is error
            assert type(outcome.error.__cause__) is cause
            assert not tasks_of_runs()

    run_virtually(main)


@pytest.mark.parametrize("call", [cancel_oneself_and_return, cancel_oneself_in_scopes])
def test_a_function_that_returns_in_spite_of_its_own_cancellation_succeeded(call: Callable[[str], object]) -> None:
    async def main() -> None:
        async with simulated(servers=250) as sim:
            assert (await outcome_of(sim, call)).state is S.SUCCEEDED

    run_virtually(main)


def test_workers_whose_functions_cancel_them_go_on() -> None:
    async def main() -> None:
        async with simulated(servers=500) as sim:
            assert states(await outcomes_of(sim, cancel_oneself)) == {S.FAILED: 500}
            assert states(await outcomes_of(sim, cancel_oneself_and_return)) == {S.SUCCEEDED: 500}

    run_virtually(main)


def test_a_worker_that_is_cancelled_late_by_the_function_of_another_server_goes_on() -> None:
    async def main() -> None:
        async with simulated(servers=20) as sim:
            tasks: list[asyncio.Task[object]] = []

            async def call(server_id: str) -> None:
                task = asyncio.current_task()
                assert task is not None
                tasks.append(task)
                await asyncio.sleep(1)

            async def ids() -> AsyncIterator[str]:
                for server_id in sim.ids:
                    yield server_id
                    await advance(5)
                    tasks[-1].cancel()

            report = await sim.bms.fleet.each(ids(), call)
            assert states(report.outcomes) == {S.SUCCEEDED: 20}

    run_virtually(main)


def test_ctrl_c_in_a_function_ends_the_program() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            await sim.bms.fleet.each(sim.ids, raising(KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt):
        run_virtually(main)


def test_only_the_first_error_of_functions_is_logged_and_no_outcome_holds_its_frames(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> list[Outcome]:
        async with simulated(servers=30) as sim:
            return await outcomes_of(sim, raising(ValueError("no")))

    with caplog.at_level(logging.ERROR):
        outcomes = run_virtually(main)
    assert [record.message for record in caplog.records] == ["each: the call of a server raised; others are not logged"]
    assert all(each.error and each.error.__cause__ and not each.error.__cause__.__traceback__ for each in outcomes)


async def reboot_and_raise_in_a_group(sim: Simulated, server_id: str) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sim.bms.servers.reboot, [server_id])


async def reboot_with_patience(sim: Simulated, server_id: str) -> None:
    async with asyncio.timeout(1):
        await sim.bms.servers.reboot([server_id])
        await asyncio.sleep(10)


async def reboot_and_wait(sim: Simulated, server_id: str) -> None:
    job = await sim.bms.servers.reboot([server_id])
    await job.result(timeout=1)


@pytest.mark.parametrize("call", [reboot_and_raise_in_a_group, reboot_with_patience, reboot_and_wait])
def test_a_server_is_unknown_where_the_cloud_may_have_done_what_was_asked_for(
    call: Callable[[Simulated, str], Awaitable[None]],
) -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            if call is reboot_and_raise_in_a_group:
                sim.cloud.faults.append(lambda operation, *_: CutAfter() if operation == "servers.reboot" else None)
            outcome = await outcome_of(sim, lambda server_id: call(sim, server_id))
            assert outcome.state is S.UNKNOWN
            assert sim.arrived("servers.reboot") == 1

    run_virtually(main)


def test_a_lost_answer_is_unknown_and_a_refusal_is_not() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            sim.cloud.faults.append(lambda operation, *_: CutAfter() if operation == "servers.reboot" else None)
            sim.cloud.faults.append(refusal("BMS.0018", "servers.rename"))
            lost = await outcome_of(sim, reboot(sim.bms))
            refused = await outcome_of(sim, rename(sim.bms))
            assert (lost.state, type(lost.error)) == (S.UNKNOWN, TransportError)
            assert (refused.state, refused.code, type(refused.error)) == (S.FAILED, "BMS.0018", BadRequestError)
            assert sim.arrived("servers.reboot") == sim.arrived("servers.rename") == 1

    run_virtually(main)


def test_a_timeout_before_anything_was_sent_fails_and_one_after_it_is_unknown() -> None:
    async def main() -> None:
        async with simulated(servers=102, latency=(0.2, 0.3)) as sim:

            async def call(server_id: str) -> None:
                # For 99 of them there is a slot, and the others wait for one.
                await asyncio.wait_for(sim.bms.servers.rename(server_id, "new"), 0.1 if server_id == sim.ids[0] else 1)

            outcomes = await outcomes_of(sim, call)
            assert (outcomes[0].state, sim.arrived("servers.rename")) == (S.UNKNOWN, 99)
            assert [each.state for each in outcomes[1:]] == [S.SUCCEEDED] * 98 + [S.FAILED] * 3
            assert {outcome.reason for outcome in outcomes if outcome.state is S.FAILED} == {"FAILED"}

    run_virtually(main)


def test_a_call_that_times_out_is_unknown() -> None:
    async def main() -> None:
        async with simulated(servers=2, latency=(90, 90), timeout=5) as sim:
            outcome = await outcome_of(sim, reboot(sim.bms))
            assert (outcome.state, type(outcome.error)) == (S.UNKNOWN, CallTimeoutError)

    run_virtually(main)


def test_a_function_may_wait_for_the_job_by_itself_and_its_failure_is_the_servers() -> None:
    async def main() -> None:
        async with simulated(servers=20, fail_share=0.5, job_seconds=(5, 9)) as sim:

            async def call(server_id: str) -> object:
                return await (await sim.bms.servers.stop([server_id]))

            outcomes = await outcomes_of(sim, call)
            assert states(outcomes) == {S.SUCCEEDED: 10, S.FAILED: 10}
            assert {type(outcome.error) for outcome in outcomes} == {type(None), JobFailedError}
            assert sim.arrived("servers.stop") == 20

    run_virtually(main)


def test_an_argument_that_is_refused_fails_its_server_and_nothing_is_sent() -> None:
    async def main() -> None:
        async with simulated(servers=2) as sim:
            outcome = await outcome_of(sim, lambda server_id: sim.bms.servers.rename(server_id, "not a name!"))
            assert (outcome.state, type(outcome.error)) == (S.FAILED, InvalidRequestError)
            assert sim.arrived("servers.rename") == 0

    run_virtually(main)


def test_a_function_that_keeps_the_processor_busy_has_its_outcomes_too() -> None:
    async def call(server_id: str) -> str:
        return server_id.upper() if sum(range(10_000)) else ""

    async def main() -> None:
        async with simulated(servers=300) as sim:
            outcomes = await outcomes_of(sim, call)
            assert [outcome.result for outcome in outcomes] == [each.upper() for each in sim.ids]

    run_virtually(main)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_function_that_drops_its_call_has_done_nothing_and_its_servers_are_failed() -> None:
    async def main() -> None:
        async with simulated(servers=2) as sim:

            def call(server_id: str) -> Any:
                sim.bms.servers.rename(server_id, "web")  # type: ignore[unused-coroutine]  # that is the mistake

            outcome = (await sim.bms.fleet.each(sim.ids, call)).outcomes[0]
            assert outcome.state is S.FAILED
            assert "expected a coroutine from the function, got NoneType" in str(outcome.error)
            assert sim.arrived("servers.rename") == 0

    run_virtually(main)


def test_a_function_may_start_other_runs_and_use_other_clients() -> None:
    async def main() -> None:
        async with simulated(servers=30, job_seconds=(5, 9)) as sim, simulated(servers=30, seed=1) as other:

            async def call(server_id: str) -> int:
                inner = await sim.bms.fleet.each([server_id], rename(sim.bms))
                inner.raise_for_failures()
                there = other.ids[sim.ids.index(server_id)]
                await other.bms.servers.rename(there, "there")
                return len(await sim.bms.fleet.stop([server_id]))

            outcomes = await outcomes_of(sim, call)
            assert [outcome.result for outcome in outcomes] == [1] * 30
            assert (sim.arrived("servers.rename"), other.arrived("servers.rename")) == (30, 30)
            # Each run sends a batch of its own.
            assert sim.arrived("servers.stop") == 30
            assert not any(server.powered for server in sim.cloud.servers.values())

    run_virtually(main)


def test_a_function_that_closes_the_client_ends_the_run() -> None:
    async def main() -> None:
        async with simulated(servers=300) as sim:

            async def call(server_id: str) -> None:
                await asyncio.sleep(1)
                await sim.bms.aclose()

            report = await sim.bms.fleet.each(sim.ids, call)
            assert report.cancelled
            assert set(states(report.outcomes)) <= {S.UNKNOWN, S.SKIPPED, S.SUCCEEDED}
            await advance(1)
            assert not tasks_of_runs()

    run_virtually(main)
