"""Whether a store's clock goes on as time does, by the answers of the last minute: a rule without a clock of its own.

A store that read its clock between the sending of a question and the receiving of its answer shows how far the two
clocks are apart, as closely as the trip was short. If they are surely further apart than at any time within a window,
the store's clock jumped ahead, or is being set ahead faster than a clock can be wrong. Either way slots came back too
early.

Rejected: a look at two answers that follow each other alone. Where there are many a second, a clock that gains a tenth
of its time is never ahead by much.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

_TOLERANCE = 0.1
"""Seconds that the store's clock may gain within a window, with what both clocks may be wrong by."""


class _Sight(NamedTuple):
    """How far the store's clock may at most have been ahead of ours when a question was sent."""

    sent: float
    ahead: float


class StoreClock:
    """What is known of a store's clock.

    Args:
        window: Seconds in which it must not gain.
    """

    __slots__ = ("_sights", "_window")

    def __init__(self, window: float) -> None:
        self._window = window
        # Those that a later one is not below, ascending: the first one is the least of the window.
        self._sights: deque[_Sight] = deque()

    def goes_on(self, shown: float, *, sent: float, received: float) -> bool:
        """Note what an answer shows; return False if the clock surely gained.

        Args:
            shown: The store's time.
            sent: Our time before the question was sent.
            received: Our time after the answer was received.
        """
        sights = self._sights
        while len(sights) > 1 and sights[1].sent <= sent - self._window:
            sights.popleft()
        is_steady = not sights or shown - received <= sights[0].ahead + _TOLERANCE
        if not is_steady:
            # The account is closed for it, and what counts from now on is how it goes on.
            sights.clear()
        now = _Sight(sent, shown - sent)
        while sights and sights[-1].ahead >= now.ahead:
            sights.pop()
        sights.append(now)
        return is_steady
