"""The cloud's clock, as far as its responses show it: pure.

`changes-since` and ``updated`` are times of the cloud, and this machine's clock may be minutes off. So it is never
asked. Every response has a ``Date``, in whole seconds, that the cloud set between the sending of the request and the
arrival of the response: this bounds the difference between its clock and the event loop's from both sides, and each
further response can only narrow the bounds. Where two responses contradict each other one of the clocks was set, and
the newer one is believed.
"""

from __future__ import annotations

import math


class CloudTime:
    """Bounds on the cloud's time at a moment of the event loop's clock."""

    __slots__ = ("_highest", "_lowest")

    def __init__(self) -> None:
        self._lowest = -math.inf
        self._highest = math.inf

    @property
    def is_known(self) -> bool:
        """Whether a response has shown it."""
        return math.isfinite(self._lowest)

    def learn(self, date: float, *, sent: float, received: float) -> None:
        """Take in the date of a response.

        Args:
            date: The date, in seconds since 1970, cut to whole ones.
            sent: When its request was sent, by the event loop's clock.
            received: When it arrived.
        """
        lowest, highest = date - received, date + 1.0 - sent
        self._lowest, self._highest = max(self._lowest, lowest), min(self._highest, highest)
        if self._lowest > self._highest:
            self._lowest, self._highest = lowest, highest

    def earliest(self, at: float) -> float:
        """Return the earliest that it may have been in the cloud; minus infinity while nothing is known.

        Args:
            at: A moment of the event loop's clock, in seconds.
        """
        return at + self._lowest

    def latest(self, at: float) -> float:
        """Return the latest that it may have been in the cloud; infinity while nothing is known.

        Args:
            at: A moment of the event loop's clock, in seconds.
        """
        return at + self._highest
