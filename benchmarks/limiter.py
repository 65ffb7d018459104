"""The rate limiter beside its alternatives: calls that the gateways refuse, and the cost of a call and of a wait.

First on a virtual clock: 5,000 calls of an operation with a limit of 50 a minute, all waiting from the start. Each
reaches the gateway and comes back after a random time on the wire, and three kinds of gateway count the same arrivals.
A limiter that counts when it sends keeps its limit there, and yet is refused: calls that were sent evenly do not arrive
evenly. 5,940 s is the earliest time of the last call for a limiter that lets 50 go at once. "Most in a minute" is the
number of calls that arrived in the worst 60 s.

Then on the real clock: the CPU of taking a free slot and of releasing it, the memory of 100,000 waiters, and how long
it takes to cancel them all. Memory is given beyond that of a coroutine that waits for a bare future in a task, which
any wait costs.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from random import Random

import anyio

from benchmarks._limiters import CONTENDERS, PACKAGES, Acquire, loop_clock
from benchmarks._report import judge, report
from bms_async.limits import Slot, WindowLimiter
from bms_async.simulator import FixedWindow, SlidingWindow, Throttle, TokenBucket
from tests.support.virtual_clock import run_virtually

CALLS = 5_000
LIMIT = 50
BOUND = (CALLS / LIMIT - 1) * 60
WIRES = {"20..300 ms": (0.02, 0.3), "20 ms..5 s": (0.02, 5.0)}
GATEWAYS: dict[str, Callable[[], Throttle]] = {
    "fixed": lambda: FixedWindow(LIMIT, phase=17.0),
    "sliding": lambda: SlidingWindow(LIMIT),
    "bucket": lambda: TokenBucket(LIMIT),
}

WITH_A_BURST = "aiolimiter, burst formula"
RUNS = 9
CALLS_A_RUN = 3_000
PLENTY = 10**6
WAITERS = 100_000


def arrivals(make: Callable[[int], Acquire], wire: tuple[float, float]) -> list[float]:
    """Make all calls; return when each arrived at the gateway."""
    draw = Random(7)

    async def main() -> list[float]:
        acquire, came = make(LIMIT), list[float]()

        async def call() -> None:
            slot = await acquire()
            out, back = draw.uniform(*wire) / 2, draw.uniform(*wire) / 2
            await anyio.sleep(out)
            came.append(anyio.current_time())
            await anyio.sleep(back)
            if slot is not None:
                slot.release()

        async with anyio.create_task_group() as callers:
            for _ in range(CALLS):
                callers.start_soon(call)
        return came

    with loop_clock():
        return run_virtually(main)


def worst_minute(came: Sequence[float]) -> int:
    """Return the most arrivals that any 60 s hold."""
    worst = first = 0
    for last, at in enumerate(came):
        while at - came[first] >= 60:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


def guarantee(name: str, wire: str) -> dict[str, object]:
    """Return how many of the calls that one limiter lets through are refused by each of three gateways."""
    begun = time.process_time()
    came = arrivals(CONTENDERS[name], WIRES[wire])
    refused = {}
    for kind, build in GATEWAYS.items():
        gateway = build()
        refused[f"refused, {kind}"] = sum(gateway.admit(at) > 0 for at in came)
    return {
        "limiter": name,
        "on the wire": wire,
        **refused,
        "most in a minute": worst_minute(came),
        "last call, s": came[-1],
        "over the bound, %": 100 * (came[-1] / BOUND - 1),
        "CPU s": time.process_time() - begun,
    }


async def uncontended(acquire: Acquire) -> float:
    """Return the µs of CPU of one call whose slot is free, threads included."""
    begun = time.process_time()
    for _ in range(CALLS_A_RUN):
        slot = await acquire()
        if slot is not None:
            slot.release()
    return (time.process_time() - begun) / CALLS_A_RUN * 1e6


async def costs() -> dict[str, float]:
    """Return the median of the µs for each; they take turns, so that other load affects all alike."""
    makes: dict[str, Callable[[int], Acquire]] = {
        **CONTENDERS,
        "bms_async, no limit": lambda _: WindowLimiter("x", None).acquire,
    }
    del makes[WITH_A_BURST]  # Its bucket holds ten calls whatever the limit, so a call always waits.
    taken: dict[str, list[float]] = {name: [] for name in makes}
    for _ in range(RUNS):
        for name, make in makes.items():
            taken[name].append(await uncontended(make(PLENTY)))
    return {name: statistics.median(each) for name, each in taken.items()}


async def weigh(acquire: Acquire) -> float:
    """Make very many waiters; return the bytes of each."""
    async with asyncio.TaskGroup() as group:
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            tasks = await _gather(group, acquire)
            gc.collect()
            weight = (tracemalloc.get_traced_memory()[0] - before) / WAITERS
        finally:
            tracemalloc.stop()
        await _cancel(tasks)
    return weight


async def disperse(acquire: Acquire) -> float:
    """Make very many waiters; return the seconds until all of them are cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = await _gather(group, acquire)
        gc.collect()
        begun = time.perf_counter()
        await _cancel(tasks)
        return time.perf_counter() - begun


