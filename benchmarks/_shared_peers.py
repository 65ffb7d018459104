"""The alternatives to our shared limiter, in Redis and used as their manuals say.

All of them speak to the server through redis-py, as ours does, so that the round trips of all are counted at one place.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import throttled.asyncio as throttled
from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from pyrate_limiter import Limiter, Rate, RedisBucket
from redis.asyncio import Redis

from benchmarks._shared_limiters import OPERATION, Contender, Make, Shared

_FOREVER = 1e9


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


PEERS: dict[str, Make] = {
    "pyrate-limiter": sorted_set,
    "limits, moving window": moving_window,
    "throttled-py, sliding window": _throttled(throttled.RateLimiterType.SLIDING_WINDOW),
    "throttled-py, GCRA": _throttled(throttled.RateLimiterType.GCRA),
}
