"""Which servers of a rollout go when, and which go in one call: pure, without a clock or I/O.

Guaranteed: never are more servers of a group unavailable than allowed, from the moment that they are taken until they
have ended well and have settled; canaries go alone and first; no more groups are touched at once and no more servers
are under way than allowed; and every server is taken in the end, or its group is blocked, or a canary is not well.

How: each group has books of its own, and a room is taken in them before a server is handed out. A heap has the groups
of which some may go now, that with the most rounds left first, since it is the longest of them that dictates the end.
A second heap has the groups that no server was taken of; they are opened one by one, as they are needed. So whatever
happens costs the groups that it concerns, and no call looks at all of them.

A call carries 1000 servers and is scarce, so a small batch waits a little for more to join it: a hundredth of the time
that a server is unavailable, which is a hundredth of the whole plan at most.

The servers that wait are one chain of numbers a group, in one array, and their ids are where the garbage collector does
not look. Rejected: a list or a deque a group, which it would read from end to end (see `sharded`).
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final

from bms_async.validation.common import MAX_BATCH_SIZE

from ..sharded import Pieces, Table
from .room import Asked, Group, GroupState, Settling
from .standing import GroupStanding, Phase, Reason, Standing

LINGER: Final = 0.01
"""For which part of the time that a server is unavailable a small batch waits for more."""

MIN_LINGER: Final = 0.5
"""Seconds that a small batch waits at least: the ends of one job come one after the other."""

MAX_LINGER: Final = 5.0
"""Seconds that it waits at most: that makes 12 small batches a minute."""

WORTH_A_CALL: Final = 4
"""A batch does not wait if it is this part of the largest that may ever be: a quarter."""

MAX_NAMED: Final = 20
"""How many servers and groups a standing names."""

_STEP: Final = 2000
"""How many rooms become free in one call at most, and how many groups are sealed in one step: some milliseconds."""

_SLACK: Final = 0.05
"""Seconds that a room may wait for others that become free, so that not each of them wakes the run up."""

_INDEX_BITS: Final = 32
_INDEX_MASK: Final = (1 << _INDEX_BITS) - 1


class RolloutPlanner:
    """Says which servers may go.

    All times are seconds of any clock that does not go back.

    Args:
        canary: How many servers go first, and alone.
        max_unavailable: How many servers of a group may be unavailable at once; a float is a share of the group,
            rounded down, but one server at least. None for no bound.
        max_groups: How many groups may be touched at once, None for no bound.
        settle: Seconds from the end of a server until its room is free.
        max_in_flight: How many servers may be under way at once, None for no bound.
        packs: Whether many servers go in one call, so that a small batch waits for more.

    Attributes:
        canary_failure: The first canary that ended not well: nothing is taken from then on. None as long as all are.
        waiting: How many servers have not been taken.
        under_way: How many are taken and have not ended.
        unavailable: How many are unavailable: under way, settling, or for good.
        lost: How many are unavailable for good.
        groups_done: How many groups are done.
        groups_touched: How many are touched, and neither done nor blocked.
        groups_blocked: How many are blocked.
    """

    __slots__ = (
        "_asked",
        "_blocked",
        "_blocked_groups",
        "_can_go",
        "_canaries_left",
        "_canary",
        "_canary_groups",
        "_could_go",
        "_ended",
        "_free_since",
        "_fresh",
        "_fresh_later",
        "_groups",
        "_hoping",
        "_ids",
        "_last",
        "_leaving",
        "_lost",
        "_lost_ids",
        "_main_at",
        "_max_groups",
        "_max_in_flight",
        "_max_unavailable",
        "_next",
        "_opened",
        "_packs",
        "_phase",
        "_ready",
        "_sealed",
        "_settle",
        "_settling",
        "_table",
        "_time_away",
        "canary_failure",
        "groups_blocked",
        "groups_done",
        "groups_touched",
        "lost",
        "unavailable",
        "under_way",
        "waiting",
    )  # fmt: skip

    def __init__(
        self,
        *,
        canary: int = 0,
        max_unavailable: float | None = None,
        max_groups: int | None = None,
        settle: float = 0.0,
        max_in_flight: int | None = None,
        packs: bool = True,
    ) -> None:
        self._canary = canary
        # As it is written: 0.29 of 100 are 29, and not the 28 that the float's own value gives.
        self._max_unavailable = (
            Fraction(repr(max_unavailable)) if isinstance(max_unavailable, float) else max_unavailable
        )
        self._max_groups = max_groups
        self._settle = settle
        self._max_in_flight = max_in_flight
        self._packs = packs

        self._ids: Pieces[str] = Pieces()
        self._next = array("I")
        self._table: Table[Group] = Table()
        self._groups: Pieces[Group] = Pieces()
        self._last: Group | None = None
        self._canary_groups: list[Group] = []
        self._leaving: Iterator[str] | None = None
        self._sealed = False

        self._phase = Phase.CANARY if canary else Phase.MAIN
        self._canaries_left = 0
        self._main_at: float | None = None
        self._fresh: list[int] = []
        self._fresh_later: list[int] = []
        self._ready: list[int] = []
        self._opened = 0
        self._blocked: deque[Group] = deque()
        self._blocked_groups: Pieces[Group] = Pieces()

        self._asked: Table[Asked] = Table()
        self._lost: Table[Group] = Table()
        self._lost_ids: Pieces[str] = Pieces()
        self._settling = Settling(settle)
        self._can_go = self._could_go = self._hoping = 0
        self._free_since: float | None = None
        self._ended, self._time_away = 0, 0.0

        self.canary_failure: str | None = None
        self.waiting = self.under_way = self.unavailable = self.lost = 0
        self.groups_done = self.groups_touched = self.groups_blocked = 0

    def add(self, server_id: str, group: str = "") -> None:
        """Add a server, in the order in which they may go; all must be added before `seal`."""
        index = len(self._next)
        books = self._last
        if books is None or books.name != group:
            shard = self._table.shard_of(group)
            books = shard.get(group)
            if books is None:
                books = shard[group] = Group(group, len(self._groups), index, index)
                self._groups.append(books)
            self._last = books
        if books.size:
            self._next[books.last] = index
            books.last = index
        books.size += 1
        if index < self._canary:
            if not books.canaries:
                self._canary_groups.append(books)
            books.canaries += 1
        self._next.append(0)
        self._ids.append(server_id)

    def seal(self) -> None:
        """Note that all servers were added, and compute what is allowed of each group."""
        for _ in self.sealing():
            pass

    def sealing(self) -> Iterator[None]:
        """Do what `seal` does in steps of some milliseconds."""
        self.waiting = len(self._next)
        self._canaries_left = min(self._canary, self.waiting)
        if not self.waiting:
            self._phase = Phase.MAIN
        entries: list[int] = []
        for number, group in enumerate(self._groups, 1):
            group.allowed = self._allowed_of(group.size)
            if group.canaries:
                group.waiting, group.later = group.canaries, group.size - group.canaries
            else:
                group.waiting = group.size
            if left := group.later if group.canaries else group.size:
                entries.append(_entry(-left // group.allowed, group.index))
            if number % _STEP == 0:
                yield
        heapify(entries)
        yield
        if self._phase is Phase.CANARY:
            self._fresh_later = entries
            self._fresh = [_entry(-group.waiting // group.allowed, group.index) for group in self._canary_groups]
            heapify(self._fresh)
        else:
            self._fresh = entries
        self._last = None
        self._sealed = True

    def take(self, now: float, max_count: int = MAX_BATCH_SIZE) -> tuple[str, ...]:
        """Remove the servers that go now, in one call, and return them; none if nothing may go yet, or it should wait.

        They are unavailable from now on.

        Args:
            now: Seconds.
            max_count: How many servers at most.
        """
        self._advance(now)
        count = self._count(max_count)
        if not count or not self._is_worth_it(count, max_count, now):
            return ()
        taken: list[str] = []
        while count:
            group, number = self._choose(count)
            count -= number
            asked = Asked(group, now)
            for server_id in self._pop(group, number):
                self._asked.shard_of(server_id)[server_id] = asked
                taken.append(server_id)
            group.under_way += number
            group.held += number
            if not group.touched:
                group.touched = True
                self.groups_touched += 1
            self._refresh(group)
        self.waiting -= len(taken)
        self.under_way += len(taken)
        self.unavailable += len(taken)
        if not self._count(MAX_BATCH_SIZE):
            self._free_since = None
        return tuple(taken)

    def put_back(self, server_ids: Iterable[str], now: float) -> None:
        """Note that servers were not sent after all: they are available again, and the first of their groups.

        Args:
            server_ids: Servers that were taken, in that order.
            now: Seconds.
        """
        self._advance(now)
        for server_id in reversed(tuple(server_ids)):
            asked = self._asked.shard_of(server_id).pop(server_id, None)
            if asked is None:
                continue
            group = asked.group
            if group.front is None:
                group.front = []
            group.front.append(server_id)
            group.waiting += 1
            group.under_way -= 1
            group.held -= 1
            self.waiting += 1
            self.under_way -= 1
            self.unavailable -= 1
            if not group.held and group.waiting + group.later == group.size and group.touched:
                group.touched = False
                self.groups_touched -= 1
            self._refresh(group)
        self._note_room(now)

    def end(self, server_id: str, now: float, *, well: bool, available: bool) -> None:
        """Note the outcome of a server; for one that is not under way, nothing changes.

        Args:
            server_id: A server that was taken.
            now: Seconds.
            well: Whether it is as asked, and ready: its room is free when it has settled.
            available: False if it is unavailable for good. Whether it is, if it is not well: its room is free at once.
        """
        asked = self._asked.shard_of(server_id).pop(server_id, None)
        if asked is None:
            return
        group = asked.group
        group.under_way -= 1
        self.under_way -= 1
        if well:
            self._ended += 1
            self._time_away += now - asked.since + self._settle
        if not available:
            group.lost += 1
            self.lost += 1
            self._lost[server_id] = group
            self._lost_ids.append(server_id)
        elif well and self._settle > 0:
            self._settling.add(group.index, now)
        else:
            group.held -= 1
            self.unavailable -= 1
        if self._phase is Phase.CANARY:
            self._end_canary(server_id, now, well=well)
        self._refresh(group)
        self._note_room(now)

    def recover(self, server_id: str, now: float) -> None:
        """Note that a server which was unavailable for good is well after all; its room is free when it has settled."""
        group = self._lost.shard_of(server_id).pop(server_id, None)
        if group is None:
            return
        group.lost -= 1
        self.lost -= 1
        if self._settle > 0:
            self._settling.add(group.index, now)
        else:
            group.held -= 1
            self.unavailable -= 1
        if group.state is GroupState.BLOCKED:
            self.groups_blocked -= 1
            if group.waiting:
                group.state = GroupState.UNTOUCHED
                heappush(self._fresh, _entry(-group.waiting // (group.allowed - group.lost), group.index))
            else:
                group.state = GroupState.DONE
                self.groups_done += 1
        self._refresh(group)
        self._note_room(now)

    def next_time(self, now: float) -> float | None:
        """Return when `take` may return more as time passes; None if only an event can help."""
        self._advance(now)
        if self.canary_failure is not None or not self.waiting:
            return None
        if self._main_at is not None:
            return max(now, self._main_at)
        times = []
        if count := self._count(MAX_BATCH_SIZE):
            if self._is_worth_it(count, MAX_BATCH_SIZE, now):
                return now
            if self._free_since is not None:
                times.append(self._free_since + self._linger())
        if self._hoping or self._fresh:
            due = self._settling.next_due(min(_SLACK, self._settle * LINGER))
            if due is not None:
                times.append(due)
        return max(now, min(times)) if times else None

    def pop_blocked(self, max_count: int) -> list[tuple[str, str]]:
        """Remove servers that can never go, since all that is allowed of their group is unavailable for good.

        Args:
            max_count: How many at most.

        Returns:
            Each server, and its group.
        """
        popped: list[tuple[str, str]] = []
        while self._blocked and len(popped) < max_count and self.canary_failure is None:
            group = self._blocked[0]
            if group.state is GroupState.BLOCKED and group.waiting:
                popped += [
                    (server_id, group.name)
                    for server_id in self._pop(group, min(group.waiting, max_count - len(popped)))
                ]
            else:
                self._blocked.popleft()
        self.waiting -= len(popped)
        return popped

    def pop_waiting(self, max_count: int) -> tuple[str, ...]:
        """Remove servers that wait, which are not to be taken any more, and return them; none is taken from then on.

        Args:
            max_count: How many at most.
        """
        if not self._sealed:
            return ()
        if self._leaving is None:
            self._leaving = self._leave()
        popped = tuple(islice(self._leaving, max_count))
        self.waiting -= len(popped)
        return popped

    def _leave(self) -> Iterator[str]:
        for group in self._groups:
            group.waiting, group.later = group.waiting + group.later, 0
            yield from self._pop(group, group.waiting)

    def lost_of(self, group: str) -> tuple[str, ...]:
        """Return the first servers of a group that are unavailable for good."""
        lost = (
            server_id for server_id in self._lost_ids if (books := self._lost.get(server_id)) and books.name == group
        )
        return tuple(islice(lost, MAX_NAMED))

    @property
    def phase(self) -> Phase:
        """Whether canaries may go, or the rest."""
        return self._phase

    @property
    def is_over(self) -> bool:
        """Whether no server is under way, and none will ever be taken."""
        return self._sealed and not self.under_way and (not self.waiting or self.canary_failure is not None)

    def groups(self) -> Iterator[str]:
        """Iterate over the groups, in the order in which they were added."""
        return (group.name for group in self._groups)

    def allowed_of(self, group: str) -> int:
        """Return how many servers of a group may be unavailable at once; 0 for an unknown group."""
        books = self._table.get(group)
        return books.allowed if books is not None else 0

    def unavailable_of(self, group: str) -> int:
        """Return how many servers of a group are unavailable: under way, settling, or for good."""
        books = self._table.get(group)
        return books.held if books is not None else 0

    def standing_of(self, group: str) -> GroupStanding | None:
        """Return how far a group is; None for an unknown group."""
        books = self._table.get(group)
        return (
            None
            if books is None
            else GroupStanding(
                name=books.name,
                size=books.size,
                allowed=books.allowed,
                waiting=books.waiting + books.later,
                under_way=books.under_way,
                unavailable=books.held,
                lost=books.lost,
                touched=books.touched,
                done=books.state is GroupState.DONE and not books.later,
                blocked=books.state is GroupState.BLOCKED,
            )
        )

    def standing(self, now: float) -> Standing:
        """Return how far all is."""
        self._advance(now)
        blocked = (group.name for group in self._blocked_groups if group.state is GroupState.BLOCKED)
        lost = (server_id for server_id in self._lost_ids if server_id in self._lost)
        return Standing(
            phase=self._phase,
            waiting=self.waiting,
            under_way=self.under_way,
            settling=len(self._settling),
            lost=self.lost,
            lost_servers=tuple(islice(lost, min(self.lost, MAX_NAMED))),
            groups=len(self._groups),
            groups_touched=self.groups_touched,
            groups_done=self.groups_done,
            groups_blocked=self.groups_blocked,
            blocked_groups=tuple(islice(dict.fromkeys(blocked), MAX_NAMED)),
            canary_failure=self.canary_failure,
            reason=self._reason(now),
        )

    def _reason(self, now: float) -> Reason | None:
        if self.canary_failure is not None:
            return Reason.CANARY_FAILED
        if self._main_at is not None:
            return Reason.CANARIES_SETTLE if self.waiting else None
        if not self.waiting:
            return Reason.LAST if self.under_way else None
        if self._flight_room() <= 0:
            return Reason.IN_FLIGHT
        if count := self._count(MAX_BATCH_SIZE):
            return None if self._is_worth_it(count, MAX_BATCH_SIZE, now) else Reason.PACKING
        if self._phase is Phase.CANARY:
            return Reason.CANARIES
        if self._fresh:
            return Reason.GROUPS
        if self._hoping:
            return Reason.ROOM if self.under_way or not len(self._settling) else Reason.SETTLE
        return Reason.BLOCKED

    def _allowed_of(self, size: int) -> int:
        allowed = self._max_unavailable
        if allowed is None:
            return size
        if isinstance(allowed, Fraction):
            return max(1, size * allowed.numerator // allowed.denominator)
        return int(allowed)

    def _pop(self, group: Group, count: int) -> Iterator[str]:
        group.waiting -= count
        while group.front and count:
            count -= 1
            yield group.front.pop()
        if count:
            index = group.first
            for _ in range(count):
                yield self._ids[index]
                index = self._next[index]
            group.first = index

    def _advance(self, now: float) -> None:
        """Free the rooms that have settled, and let the rest go when the canaries have."""
        if len(self._settling):
            for due, index in self._settling.pop_due(now, _STEP):
                group = self._groups[index]
                group.held -= 1
                self.unavailable -= 1
                self._refresh(group)
                self._note_room(due)
        if self._main_at is not None and now >= self._main_at and not len(self._settling):
            self._main_at = None
            self._phase = Phase.MAIN
            self._fresh, self._fresh_later = self._fresh_later, []
            for group in self._canary_groups:
                group.waiting, group.later = group.later, 0
                if group.waiting:
                    group.state = GroupState.UNTOUCHED
            self._canary_groups.clear()
            self._note_room(now)

    def _end_canary(self, server_id: str, now: float, *, well: bool) -> None:
        if not well:
            if self.canary_failure is None:
                self.canary_failure = server_id
            return
        self._canaries_left -= 1
        if not self._canaries_left:
            self._main_at = now + self._settle

    def _flight_room(self) -> int:
        return sys.maxsize if self._max_in_flight is None else self._max_in_flight - self.under_way

    def _count(self, max_count: int) -> int:
        """Return how many servers may go now; opens as many groups as that needs."""
        if not self._sealed or self.canary_failure is not None:
            return 0
        wanted = min(max_count, self._flight_room())
        while self._can_go < wanted and self._may_open():
            self._open()
        return max(0, min(self._can_go, wanted))

    def _may_open(self) -> bool:
        return bool(self._fresh) and (self._max_groups is None or self._opened < self._max_groups)

    def _open(self) -> None:
        group = self._groups[heappop(self._fresh) & _INDEX_MASK]
        group.state = GroupState.OPEN
        self._opened += 1
        self._refresh(group)

    def _is_worth_it(self, count: int, max_count: int, now: float) -> bool:
        """Return whether to send as many as may go now, rather than to wait for more."""
        if not self._packs or count >= max_count or not (self.under_way or len(self._settling)):
            return True
        if not (self._hoping or self._fresh or count < self._can_go):
            return True
        largest = min(self._could_go, max_count)
        if self._max_in_flight is not None:
            largest = min(largest, self._max_in_flight)
        if count * WORTH_A_CALL >= largest:
            return True
        if self._free_since is None:
            self._free_since = now
        # The same sum as in `next_time`, so that a rounded time is never a little too early.
        return now >= self._free_since + self._linger()

    def _linger(self) -> float:
        mean = self._time_away / self._ended if self._ended else 0.0
        return min(MAX_LINGER, max(MIN_LINGER, mean * LINGER))

    def _note_room(self, now: float) -> None:
        if self._free_since is None and (self._can_go or self._may_open()) and self._flight_room() > 0:
            self._free_since = now

    def _choose(self, count: int) -> tuple[Group, int]:
        """Return the group that goes first, and how many of it go before another has more rounds left."""
        while True:
            while not self._ready or (self._fresh and self._fresh[0] < self._ready[0] and self._may_open()):
                self._open()
            entry = heappop(self._ready)
            group = self._groups[entry & _INDEX_MASK]
            if group.entry == entry and group.can_go:
                break
        group.entry = 0
        number = min(group.can_go, count)
        rival = self._ready[0] if self._ready else None
        if self._fresh and self._may_open() and (rival is None or self._fresh[0] < rival):
            rival = self._fresh[0]
        if rival is None or count >= self._can_go:
            return group, number
        # With as many rounds left as the other has, the one that was added first goes first.
        rounds = -(rival >> _INDEX_BITS) - (group.index < rival & _INDEX_MASK)
        return group, min(number, max(1, group.waiting - rounds * (group.allowed - group.lost)))

    def _refresh(self, group: Group) -> None:
        """Bring what is summed up over all groups up to date after a change of one of them."""
        waiting, held, lost = group.waiting, group.held, group.lost
        if group.state is GroupState.OPEN and (lost >= group.allowed or (not waiting and held == lost)):
            self._close(group)
        if group.state is GroupState.OPEN:
            room, total = group.allowed - held, group.allowed - lost
            can_go, could_go = min(room, waiting), min(total, waiting)
            hopes = waiting > room and held > lost
            if can_go:
                entry = _entry(-waiting // total, group.index)
                if entry != group.entry:
                    group.entry = entry
                    heappush(self._ready, entry)
        else:
            can_go, could_go, hopes = 0, 0, False
        self._can_go += can_go - group.can_go
        self._could_go += could_go - group.could_go
        self._hoping += hopes - group.hopes
        group.can_go, group.could_go, group.hopes = can_go, could_go, hopes

    def _close(self, group: Group) -> None:
        self._opened -= 1
        if group.touched:
            group.touched = False
            self.groups_touched -= 1
        if group.waiting:
            group.state = GroupState.BLOCKED
            self.groups_blocked += 1
            self._blocked.append(group)
            self._blocked_groups.append(group)
        else:
            group.state = GroupState.DONE
            self.groups_done += not group.later


def _entry(key: int, index: int) -> int:
    """Return what stands for a group in a heap: an int, which the collector does not read.

    Args:
        key: The negative of how many rounds it has left, so that those with the most come first.
        index: Which group it is; it is what decides where rounds are equal.
    """
    return (key << _INDEX_BITS) + index
