"""The right to make one call."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Keeper(Protocol):
    """Who gave a slot out, and takes it back."""

    def cool(self, stay: int) -> None:
        """Take a slot back one window from now."""
        ...

    def end_anywhere(self, stay: int, *, sent: bool) -> None:
        """Take a slot back on whichever thread it is."""
        ...


class Slot(msgspec.Struct, eq=False, gc=False):
    """The right to make one call. It ends in exactly one `release` or `give_back`; more of them do nothing.

    It may be ended on any thread. A Struct is made in a third of the time of a plain object. No limiter refers to its
    slots, so that none is in a cycle.
    """

    _limiter: Keeper | None
    _stay: int

    def release(self) -> None:
        """The answer came, or will never come: the slot comes back one window from now."""
        limiter = self._limiter
        if limiter is not None:
            self._limiter = None
            limiter.cool(self._stay)

    def give_back(self) -> None:
        """Nothing was sent: the slot is free at once."""
        limiter = self._limiter
        if limiter is not None:
            self._limiter = None
            limiter.end_anywhere(self._stay, sent=False)
