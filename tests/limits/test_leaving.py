"""Callers who come and go in one and the same pass of the loop: whoever waits for a free slot gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import permutations, product

import anyio
import pytest

from bms_async.limits import Lane, WindowLimiter
from tests.support.virtual_clock import advance, run_virtually


async def hold(limiter: WindowLimiter) -> None:
    """Keep a slot, as a call does that waits for its token, and send nothing with it."""
    slot = await limiter.acquire()
    try:
        await asyncio.Event().wait()
    finally:
        slot.refund()


async def wait(limiter: WindowLimiter, lane: Lane) -> None:
    (await limiter.acquire(lane)).refund()


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize(("first", "second"), list(product(Lane, repeat=2)))
def test_who_comes_while_a_holder_and_a_waiter_are_cancelled_is_served(
    first: Lane, second: Lane, order: tuple[int, ...]
) -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 1)
        holder = asyncio.ensure_future(hold(limiter))
        await advance(1)
        waiter = asyncio.ensure_future(wait(limiter, first))
        await advance(1)
        came: list[asyncio.Future[None]] = []

        def come() -> None:
            came.append(asyncio.ensure_future(wait(limiter, second)))

        happens: tuple[Callable[[], object], ...] = (holder.cancel, waiter.cancel, come)
        for each in order:
            happens[each]()
        with anyio.fail_after(1):
            await came[0]
        statistics = limiter.statistics()
        assert (statistics.used, statistics.waiting_interactive, statistics.waiting_bulk) == (0, 0, 0)

    run_virtually(main)
