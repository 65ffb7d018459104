"""The share of a limit that a process goes on with by itself while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.slot import Slot
from bms_async.limits.wait_queue import Lane, WaitQueue
from bms_async.limits.window import WindowLimiter

from .holding import Holding


class AloneLimiter(WindowLimiter):
    """A limiter whose slots the ledger hears of afterwards.

    Args:
        name: The name of the operation.
        limit: Calls a window: the share of this process.
        window: Seconds, with what the clocks may differ by.
        reserve: The share of it that bulk calls leave free.
        binding: The event loop that it shares with other limiters.
        on_end: Called when a slot has come to its end, with the time if something was sent for it.
    """

    __slots__ = ("_on_end",)

    def __init__(
        self,
        name: str,
        limit: int,
        *,
        window: float,
        reserve: float,
        binding: LoopBinding,
        on_end: Callable[[float | None], None],
    ) -> None:
        super().__init__(name, limit, window=window, reserve=reserve, binding=binding)
        self._on_end = on_end

    @property
    def calls(self) -> int:
        """How many calls got a slot of it, in all."""
        return self._calls

    @property
    def in_flight(self) -> int:
        """How many of its slots have not come to their end."""
        return self._calls - self._ended

    def give_over(self) -> list[float]:
        """Return when the calls ended whose slots have not come back, and leave it to the caller to count them."""
        self._sync_clock()
        ended = list(self._cooldowns)
        self._cooldowns.clear()
        self.invalidate_fast_path()
        return ended

    def start_cooldown(self, epoch: int) -> None:
        """Take a slot back one window from now; called by `Slot.release`."""
        # Always on the loop itself, where `_end` reports it.
        self.end_anywhere(epoch, sent=True)

    def _end(self, loop: asyncio.AbstractEventLoop, epoch: int, *, sent: bool) -> None:
        is_own = epoch == self._epoch
        super()._end(loop, epoch, sent=sent)
        if is_own and not loop.is_closed():
            self._on_end(loop.time() if sent else None)


class Alone:
    """Whether a limiter goes on by itself, and with which slots.

    Args:
        make: Makes the limiter of the share, given its calls a window and what is called at the end of each slot.
        holding: What the ledger is asked to count afterwards.
        on_change: Called when waiting calls may get a slot, or the ledger has something to hear.

    Attributes:
        is_on: Whether it does.
    """

    __slots__ = ("_holding", "_limiter", "_make", "_on_change", "_timer", "is_on")

    def __init__(
        self,
        make: Callable[[int, Callable[[float | None], None]], AloneLimiter],
        holding: Holding,
        on_change: Callable[[], None],
    ) -> None:
        self._make, self._holding, self._on_change = make, holding, on_change
        # Kept for the next time: some of its slots may be in flight yet, or in their cooldown.
        self._limiter: AloneLimiter | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.is_on = False

    @property
    def limiter(self) -> AloneLimiter | None:
        """The limiter of the share while it is used; None while the ledger is asked."""
        return self._limiter if self.is_on else None

    @property
    def calls(self) -> int:
        """How many calls got a slot of a share, in all."""
        return 0 if self._limiter is None else self._limiter.calls

    def begin(self, calls: int, spent: Iterable[float]) -> None:
        """Go on with a share.

        Args:
            calls: Calls a window.
            spent: Seconds until the slots of earlier calls come back, where some count yet.
        """
        if self._limiter is None:
            self._limiter = self._make(calls, self._on_end)
        self._limiter.restore(spent)
        self.is_on = True

    def end(self) -> None:
        """Have the ledger count what was sent."""
        limiter = self.limiter
        if limiter is not None:
            self.is_on = False
            self._holding.adopt(limiter.give_over(), limiter.in_flight)

    def forget(self) -> None:
        """Have no share any more: it is the parent's, and this a child process."""
        self._limiter, self._timer, self.is_on = None, None, False

    def serve(self, lanes: Iterable[WaitQueue[Slot]], loop: asyncio.AbstractEventLoop) -> None:
        """Give the share's free slots to those that wait, and have it done again when one more is back."""
        limiter = self.limiter
        if limiter is None:
            return
        has_waiters = False
        for lane, queue in zip(Lane, lanes, strict=True):
            while queue and (slot := limiter.acquire_nowait(lane)) is not None:
                if (waiter := queue.pop()) is None:
                    slot.refund()
                    break
                waiter.set_result(slot)
            has_waiters = has_waiters or bool(queue)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if has_waiters and (due := limiter.statistics().next_slot) is not None:
            self._timer = loop.call_later(due, self._on_change)

    def _on_end(self, ended: float | None) -> None:
        if not self.is_on and self._limiter is not None:
            self._limiter.give_over()
            self._holding.end_adopted(ended)
        self._on_change()