async def crowds() -> list[dict[str, object]]:
    """Measure waiters: of a bare future, of our limiter, and of the others that have a queue."""

    async def bare() -> None:
        await asyncio.get_running_loop().create_future()

    waits: dict[str, Acquire] = {"(a bare future)": bare}
    for name in ("bms_async", "aiolimiter", "pyrate-limiter"):
        waits[name] = CONTENDERS[name](1)
        await waits[name]()
    # The memory is the same each time; the duration is not.
    weights = {name: await weigh(acquire) for name, acquire in waits.items()}
    taken: dict[str, list[float]] = {name: [] for name in waits}
    for _ in range(5):
        for name, acquire in waits.items():
            taken[name].append(await disperse(acquire))
    plain = weights["(a bare future)"]
    return [
        {
            "limiter": name,
            "B a waiter": weight,
            "B beyond a bare future": weight - plain,
            "cancel all, s": statistics.median(taken[name]),
        }
        for name, weight in weights.items()
    ]


async def _gather(group: asyncio.TaskGroup, acquire: Acquire) -> list[asyncio.Task[Slot | None]]:
    gc.disable()  # None of them is garbage, and a collection takes longer than making them.
    try:
        tasks = [group.create_task(acquire()) for _ in range(WAITERS)]
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        gc.enable()
    return tasks


async def _cancel(tasks: Sequence[asyncio.Task[Slot | None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def main() -> int:
    """Run all; return the exit status."""
    promises = [guarantee(name, wire) for wire in WIRES for name in CONTENDERS]
    report("limiter", promises, packages=PACKAGES)
    taken = asyncio.run(costs())
    best = min(cost for name, cost in taken.items() if not name.startswith("bms_async"))
    rows = [{"limiter": name, "µs a call": cost, "ratio to the best peer": cost / best} for name, cost in taken.items()]
    report("limiter_cost", rows, packages=PACKAGES)
    waiting = asyncio.run(crowds())
    report("limiter_waiters", waiting, packages=PACKAGES)
    mine = [row for row in promises if row["limiter"] == "bms_async"]
    late = max(_number(row["over the bound, %"]) for row in mine if row["on the wire"] == "20..300 ms")
    weight = next(_number(row["B beyond a bare future"]) for row in waiting if row["limiter"] == "bms_async")
    return judge(
        {
            "no gateway refuses a call": not any(row[f"refused, {kind}"] for row in mine for kind in GATEWAYS),
            f"all calls within 1 % of the bound under 300 ms: {late:.2f} %": late <= 1,
            f"a call whose slot is free under 1 µs: {taken['bms_async']:.2f} µs": taken["bms_async"] < 1,
            f"a waiter under 300 bytes beyond its coroutine: {weight:.0f}": weight < 300,
        }
    )


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value


if __name__ == "__main__":
    raise SystemExit(main())
