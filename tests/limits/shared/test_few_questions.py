"""How seldom a process asks the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from random import Random

import pytest

from bms_async.limits import Lane
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.limiter import SharedLimiter
from bms_async.limits.shared.messages import Terms
from tests.limits.shared._timed import ACCOUNT, TimedStore, open_state
from tests.support.virtual_clock import run_virtually


def play(work: Callable[[list[SharedLimiter]], Awaitable[None]], *, holders: int, limit: int) -> list[float]:
    """Have several holders of one limit work on the virtual clock; return when they asked."""
    asked: list[float] = []

    async def main() -> None:
        state, limiters = open_state(), []
        async with AsyncExitStack() as stack:
            for _ in range(holders):
                exchange = Exchange(ACCOUNT, lambda: TimedStore(state, asked), Terms())
                limiters.append(exchange.make_limiter("servers.stop", limit, reserve=0, binding=LoopBinding()))
                await exchange.open()
                stack.push_async_callback(exchange.aclose)
            await work(limiters)

    run_virtually(main)
    return asked


async def call(limiter: SharedLimiter, seconds: float, lane: Lane = Lane.INTERACTIVE) -> None:
    slot = await limiter.acquire(lane)
    await asyncio.sleep(seconds)
    slot.release()


@pytest.mark.parametrize(("lane", "most"), [(Lane.BULK, 10), (Lane.INTERACTIVE, 33)])
def test_a_process_whose_calls_wait_gets_several_slots_with_a_question(lane: Lane, most: int) -> None:
    draw = Random(7)

    async def work(limiters: list[SharedLimiter]) -> None:
        async def keep_calling(limiter: SharedLimiter) -> None:
            while True:
                await call(limiter, draw.uniform(0.02, 0.3), lane)

        callers = [asyncio.ensure_future(keep_calling(limiter)) for limiter in limiters for _ in range(8)]
        await asyncio.sleep(130)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    asked = play(work, holders=2, limit=500)
    # In the second minute slots come back as they were used: a hundred a second, one by one.
    busiest = max(sum(begin <= at < begin + 1 for at in asked) for begin in range(60, 130))
    assert busiest <= 2 * (most + 1)


def test_a_call_that_ended_is_reported_with_the_question_of_one_that_waits() -> None:
    async def work(limiters: list[SharedLimiter]) -> None:
        first, second = (asyncio.ensure_future(call(limiters[0], seconds)) for seconds in (0.1, 22.0))
        await first
        waiting = asyncio.ensure_future(call(limiters[0], 0.1))
        await asyncio.gather(second, waiting)

    asked = play(work, holders=1, limit=2)
    # While the third call waits, the second one ends between two questions.
    between = [at for at in asked if 5 <= at <= 50]
    assert len(between) > 5
    assert all(later - at > 4.9 for at, later in pairwise(between))


@pytest.mark.parametrize("gap", [0.3, 0.7, 0.95, 1.05, 1.9])
def test_slots_that_go_back_are_not_asked_for_with_the_same_question(gap: float) -> None:
    async def work(limiters: list[SharedLimiter]) -> None:
        for lane in (Lane.BULK, Lane.INTERACTIVE, Lane.BULK):
            await call(limiters[0], 0.2, lane)
            await asyncio.sleep(gap)
            await asyncio.gather(*(call(limiters[0], 3.0, lane) for _ in range(3)))
            await asyncio.sleep(gap)
        await asyncio.sleep(20)

    assert len(play(work, holders=1, limit=50)) <= 30
