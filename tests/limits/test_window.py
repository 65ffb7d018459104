"""The window limiter, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async.limits import Lane, WindowLimiter
from tests.support.virtual_clock import advance, run_virtually


def worst_window(arrivals: Sequence[float], window: float = 60.0) -> int:
    """Return the most arrivals that any half-open window of this length holds."""
    ordered = sorted(arrivals)
    return max((sum(1 for at in ordered if start <= at < start + window) for start in ordered), default=0)


call_times = st.tuples(
    st.floats(0, 400, allow_nan=False),  # when the caller comes
    st.floats(0, 5, allow_nan=False),  # how long until the server counts the call
    st.floats(0, 30, allow_nan=False),  # how long until its answer is here
    st.sampled_from(Lane),
    st.one_of(st.none(), st.floats(0, 120, allow_nan=False)),  # when the caller loses patience while he waits
)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), st.sampled_from([0.0, 0.5]), st.lists(call_times, max_size=60))
def test_r1_no_window_at_the_server_ever_holds_more_calls_than_the_limit(
    limit: int, reserve: float, calls: list[tuple[float, float, float, Lane, float | None]]
) -> None:
    arrivals: list[float] = []
    finished: list[int] = []

    async def call(limiter: WindowLimiter, number: int) -> None:
        comes, outward, back, lane, patience = calls[number]
        await advance(comes)
        with anyio.move_on_after(patience):
            slot = await limiter.acquire(lane)
            with anyio.CancelScope(shield=True):
                await advance(outward)
                arrivals.append(anyio.current_time())
                await advance(back)
                slot.release()
        finished.append(number)

    async def main() -> None:
        limiter = WindowLimiter("x", limit, reserve=reserve)
        async with anyio.create_task_group() as callers:
            for number in range(len(calls)):
                callers.start_soon(call, limiter, number)
        # Whoever left or was served, nothing of them is left behind.
        await advance(61)
        left = limiter.statistics()
        assert (left.used, left.free, left.waiting_interactive, left.waiting_bulk) == (0, limit, 0, 0)

    run_virtually(main)
    assert worst_window(arrivals) <= limit
    assert len(finished) == len(calls)


def test_r1_a_leaky_bucket_in_its_place_breaks_the_rule_that_the_limiter_keeps() -> None:
    async def arrivals_through(limiter: AsyncLimiter | WindowLimiter) -> list[float]:
        arrivals: list[float] = []

        async def call() -> None:
            slot = await limiter.acquire()
            arrivals.append(anyio.current_time())
            if slot is not None:
                slot.release()

        async with anyio.create_task_group() as callers:
            for _ in range(150):
                callers.start_soon(call)
        return arrivals

    async def bucket() -> list[float]:
        return await arrivals_through(AsyncLimiter(50, 60))

    async def window() -> list[float]:
        return await arrivals_through(WindowLimiter("x", 50))

    assert worst_window(run_virtually(bucket)) == 99
    assert worst_window(run_virtually(window)) == 50


def test_the_limit_is_used_to_the_full() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        for expected in (0, 60, 120):
            for _ in range(50):
                slot = await limiter.acquire()
                slot.release()
            assert anyio.current_time() == pytest.approx(expected, abs=0.1)

    run_virtually(main)


def test_a_slot_comes_back_sixty_seconds_after_the_answer_and_not_after_the_call() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 1)
        slot = await limiter.acquire()
        await advance(25)
        slot.release()
        await limiter.acquire()
        assert anyio.current_time() == pytest.approx(85, abs=0.1)

    run_virtually(main)


def test_a_slot_that_was_not_used_is_free_at_once_and_ending_it_twice_changes_nothing() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 1)
        slot = await limiter.acquire()
        slot.refund()
        slot.refund()
        slot.release()
        await limiter.acquire()
        assert anyio.current_time() < 0.01
        assert limiter.statistics().calls == 1
        assert limiter.statistics().free == 0

    run_virtually(main)


def test_interactive_calls_go_before_bulk_work_and_each_lane_keeps_its_order() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 2)
        served: list[str] = []

        async def call(name: str, lane: Lane) -> None:
            slot = await limiter.acquire(lane)
            served.append(name)
            slot.release()

        async with anyio.create_task_group() as callers:
            for name in ("bulk 1", "bulk 2", "bulk 3", "bulk 4"):
                callers.start_soon(call, name, Lane.BULK)
            await advance(1)
            for name in ("urgent 1", "urgent 2", "urgent 3"):
                callers.start_soon(call, name, Lane.INTERACTIVE)
        assert served == ["bulk 1", "bulk 2", "urgent 1", "urgent 2", "urgent 3", "bulk 3", "bulk 4"]

    run_virtually(main)


def test_bulk_work_leaves_the_reserve_to_interactive_calls() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 120)
        for _ in range(118):
            await limiter.acquire(Lane.BULK)
        with anyio.move_on_after(30) as patience:
            await limiter.acquire(Lane.BULK)
        assert patience.cancelled_caught
        await limiter.acquire(Lane.INTERACTIVE)
        assert anyio.current_time() == pytest.approx(30, abs=0.1)
        assert limiter.statistics().waiting_bulk == 0

    run_virtually(main)


def test_at_fifty_a_minute_the_reserve_is_nothing_so_that_a_fleet_is_as_fast_as_the_limit() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        for _ in range(50):
            await limiter.acquire(Lane.BULK)
        assert anyio.current_time() < 0.01

    run_virtually(main)


def test_a_cancelled_waiter_gives_his_place_on_even_when_he_was_just_served() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 1)
        first = await limiter.acquire()
        leaving = asyncio.ensure_future(limiter.acquire())
        staying = asyncio.ensure_future(limiter.acquire())
        await anyio.lowlevel.checkpoint()
        first.refund()
        # The slot is his already, and his task has not run since.
        leaving.cancel()
        slot = await staying
        assert anyio.current_time() < 0.01
        assert leaving.cancelled()
        slot.refund()
        assert limiter.statistics().free == 1

    run_virtually(main)


def test_a_refusal_stops_the_operation_for_as_long_as_the_server_asked() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 10)
        limiter.on_rate_limited(17)
        await limiter.acquire()
        assert anyio.current_time() == pytest.approx(17, abs=0.1)

    run_virtually(main)


def test_a_refusal_without_a_time_stops_the_operation_for_a_window() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 10)
        limiter.on_rate_limited()
        await limiter.acquire()
        assert anyio.current_time() == pytest.approx(60, abs=0.1)

    run_virtually(main)


def test_a_refusal_shrinks_the_capacity_once_an_outburst_and_it_grows_back_by_one_a_window() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        for _ in range(20):
            limiter.on_rate_limited(10)
        assert limiter.statistics().capacity == 40
        assert limiter.statistics().refused == 20
        await advance(10 + 61)
        assert limiter.statistics().capacity == 41
        await advance(600)
        assert limiter.statistics().capacity == 50

    run_virtually(main)


def test_refusals_of_one_outburst_that_ask_for_no_wait_shrink_the_capacity_once() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        for _ in range(20):
            limiter.on_rate_limited(0)
            await advance(0.01)
        assert limiter.statistics().capacity == 40
        await limiter.acquire()
        assert 1 <= anyio.current_time() < 1.3

    run_virtually(main)


def test_a_limit_over_a_time_that_no_limit_has_is_not_learned() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        limiter.on_rate_limited(quota=(1, 999_999_999 * 86_400.0))
        await limiter.acquire()
        assert anyio.current_time() == pytest.approx(60, abs=0.1)

    run_virtually(main)


def test_waiting_callers_are_served_after_a_refusal_although_nothing_else_happens() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 1)
        slot = await limiter.acquire()
        limiter.on_rate_limited(30)
        slot.release()
        await limiter.acquire()
        assert anyio.current_time() == pytest.approx(60, abs=0.1)

    run_virtually(main)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [((50, 60.0), 40), ((20, 60.0), 16), ((200, 300.0), 32), ((5000, 60.0), 40), ((1, 1.0), 40), ((10, 1.0), 40)],
)
def test_a_limit_that_the_server_names_is_learned_where_it_is_lower(quota: tuple[int, float], expected: int) -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        limiter.on_rate_limited(quota=quota)
        assert limiter.statistics().capacity == expected

    run_virtually(main)


def test_two_clocks_that_differ_a_little_still_agree_that_the_window_is_over() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 1)
        slot = await limiter.acquire()
        slot.release()
        await limiter.acquire()
        assert anyio.current_time() >= 60.01

    run_virtually(main)


def test_who_waits_while_all_calls_are_in_flight_is_served_after_a_refusal_though_nothing_else_happens() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 3)
        await limiter.acquire()
        limiter.on_rate_limited(30)
        async with anyio.create_task_group() as callers:
            callers.start_soon(limiter.acquire)
            await advance(31)
            assert limiter.statistics().waiting_interactive == 0

    run_virtually(main)


def test_a_shorter_refusal_does_not_end_a_longer_one() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 10)
        limiter.on_rate_limited(60)
        limiter.on_rate_limited(1)
        await limiter.acquire()
        assert anyio.current_time() == pytest.approx(60, abs=0.1)

    run_virtually(main)


def test_nobody_overtakes_who_waits_in_his_lane() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 60, reserve=0.5)
        for _ in range(30):
            await limiter.acquire(Lane.BULK)
        served: list[str] = []

        async def call(name: str) -> None:
            await limiter.acquire(Lane.BULK)
            served.append(name)

        async with anyio.create_task_group() as callers:
            callers.start_soon(call, "first")
            await advance(1)
            held = await limiter.acquire(Lane.INTERACTIVE)
            held.refund()
            callers.start_soon(call, "second")
            await advance(1)
            assert served == []
            callers.cancel_scope.cancel()

    run_virtually(main)


def test_a_server_that_allows_less_than_one_call_a_window_is_obeyed() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        limiter.on_rate_limited(1, quota=(2, 600.0))
        begun = []
        for _ in range(3):
            slot = await limiter.acquire()
            begun.append(anyio.current_time())
            slot.release()
        assert begun[2] - begun[1] >= 300
        assert begun[1] - begun[0] >= 300

    run_virtually(main)


def test_bulk_work_goes_on_when_refusals_have_shrunk_the_capacity_below_the_reserve() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 100, reserve=0.5)
        for _ in range(30):
            limiter.on_rate_limited(0.001)
            await advance(1.01)
        assert limiter.statistics().capacity == 1
        slot = await limiter.acquire(Lane.BULK)
        slot.release()
        await limiter.acquire(Lane.BULK)

    run_virtually(main)


def test_a_limiter_without_a_limit_never_waits() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", None)
        for _ in range(1000):
            await limiter.acquire(Lane.BULK)
        limiter.on_rate_limited()
        await limiter.acquire()
        assert anyio.current_time() < 0.01
        assert limiter.statistics().calls == 1001
        assert limiter.statistics().free is None

    run_virtually(main)


def test_thirty_thousand_waiters_share_one_timer_and_leave_nothing_when_cancelled() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 1)
        held = await limiter.acquire()
        async with anyio.create_task_group() as callers:
            for _ in range(30_000):
                callers.start_soon(limiter.acquire, Lane.BULK)
            await advance(1)
            assert limiter.statistics().waiting_bulk == 30_000
            held.release()
            await anyio.lowlevel.checkpoint()
            timers = [handle for handle in asyncio.get_running_loop()._scheduled if not handle._cancelled]  # type: ignore[attr-defined]
            assert len(timers) == 1
            callers.cancel_scope.cancel()
        assert limiter.statistics().waiting_bulk == 0

    run_virtually(main)


def test_the_statistics_and_the_repr_show_the_state() -> None:
    async def main() -> None:
        limiter = WindowLimiter("servers.stop", 2)
        slot = await limiter.acquire()
        await limiter.acquire()
        async with anyio.create_task_group() as callers:
            callers.start_soon(limiter.acquire, Lane.BULK)
            await advance(1)
            statistics = limiter.statistics()
            assert (statistics.capacity, statistics.limit, statistics.used, statistics.free) == (2, 2, 2, 0)
            assert (statistics.waiting_interactive, statistics.waiting_bulk, statistics.next_slot) == (0, 1, None)
            slot.release()
            statistics = limiter.statistics()
            assert statistics.next_slot == pytest.approx(60, abs=0.1)
            assert repr(limiter) == "<WindowLimiter servers.stop: 2 of 2 used, 1 waiting>"
            callers.cancel_scope.cancel()

    run_virtually(main)


def test_a_limiter_that_outlives_its_loop_counts_what_was_in_flight_and_forgets_who_waited() -> None:
    limiter = WindowLimiter("x", 2)

    async def first() -> None:
        await limiter.acquire()
        slot = await limiter.acquire()
        slot.release()
        waiting = asyncio.ensure_future(limiter.acquire())
        await anyio.lowlevel.checkpoint()
        assert not waiting.done()

    async def second() -> None:
        assert limiter.statistics().used == 2
        await limiter.acquire()
        await limiter.acquire()
        assert anyio.current_time() == pytest.approx(60, abs=0.1)

    run_virtually(first)
    run_virtually(second)


def test_a_call_that_follows_a_burst_of_quick_ones_waits_like_any_other() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 60)
        for _ in range(59):
            (await limiter.acquire(Lane.BULK)).release()
        assert limiter.acquire_nowait(Lane.BULK) is None
        (await limiter.acquire()).refund()
        limiter.on_rate_limited(5)
        assert limiter.acquire_nowait() is None
        await limiter.acquire(Lane.BULK)
        # The refusal took away a fifth, so that the oldest calls had to be forgotten first.
        assert anyio.current_time() >= 60

    run_virtually(main)
