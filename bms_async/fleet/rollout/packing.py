"""How long a small batch waits for more servers to join it: pure."""

from __future__ import annotations

from typing import Final

from .room import Group

LINGER: Final = 0.01
"""For which part of the time that its servers are unavailable a group waits for others at most."""

MIN_LINGER: Final = 0.5
"""Seconds that a small batch waits at least: the ends of one job come one after the other."""

MAX_LINGER: Final = 5.0
"""Seconds that it waits at most: that makes 12 small batches a minute."""

WORTH_A_CALL: Final = 4
"""A batch hardly waits if it is this part of the largest that there could be: a quarter."""

BRIEF_LINGER: Final = 0.1
"""Seconds that such a batch waits: of the ends of one job, a quarter comes some milliseconds before the rest."""


class Packing:
    """Says when the servers that may go are to go, however few they are.

    Each group has a mean of its own. With one mean for all, groups that take an hour would have each round of a group
    that takes a minute wait for 5 seconds: 8 % of a chain that may be the longest.

    Attributes:
        due: When they are to go, None if none may.
    """

    __slots__ = ("_ended", "_since", "_time_away", "due")

    def __init__(self) -> None:
        self.due: float | None = None
        self._since = 0.0
        self._ended, self._time_away = 0, 0.0

    def note_end(self, group: Group, seconds: float) -> None:
        """Note for how long a server was unavailable."""
        group.ended += 1
        group.time_away += seconds
        self._ended += 1
        self._time_away += seconds

    def note_room(self, now: float, group: Group | None = None) -> None:
        """Note that servers may go from now on, those of a group or of one that no server was taken of."""
        ended, time_away = self._ended, self._time_away
        if group is not None and group.ended:
            ended, time_away = group.ended, group.time_away
        linger = min(MAX_LINGER, max(MIN_LINGER, time_away / ended * LINGER)) if ended else MIN_LINGER
        if self.due is None:
            self._since = now
        if self.due is None or now + linger < self.due:
            self.due = now + linger

    def hurry(self) -> None:
        """Note that as many may go as are worth a call: they wait for those that come at the same moment only."""
        if self.due is not None:
            self.due = min(self.due, self._since + BRIEF_LINGER)
