"""Processes that share limits, all on one virtual clock, and the gateway that counts their calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import anyio

from bms_async.limits import Lane
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.limiter import SharedLimiter
from bms_async.limits.shared.messages import Terms
from bms_async.limits.shared.store import Store
from tests.limits.shared._memory import MemoryState, MemoryStore

ACCOUNT = "prod"
OPERATION = "servers.stop"
LIMIT = 50
EPOCH = 1_000_000.0
"""What the store's clock shows when the loop's shows 0: the two have nothing to do with each other."""


def store_time() -> float:
    return anyio.current_time() + EPOCH


class Gateway:
    """Counts calls when they arrive, which is some time after they were sent and before they are answered."""

    def __init__(self, seed: int = 1, wire: tuple[float, float] = (0.02, 0.3)) -> None:
        self._random = Random(seed)
        self._wire = wire
        self.came: list[float] = []

    async def call(self, limiter: SharedLimiter, lane: Lane = Lane.BULK, *, max_wait: float | None = None) -> None:
        slot = await limiter.acquire(lane, max_wait=max_wait)
        try:
            seconds = self._random.uniform(*self._wire)
            await anyio.sleep(seconds / 2)
            self.came.append(anyio.current_time())
            await anyio.sleep(seconds / 2)
        finally:
            slot.release()

    async def call_often(self, limiter: SharedLimiter, times: int, lane: Lane = Lane.BULK) -> None:
        async with anyio.create_task_group() as callers:
            for _ in range(times):
                callers.start_soon(self.call, limiter, lane)

    def busiest(self, window: float = 60.0) -> int:
        """Return the most calls that any window holds."""
        return worst_window(self.came, window)


def worst_window(came: Sequence[float], window: float = 60.0) -> int:
    """Return the most calls that any window holds."""
    came, worst, first = sorted(came), 0, 0
    for last, at in enumerate(came):
        while at - came[first] >= window:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


def make_exchange(store: Store, *, without_store: float | None = None) -> Exchange:
    return Exchange(ACCOUNT, lambda: store, Terms(), without_store=without_store)


@asynccontextmanager
async def process(
    state: MemoryState, *, limit: int = LIMIT, without_store: float | None = None, delay: float = 0.002
) -> AsyncIterator[SharedLimiter]:
    """One process with its own connection, its own loop binding, and a limiter."""
    exchange = make_exchange(MemoryStore(state, delay=delay), without_store=without_store)
    limiter = exchange.make_limiter(OPERATION, limit, reserve=0.0, binding=LoopBinding())
    await exchange.open()
    try:
        yield limiter
    finally:
        await exchange.aclose()


async def opened_state() -> MemoryState:
    """Return a store whose account is open, because an operator vouched for it."""
    state = MemoryState(store_time)
    store = MemoryStore(state)
    await store.open()
    await store.open_account(ACCOUNT)
    return state
