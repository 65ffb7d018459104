"""What every limiter does: give slots out at once where there are some, and else let calls wait in two lanes.

Most calls find a free slot and no waiter. How many more of them can do so is counted ahead, and they take a fast path
that looks at neither the clock nor the queues. Whatever could make that number too high sets it to 0.
"""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from asyncio import get_running_loop
from collections.abc import Iterable
from threading import get_ident

from bms_async.errors import WaitTooLongError

from .loop_binding import LoopBinding, run_on
from .slot import Slot
from .statistics import LimiterStatistics
from .wait_queue import Lane, WaitQueue


class Limiter(ABC):
    """The rate limiter of one operation.

    First come, first served within a lane; the interactive lane goes before the bulk lane. Waiting costs one future a
    call.

    On another event loop than that of its binding, everything but ending a slot raises a `ConfigurationError` before
    anything is changed.

    Args:
        name: The name of the operation, for the repr and for errors.
        limit: Calls a window; None for no limit.
        window: Seconds.
        reserve: The share of the limit that bulk calls leave free, rounded down to whole calls.
        binding: The event loop that it shares with other limiters; one of its own by default.
    """

    __slots__ = (
        "_binding",
        "_calls",
        "_epoch",
        "_fast_until",
        "_fast_until_bulk",
        "_lanes",
        "_limit",
        "_loop",
        "_name",
        "_refused",
        "_reserve",
        "_thread",
        "_window",
    )  # fmt: skip

    has_leases = False
    """Whether its slots can run out before they are used."""

    def __init__(
        self, name: str, limit: int | None, *, window: float, reserve: float, binding: LoopBinding | None
    ) -> None:
        self._name = name
        self._limit = limit
        self._window = window
        self._reserve = int((limit or 0) * reserve)
        self._lanes: tuple[WaitQueue[Slot], WaitQueue[Slot]] = (WaitQueue(), WaitQueue())
        # The loop of the fast path, and its thread; None where there is no limit. Asking for the running loop costs a
        # system call.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        # Calls that got a slot, in all, and up to how many of them the fast path is open.
        self._calls = self._fast_until = self._fast_until_bulk = 0
        # How often all slots that were given out before were given up.
        self._epoch = 0
        self._refused = 0
        self._binding = LoopBinding() if binding is None else binding

    @property
    def name(self) -> str:
        """The name of the operation, or of the operations that share it."""
        return self._name

    @property
    def limit(self) -> int | None:
        """Calls a window as documented or set; None without a limit."""
        return self._limit

    @property
    def has_waiters(self) -> bool:
        """Whether calls wait for a slot."""
        return bool(self._lanes[0] or self._lanes[1])

    async def acquire(self, lane: Lane = Lane.INTERACTIVE, *, max_wait: float | None = None) -> Slot:
        """Wait for the right to make one call.

        A caller that is cancelled while it waits leaves no trace; the next waiter takes its position.

        Args:
            lane: INTERACTIVE for a call that is awaited by itself, BULK for one of very many.
            max_wait: Maximum wait in seconds; the call fails at once if it will surely take longer.

        Raises:
            WaitTooLongError: No slot comes in time.
            ConfigurationError: The limiter is in use on another event loop.
        """
        # As in `acquire_nowait`: calling it would cost a tenth of a call that need not wait.
        calls, loop = self._calls, self._loop
        if calls < (self._fast_until_bulk if lane else self._fast_until) and (
            loop is None or (get_ident() == self._thread and loop.is_running())
        ):
            self._calls = calls + 1
            return Slot(self, self._epoch)
        slot = self._acquire_slow(lane)
        if slot is not None:
            return slot
        waiter: asyncio.Future[Slot] = self._binding.bind().create_future()
        timer = None if max_wait is None else self._start_timeout(waiter, lane, max_wait)
        queue = self._enqueue(waiter, lane)
        try:
            return await waiter
        except (asyncio.CancelledError, WaitTooLongError):
            if waiter.cancel() or waiter.cancelled() or waiter.exception():
                queue.discard()
                if (running := get_running_loop()) is self._binding.loop:
                    # A waiter that came while this one still counted queued behind it, and nothing else would wake it.
                    self._wake_waiters(running)
            else:
                waiter.result().refund()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def acquire_nowait(self, lane: Lane = Lane.INTERACTIVE) -> Slot | None:
        """Return the right to make one call; None if it would have to wait.

        Args:
            lane: The lane; no waiter in it, or in the lane before it, is overtaken.

        Raises:
            ConfigurationError: The limiter is in use on another event loop.
        """
        calls, loop = self._calls, self._loop
        if calls < (self._fast_until_bulk if lane else self._fast_until) and (
            loop is None or (get_ident() == self._thread and loop.is_running())
        ):
            self._calls = calls + 1
            return Slot(self, self._epoch)
        return self._acquire_slow(lane)

    @abstractmethod
    def estimate_wait(self, lane: Lane = Lane.INTERACTIVE) -> float:
        """Return the seconds that a call would wait for its slot, if all goes as fast as it can.

        It takes longer if the responses of calls in flight come late, or other calls enter a lane that goes before.

        Args:
            lane: The lane that the call would wait in.
        """

    @abstractmethod
    def on_rate_limited(self, retry_after: float | None = None, *, quota: tuple[int, float] | None = None) -> None:
        """Back off after a 429: other programs use the account too, or its limit is lower.

        The operation is blocked, and its capacity shrinks and grows back, by a fiftieth of the limit a window (one call
        at least). An operation without a limit is blocked only if the server said for how long.

        Args:
            retry_after: The seconds that ``Retry-After`` named; None for a whole window.
            quota: The limit that the server named: calls, and the window in seconds. It counts only where it is lower
                than the one that is documented or set, and is forgotten ten windows after the last refusal.

        Raises:
            ConfigurationError: The limiter is in use on another event loop.
        """

    @abstractmethod
    def snapshot(self) -> list[float]:
        """Return the seconds until each used slot comes back, ascending; a whole window for a call in flight.

        A longer window that was learned from refusals is not taken into account.
        """

    @abstractmethod
    def restore(self, spent: Iterable[float]) -> None:
        """Reserve the slots of calls that were made elsewhere.

        Args:
            spent: Seconds until the slot of each comes back, at most a window.
        """

    @abstractmethod
    def statistics(self) -> LimiterStatistics:
        """Return how many slots are used and free, how many calls wait, and what was learned."""

    @abstractmethod
    def is_idle(self, now: float) -> bool:
        """Return whether nothing is used or learned at a time by its binding's clock; on any thread."""

    @abstractmethod
    def rebind(self, loop: asyncio.AbstractEventLoop, shift: float) -> None:
        """Go on on another event loop, whose clock is ahead by so many seconds; called by the `LoopBinding`."""

    @abstractmethod
    def start_cooldown(self, epoch: int) -> None:
        """Take a slot back one window from now; called by `Slot.release`."""

    def allows(self, epoch: int) -> bool:
        """Return whether a slot of an epoch may still be used; called by `Slot.is_valid`."""
        return epoch <= self._epoch

    def end_anywhere(self, epoch: int, *, sent: bool) -> None:
        """Take a slot back, on any thread; it is free at once if nothing was sent."""
        loop = self._loop
        if loop is not None:
            run_on(loop, functools.partial(self._end, loop, epoch, sent=sent))
        elif not sent:
            self._calls -= 1

    def invalidate_fast_path(self) -> None:
        """Have the next call check the loop and its clock."""
        if self._limit is not None:
            self._fast_until = self._fast_until_bulk = 0

    @abstractmethod
    def _acquire_slow(self, lane: Lane) -> Slot | None:
        """Return a slot if there is one, and open the fast path for as many calls as may take it."""

    @abstractmethod
    def _end(self, loop: asyncio.AbstractEventLoop, epoch: int, *, sent: bool) -> None:
        """Take a slot back on the limiter's loop."""

    @abstractmethod
    def _wake_waiters(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the free slots to those that wait."""

    @abstractmethod
    def _schedule_wakeup(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that calls which wait are woken when something changes."""

    @abstractmethod
    def _next_change(self, now: float) -> float | None:
        """Return the seconds until a slot may come free by itself; None if only the end of a call can free one."""

    def _start_timeout(self, waiter: asyncio.Future[Slot], lane: Lane, max_wait: float) -> asyncio.TimerHandle:
        """Have a waiter fail at its timeout; raise at once if its slot surely comes later."""
        wait = self.estimate_wait(lane)
        if wait > max_wait:
            raise self._too_long(wait, max_wait)
        return waiter.get_loop().call_later(max_wait, self._on_timeout, waiter, max_wait)

    def _enqueue(self, waiter: asyncio.Future[Slot], lane: Lane) -> WaitQueue[Slot]:
        """Add a waiter to its queue, and close the fast path, which would overtake it."""
        queue = self._lanes[lane]
        queue.append(waiter)
        self._fast_until = self._fast_until_bulk = 0
        self._schedule_wakeup(waiter.get_loop())
        return queue

    def _on_timeout(self, waiter: asyncio.Future[Slot], max_wait: float) -> None:
        if not waiter.done():
            more = self._next_change(waiter.get_loop().time()) or self._window
            waiter.set_exception(self._too_long(max_wait + more, max_wait))

    def _too_long(self, wait: float, max_wait: float) -> WaitTooLongError:
        reason = self._describe_trouble()
        return WaitTooLongError(operation=self._name, wait=wait, max_wait=max_wait, reason=reason)

    def _describe_trouble(self) -> str | None:
        """Return what makes calls wait other than the limit itself; None if there is nothing."""
        return None
