"""The clients of one process, in turn, in short slices; `benchmarks.calls` runs it on each event loop.

    python -m benchmarks._sliced PLAN_AS_JSON

All clients live in this one process and make their calls in slices of a tenth of a second, one after another and again.
Other load on the machine falls on all of them alike, and a figure is the ratio of a slice to the baseline's slices just
before and after it, of which there is one after each four. CPU is that of the whole process, so that the threads of a
client count.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import json
import math
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import msgspec

from benchmarks._clients import ASYNC, BASELINE, BLOCKING, MOST_CALLERS, AsyncCall, BlockingCall, Site

_BASELINE_EVERY = 4
_STALE = 4.0
"""Seconds after which a client may have closed idle connections; to make them again is no part of a call."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a process measures.

    Attributes:
        site: Where the server is.
        clients: The clients, without the baseline, which is always measured.
        callers: The numbers of concurrent callers, each measured by itself.
        seconds: How long each client may take with each of those, roughly.
        rounds: How often each client has its turn.
        calls: The calls of a slice; 0 for as many as fit.
        uvloop: Whether the event loop is uvloop's.
    """

    site: Site
    clients: tuple[str, ...]
    callers: tuple[int, ...]
    seconds: float
    rounds: int
    calls: int = 0
    uvloop: bool = False


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one client cost with one number of callers, slice by slice.

    Attributes:
        cpu: Seconds of CPU a call.
        ratios: The same, with the baseline's slices around it as 1.
        rates: Calls a second.
        p50s: The median of how long a call took, in seconds.
        p99s: What 99 of 100 calls did not exceed, in seconds.
    """

    cpu: list[float] = []
    ratios: list[float] = []
    rates: list[float] = []
    p50s: list[float] = []
    p99s: list[float] = []


class Slice(NamedTuple):
    """What one slice cost, in seconds of CPU and by the clock, and how long each call took."""

    cpu: float
    clock: float
    took: list[float]


class Turns:
    """Counts down the calls of a slice, and keeps its figures.

    To begin callers and to end them costs something too: the slice lasts from when all are there until the last call.
    """

    def __init__(self, calls: int) -> None:
        self._left = self._open = calls
        self._took: list[float] = []
        self._from = (time.process_time(), time.perf_counter())
        self.result: Slice | None = None

    def begin(self) -> None:
        """Begin, now that all callers are there."""
        self._from = (time.process_time(), time.perf_counter())

    def take(self) -> bool:
        """Take the next call, if one is left."""
        self._left -= 1
        return self._left >= 0

    def end(self, took: float) -> None:
        """Count a call that has ended; the last one ends the slice."""
        self._took.append(took)
        self._open -= 1
        if not self._open:
            cpu, clock = self._from
            self.result = Slice(time.process_time() - cpu, time.perf_counter() - clock, self._took)


class AsyncClient:
    """A client that is awaited."""

    def __init__(self, call: AsyncCall) -> None:
        self._call = call
        self.used_at = 0.0

    async def make_calls(self, callers: int, calls: int) -> Slice:
        """Have so many callers make so many calls together."""
        turns, call, now = Turns(calls), self._call, time.perf_counter

        async def caller() -> None:
            while turns.take():
                begun = now()
                await call()
                turns.end(now() - begun)

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())
            turns.begin()
        assert turns.result
        self.used_at = now()
        return turns.result


class BlockingClient:
    """A client that blocks: each caller has a thread, which is kept between slices."""

    def __init__(self, call: BlockingCall, most_callers: int) -> None:
        self._call = call
        self.used_at = 0.0
        self._threads = concurrent.futures.ThreadPoolExecutor(most_callers)

    async def make_calls(self, callers: int, calls: int) -> Slice:
        """Have so many threads make so many calls together; meanwhile the event loop has nothing to do."""
        turns, call, now, lock = Turns(calls), self._call, time.perf_counter, threading.Lock()

        def caller() -> None:
            while True:
                with lock:
                    if not turns.take():
                        return
                begun = now()
                call()
                with lock:
                    turns.end(now() - begun)

        turns.begin()
        for ended in [self._threads.submit(caller) for _ in range(callers)]:
            ended.result()
        assert turns.result
        self.used_at = now()
        return turns.result


