"""When a run will have ended, by what the limit lets go and by how long servers take: pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

__all__ = ["Durations", "Estimate", "RunPosition", "estimate_end", "time_of_last_call"]

WINDOW = 60.0
"""Seconds after which a used slot comes back."""

_SHORTEST = 0.05
_RATIO = 1.1
_BINS = 160
_LATE = 0.1


class Estimate(NamedTuple):
    """How long it will take.

    Attributes:
        seconds: From now.
        is_lower_bound: Whether it may well be longer: nobody knows yet how long a server takes.
    """

    seconds: float
    is_lower_bound: bool


class RunPosition(NamedTuple):
    """How far a run is.

    Attributes:
        unasked: Servers that the cloud was not asked for yet.
        in_flight: Servers that it was, and that have not ended.
        batch: Servers a call carries.
        wave: How many may be under way at once; None for any number.
        since_last: Seconds since the last call was sent.
    """

    unasked: int
    in_flight: int
    batch: int
    wave: int | None
    since_last: float


class Durations:
    """How long servers took, from being asked for to their end, in little room however many there are."""

    __slots__ = ("_bins", "count")

    def __init__(self) -> None:
        self._bins = [0] * _BINS
        self.count = 0

    def add(self, seconds: float) -> None:
        """Take one in."""
        place = 0 if seconds <= _SHORTEST else math.ceil(math.log(seconds / _SHORTEST, _RATIO))
        self._bins[min(place, _BINS - 1)] += 1
        self.count += 1

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which this share of the servers had ended, a tenth too long at most.

        Args:
            share: More than 0, up to 1.

        Returns:
            None as long as none has ended.
        """
        if not self.count:
            return None
        place = bisect_left(list(accumulate(self._bins)), share * self.count)
        return float(_SHORTEST * _RATIO ** min(place, _BINS - 1))


def time_of_last_call(
    calls: int, *, spent: Sequence[float], capacity: int | None, still: float = 0.0, window: float = WINDOW
) -> float:
    """Return the seconds until the last of so many calls can be sent.

    Args:
        calls: How many are to be sent.
        spent: Seconds until each used slot comes back, ascending.
        capacity: How many slots there are; None for no limit.
        still: Seconds for which none is given out.
        window: Seconds after which a slot that is used comes back.
    """
    if calls <= 0:
        return 0.0
    if capacity is None:
        return still
    # A capacity that shrank has more used slots than slots; what comes back first does not come free.
    free = [0.0] * (capacity - len(spent)) + list(spent[max(0, len(spent) - capacity) :])
    rounds, place = divmod(calls - 1, capacity)
    return max(free[place], still) + rounds * window


def estimate_end(
    standing: RunPosition,
    durations: Durations,
    *,
    spent: Sequence[float],
    capacity: int | None,
    still: float = 0.0,
    window: float = WINDOW,
) -> Estimate:
    """Tell when a run will have ended.

    Args:
        standing: How far it is.
        durations: How long its servers took so far.
        spent: Seconds until each used slot of its call comes back, ascending.
        capacity: How many slots there are; None for no limit.
        still: Seconds for which none is given out.
        window: Seconds after which a slot that is used comes back.
    """
    calls = -(-standing.unasked // max(1, standing.batch))
    send = time_of_last_call(calls, spent=spent, capacity=capacity, still=still, window=window)
    slowest, usual = durations.quantile(0.99), durations.quantile(0.5)
    if standing.wave is not None and usual is not None:
        # Whoever does not fit into this wave waits until as many have ended.
        waiting = max(0, standing.unasked - max(0, standing.wave - standing.in_flight))
        send = max(send, usual * waiting / standing.wave)
    if slowest is None:
        return Estimate(send, is_lower_bound=True)
    # Those that end first are the fastest: as long as more are under way than have ended, the others may take longer.
    is_least = durations.count < standing.in_flight
    if standing.unasked:
        return Estimate(send + slowest, is_least)
    # Who is later than nearly all others were is not to be expected at any moment: with its age grows the wait.
    left = max(slowest - standing.since_last, _LATE * standing.since_last, 0.0)
    return Estimate(left if standing.in_flight else 0.0, is_least)
