"""The time of day of a run's outcomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

_PARTED = 1.0
"""Seconds by which the wall clock and the loop's may part before the wall clock is read anew."""

_SAME = 0.001
"""Seconds within which one object tells the time: outcomes of one poll share it."""


@runtime_checkable
class _HasWallTime(Protocol):
    """A loop with a time of day of its own, as a virtual one has."""

    def wall_time(self) -> float: ...


def wall_clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return what reads the time of day for what runs on a loop, in seconds since 1970.

    That is the machine's, unless the loop has a ``wall_time()`` of its own.
    """
    return loop.wall_time if isinstance(loop, _HasWallTime) else lambda: time.time()  # noqa: PLW0108 - may be replaced


class Clock:
    """Tells a run's times: the time of day, which never goes back within the run.

    Between two readings of the wall clock it goes by the loop's, so that the times of a run fit together. The loop's
    stands still while the machine sleeps: where the two have parted by more than a second, the wall clock is right,
    unless it was set back.

    Args:
        loop: The loop that the run is on.
        wall: Reads the time of day, in seconds since 1970.

    Attributes:
        began: When it was made.
    """

    __slots__ = ("_at", "_last", "_loop", "_now", "_wall", "began")

    def __init__(self, loop: asyncio.AbstractEventLoop, wall: Callable[[], float] | None = None) -> None:
        self._loop = loop
        self._wall = wall or wall_clock(loop)
        self._at = loop.time()
        self._now = self._wall()
        self.began = self._last = datetime.fromtimestamp(self._now, UTC)

    def now(self) -> datetime:
        """Return the time of day."""
        at, wall = self._loop.time(), self._wall()
        now = self._now + at - self._at
        ahead = wall - now
        if at - self._at > _SAME or ahead > _PARTED:
            if ahead > _PARTED:
                now = wall
            self._at, self._now = at, now
            self._last = datetime.fromtimestamp(now, UTC)
        return self._last
