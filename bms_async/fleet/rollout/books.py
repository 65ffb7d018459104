"""The books of all groups of a rollout: which may go now, which goes first, which are done or blocked. Pure.

A heap has the groups of which some may go now, that with the most rounds left first. A second one has those that no
server was taken of: they are opened one by one, as they are needed. What is summed up over all groups follows each
change of one of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Final

from bms_async.fleet.sharded import Pieces

from .order import MAX_GROUPS, best_order
from .room import Group, GroupState

_INDEX_BITS: Final = 32
_INDEX_MASK: Final = (1 << _INDEX_BITS) - 1

_BEFORE_ALL: Final = 1 << 40
"""More rounds than any group has: a place in a planned order is counted from here on."""

_LAST_PLANNED: Final = MAX_GROUPS - _BEFORE_ALL


class Books:
    """Keeps the groups in the order in which they go.

    Args:
        max_groups: How many groups may be open at once, None for no bound.

    Attributes:
        groups: All groups, in the order in which they were added.
        can_go: How many servers of the open groups may go now.
        could_go: How many of them could go if none were under way.
        hoping: Of how many groups more may go once others of the same group have ended.
        touched: How many groups are touched, and neither done nor blocked.
        done: How many are done.
        blocked: How many are blocked.
    """

    __slots__ = (
        "_blocked_ever",
        "_blocked_now",
        "_fresh",
        "_is_main",
        "_later",
        "_max_groups",
        "_opened",
        "_ready",
        "blocked",
        "can_go",
        "could_go",
        "done",
        "groups",
        "hoping",
        "touched",
    )

    def __init__(self, max_groups: int | None) -> None:
        self._max_groups = max_groups
        self.groups: list[Group] = []
        self._fresh: list[int] = []
        self._later: list[int] = []
        self._ready: list[int] = []
        self._blocked_now: deque[Group] = deque()
        self._blocked_ever: Pieces[Group] = Pieces()
        self._opened = 0
        self._is_main = False
        self.can_go = self.could_go = self.hoping = 0
        self.touched = self.done = self.blocked = 0

    @property
    def has_untouched(self) -> bool:
        """Whether there are groups that are not open yet."""
        return bool(self._fresh)

    def fill(self, step: int) -> Iterator[None]:
        """Have all groups wait to be opened: those with canaries now, and all for the rest of them later.

        Args:
            step: How many groups there are between two yields.
        """
        order: Sequence[int] = range(len(self.groups))
        is_planned = False
        if self._max_groups is not None and 0 < len(order) <= MAX_GROUPS:
            is_planned = True
            order = best_order([-(-group.later // group.allowed) for group in self.groups], self._max_groups)
        for number, index in enumerate(order, 1):
            group = self.groups[index]
            if group.waiting:
                self._queue(group)
            if group.later:
                key = number - _BEFORE_ALL if is_planned else -group.later // group.allowed
                heappush(self._later, _entry(key, index))
            if number % step == 0:
                yield

    def begin_main(self) -> None:
        """Have all groups wait to be opened for what is not a canary."""
        self._is_main = True
        self._fresh, self._later = self._later, []

    def may_open(self) -> bool:
        """Return whether one more group may be opened."""
        return bool(self._fresh) and (self._max_groups is None or self._opened < self._max_groups)

    def open_for(self, wanted: int) -> None:
        """Open groups until so many servers may go."""
        while self.can_go < wanted and self.may_open():
            self._open_next()

    def unqueue(self, opens: Callable[[int], object], step: int) -> Iterator[None]:
        """Have groups wait no longer to be opened: each is opened by `open`, whatever its place in the order is.

        Args:
            opens: Returns whether the group of an index is one of them.
            step: How many groups there are between two yields.
        """
        waiting, self._fresh = self._fresh, []
        while waiting:
            entry = waiting.pop()
            if not opens(entry & _INDEX_MASK):
                heappush(self._fresh, entry)
            if len(waiting) % step == 0:
                yield

    def dismantle(self, step: int) -> Iterator[None]:
        """Forget all groups, so many at each step."""
        for entries in (self.groups, self._fresh, self._later, self._ready):
            while entries:
                del entries[-step:]
                yield

    def choose(self, count: int) -> tuple[Group, int]:
        """Return the group that goes first, and how many of it go before another has more rounds left.

        Args:
            count: How many servers are to go; that many may.
        """
        ready, fresh = self._ready, self._fresh
        while True:
            while fresh and self._may_open_all() and self._next_fresh() < ready[0]:
                self._open_next()
            entry = heappop(ready)
            group = self.groups[entry & _INDEX_MASK]
            if group.entry == entry:
                group.entry = 0
                if group.can_go:
                    break
        number = min(group.can_go, count)
        if number == 1 or count >= self.can_go:
            return group, number
        rival = ready[0] if ready else 0
        if fresh and self._may_open_all():
            rival = min(rival, self._next_fresh())
        # With as many rounds left as the other has, the one that was added first goes first.
        rounds = -(rival >> _INDEX_BITS) - (group.index < rival & _INDEX_MASK)
        return group, min(number, max(1, group.waiting - rounds * (group.allowed - group.lost)))

    def refresh(self, group: Group) -> None:
        """Bring everything up to date after a change of a group."""
        waiting, held, lost, allowed = group.waiting, group.held, group.lost, group.allowed
        can_go = could_go = 0
        hopes = False
        if group.state is _OPEN:
            if lost >= allowed or (not waiting and held == lost):
                self._close(group)
            elif waiting:
                # None where more are held than allowed: a planner that resumes has the settled ones settle again.
                room = max(0, allowed - held)
                total = allowed - lost
                if room:
                    entry = (-waiting // total << _INDEX_BITS) + group.index
                    if entry != group.entry:
                        group.entry = entry
                        heappush(self._ready, entry)
                hopes = waiting > room and held > lost
                can_go = min(waiting, room)
                could_go = min(waiting, total)
        if can_go != group.can_go:
            self.can_go += can_go - group.can_go
            group.can_go = can_go
        if could_go != group.could_go:
            self.could_go += could_go - group.could_go
            group.could_go = could_go
        if hopes is not group.hopes:
            self.hoping += 1 if hopes else -1
            group.hopes = hopes

    def touch(self, group: Group) -> None:
        """Note that servers of a group were taken."""
        if not group.touched:
            group.touched = True
            self.touched += 1

    def leave(self, group: Group) -> None:
        """Note that a group is not touched any more."""
        if group.touched:
            group.touched = False
            self.touched -= 1

    def unblock(self, group: Group) -> None:
        """Have a group that was blocked wait to be opened again, if servers of it wait: one has recovered."""
        if group.state is not GroupState.BLOCKED:
            return
        self.blocked -= 1
        if group.waiting:
            self._queue(group)
        else:
            group.state = GroupState.DONE
            self.done += 1

    def next_blocked(self) -> Group | None:
        """Return a blocked group of which servers wait, None if there is none."""
        while self._blocked_now:
            group = self._blocked_now[0]
            if group.state is GroupState.BLOCKED and group.waiting:
                return group
            self._blocked_now.popleft()
        return None

    def blocked_names(self) -> Iterator[str]:
        """Iterate over the names of the blocked groups; one that was blocked twice may come twice."""
        return (group.name for group in self._blocked_ever if group.state is GroupState.BLOCKED)

    def _may_open_all(self) -> bool:
        """Return whether all groups may be open at once from now on.

        Only then do those take turns that are not open yet. Else a group that is opened before it is needed slows down
        those that are open, and it is their ends that others wait for.
        """
        return self._max_groups is None or len(self._fresh) + self._opened <= self._max_groups

    def _queue(self, group: Group) -> None:
        group.state = GroupState.UNTOUCHED
        heappush(self._fresh, _entry(-group.waiting // (group.allowed - group.lost), group.index))

    def _next_fresh(self) -> int:
        """Return what will stand for the next group to be opened among those of which some may go."""
        entry = self._fresh[0]
        if entry >> _INDEX_BITS > _LAST_PLANNED:
            return entry
        group = self.groups[entry & _INDEX_MASK]
        return _entry(-group.later // group.allowed, group.index)

    def _open_next(self) -> None:
        self.open(self.groups[heappop(self._fresh) & _INDEX_MASK])

    def open(self, group: Group) -> None:
        """Open a group that does not wait for that any more."""
        if self._is_main:
            group.waiting += group.later
            group.later = 0
        group.state = _OPEN
        self._opened += 1
        self.refresh(group)

    def _close(self, group: Group) -> None:
        self._opened -= 1
        self.leave(group)
        if group.waiting:
            group.state = GroupState.BLOCKED
            self.blocked += 1
            self._blocked_now.append(group)
            self._blocked_ever.append(group)
        else:
            group.state = GroupState.DONE
            self.done += not group.later


_OPEN: Final = GroupState.OPEN


def _entry(key: int, index: int) -> int:
    """Return what stands for a group in a heap: an int, which the collector does not read.

    Args:
        key: The negative of how many rounds it has left, so that those with the most come first.
        index: Which group it is, which decides where rounds are equal.
    """
    return (key << _INDEX_BITS) + index
