"""What `each` costs for very many servers: memory, tasks, and never the event loop for long (R9, R10)."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import bms_async
from bms_async import FleetRun, Outcome
from tests.fleet._helpers import states
from tests.fleet.each._rename import S
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

PACKAGE = Path(bms_async.__file__).parent
MAX_BYTES = 600.0
"""Bytes of the SDK for a server, as benchmarks/fleet.py allows a power run."""


def names(count: int) -> list[str]:
    return [f"{number:08x}-1111-4222-8333-123456789abc" for number in range(count)]


def bytes_of_the_sdk() -> float:
    found = tracemalloc.take_snapshot().statistics("filename")
    return float(sum(each.size for each in found if each.traceback[0].filename.startswith(str(PACKAGE))))


def test_r10_a_server_costs_as_little_memory_as_in_a_power_run_and_no_task() -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            ids = names(5000)
            most_bytes = most_tasks = 0.0

            async def call(server_id: str) -> None:
                await asyncio.sleep(1)

            async def watch(run: FleetRun) -> None:
                nonlocal most_bytes, most_tasks
                while run.report is None:
                    await advance(20)
                    most_tasks = max(most_tasks, len(asyncio.all_tasks()))
                    most_bytes = max(most_bytes, bytes_of_the_sdk())

            tracemalloc.start()
            run = sim.bms.fleet.each(ids, call)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch, run)
                report = await run
                tasks.cancel_scope.cancel()
            tracemalloc.stop()
            assert states(report.outcomes) == {S.SUCCEEDED: 5000}
            assert most_tasks < 120
            assert 0 < most_bytes / 5000 < MAX_BYTES

    run_virtually(main)


async def return_at_once(server_id: str) -> None:
    pass


async def raise_at_once(server_id: str) -> None:
    raise ValueError


@pytest.mark.parametrize("call", [return_at_once, raise_at_once, lambda server_id: None])
def test_r9_a_function_that_never_waits_leaves_the_loop_to_others(call: Callable[[str], object]) -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            run = sim.bms.fleet.each(names(5000), call)  # type: ignore[arg-type]
            most = 0
            while run.report is None:
                before = run.progress.done
                await asyncio.sleep(0)
                most = max(most, run.progress.done - before)
            assert most <= 500

    run_virtually(main)


@pytest.mark.parametrize("how", ["let go", "cancelled"])
def test_r9_servers_that_wait_are_skipped_some_hundreds_in_a_pass_of_the_loop(how: str) -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:

            async def call(server_id: str) -> None:
                await asyncio.sleep(60)

            run = sim.bms.fleet.each(names(20_000), call)
            await advance(1)
            run.cancel(detach=how == "let go")
            most = 0
            while run.progress.done < 19_900:
                before = run.progress.done
                await asyncio.sleep(0)
                most = max(most, run.progress.done - before)
            assert states((await run).outcomes)[S.SKIPPED] == 19_900
            assert most <= 1000

    run_virtually(main)


def test_r9_the_collector_does_not_visit_outcomes_without_a_result() -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:

            async def call(server_id: str) -> list[str]:
                return [server_id]

            report = await sim.bms.fleet.each(names(2000), call, keep_results=False)
            assert not any(gc.is_tracked(outcome) for outcome in report.outcomes)
            kept = await sim.bms.fleet.each(names(2000), call)
            assert all(type(outcome) is not Outcome for outcome in kept.outcomes)
            # One that nobody reads is stored apart from its result.
            assert not any(gc.is_tracked(item) for item in kept.outcomes._items)  # type: ignore[attr-defined]

    run_virtually(main)
