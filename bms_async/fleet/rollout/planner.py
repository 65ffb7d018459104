"""Which servers of a rollout go when, and which go in one call: pure, without a clock or I/O.

Guaranteed: never are more servers of a group unavailable than allowed, from the moment that they are taken until they
have ended well and have settled; canaries go alone and first; no more groups are touched at once and no more servers
are under way than allowed; and every server is taken in the end, or its group is blocked, or a canary is not well.

How: a room is taken in the books of the group before a server is handed out, and is given back by its end alone. Of the
groups of which some may go now, that with the most rounds left goes first, since it is the longest of them that
dictates the end. Whatever happens costs the groups that it concerns, and no call looks at all of them.

A call carries 1000 servers and is scarce, so a small batch waits a little for more to join it: a hundredth of the time
that a server is unavailable, and so a hundredth of the whole plan at most.

Rejected: waves, each of which begins when the last server of the one before has ended. They make a slow server of one
group everybody's business. And a list or a deque a group, which the garbage collector reads from end to end.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from typing import Final

from bms_async.fleet.sharded import Table
from bms_async.validation.aborting import find_wave
from bms_async.validation.common import MAX_BATCH_SIZE

from .books import Books
from .packing import LINGER, WORTH_A_CALL, Packing
from .progress import RolloutProgress
from .room import Asked, Group, Settling, allowed_of
from .standing import RolloutPhase, WaitReason

_STEP: Final = 2000
"""How many rooms become free in one call at most, and how many groups are sealed in one step: some milliseconds."""

_SLACK: Final = 0.05
"""Seconds that a room may wait for others that become free, so that not each of them wakes the run up."""


class RolloutPlanner(RolloutProgress):
    """Says which servers may go.

    All times are seconds of any clock that does not go back.

    Args:
        canary: How many servers go first, and alone.
        max_unavailable: How many servers of a group may be unavailable at once; a float is a share of the group,
            rounded down, but one server at least. None for no bound.
        max_groups: How many groups may be touched at once, None for no bound.
        settle: Seconds from the end of a server until its room is free.
        max_in_flight: How many servers may be under way at once. None: by `abort_above` and how many there are.
        abort_above: The share of failures above which the run is aborted, None for never.
        packs: Whether many servers go in one call, so that a small batch waits for more.

    Attributes:
        wave_size: How many servers may be under way at once, None for no bound; final once all were added.
    """

    def __init__(
        self,
        *,
        canary: int = 0,
        max_unavailable: float | None = None,
        max_groups: int | None = None,
        settle: float = 0.0,
        max_in_flight: int | None = None,
        abort_above: float | None = None,
        packs: bool = True,
    ) -> None:
        super().__init__(Books(max_groups), Settling(settle), RolloutPhase.CANARY if canary else RolloutPhase.MAIN)
        # The share as it is written: 0.29 of 100 are 29, and not the 28 that the float's own value gives.
        self._max_unavailable = (
            Fraction(repr(max_unavailable)) if isinstance(max_unavailable, float) else max_unavailable
        )
        self._abort_above = abort_above
        self.wave_size = max_in_flight
        self._max_in_flight = sys.maxsize
        self._settle = settle
        self._canary = canary
        self._canaries_left = 0
        self._main_at: float | None = None
        self._asked: Table[Asked] = Table()
        self._packing = Packing()
        self._packs = packs
        self._is_leaving = False
        self._leave_from = 0

    def add(self, server_id: str, group: str = "") -> None:
        """Add a server, in the order in which they may go; all must be added before `seal`."""
        books = self._chains.add(server_id, group, self._books.groups)
        # As many as wait in the first phase.
        if len(self._chains) <= self._canary:
            books.waiting += 1

    def seal(self) -> None:
        """Note that all servers were added, and compute what is allowed of each group."""
        for _ in self.sealing():
            pass

    def sealing(self) -> Iterator[None]:
        """Do what `seal` does, in steps of some milliseconds."""
        self.waiting = len(self._chains)
        self.wave_size = find_wave(self.wave_size, self._abort_above, self.waiting)
        self._max_in_flight = sys.maxsize if self.wave_size is None else self.wave_size
        self._canaries_left = min(self._canary, self.waiting)
        for number, group in enumerate(self._books.groups, 1):
            group.allowed = allowed_of(group.size, self._max_unavailable)
            group.later = group.size - group.waiting
            if number % _STEP == 0:
                yield
        yield from self._books.fill(_STEP)
        if not self._canaries_left:
            self._begin_main()
        self._sealed = True

    def resuming(self, was_taken: Callable[[str], bool], now: float) -> Iterator[None]:
        """Take all servers that an earlier planner of the same servers has taken, in steps of some milliseconds.

        Whatever ended since is noted by `end` afterwards.

        Args:
            was_taken: Returns whether a server was taken, or has left as one of a blocked group.
            now: Seconds.
        """
        groups = self._books.groups
        # Arrays by the index of the group: a list of a million tuples the collector reads from end to end.
        numbers, is_touched = array("I", bytes(4 * len(groups))), bytearray(len(groups))
        is_past_canaries = yield from self._count_taken(was_taken, numbers)
        if is_past_canaries:
            # The rest would not have gone if a canary had not been well.
            self._canaries_left = 0
            self._begin_main()
        for group, number in zip(groups, numbers, strict=True):
            # Of the groups that only canaries were taken of, the rest is untouched.
            is_touched[group.index] = number > 0 and not (is_past_canaries and number <= group.waiting and group.later)
            if group.index % _STEP == 0:
                yield
        yield from self._books.unqueue(is_touched.__getitem__, _STEP)
        since = 0
        for group, number in zip(groups, numbers, strict=True):
            yield from self._take_again(group, number, now)
            if is_touched[group.index]:
                self._books.touch(group)
                # Only now: else it would have a place in the order by what it had before.
                self._books.open(group)
            if self._leave_from == group.index and not group.waiting + group.later:
                self._leave_from += 1
            since += number + 1
            if since >= _STEP:
                since = 0
                yield

    def _count_taken(self, was_taken: Callable[[str], bool], numbers: array[int]) -> Generator[None, None, bool]:
        """Count how many of each group were taken, and return whether some that are no canaries were."""
        looked, is_past_canaries = 0, False
        for group in self._books.groups:
            number = 0
            for server_id in self._chains.from_first(group):
                looked += 1
                if looked % _STEP == 0:
                    yield
                if not was_taken(server_id):
                    break
                number += 1
            numbers[group.index] = number
            is_past_canaries = is_past_canaries or number > group.waiting
        return is_past_canaries and self.phase is RolloutPhase.CANARY

    def _take_again(self, group: Group, number: int, now: float) -> Iterator[None]:
        """Take so many of a group, in steps."""
        asked = Asked(group, now)
        while number:
            servers = self._chains.pop(group, min(_STEP, number))
            for server_id in servers:
                self._asked[server_id] = asked
            count = len(servers)
            group.under_way += count
            group.held += count
            self.waiting -= count
            self.under_way += count
            self.unavailable += count
            number -= count
            if number:
                yield

    def dismantling(self) -> Iterator[None]:
        """Forget all servers, in steps of some milliseconds: nothing may be asked of it any more."""
        yield from self._asked.dismantle()
        yield from self._chains.dismantle()
        yield from self._books.dismantle(_STEP)

    def take(self, now: float, max_count: int = MAX_BATCH_SIZE) -> tuple[str, ...]:
        """Remove the servers that go now, in one call, and return them; none if nothing may go yet, or should wait.

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
        books, asked_of = self._books, self._asked.shard_of
        while count:
            group, number = books.choose(count)
            count -= number
            asked = Asked(group, now)
            for server_id in self._chains.pop(group, number):
                asked_of(server_id)[server_id] = asked
                taken.append(server_id)
            group.under_way += number
            group.held += number
            books.touch(group)
            books.refresh(group)
        self.waiting -= len(taken)
        self.under_way += len(taken)
        self.unavailable += len(taken)
        if not self._count(MAX_BATCH_SIZE):
            self._packing.due = None
        return tuple(taken)

    def count(self, now: float, max_count: int = MAX_BATCH_SIZE) -> int:
        """Return how many servers may go now, also if they should wait for more; at most so many."""
        self._advance(now)
        return self._count(max_count)

    def put_back(self, server_ids: Iterable[str], now: float) -> None:
        """Note that servers were not sent after all: they are available again, and the first of their groups.

        Args:
            server_ids: Servers that were taken, in that order.
            now: Seconds.
        """
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
            if not group.held and group.waiting + group.later == group.size:
                self._books.leave(group)
            self._leave_from = min(self._leave_from, group.index)
            self._books.refresh(group)
        self._note_room(now)

    def end(self, server_id: str, now: float, *, well: bool, available: bool) -> None:
        """Note the outcome of a server; for one that is not under way, nothing changes.

        Args:
            server_id: A server that was taken.
            now: Seconds.
            well: Whether it is as asked, and ready: its room is free when it has settled.
            available: False if it is unavailable for good; if it is neither that nor well, its room is free at once.
        """
        asked = self._asked.shard_of(server_id).pop(server_id, None)
        if asked is None:
            return
        group = asked.group
        group.under_way -= 1
        self.under_way -= 1
        # One that ended before this planner resumed says nothing of how long that takes.
        if well and now > asked.since:
            self._packing.note_end(group, now - asked.since + self._settle)
        if not available:
            self._note_lost(server_id, group)
        else:
            self._free(group, now, settles=well)
        if self.phase is RolloutPhase.CANARY:
            self._end_canary(server_id, now, well=well)
        self._books.refresh(group)
        self._note_room(now, group)

    def recover(self, server_id: str, now: float) -> None:
        """Note that a server which was unavailable for good is well after all; its room is free when it has settled."""
        group = self._pop_lost(server_id)
        if group is None:
            return
        self._free(group, now, settles=True)
        self._books.unblock(group)
        self._books.refresh(group)
        self._note_room(now, group)

    def next_time(self, now: float) -> float | None:
        """Return when `take` may return more as time passes; None if only an event can help."""
        self._advance(now)
        if self.canary_failure is not None or self._is_leaving or not self.waiting:
            return None
        if self._main_at is not None:
            return max(now, self._main_at)
        times = []
        if count := self._count(MAX_BATCH_SIZE):
            if self._is_worth_it(count, MAX_BATCH_SIZE, now):
                return now
            if self._packing.due is not None:
                times.append(self._packing.due)
        if self._books.hoping or self._books.has_untouched:
            due = self._settling.next_due(min(_SLACK, self._settle * LINGER))
            if due is not None:
                times.append(due)
        return max(now, min(times)) if times else None

    def pop_blocked(self, max_count: int) -> list[tuple[str, str]]:
        """Remove servers that can never go, since all that is allowed of their group is unavailable for good.

        Args:
            max_count: How many at most.

        Returns:
            Each server, and its group. None after a canary was not well: what is left is then left for that reason.
        """
        popped: list[tuple[str, str]] = []
        while self.canary_failure is None and len(popped) < max_count and (group := self._books.next_blocked()):
            number = min(group.waiting, max_count - len(popped))
            popped += [(server_id, group.name) for server_id in self._chains.pop(group, number)]
        self.waiting -= len(popped)
        return popped

    def pop_waiting(self, max_count: int) -> tuple[str, ...]:
        """Remove servers that wait, which are not to be taken any more, and return them; none is taken from then on.

        Args:
            max_count: How many at most.
        """
        if not self._sealed:
            return ()
        self._is_leaving = True
        popped: list[str] = []
        groups = self._books.groups
        for index in range(self._leave_from, len(groups)):
            if len(popped) == max_count:
                break
            group = groups[index]
            group.waiting, group.later = group.waiting + group.later, 0
            if group.waiting:
                popped += self._chains.pop(group, min(group.waiting, max_count - len(popped)))
            # What is left of it is popped next time.
            self._leave_from = index
        self.waiting -= len(popped)
        return tuple(popped)

    def _reason(self, now: float) -> WaitReason | None:
        if self.canary_failure is not None:
            return WaitReason.CANARY_FAILED
        if not self.waiting:
            return WaitReason.LAST if self.under_way else None
        if count := self._count(MAX_BATCH_SIZE):
            return None if self._is_worth_it(count, MAX_BATCH_SIZE, now) else WaitReason.PACKING
        is_blocked = not (self._books.hoping or self._books.has_untouched)
        reasons = {
            WaitReason.CANARIES_SETTLE: self._main_at is not None,
            WaitReason.IN_FLIGHT: self.under_way >= self._max_in_flight,
            WaitReason.CANARIES: self.phase is RolloutPhase.CANARY,
            WaitReason.BLOCKED: is_blocked,
            WaitReason.GROUPS: self._books.has_untouched,
            WaitReason.SETTLE: not self.under_way,
        }
        return next((reason for reason, holds in reasons.items() if holds), WaitReason.ROOM)

    def _free(self, group: Group, now: float, *, settles: bool) -> None:
        if settles and self._settle > 0:
            self._settling.add(group.index, now)
        else:
            group.held -= 1
            self.unavailable -= 1

    def _advance(self, now: float) -> None:
        """Free the rooms that have settled, and let the rest go when the canaries have."""
        if len(self._settling):
            for due, index in self._settling.pop_due(now, _STEP):
                group = self._books.groups[index]
                group.held -= 1
                self.unavailable -= 1
                self._books.refresh(group)
                self._note_room(due, group)
        if self._main_at is not None and now >= self._main_at and not len(self._settling):
            self._begin_main()
            self._note_room(now)

    def _begin_main(self) -> None:
        self.phase = RolloutPhase.MAIN
        self._main_at = None
        self._books.begin_main()

    def _end_canary(self, server_id: str, now: float, *, well: bool) -> None:
        if well:
            self._canaries_left -= 1
            if not self._canaries_left:
                self._main_at = now + self._settle
        elif self.canary_failure is None:
            self.canary_failure = server_id

    def _count(self, max_count: int) -> int:
        """Return how many servers may go now; opens as many groups as that needs."""
        if not self._sealed or self._is_leaving or self.canary_failure is not None:
            return 0
        wanted = min(max_count, self._max_in_flight - self.under_way)
        if self._books.can_go < wanted:
            self._books.open_for(wanted)
        return max(0, min(self._books.can_go, wanted))

    def _is_worth_it(self, count: int, max_count: int, now: float) -> bool:
        """Return whether to send as many as may go now, rather than to wait for more."""
        books = self._books
        if not self._packs or count >= max_count or not (self.under_way or len(self._settling)):
            return True
        if not (books.hoping or books.has_untouched or count < books.can_go):
            return True
        if self._packing.due is None:
            self._packing.note_room(now)
        if count * WORTH_A_CALL >= min(books.could_go, max_count, self._max_in_flight):
            self._packing.hurry()
        return self._packing.due is None or now >= self._packing.due

    def _note_room(self, now: float, group: Group | None = None) -> None:
        """Note that servers may go from now on: of the group that something has become of, or of an untouched one."""
        if self.under_way >= self._max_in_flight:
            return
        if group is not None and group.can_go:
            self._packing.note_room(now, group)
        elif self._packing.due is None and (self._books.can_go or self._books.may_open()):
            self._packing.note_room(now)
