"""Several holders of one limit on the virtual clock, with a store in memory: exact figures for whole minutes.

The holders are exchanges as in processes of their own, and share nothing but the store.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random
from typing import NamedTuple

from benchmarks._shared_gateway import WIRE
from benchmarks._shared_limiters import OPERATION
from bms_async.limits import Lane
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.limiter import SharedLimiter
from bms_async.limits.shared.messages import Terms
from tests.limits.shared._timed import ACCOUNT, TimedStore, open_state
from tests.support.virtual_clock import run_virtually


class Run(NamedTuple):
    """What several holders did.

    Attributes:
        slots: When each call got its slot, holder by holder, in seconds from the beginning.
        ended: When each ended.
        asked: When each question was asked.
    """

    slots: list[list[float]]
    ended: list[list[float]]
    asked: list[float]


def play(
    holders: int,
    *,
    limit: int,
    callers: int,
    calls: int,
    seconds: float,
    lane: Lane = Lane.INTERACTIVE,
    wire: tuple[float, float] = WIRE,
) -> Run:
    """Have several holders make calls.

    Args:
        holders: How many holders.
        limit: Calls a minute.
        callers: How many calls of each holder are made or wait at once.
        calls: How many each makes in all.
        seconds: When it ends at the latest.
        lane: The lane of all calls.
        wire: Seconds that a call takes, from and to.
    """
    draw, done = Random(7), Run([[] for _ in range(holders)], [[] for _ in range(holders)], [])

    async def work(number: int, limiter: SharedLimiter) -> None:
        loop, left = asyncio.get_running_loop(), calls

        async def call() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                slot = await limiter.acquire(lane)
                done.slots[number].append(loop.time())
                await asyncio.sleep(draw.uniform(*wire))
                slot.release()
                done.ended[number].append(loop.time())

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(call())

    async def main() -> None:
        state, limiters = open_state(), []
        async with AsyncExitStack() as stack:
            for _ in range(holders):
                exchange = Exchange(ACCOUNT, lambda: TimedStore(state, done.asked), Terms())
                limiters.append(exchange.make_limiter(OPERATION, limit, reserve=1 / 60, binding=LoopBinding()))
                await exchange.open()
                stack.push_async_callback(exchange.aclose)
            try:
                async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                    for number, limiter in enumerate(limiters):
                        group.create_task(work(number, limiter))
            except TimeoutError:
                # They were to work for so long.
                return

    run_virtually(main)
    return done
