"""Estimates when a run ends, from the rate limit and from how long servers take. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bms_async import Progress

__all__ = ["Durations", "Estimate", "RolloutPace", "RunPosition", "estimate_end", "time_of_last_call"]

WINDOW = 60.0
"""Seconds until a used slot comes back."""

_MIN_SECONDS = 0.05
_RATIO = 1.1
_BINS = 160
_LATE_SHARE = 0.1


class Estimate(NamedTuple):
    """How long a run will take.

    Attributes:
        seconds: From now.
        is_lower_bound: Whether it may well be longer, since it is not known yet how long a server takes.
    """

    seconds: float
    is_lower_bound: bool


class RunPosition(NamedTuple):
    """How far a run is.

    Attributes:
        unasked: Servers that the cloud was not asked for yet.
        in_flight: Servers that it was asked for, and that have not ended.
        batch: Servers in one call.
        wave: How many may be in flight at once; None for any number.
        since_last: Seconds since the last call was sent.
    """

    unasked: int
    in_flight: int
    batch: int
    wave: int | None
    since_last: float


class Durations:
    """A histogram of how long servers took, from the request to their end, in constant memory."""

    __slots__ = ("_bins", "count")

    def __init__(self) -> None:
        self._bins = [0] * _BINS
        self.count = 0

    def add(self, seconds: float) -> None:
        """Add a server."""
        index = 0 if seconds <= _MIN_SECONDS else math.ceil(math.log(seconds / _MIN_SECONDS, _RATIO))
        self._bins[min(index, _BINS - 1)] += 1
        self.count += 1

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which this share of the servers had ended; at most a tenth too long.

        Args:
            share: More than 0, up to 1.

        Returns:
            None before any server has ended.
        """
        if not self.count:
            return None
        index = bisect_left(list(accumulate(self._bins)), share * self.count)
        return float(_MIN_SECONDS * _RATIO ** min(index, _BINS - 1))


class RolloutPace:
    """How fast a rollout is while servers are unavailable: the time for which its window is closed does not count."""

    __slots__ = ("_at", "_done", "_first", "_moving", "_was_moving")

    def __init__(self) -> None:
        self._at: float | None = None
        self._first = self._done = 0
        self._moving = 0.0
        self._was_moving = False

    def sample(self, progress: Progress, now: float) -> None:
        """Read the progress; called regularly.

        Args:
            progress: The progress.
            now: Seconds of any clock that does not go back.
        """
        standing = progress.rollout
        if standing is None:
            return
        # Those that wait for their states to be read back are gone through: all of them are read at the end.
        done = progress.done + progress.to_verify
        if self._at is None:
            self._first = done
        elif self._was_moving:
            self._moving += now - self._at
        self._at, self._done = now, done
        self._was_moving = bool(standing.under_way or standing.settling)

    def seconds_left(self, servers: int) -> float | None:
        """Return the least seconds that the rest takes at the pace so far; None before any server has ended.

        Args:
            servers: How many servers the run has.
        """
        done = self._done - self._first
        return None if done <= 0 else self._moving / done * (servers - self._done)


def time_of_last_call(
    calls: int, *, spent: Sequence[float], capacity: int | None, blocked: float = 0.0, window: float = WINDOW
) -> float:
    """Return the seconds until the last of a number of calls can be sent.

    Args:
        calls: The number of calls.
        spent: Seconds until each used slot comes back, ascending.
        capacity: The number of slots; None for no limit.
        blocked: Seconds for which the limiter is blocked.
        window: Seconds until a used slot comes back.
    """
    if calls <= 0:
        return 0.0
    if capacity is None:
        return blocked
    # After the capacity shrank, more slots are used than there are; the first of them do not become free.
    free = [0.0] * (capacity - len(spent)) + list(spent[max(0, len(spent) - capacity) :])
    rounds, index = divmod(calls - 1, capacity)
    return max(free[index], blocked) + rounds * window


def estimate_end(
    position: RunPosition,
    durations: Durations,
    *,
    spent: Sequence[float],
    capacity: int | None,
    blocked: float = 0.0,
    window: float = WINDOW,
) -> Estimate:
    """Estimate when a run ends.

    Args:
        position: Its progress.
        durations: How long its servers took so far.
        spent: Seconds until each used slot of its call comes back, ascending.
        capacity: The number of slots; None for no limit.
        blocked: Seconds for which the limiter is blocked.
        window: Seconds until a used slot comes back.
    """
    calls = -(-position.unasked // max(1, position.batch))
    send = time_of_last_call(calls, spent=spent, capacity=capacity, blocked=blocked, window=window)
    slowest, usual = durations.quantile(0.99), durations.quantile(0.5)
    if position.wave is not None and usual is not None:
        # Servers beyond this wave wait until as many others have ended.
        waiting = max(0, position.unasked - max(0, position.wave - position.in_flight))
        send = max(send, usual * waiting / position.wave)
    if slowest is None:
        return Estimate(send, is_lower_bound=True)
    # The fastest servers end first: while more are in flight than have ended, the rest may take longer.
    is_lower_bound = durations.count < position.in_flight
    if position.unasked:
        return Estimate(send + slowest, is_lower_bound)
    # A server that is later than 99 % is not expected at any moment: the longer it took, the longer it may take.
    left = max(slowest - position.since_last, _LATE_SHARE * position.since_last, 0.0)
    return Estimate(left if position.in_flight else 0.0, is_lower_bound)