Client = AsyncClient | BlockingClient


class Player(NamedTuple):
    """A client with what was found out about it, for one number of callers.

    Attributes:
        calls: The calls of each of its slices.
        every: In how many rounds it has its turn once.
    """

    client: Client
    figures: Figures
    calls: int
    every: int


async def measure(plan: Plan) -> dict[int, dict[str, Figures]]:
    """Return the figures of each number of callers and each client."""
    async with AsyncExitStack() as stack:
        clients: dict[str, Client] = {}
        for name in (BASELINE, *plan.clients):
            if name in ASYNC:
                clients[name] = AsyncClient(await stack.enter_async_context(ASYNC[name](plan.site)))
            else:
                call = stack.enter_context(BLOCKING[name](plan.site))
                clients[name] = BlockingClient(call, max(plan.callers))
        found = {callers: await _take_turns(clients, callers, plan) for callers in plan.callers}
        # To end thousands of connections and threads in order takes long, and no figure needs it.
        _print_and_exit(found)
    raise AssertionError


async def _take_turns(clients: dict[str, Client], callers: int, plan: Plan) -> dict[str, Figures]:
    present = {name: each for name, each in clients.items() if callers <= MOST_CALLERS.get(name, callers)}
    players = {name: await _prepare(client, callers, plan) for name, client in present.items()}
    base = players.pop(BASELINE)
    # What has been made so far is no garbage, and all of it would be looked at again and again.
    gc.collect()
    gc.freeze()
    for round_ in range(plan.rounds):
        turns = [each for each in players.values() if round_ % each.every == 0]
        if not turns and base.figures.cpu:
            continue
        before = await _play(base, callers)
        for first in range(0, len(turns), _BASELINE_EVERY):
            group = turns[first : first + _BASELINE_EVERY]
            costs = [await _play(player, callers) for player in group]
            after = await _play(base, callers)
            for player, cost in zip(group, costs, strict=True):
                player.figures.ratios.append(2 * cost / (before + after))
            before = after
    base.figures.ratios.extend([1.0] * len(base.figures.cpu))
    return {BASELINE: base.figures, **{name: each.figures for name, each in players.items()}}


async def _prepare(client: Client, callers: int, plan: Plan) -> Player:
    """Make all connections, and find out how many calls fit into a slice."""
    await client.make_calls(callers, callers)
    many = max(callers, 20)
    cost = (await client.make_calls(callers, many)).clock / many
    share = plan.seconds / plan.rounds
    if plan.calls:
        return Player(client, Figures(), plan.calls, every=1)
    # Three calls a caller at least, so that queues are as long as they become; a slow client has one.
    calls = max(callers if callers * cost > 5 * share else 3 * callers, round(share / cost))
    every = min(math.ceil(calls * cost / (2 * share)), max(1, plan.rounds // 2))
    return Player(client, Figures(), calls, every)


async def _play(player: Player, callers: int) -> float:
    """Record one slice; return the seconds of CPU a call."""
    client, figures, calls, _ = player
    if time.perf_counter() - client.used_at > _STALE:
        await client.make_calls(callers, callers)
    found = await client.make_calls(callers, calls)
    took = sorted(found.took)
    figures.cpu.append(found.cpu / calls)
    figures.rates.append(calls / found.clock)
    figures.p50s.append(statistics.median(took))
    figures.p99s.append(took[math.ceil(0.99 * calls) - 1])
    return found.cpu / calls


def _print_and_exit(found: dict[int, dict[str, Figures]]) -> None:
    print(msgspec.json.encode(found).decode(), flush=True)
    os._exit(0)


def main(plan: Plan) -> None:
    """Measure on the event loop of the plan."""
    run: Callable[[Any], Any] = asyncio.run
    if plan.uvloop:
        import uvloop

        run = uvloop.run
    run(measure(plan))


if __name__ == "__main__":
    main(msgspec.convert(json.loads(sys.argv[1]), Plan))
