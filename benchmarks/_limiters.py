"""The limiters that are measured: ours and its alternatives, each behind one `acquire`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import throttled.asyncio as throttled
from aiolimiter import AsyncLimiter
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate, SingleBucketFactory

from bms_async.limits import Pacer, Slot, WindowLimiter

PACKAGES = ("aiolimiter", "limits", "pyrate-limiter", "throttled-py")

Acquire = Callable[[], Coroutine[Any, Any, Slot | None]]
"""Waits for the right to make a call; a Slot has to be released, None has not."""

_FOREVER = 1e9
_NOT_AT_ALL = -1.0
_EPOCH = 1_700_000_017.0
_MILLISECOND = 0.001


def ours(limit: int) -> Acquire:
    """The window limiter of this package."""
    return WindowLimiter("x", limit).acquire


def leaky_bucket(limit: int) -> Acquire:
    """The leaky bucket of aiolimiter, used as in its manual."""
    return AsyncLimiter(limit, 60).acquire


def leaky_bucket_with_a_small_burst(limit: int) -> Acquire:
    """The same, with a burst so small that burst and leak together stay within the limit."""
    return Pacer(limit).acquire


def moving_window(limit: int) -> Acquire:
    """`limits`, which only accepts or refuses: one caller at a time sleeps until the window moves on."""
    limiter, item, turn = MovingWindowRateLimiter(MemoryStorage()), RateLimitItemPerMinute(limit), asyncio.Lock()

    async def acquire() -> None:
        if not turn.locked() and await limiter.hit(item):
            return
        async with turn:
            while not await limiter.hit(item):
                reset, _ = await limiter.get_window_stats(item)
                await asyncio.sleep(max(reset - time.time(), _MILLISECOND))

    return acquire


def window_log(limit: int) -> Acquire:
    """pyrate-limiter, without the thread that clears its log: a thread does not run on the virtual clock."""
    bucket = _LoopClockBucket([Rate(limit, Duration.MINUTE)])
    return _pyrate(Limiter(SingleBucketFactory(bucket, schedule_leak=False)))


def sliding_counter(limit: int) -> Acquire:
    """throttled-py with its sliding window, which estimates from two counters."""
    return _throttled(limit, throttled.RateLimiterType.SLIDING_WINDOW)


def generic_cell_rate(limit: int) -> Acquire:
    """throttled-py with GCRA, which is a leaky bucket too."""
    return _throttled(limit, throttled.RateLimiterType.GCRA)


CONTENDERS: dict[str, Callable[[int], Acquire]] = {
    "bms_async": ours,
    "aiolimiter": leaky_bucket,
    "aiolimiter, burst formula": leaky_bucket_with_a_small_burst,
    "limits, moving window": moving_window,
    "pyrate-limiter": window_log,
    "throttled-py, sliding window": sliding_counter,
    "throttled-py, GCRA": generic_cell_rate,
}


@contextmanager
def loop_clock() -> Iterator[None]:
    """Have every limiter read the running loop's clock, whichever clock of Python's it calls.

    `limits` clears its memory in a thread; here it does so in the loop, for the virtual clock waits for no thread.
    """

    def elapsed() -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            # The virtual clock reads the time before its loop runs.
            return 0.0

    async def here(work: Callable[..., Any], *arguments: object) -> Any:
        return work(*arguments)

    def since_epoch() -> float:
        return _EPOCH + elapsed()

    with ExitStack() as patches:
        patches.enter_context(mock.patch("time.time", since_epoch))
        patches.enter_context(mock.patch("time.monotonic", elapsed))
        patches.enter_context(mock.patch("asyncio.to_thread", here))
        yield


class _LoopClockBucket(InMemoryBucket):
    def now(self) -> int:
        return int(asyncio.get_running_loop().time() / _MILLISECOND)


def _pyrate(limiter: Limiter) -> Acquire:
    async def acquire() -> None:
        await limiter.try_acquire_async()

    return acquire


def _throttled(limit: int, kind: throttled.RateLimiterType) -> Acquire:
    limiter, turn = (
        throttled.Throttled(
            key="x", using=kind.value, quota=throttled.per_min(limit), store=throttled.MemoryStore(), timeout=_FOREVER
        ),
        asyncio.Lock(),
    )

    async def acquire() -> None:
        if not turn.locked() and not (await limiter.limit(timeout=_NOT_AT_ALL)).limited:
            return
        # All of its waiters wake for one free slot, and all but one wait again; so only one is let in at a time.
        async with turn:
            await limiter.limit()

    return acquire
