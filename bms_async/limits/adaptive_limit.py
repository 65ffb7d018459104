"""How many calls a window may hold now: a rule without a clock.

What refusals teach only ever takes away from what is documented or set, and is forgotten again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

CLOCK_DRIFT = 0.01
"""Seconds added to the window: two clocks that differ by 150 parts in a million still agree that it is over."""

FORGOTTEN_AFTER = 10
"""Windows after the last refusal until a quota that the server named is forgotten: it may have been wrong."""

_GROWTH = 50
"""Windows in which a capacity grows back from nothing: by a fiftieth of the limit in each, or by one call."""

_MIN_BLOCK = 1.0
"""Seconds that an operation stands still at least: calls that were under way together are one outburst."""

_MAX_QUOTA_WINDOW = 86_400.0
"""Seconds of the longest window that a server may name; what is longer is no limit but a mistake."""

_SHRINK_FACTOR = 0.8
"""What is left of a capacity after the server refused a call all the same."""


class AdaptiveLimit:
    """What is left of a limit after refusals. Times are those of one clock, whichever it is.

    Args:
        limit: Calls a window; None for no limit.
        window: Seconds.

    Attributes:
        capacity: Calls a window now.
        window: Seconds until a slot comes back; longer than `base_window` where the server allows less than one call
            in that.
        base_window: Seconds until a slot comes back where nothing was learned.
        blocked_until: The moment from which calls may go again.
        quota: The quota that the server named last, as long as it is kept: calls, and its window in seconds.
        forget_at: The moment when that is forgotten.
    """

    __slots__ = (
        "_ceiling",
        "_grow_at",
        "_unreduced",
        "base_window",
        "blocked_until",
        "capacity",
        "forget_at",
        "quota",
        "window",
    )

    def __init__(self, limit: int | None, window: float) -> None:
        self._unreduced = self._ceiling = self.capacity = sys.maxsize if limit is None else limit
        self.window = self.base_window = window + CLOCK_DRIFT
        self.blocked_until = self.forget_at = self._grow_at = -math.inf
        self.quota: tuple[int, float] | None = None

    @property
    def is_unreduced(self) -> bool:
        """Whether nothing is taken away now, but for standing still."""
        return self.capacity == self._unreduced and self.quota is None

    def is_unreduced_at(self, now: float) -> bool:
        """Tell whether nothing would be taken away at a moment, if no refusal comes before it."""
        since = now - self.blocked_until
        return self.is_unreduced or since >= (FORGOTTEN_AFTER + _GROWTH + 1) * self.base_window

    def on_rate_limited(self, now: float, seconds: float | None, quota: tuple[int, float] | None) -> None:
        """Take away what a refusal teaches.

        Args:
            now: The moment.
            seconds: How long to stand still; a window when the server asked for nothing.
            quota: The limit that the server named.
        """
        if self._unreduced == sys.maxsize:
            if seconds is not None:
                self.blocked_until = max(self.blocked_until, now + max(seconds, _MIN_BLOCK))
            return
        if quota is not None:
            self._adopt_quota(*quota)
        if now >= self.blocked_until:
            # One refusal an outburst: fifty calls counted out together say no more than one does.
            self.capacity = max(1, int(self.capacity * _SHRINK_FACTOR))
        still = self.base_window if seconds is None else max(seconds, _MIN_BLOCK)
        self.blocked_until = max(self.blocked_until, now + still)
        self._grow_at = self.blocked_until + self.base_window
        self.forget_at = self.blocked_until + FORGOTTEN_AFTER * self.base_window

    def expire(self, now: float) -> None:
        """Give back what is due."""
        if self.quota is not None and now >= self.forget_at:
            self.quota, self._ceiling, self.window = None, self._unreduced, self.base_window
            self._grow_at = self.forget_at + self.base_window
        while self.capacity < self._ceiling and now >= self._grow_at:
            self.capacity = min(self._ceiling, self.capacity + max(1, self._unreduced // _GROWTH))
            self._grow_at += self.base_window

    def next_change(self) -> float:
        """Return the moment when more is given back; infinity where nothing is taken away."""
        grows = self._grow_at if self.capacity < self._ceiling else math.inf
        return grows if self.quota is None else min(grows, self.forget_at)

    def estimate_wait(
        self, now: float, cooling: Sequence[float], turn: int, interactive: int, *, kept: int, free: int
    ) -> float:
        """Return the seconds until a call's slot, if all goes as fast as it can.

        Args:
            now: The moment.
            cooling: When the calls ended whose slots have not come back, ascending.
            turn: The how-manieth slot that comes free is its.
            interactive: How many interactive calls wait.
            kept: How many slots are left alone.
            free: How many slots are free; less than none where more are used than there are.
        """
        turn, rounds = _find_turn(turn, interactive, self.capacity, kept)
        back, window = turn - free, self.window
        comes = 0.0 if back < 0 else cooling[back] + window - now if back < len(cooling) else window
        wait = max(0.0, self.blocked_until - now, comes) + rounds * window
        # What a quota that the server named makes long is not surely so.
        return wait if self.quota is None else min(wait, self.forget_at - now)

    def shift(self, seconds: float) -> None:
        """Go on by another clock, which is so much ahead."""
        self.blocked_until += seconds
        self.forget_at += seconds
        self._grow_at += seconds

    def _adopt_quota(self, calls: int, seconds: float) -> None:
        """Keep to a limit that the server named, where it is lower than ours.

        A limit over another window is kept by keeping its share in each of ours. Over a shorter one that does not keep
        its bursts away; what is refused of those waits and goes again. Two that are named one after the other are both
        kept to, for either may be the wrong one, and both are forgotten.
        """
        if not 0 < seconds <= _MAX_QUOTA_WINDOW or calls < 0:
            return
        whole = self.base_window - CLOCK_DRIFT
        share = calls * int(whole / seconds) if seconds <= whole else calls // math.ceil(seconds / whole)
        window = self.base_window
        if share < 1:
            share, window = 1, max(self.base_window, seconds / max(1, calls) + CLOCK_DRIFT)
        if share >= self._ceiling and window <= self.window:
            return
        self._ceiling, self.window = min(self._ceiling, share), max(self.window, window)
        self.capacity = min(self.capacity, self._ceiling)
        self.quota = (calls, seconds)


def _find_turn(turn: int, interactive: int, size: int, kept: int) -> tuple[int, int]:
    """Return which of the slots that come back a caller gets, from 0, and after how many whole rounds of them.

    Args:
        turn: The how-manieth slot that comes free is its.
        interactive: How many interactive calls wait.
        size: How many slots there are.
        kept: How many of them are left alone.
    """
    rounds = 0
    if turn > size + interactive:
        # Once the interactive calls are through, what is left alone does not come round.
        rounds = -((size + interactive - turn) // (size - kept))
        turn -= rounds * (size - kept)
    if turn > size:
        more = -((size - turn) // size)
        rounds, turn = rounds + more, turn - more * size
    return turn - 1, rounds
