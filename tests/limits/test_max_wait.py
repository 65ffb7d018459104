"""A call that may not wait for long fails at once when it would, and says how long that would have been."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async import WaitTooLongError
from bms_async.limits import Lane, Slot, WindowLimiter
from tests.support.virtual_clock import advance, run_virtually


async def fill(limiter: WindowLimiter, calls: int) -> None:
    for _ in range(calls):
        (await limiter.acquire()).release()


def test_who_need_not_wait_is_not_bothered() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 2)
        (await limiter.acquire(max_wait=0.0)).release()
        (await limiter.acquire(Lane.BULK, max_wait=0.0)).release()

    run_virtually(main)


def test_a_call_that_would_wait_too_long_fails_at_once_with_the_wait_in_its_error() -> None:
    async def main() -> None:
        limiter = WindowLimiter("servers.stop", 2)
        await fill(limiter, 2)
        await advance(20)
        with pytest.raises(WaitTooLongError, match=r"servers\.stop: .*40\.0 s.*max_wait is 5 s") as caught:
            await limiter.acquire(max_wait=5.0)
        assert anyio.current_time() == pytest.approx(20, abs=0.1)
        assert caught.value.wait == pytest.approx(40, abs=0.1)
        assert not caught.value.maybe_done
        statistics = limiter.statistics()
        assert (statistics.used, statistics.waiting_interactive) == (2, 0)

    run_virtually(main)


def test_who_may_wait_as_long_as_it_takes_gets_his_slot() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 1)
        await fill(limiter, 1)
        await limiter.acquire(max_wait=61.0)
        assert anyio.current_time() == pytest.approx(60, abs=0.1)

    run_virtually(main)


def test_who_was_overtaken_gives_up_when_his_time_is_over_and_leaves_no_trace() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 1)
        await fill(limiter, 1)
        async with anyio.create_task_group() as callers:
            waiting = asyncio.ensure_future(limiter.acquire(Lane.BULK, max_wait=70.0))
            await advance(1)
            callers.start_soon(limiter.acquire, Lane.INTERACTIVE)
            with pytest.raises(WaitTooLongError) as caught:
                await waiting
            assert anyio.current_time() == pytest.approx(70, abs=0.1)
            assert caught.value.wait > 70
            assert limiter.statistics().waiting_bulk == 0

    run_virtually(main)


def test_who_is_cancelled_in_the_very_moment_in_which_his_time_is_over_is_cancelled() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 1)
        held = await limiter.acquire()
        waiting = asyncio.ensure_future(limiter.acquire(max_wait=60.5))
        await anyio.lowlevel.checkpoint()
        asyncio.get_running_loop().call_at(60.5, waiting.cancel)
        with pytest.raises((asyncio.CancelledError, WaitTooLongError)):
            await waiting
        held.refund()
        statistics = limiter.statistics()
        assert (statistics.used, statistics.free, statistics.waiting_interactive) == (0, 1, 0)

    run_virtually(main)


def test_while_an_operation_stands_still_the_wait_is_what_is_left_of_that() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        limiter.on_rate_limited(30.0)
        assert limiter.estimate_wait() == pytest.approx(30, abs=0.1)
        with pytest.raises(WaitTooLongError):
            await limiter.acquire(max_wait=29.0)
        await limiter.acquire(max_wait=31.0)

    run_virtually(main)


def test_without_a_limit_nothing_is_waited_for() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", None)
        assert limiter.estimate_wait(Lane.BULK) == 0.0
        await limiter.acquire(max_wait=0.0)

    run_virtually(main)


@settings(deadline=None, max_examples=100)
@given(
    limit=st.integers(1, 6),
    reserve=st.sampled_from([0.0, 0.5]),
    gaps=st.lists(st.floats(0, 20), max_size=8),
    waiting=st.lists(st.sampled_from(Lane), max_size=15),
    lane=st.sampled_from(Lane),
)
def test_what_is_foreseen_comes_true_when_every_answer_comes_at_once_and_nobody_comes_in_between(
    limit: int, reserve: float, gaps: list[float], waiting: list[Lane], lane: Lane
) -> None:
    async def call(limiter: WindowLimiter, lane: Lane) -> None:
        (await limiter.acquire(lane)).release()

    async def main() -> None:
        limiter = WindowLimiter("x", limit, reserve=reserve)
        for gap in gaps:
            slot: Slot | None = limiter.acquire_nowait()
            if slot is not None:
                slot.release()
            await advance(gap)
        async with anyio.create_task_group() as callers:
            for each in waiting:
                callers.start_soon(call, limiter, each)
            await anyio.lowlevel.checkpoint()
            foreseen = limiter.estimate_wait(lane)
            begun = anyio.current_time()
            await limiter.acquire(lane)
            took = anyio.current_time() - begun
            callers.cancel_scope.cancel()
        assert took == pytest.approx(foreseen, abs=0.2)

    run_virtually(main)


def test_what_is_foreseen_for_bulk_behind_several_rounds_of_bulk_counts_what_it_leaves_alone() -> None:
    async def call(limiter: WindowLimiter) -> None:
        (await limiter.acquire(Lane.BULK)).release()

    async def main() -> None:
        # Two of six are left alone, so that four go in a round.
        limiter = WindowLimiter("x", 6, reserve=0.34)
        async with anyio.create_task_group() as callers:
            for _ in range(13):
                callers.start_soon(call, limiter)
            await advance(1)
            assert limiter.statistics().waiting_bulk == 9
            assert limiter.estimate_wait(Lane.BULK) == pytest.approx(179, abs=0.1)
            await limiter.acquire(Lane.BULK)
            assert anyio.current_time() == pytest.approx(180, abs=0.1)

    run_virtually(main)
