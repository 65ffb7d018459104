"""The limiter beside what a user would pick instead, against three gateways, on a virtual clock.

500 calls at 50 a minute with 20 to 300 ms on the wire. Counted are the calls that the gateway refuses and the time
until the last was made; 540 s is the shortest that the limit allows. Then the CPU that one call costs, in one process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random

import anyio
from aiolimiter import AsyncLimiter

from benchmarks._report import report
from bms_async.limits import Lane, Slot, WindowLimiter
from bms_async.simulator import FixedWindow, SlidingWindow, Throttle, TokenBucket
from tests.support.virtual_clock import run_virtually

CALLS = 500
LIMIT = 50

Acquire = Callable[[], Awaitable[Slot | None]]

CONTENDERS: dict[str, Callable[[], Acquire]] = {
    "bms_async WindowLimiter(50)": lambda: WindowLimiter("x", LIMIT).acquire,
    "aiolimiter AsyncLimiter(50, 60)": lambda: AsyncLimiter(LIMIT, 60).acquire,
    "aiolimiter AsyncLimiter(1, 1.2)": lambda: AsyncLimiter(1, 60 / LIMIT).acquire,
}
GATEWAYS: dict[str, Callable[[], Throttle]] = {
    "fixed window": lambda: FixedWindow(LIMIT, phase=17.0),
    "sliding window": lambda: SlidingWindow(LIMIT),
    "token bucket": lambda: TokenBucket(LIMIT),
}


def drive(make: Callable[[], Acquire], gateway: Throttle) -> tuple[int, float]:
    """Make all calls; return how many were refused, and when the last one was made."""
    draw = Random(7)

    async def main() -> tuple[int, float]:
        acquire, refused, last = make(), 0, 0.0

        async def call() -> None:
            nonlocal refused, last
            slot = await acquire()
            wire = draw.uniform(0.02, 0.3)
            await anyio.sleep(wire / 2)
            last = anyio.current_time()
            refused += gateway.admit(last) > 0
            await anyio.sleep(wire / 2)
            if slot is not None:
                slot.release()

        async with anyio.create_task_group() as callers:
            for _ in range(CALLS):
                callers.start_soon(call)
        return refused, last

    return run_virtually(main)


async def cpu(limiter: WindowLimiter | AsyncLimiter, calls: int) -> float:
    """Return the µs of CPU that a call costs when nobody has to wait."""
    begun = time.process_time()
    if isinstance(limiter, WindowLimiter):
        for _ in range(calls):
            slot = await limiter.acquire(Lane.BULK)
            slot.release()
    else:
        for _ in range(calls):
            await limiter.acquire()
    return (time.process_time() - begun) / calls * 1e6


def main() -> None:
    """Run both."""
    report(
        "limiter",
        [
            {"limiter": name, "gateway": where, "refused": refused, "seconds until the last call": last}
            for where, gateway in GATEWAYS.items()
            for name, make in CONTENDERS.items()
            for refused, last in [drive(make, gateway())]
        ],
    )
    ours = asyncio.run(cpu(WindowLimiter("x", 10**6), 100_000))
    theirs = asyncio.run(cpu(AsyncLimiter(10**6, 60), 100_000))
    report(
        "limiter_cpu",
        [
            {"limiter": "bms_async WindowLimiter", "µs a call": ours, "ratio": 1.0},
            {"limiter": "aiolimiter AsyncLimiter", "µs a call": theirs, "ratio": theirs / ours},
        ],
    )


if __name__ == "__main__":
    main()
