"""One of several processes that share a limit; `benchmarks.shared_limits` runs it.

    python -m benchmarks._shared_worker < PLAN

It says when it is ready, begins at the next line, and prints what it did.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from benchmarks._shared_gateway import WIRE, Line
from benchmarks._shared_limiters import Contender, RoundTrips, Shared, find_contender

_FOREVER = 1e9


class Plan(msgspec.Struct, frozen=True):
    """What a process does.

    Attributes:
        contender: The name of the limiter.
        shared: What it shares.
        callers: How many calls are made or wait at once.
        calls: How many are made in all.
        seconds: When it ends at the latest.
        patience: It ends earlier if no call got its slot for so many seconds.
        gateway: The port of the gateway; 0 for a call that only takes its time.
        wire: Seconds that such a call takes, from and to.
    """

    contender: str
    shared: Shared
    callers: int
    calls: int
    seconds: float
    patience: float = _FOREVER
    gateway: int = 0
    wire: tuple[float, float] = WIRE


class Done(msgspec.Struct):
    """What a process did.

    Attributes:
        slots: When each call got its slot, in seconds from the beginning.
        ended: When each ended.
        refused: How many were refused.
        trips: How many round trips redis-py made.
        questions: How many questions were asked.
        cpu: Seconds of CPU of the whole process.
    """

    slots: list[float] = []
    ended: list[float] = []
    refused: int = 0
    trips: int = 0
    questions: int = 0
    cpu: float = 0.0


async def work(plan: Plan, contender: Contender, done: Done) -> None:
    """Make all calls, or as many as there is time for."""
    line, draw = Line(plan.gateway) if plan.gateway else None, Random()
    if line is not None:
        await line.open()
    begun, left = time.monotonic(), plan.calls

    async def call() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            slot = await contender.acquire()
            done.slots.append(time.monotonic() - begun)
            if line is not None:
                done.refused += await line.call()
            elif plan.wire[1] > 0:
                await asyncio.sleep(draw.uniform(*plan.wire))
            if slot is not None:
                slot.release()
            done.ended.append(time.monotonic() - begun)

    callers = [asyncio.ensure_future(call()) for _ in range(plan.callers)]
    await _wait(plan, callers, begun, done)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    for caller in callers:
        if not caller.cancelled():
            caller.result()
    if line is not None:
        await line.aclose()


async def _wait(plan: Plan, callers: Sequence[asyncio.Task[None]], begun: float, done: Done) -> None:
    """Wait until all calls are made, or there is no time left, or no slot comes any more."""
    left: set[asyncio.Task[None]] = set(callers)
    while left and (now := time.monotonic() - begun) < plan.seconds:
        last = done.slots[-1] if done.slots else 0.0
        if now - last >= plan.patience:
            return
        _, left = await asyncio.wait(left, timeout=min(plan.seconds - now, last + plan.patience - now))


async def main(plan: Plan) -> Done:
    """Wait until all processes are ready, and work."""
    trips, done = RoundTrips(), Done()
    async with find_contender(plan.contender)(plan.shared) as contender:
        print("ready", flush=True)
        sys.stdin.readline()
        before, cpu = trips.count, time.process_time()
        asked = contender.questions() if contender.questions else 0
        await work(plan, contender, done)
        done.cpu = time.process_time() - cpu
        done.trips = trips.count - before
        done.questions = contender.questions() - asked if contender.questions else done.trips
    return done


def merge(everything: Sequence[Done]) -> Done:
    """Return what several processes did together."""
    fields: dict[str, Any] = {
        "slots": sorted(at for done in everything for at in done.slots),
        "ended": sorted(at for done in everything for at in done.ended),
    }
    for name in ("refused", "trips", "questions", "cpu"):
        fields[name] = sum(getattr(done, name) for done in everything)
    return Done(**fields)


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(main(msgspec.json.decode(sys.stdin.readline(), type=Plan)))).decode())
