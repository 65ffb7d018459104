"""What a function's own calls tell its run, and that nothing else does: not the client's own work, nor later tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from bms_async import BmsClient, CallStarted, Lane, PasswordAuth
from bms_async._tasks import BackgroundTasks, outside_of_all
from bms_async.session.probe import current_probe
from bms_async.simulator import Answer
from tests.fleet._helpers import states
from tests.fleet.each._rename import S, outcome_of, rename
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually


def test_no_probe_is_left_where_the_run_was_begun_and_none_is_in_tasks_of_the_client() -> None:
    async def main() -> None:
        seen: list[object] = []

        async def look() -> None:
            seen.append(current_probe.get())

        async with simulated(servers=2) as sim:

            async def call(server_id: str) -> None:
                assert current_probe.get() is not None
                tasks = BackgroundTasks("test")
                await tasks.open()
                await tasks.start(look)
                await tasks.aclose()
                await outside_of_all(look, "test")
                sim.bms._core.start(look)
                await asyncio.sleep(0.1)
                await asyncio.create_task(keep())

            async def keep() -> None:
                assert current_probe.get() is not None

            assert (await outcome_of(sim, call)).state is S.SUCCEEDED
            assert current_probe.get() is None
            assert seen == [None] * 3

    run_virtually(main)
