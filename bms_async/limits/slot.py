"""The right to make one call."""

from __future__ import annotations

from typing import Protocol

import msgspec


class SlotOwner(Protocol):
    """The limiter that gave a slot out, and takes it back."""

    def start_cooldown(self, epoch: int) -> None:
        """Take a slot back one window from now."""
        ...

    def allows(self, epoch: int) -> bool:
        """Return whether a slot that it gave out may still be used."""
        ...

    def end_anywhere(self, epoch: int, *, sent: bool) -> None:
        """Take a slot back, on any thread; it is free at once if nothing was sent."""
        ...


class Slot(msgspec.Struct, eq=False, gc=False):
    """The right to make one call. It ends with the first `release` or `refund`; further ones do nothing.

    It may be ended on any thread. A Struct is made in a third of the time of a plain object. No limiter refers to its
    slots, so no slot is in a cycle, and the garbage collector need not track it.
    """

    _limiter: SlotOwner | None
    _epoch: int

    def is_valid(self) -> bool:
        """Return whether a request may still be sent with it: it has not ended, and neither has its lease."""
        limiter = self._limiter
        return limiter is not None and limiter.allows(self._epoch)

    def release(self) -> None:
        """End it once a response has arrived, or surely never will: the slot comes back one window from now."""
        limiter = self._limiter
        if limiter is not None:
            self._limiter = None
            limiter.start_cooldown(self._epoch)

    def refund(self) -> None:
        """End it without a request: the slot is free at once."""
        limiter = self._limiter
        if limiter is not None:
            self._limiter = None
            limiter.end_anywhere(self._epoch, sent=False)
