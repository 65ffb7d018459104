"""The share of a limit that a process goes on with by itself while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.window import WindowLimiter


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
    def in_flight(self) -> int:
        """How many of its slots have not come to their end."""
        return self._calls - self._ended

    def ended(self) -> list[float]:
        """Return when the calls ended whose slots have not come back, by the loop's clock, ascending."""
        self._sync_clock()
        return list(self._cooldowns)

    def start_cooldown(self, epoch: int) -> None:
        """Take a slot back one window from now; called by `Slot.release`."""
        # Always on the loop itself, where `_end` reports it.
        self.end_anywhere(epoch, sent=True)

    def _end(self, loop: asyncio.AbstractEventLoop, epoch: int, *, sent: bool) -> None:
        is_own = epoch == self._epoch
        super()._end(loop, epoch, sent=sent)
        if is_own and not loop.is_closed():
            self._on_end(loop.time() if sent else None)
