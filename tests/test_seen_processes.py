"""Processes of a scenario that stand still, and go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.lowlevel
import msgspec

from tests.support.changes import Changes
from tests.support.machine import patience
from tests.support.seen import SeenProcess

_ECHO = "/bin/cat"


class _Said(msgspec.Struct):
    what: str
    pid: int


@asynccontextmanager
async def _echo() -> AsyncIterator[tuple[SeenProcess, asyncio.subprocess.Process]]:
    """A process that repeats each line, as it is seen from a stage, which ends with the context."""
    process = await asyncio.create_subprocess_exec(_ECHO, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    seen = SeenProcess("echo", Changes())
    seen.note(_Said("standing", process.pid), process.stdin)
    try:
        async with asyncio.timeout(patience(20.0)):
            yield seen, process
    finally:
        seen.kill()
        await process.wait()


async def _answers(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"still there\n")
    return await process.stdout.readline()


async def test_a_process_that_says_that_it_stands_before_it_does_goes_on_all_the_same() -> None:
    async with _echo() as (seen, process):
        resuming = asyncio.create_task(seen.resume())
        await anyio.lowlevel.checkpoint()
        seen.stop()
        await resuming
        assert await _answers(process) == b"still there\n"


async def test_a_process_that_is_over_is_not_waited_for_until_it_stands() -> None:
    async with _echo() as (seen, process):
        resuming = asyncio.create_task(seen.resume())
        await anyio.lowlevel.checkpoint()
        seen.kill()
        await process.wait()
        await resuming
