"""What refusals teach a limiter only ever slows it down, and is forgotten again."""

from __future__ import annotations

import asyncio
import math
from collections import deque

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bms_async import Limits
from bms_async.limits import WindowLimiter
from tests.limits.test_window import worst_window
from tests.support.virtual_clock import advance, run_virtually

HOUR, DAY = 3600.0, 86_400.0

quotas = st.tuples(st.integers(0, 10**9), st.sampled_from([0.0, 0.5, 1.0, 7.0, 45.0, 60.0, 61.0, HOUR, DAY, 1e12]))
refusals = st.tuples(
    st.floats(0, 200),  # seconds since the one before
    st.none() | st.floats(0, 90),  # what Retry-After asks for
    st.none() | quotas,
)


class StrictGateway:
    """Counts by a sliding window, and refuses what is too much."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken: deque[float] = deque()

    def takes(self, now: float) -> bool:
        while self.taken and self.taken[0] <= now - 60:
            self.taken.popleft()
        if len(self.taken) >= self.limit:
            return False
        self.taken.append(now)
        return True


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.lists(refusals, max_size=8))
@example(12, [(0.0, None, (0, 1.0))])
@example(12, [(0.0, 0.0, (1, DAY)), (100.0, 0.0, (0, 0.5)), (1.0, 0.0, (3, 7.0))])
def test_r1_whatever_quotas_were_named_no_window_holds_more_than_the_limit_and_a_strict_gateway_refuses_nothing(
    limit: int, refused: list[tuple[float, float | None, tuple[int, float] | None]]
) -> None:
    times: list[float] = []
    gateway = StrictGateway(limit)

    async def call(limiter: WindowLimiter) -> None:
        while True:
            slot = await limiter.acquire()
            now = anyio.current_time()
            times.append(now)
            assert gateway.takes(now)
            slot.release()

    async def main() -> None:
        limiter = WindowLimiter("x", limit)
        async with anyio.create_task_group() as callers:
            callers.start_soon(call, limiter)
            for after, asked, quota in refused:
                await advance(after)
                limiter.on_rate_limited(asked, quota=quota)
            await advance(1000)
            callers.cancel_scope.cancel()

    run_virtually(main)
    assert worst_window(times) <= limit


@pytest.mark.parametrize("quota", [(0, 1.0), (0, 60.0), (0, 0.5), (1, 0.0), (-1, 60.0), (5, math.nan), (3, -1.0)])
def test_a_quota_of_nothing_or_over_no_time_never_shortens_the_window(quota: tuple[int, float]) -> None:
    async def main() -> int:
        limiter, times = Limits()["servers.reboot"], []
        limiter.on_rate_limited(quota=quota)
        for _ in range(120):
            slot = await limiter.acquire()
            times.append(anyio.current_time())
            slot.release()
        return worst_window(times)

    assert run_virtually(main) <= 50


def test_a_quota_over_a_longer_window_is_kept_in_that_window_too() -> None:
    async def main() -> list[float]:
        limiter, times = WindowLimiter("x", 50), []
        limiter.on_rate_limited(0, quota=(100, 90.0))
        while anyio.current_time() < 600:
            slot = await limiter.acquire()
            times.append(anyio.current_time())
            slot.release()
        return times

    assert worst_window(run_virtually(main), 90.0) <= 100


def test_a_second_quota_does_not_widen_what_the_first_one_narrowed() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        limiter.on_rate_limited(1, quota=(10, 60.0))
        limiter.on_rate_limited(1, quota=(40, 60.0))
        statistics = limiter.statistics()
        assert (statistics.capacity, statistics.limit, statistics.learned) == (8, 50, (10, 60.0))

    run_virtually(main)


def test_a_wrong_quota_is_shown_and_forgotten_ten_windows_later_and_the_limit_grows_back() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        limiter.on_rate_limited(1, quota=(1, DAY))
        statistics = limiter.statistics()
        assert (statistics.capacity, statistics.limit, statistics.learned) == (1, 50, (1, DAY))
        assert statistics.forgotten_in == pytest.approx(1 + 600, abs=1)
        (await limiter.acquire()).release()
        assert anyio.current_time() < 2
        await limiter.acquire()
        assert anyio.current_time() == pytest.approx(601, abs=1)
        statistics = limiter.statistics()
        assert (statistics.learned, statistics.forgotten_in) == (None, None)
        await advance(50 * 61)
        assert limiter.statistics().capacity == 50

    run_virtually(main)


def test_each_refusal_has_a_quota_kept_for_longer() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        limiter.on_rate_limited(1, quota=(10, 60.0))
        await advance(500)
        limiter.on_rate_limited(1)
        await advance(500)
        assert limiter.statistics().learned == (10, 60.0)
        await advance(200)
        assert limiter.statistics().learned is None

    run_virtually(main)


def test_a_wrong_quota_does_not_make_the_estimate_a_day() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 50)
        (await limiter.acquire()).release()
        limiter.on_rate_limited(1, quota=(1, DAY))
        assert limiter.estimate_wait() < 700
        await limiter.acquire(max_wait=700.0)

    run_virtually(main)


def test_a_large_limit_grows_back_within_as_many_windows_as_a_small_one() -> None:
    async def main() -> None:
        limiter = WindowLimiter("jobs.get", 2000)
        limiter.on_rate_limited(1)
        assert limiter.statistics().capacity == 1600
        await advance(61 * 11)
        assert limiter.statistics().capacity == 2000

    run_virtually(main)


def test_who_waits_while_nothing_is_answered_is_served_when_the_capacity_grows_back() -> None:
    async def main() -> None:
        limiter = WindowLimiter("x", 3)
        limiter.on_rate_limited(1)
        await limiter.acquire()
        await limiter.acquire()
        async with asyncio.timeout(300):
            await limiter.acquire()
        assert limiter.statistics().used == 3

    run_virtually(main)


def test_a_snapshot_is_taken_and_restored_as_if_nothing_had_been_learned() -> None:
    async def main() -> None:
        limits = Limits({"servers.stop": 5})
        limiter = limits["servers.stop"]
        (await limiter.acquire()).release()
        limiter.on_rate_limited(1, quota=(1, DAY))
        await advance(20)
        assert limits.snapshot() == {"servers.stop": pytest.approx([40.01], abs=0.01)}
        limits.restore({"servers.stop": [50.0]})
        await advance(21)
        assert limits.snapshot() == {"servers.stop": pytest.approx([19.0, 29.0], abs=0.02)}
        await advance(30)
        assert limits.snapshot() == {}

    run_virtually(main)


def test_without_a_limit_an_operation_stands_still_for_as_long_as_the_cloud_asks_and_no_longer() -> None:
    async def main() -> None:
        limiter = Limits()["nova.servers.get"]
        limiter.on_rate_limited()
        await limiter.acquire()
        limiter.on_rate_limited(30)
        assert limiter.acquire_nowait() is None
        assert limiter.estimate_wait() == pytest.approx(30, abs=0.1)
        assert limiter.statistics().next_slot == pytest.approx(30, abs=0.1)
        async with anyio.create_task_group() as callers:
            for _ in range(100):
                callers.start_soon(limiter.acquire)
        assert anyio.current_time() == pytest.approx(30, abs=0.1)
        assert limiter.acquire_nowait() is not None
        statistics = limiter.statistics()
        assert (statistics.next_slot, statistics.refused, statistics.used, statistics.waiting_interactive) == (
            None,
            2,
            0,
            0,
        )

    run_virtually(main)


def test_a_slot_comes_back_a_window_later_also_where_the_caller_began_to_wait_while_all_were_in_flight() -> None:
    async def main() -> list[float]:
        limiter, times = WindowLimiter("servers.start", 2), []
        limiter.on_rate_limited(0, quota=(1, 60.0))

        async def call() -> None:
            slot = await limiter.acquire()
            times.append(anyio.current_time())
            await anyio.sleep(2)
            slot.release()

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(call)
        return times

    # What is next while the only slot is in flight is the end of the quota, ten minutes away.
    assert run_virtually(main) == pytest.approx([1 + 62 * number for number in range(4)], abs=1)
