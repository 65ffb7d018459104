"""Processes that `benchmarks.durable` starts: each prepares, waits until all are ready, works, and says what it took.

python -m benchmarks._durable_process < PLAN
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from importlib import import_module
from typing import TypeAlias

import msgspec


class Plan(msgspec.Struct, frozen=True):
    """What a process does.

    Attributes:
        part: The module of this folder whose ``contender`` does it.
        url: The store.
        name: What of it, for a module that knows several.
        batches: How many batches there are.
        servers: How many servers a batch has.
        workers: How many workers this process plays.
        seconds: How long it works, where it has no other end.
    """

    part: str
    url: str
    name: str = ""
    batches: int = 0
    servers: int = 0
    workers: int = 1
    seconds: float = 0.0


class Done(msgspec.Struct):
    """What a process did.

    Attributes:
        count: How often it did it.
        wall: Seconds.
        cpu: Seconds of CPU of the whole process.
        taken: Seconds that each single time took, where these were counted.
        notes: Figures by name.
    """

    count: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    taken: list[float] = []
    notes: dict[str, float] = {}


Work: TypeAlias = Callable[[Done], Awaitable[None]]
Contender: TypeAlias = Callable[[Plan], AbstractAsyncContextManager[Work]]


def run(plans: Sequence[Plan]) -> list[Done]:
    """Run a process for each plan, all from one moment on; return what they did, in the same order."""
    with ExitStack() as stack:
        processes = [stack.enter_context(started(plan)) for plan in plans]
        for process in processes:
            let_go(process)
        return [msgspec.json.decode(process.communicate()[0], type=Done) for process in processes]


@contextmanager
def started(plan: Plan) -> Iterator[subprocess.Popen[str]]:
    """Start a process that works when it is let go; kill it at the end of the context."""
    command = [sys.executable, "-m", "benchmarks._durable_process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin
            process.stdin.write(msgspec.json.encode(plan).decode() + "\n")
            process.stdin.flush()
            assert process.stdout
            assert process.stdout.readline() == "ready\n", plan
            yield process
        finally:
            process.kill()


def let_go(process: subprocess.Popen[str]) -> None:
    """Let a process that is ready work."""
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


async def main(plan: Plan) -> Done:
    """Prepare, wait for the word, and work."""
    contender: Contender = import_module(f"benchmarks.{plan.part}").contender
    done = Done()
    async with contender(plan) as work:
        print("ready", flush=True)
        sys.stdin.readline()
        wall, cpu = time.perf_counter(), time.process_time()
        await work(done)
        done.wall, done.cpu = time.perf_counter() - wall, time.process_time() - cpu
    return done


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(main(msgspec.json.decode(sys.stdin.readline(), type=Plan)))).decode())
