"""Limits belong to one event loop at a time: another one is refused before anything changes, or takes over."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bms_async import ConfigurationError, Limits
from bms_async.limits import Slot, WindowLimiter
from bms_async.limits.loop_binding import has_own_clock
from tests.support.machine import patience
from tests.support.real_clock import run_ahead
from tests.support.virtual_clock import VirtualClockLoop, run_virtually

HOUR = 3600.0
ENTRIES: dict[str, Callable[[Limits], object]] = {
    "take": lambda limits: limits["servers.stop"].acquire_nowait(),
    "acquire": lambda limits: limits["servers.stop"].acquire(),
    "estimate_wait": lambda limits: limits["servers.stop"].estimate_wait(),
    "refuse": lambda limits: limits["servers.stop"].on_rate_limited(5.0, quota=(1, 60.0)),
    "statistics": lambda limits: limits["servers.stop"].statistics(),
    "spent of one": lambda limits: limits["servers.stop"].snapshot(),
    "spent of all": lambda limits: limits.snapshot(),
    "occupy": lambda limits: limits.restore({"servers.stop": [30.0]}),
    "another operation": lambda limits: limits["servers.start"].acquire_nowait(),
}


@contextmanager
def loop_in_a_thread() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run a loop in a thread, and give a way to have it run something to its end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(patience(60.0))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def enter(limits: Limits, entry: Callable[[Limits], object]) -> None:
    result = entry(limits)
    if asyncio.iscoroutine(result):
        await result


async def take(limits: Limits) -> Slot | None:
    return limits["servers.stop"].acquire_nowait()


async def used(limits: Limits) -> tuple[int, int, int]:
    statistics = limits["servers.stop"].statistics()
    return statistics.used, statistics.calls, statistics.refused


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_a_second_loop_is_refused_while_the_first_one_runs_and_nothing_is_changed(
    entry: Callable[[Limits], object],
) -> None:
    limits = Limits()
    with loop_in_a_thread() as on_the_first:
        on_the_first(take(limits))
        with pytest.raises(ConfigurationError, match=r"one event loop at a time.*limits=Limits"):
            asyncio.run(enter(limits, entry))
        assert on_the_first(used(limits)) == (1, 1, 0)


def test_who_waits_on_the_first_loop_is_served_though_a_second_one_came() -> None:
    async def wait(limiter: WindowLimiter) -> None:
        (await limiter.acquire()).release()
        async with asyncio.timeout(2 * HOUR):
            (await limiter.acquire()).release()

    async def ask(limiter: WindowLimiter) -> bool:
        return limiter.has_waiters

    async def pass_an_hour() -> None:
        run_ahead(HOUR)

    limiter = WindowLimiter("x", 1, window=HOUR)
    with loop_in_a_thread() as on_the_first:
        waiting: list[Any] = []
        waiter = threading.Thread(target=lambda: waiting.append(on_the_first(wait(limiter))))
        waiter.start()
        while not on_the_first(ask(limiter)):
            pass
        with pytest.raises(ConfigurationError, match="calls wait"):
            asyncio.run(ask_for_a_slot(limiter))
        on_the_first(pass_an_hour())
        waiter.join()
        assert waiting == [None]


async def ask_for_a_slot(limiter: WindowLimiter) -> None:
    limiter.acquire_nowait()


@pytest.mark.parametrize("end", [Slot.release, Slot.refund])
def test_a_slot_may_be_ended_on_another_thread_while_its_loop_runs(end: Callable[[Slot], None]) -> None:
    limits = Limits()
    with loop_in_a_thread() as on_the_first:
        slot = on_the_first(take(limits))
        thread = threading.Thread(target=end, args=(slot,))
        thread.start()
        thread.join()
        counts = on_the_first(used(limits))
    assert counts == ((1, 1, 0) if end is Slot.release else (0, 0, 0))


def test_who_waits_is_served_when_a_slot_is_given_back_on_another_thread() -> None:
    async def wait(limiter: WindowLimiter) -> None:
        held = limiter.acquire_nowait()
        assert held is not None
        thread = threading.Timer(0.05, held.refund)
        thread.start()
        async with asyncio.timeout(patience(60.0)):
            await limiter.acquire()
        thread.join()

    asyncio.run(wait(WindowLimiter("x", 1)))


def test_a_loop_that_is_closed_hands_over_what_it_used() -> None:
    limits = Limits({"servers.stop": 2})
    run_virtually(lambda: take(limits))
    slot = run_virtually(lambda: take(limits))

    async def main() -> None:
        assert limits["servers.stop"].statistics().used == 2
        assert limits["servers.stop"].acquire_nowait() is None
        await limits["servers.stop"].acquire()
        assert anyio.current_time() == pytest.approx(60, abs=0.1)

    assert slot is not None
    run_virtually(main)


@pytest.mark.parametrize("end", [Slot.release, Slot.refund])
def test_a_slot_of_a_loop_that_is_gone_frees_nothing_on_another(end: Callable[[Slot], None]) -> None:
    limits = Limits({"servers.stop": 2})
    slot = run_virtually(lambda: take(limits))

    async def main() -> None:
        limiter = limits["servers.stop"]
        assert limiter.statistics().used == 1
        assert slot is not None
        own = limiter.acquire_nowait()
        end(slot)
        assert limiter.statistics().used >= 2
        assert limiter.acquire_nowait() is None
        assert own is not None
        own.refund()
        await anyio.sleep(61)
        statistics = limiter.statistics()
        assert (statistics.used, statistics.free) == (0, 2)

    run_virtually(main)


def test_a_clock_that_stands_elsewhere_is_translated() -> None:
    async def use_late() -> None:
        await anyio.sleep(5000)
        (await limits["servers.stop"].acquire()).release()
        await anyio.sleep(20)
        # Whoever looks last, the moments are those of this loop.
        limits["servers.stop"].on_rate_limited(15)

    async def use_again() -> None:
        assert limits.snapshot() == {"servers.stop": pytest.approx([40.0], abs=0.1)}
        await limits["servers.stop"].acquire()
        assert anyio.current_time() == pytest.approx(40, abs=0.1)

    limits = Limits({"servers.stop": 1})
    run_virtually(use_late)
    run_virtually(use_again)


def test_a_clock_of_its_own_stays_one_when_it_shows_the_time_of_the_machine_by_chance() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert has_own_clock(loop)
        await anyio.sleep(time.monotonic() - loop.time())
        assert has_own_clock(loop)

    run_virtually(main)


def test_a_loop_that_stands_is_taken_over_from_unless_calls_wait_on_it() -> None:
    limits = Limits({"servers.stop": 1})
    waiting: list[asyncio.Future[Slot]] = []

    async def wait() -> None:
        waiting.append(asyncio.ensure_future(limits["servers.stop"].acquire()))
        await anyio.lowlevel.checkpoint()

    async def leave() -> None:
        waiting.pop().cancel()
        await anyio.lowlevel.checkpoint()

    with asyncio.Runner(loop_factory=VirtualClockLoop) as first, asyncio.Runner(loop_factory=VirtualClockLoop) as other:
        first.run(take(limits))
        assert other.run(used(limits)) == (1, 1, 0)
        other.run(wait())
        with pytest.raises(ConfigurationError, match="calls wait"):
            first.run(used(limits))
        other.run(leave())
        assert first.run(used(limits)) == (1, 1, 0)


def test_a_budget_without_a_limit_belongs_to_no_loop() -> None:
    limits = Limits.unlimited()
    with loop_in_a_thread() as on_the_first:
        on_the_first(take(limits))
        assert asyncio.run(take(limits)) is not None


def test_a_child_process_takes_over_from_the_loop_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits()
    with loop_in_a_thread() as on_the_first:
        on_the_first(take(limits))
        parent = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: parent + 1)
        assert asyncio.run(used(limits)) == (1, 1, 0)
