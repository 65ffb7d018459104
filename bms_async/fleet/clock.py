"""The time of day of a run's outcomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from bms_async._clock import own_clock

_MAX_DRIFT = 1.0
"""Seconds by which the wall clock may run ahead of the loop's clock before it is believed."""

_RESOLUTION = 0.001
"""Seconds within which the same datetime is returned: outcomes of one poll share it."""


def wall_clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return a function that reads the time of day for code on a loop, in seconds since 1970.

    It is the machine's clock, unless the loop has a ``wall_time()`` of its own.
    """
    return own_clock(loop) or (lambda: time.time())  # noqa: PLW0108 - may be replaced


class Clock:
    """The time of day for one run, which never goes back within the run.

    Between two readings of the wall clock the loop's clock counts, so that the times of a run fit together. The loop's
    clock stops while the machine sleeps: once the wall clock is more than a second ahead, it is adopted. A wall clock
    that was set back is ignored.

    Args:
        loop: The loop that the run is on.
        wall: Reads the time of day, in seconds since 1970.

    Attributes:
        created: When the clock was made.
    """

    __slots__ = ("_at", "_last", "_loop", "_now", "_wall", "created")

    def __init__(self, loop: asyncio.AbstractEventLoop, wall: Callable[[], float] | None = None) -> None:
        self._loop = loop
        self._wall = wall or wall_clock(loop)
        self._at = loop.time()
        self._now = self._wall()
        self.created = self._last = datetime.fromtimestamp(self._now, UTC)

    def now(self) -> datetime:
        """Return the time of day."""
        at, wall = self._loop.time(), self._wall()
        now = self._now + at - self._at
        ahead = wall - now
        if at - self._at > _RESOLUTION or ahead > _MAX_DRIFT:
            if ahead > _MAX_DRIFT:
                now = wall
            self._at, self._now = at, now
            self._last = datetime.fromtimestamp(now, UTC)
        return self._last
