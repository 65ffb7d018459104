"""One group of a rollout: how many of it may be unavailable, and how many are. And the rooms that settle."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from enum import IntEnum
from fractions import Fraction

import msgspec

_COMPACT_AT = 4096
"""How many entries have been used up before the arrays are cut."""


class GroupState(IntEnum):
    """Whether servers of a group may be taken."""

    UNTOUCHED = 0
    OPEN = 1
    BLOCKED = 2
    DONE = 3


class Group(msgspec.Struct, gc=False):
    """The books of a group. The collector does not track it, since there may be 10,000 of them: no cycle may arise.

    Attributes:
        name: Its name.
        index: Which group it is, in the order in which they were added.
        first: Which server is the next one in the chain of the planner.
        last: Which server is the end of that chain.
        size: How many servers were added.
        allowed: How many may be unavailable at once.
        waiting: How many wait for their turn; until the canaries are well, how many canaries do.
        later: How many wait for the phase that the group has not been opened in.
        under_way: How many are taken and have not ended.
        lost: How many are unavailable for good.
        lost_ids: The first of these; None if there never was one.
        held: How many are unavailable: under way, settling, or for good.
        state: Whether servers of it may be taken.
        touched: Whether some have been taken, and it is neither done nor blocked.
        ended: How many have ended well.
        time_away: For how many seconds these were unavailable, together.
        entry: Its entry in the heap of those that may go; 0 if it has none.
        can_go: How many of it were counted as being able to go now.
        could_go: How many of it were counted as being able to go if none were under way.
        hopes: Whether more of it may go once others of it have ended.
        front: Servers that were put back, the next one at the end; None if there are none.
    """

    name: str
    index: int
    first: int
    last: int
    size: int = 0
    allowed: int = 0
    waiting: int = 0
    later: int = 0
    under_way: int = 0
    lost: int = 0
    held: int = 0
    state: GroupState = GroupState.UNTOUCHED
    touched: bool = False
    ended: int = 0
    time_away: float = 0.0
    entry: int = 0
    can_go: int = 0
    could_go: int = 0
    hopes: bool = False
    front: list[str] | None = None
    lost_ids: list[str] | None = None


class Asked(msgspec.Struct, gc=False):
    """What is known of servers under way: one for those of a group that were taken together.

    Attributes:
        group: Their group.
        since: When they were taken.
    """

    group: Group
    since: float


class Settling:
    """Which groups' rooms become free at which time: first in, first out, in arrays that the collector does not read.

    Args:
        settle: Seconds after which a room is free.
    """

    __slots__ = ("_groups", "_head", "_settle", "_times")

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._times = array("d")
        self._groups = array("I")
        self._head = 0

    def __len__(self) -> int:
        return len(self._times) - self._head

    def add(self, index: int, now: float) -> float:
        """Note that a room of a group is free after the time to settle; return when that is."""
        due = now + self._settle
        if len(self):
            due = max(due, self._times[-1])
        self._times.append(due)
        self._groups.append(index)
        return due

    def pop_due(self, now: float, max_count: int) -> Iterator[tuple[float, int]]:
        """Remove what is due, and yield when it was and the index of the group."""
        end = min(bisect_right(self._times, now, self._head), self._head + max_count)
        while self._head < end:
            self._head += 1
            yield self._times[self._head - 1], self._groups[self._head - 1]
        if self._head == len(self._times) or (self._head > _COMPACT_AT and self._head * 2 > len(self._times)):
            del self._times[: self._head], self._groups[: self._head]
            self._head = 0

    def next_due(self, slack: float) -> float | None:
        """Return when the next room is free, or a few are that follow within so many seconds; None if none settles."""
        if not len(self):
            return None
        return self._times[bisect_right(self._times, self._times[self._head] + slack, self._head) - 1]


def allowed_of(size: int, max_unavailable: Fraction | float | None) -> int:
    """Return how many servers of a group may be unavailable at once.

    Args:
        size: How many servers it has.
        max_unavailable: The bound: a number, a share, or None if there is none.
    """
    if max_unavailable is None:
        return size
    if isinstance(max_unavailable, Fraction):
        return max(1, size * max_unavailable.numerator // max_unavailable.denominator)
    return int(max_unavailable)
