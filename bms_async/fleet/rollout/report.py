"""What a report says of a rollout: its groups, where each server belonged, and when nothing could begin. Pure.

A report keeps four bytes a server (R10): the group's number and two marks, in the order of the outcomes. Rejected: the
group as a field of each `Outcome`, which runs without a rollout would pay for; and a table of all servers by id.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, SupportsIndex, overload

import msgspec

from bms_async.fleet.frozen import FrozenDict
from bms_async.fleet.outcome import Outcome, OutcomeState
from bms_async.fleet.stored_failure import StoredFailure

from .window import Window

MAX_PAUSES: Final = 1000
"""How many pauses a report has at most; a run of weeks, or one that is paused all the time, has more."""

_CANARY: Final = 1
_LOST: Final = 2
_MARK_BITS: Final = 2


class Pause(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A time in which nothing could begin.

    Attributes:
        started: Its beginning.
        ended: Its end.
        reason: ``paused``, or ``window`` for the time outside of the rollout's window.
    """

    started: datetime
    ended: datetime
    reason: str


class GroupReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a group of a rollout.

    Attributes:
        name: Its name; empty if the rollout has no groups.
        servers: How many servers it has.
        allowed: How many of them may be unavailable at once.
        canaries: How many of them are canaries.
        lost: How many were unavailable at the end of the run.
        blocked: Whether these used up what is allowed, so that the rest was skipped.
        by_state: How many servers are in each state.
        started: When the first of them was sent; None if none was.
        ended: When the last outcome of those that were sent became known; None if none was sent.
    """

    name: str
    servers: int
    allowed: int
    canaries: int = 0
    lost: int = 0
    blocked: bool = False
    by_state: Mapping[OutcomeState, int] = msgspec.field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None


class Place(NamedTuple):
    """Where a server is in a rollout.

    Attributes:
        group: Its group; None if it has none: it is not an id, or the cloud does not show it.
        is_canary: Whether it is a canary.
        is_lost: Whether it was unavailable at the end of the run.
    """

    group: GroupReport | None
    is_canary: bool
    is_lost: bool


class Places(Sequence[Place]):
    """Where the servers of a report are in its rollout, in the order of its outcomes."""

    __slots__ = ("_groups", "_marks")

    def __init__(self, groups: Sequence[GroupReport], marks: array[int]) -> None:
        self._groups = groups
        self._marks = marks

    def __len__(self) -> int:
        return len(self._marks)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Place: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Place]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Place | Sequence[Place]:
        if isinstance(index, slice):
            return Places(self._groups, self._marks[index])
        return self._place(self._marks[index])

    def __iter__(self) -> Iterator[Place]:
        return map(self._place, self._marks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Places):
            return NotImplemented
        return self._marks == other._marks and self._groups == other._groups

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,} servers in {len(self._groups):,} groups>"

    def _place(self, mark: int) -> Place:
        number = mark >> _MARK_BITS
        group = self._groups[number - 1] if number else None
        return Place(group, bool(mark & _CANARY), bool(mark & _LOST))


class RolloutReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a report says of the rollout of its run.

    ::

        for outcome, place in zip(report.outcomes, report.rollout.places):
            print(outcome.server_id, outcome.state, place.group.name)

    Attributes:
        groups: The groups, in the order of their first servers.
        places: The place of each server: its group, whether it is a canary, whether it was unavailable at the end; in
            the order of `FleetReport.outcomes`.
        pauses: When nothing could begin: the run was paused, or its window was closed. At most 1000, the first ones. Of
            a durable run these are the times outside of its window only.
    """

    groups: Sequence[GroupReport]
    places: Sequence[Place]
    pauses: Sequence[Pause] = ()


class RolloutTally:
    """Sums the outcomes of a rollout up, group by group; they are added in the order of the report."""

    def __init__(self) -> None:
        self._marks = array("I")
        self._counts: dict[str, _Counts] = {}

    def add(
        self, outcome: Outcome | StoredFailure, group: str | None, *, is_canary: bool = False, is_lost: bool = False
    ) -> None:
        """Add the outcome of a server.

        Args:
            outcome: Its outcome.
            group: Its group; None if it has none.
            is_canary: Whether it is a canary.
            is_lost: Whether it was unavailable at the end.
        """
        mark = is_canary * _CANARY | is_lost * _LOST
        if group is not None:
            counts = self._counts.get(group)
            if counts is None:
                counts = self._counts[group] = _Counts(len(self._counts) + 1)
            counts.add(outcome, is_canary=is_canary, is_lost=is_lost)
            mark |= counts.number << _MARK_BITS
        self._marks.append(mark)

    def groups(self, allowed_of: Callable[[str], int], is_blocked: Callable[[str], bool]) -> Iterator[GroupReport]:
        """Iterate over the groups.

        Args:
            allowed_of: Returns how many servers of a group may be unavailable at once.
            is_blocked: Returns whether a group is blocked.
        """
        for name, counts in self._counts.items():
            yield GroupReport(
                name=name,
                servers=sum(counts.by_state.values()),
                allowed=allowed_of(name),
                canaries=counts.canaries,
                lost=counts.lost,
                blocked=is_blocked(name),
                by_state=FrozenDict(counts.by_state),
                started=counts.started,
                ended=counts.ended,
            )

    def report(self, groups: Sequence[GroupReport], pauses: Sequence[Pause]) -> RolloutReport:
        """Return the report.

        Args:
            groups: What `groups` yielded.
            pauses: When nothing could begin.
        """
        return RolloutReport(groups=groups, places=Places(groups, self._marks), pauses=pauses)


class _Counts:
    __slots__ = ("by_state", "canaries", "ended", "lost", "number", "started")

    def __init__(self, number: int) -> None:
        self.number = number
        self.by_state: dict[OutcomeState, int] = {}
        self.canaries = self.lost = 0
        self.started: datetime | None = None
        self.ended: datetime | None = None

    def add(self, outcome: Outcome | StoredFailure, *, is_canary: bool, is_lost: bool) -> None:
        self.by_state[outcome.state] = self.by_state.get(outcome.state, 0) + 1
        self.canaries += is_canary
        self.lost += is_lost
        started, ended = outcome.started, outcome.ended
        if started is not None and (self.started is None or started < self.started):
            self.started = started
        if started is not None and ended is not None and (self.ended is None or ended > self.ended):
            self.ended = ended


def closed_times(window: Window | None, started: datetime, ended: datetime) -> Iterator[Pause]:
    """Iterate over the times of a run that are outside of its window.

    Args:
        window: The window; None if it is always open.
        started: The beginning of the run.
        ended: Its end.
    """
    if window is None:
        return
    at = started
    for _ in range(2 * MAX_PAUSES):
        change = window.next_change(at)
        until = ended if change is None else min(change, ended)
        if not window.is_open(at) and at < until:
            yield Pause(started=at, ended=until, reason="window")
        if until >= ended:
            return
        at = until
