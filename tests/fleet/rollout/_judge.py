"""A judge of rollouts: what a simulated cloud saw, held against what a rollout promises.

It knows nothing of the planner and asks nothing of the client: it reads when servers were asked, and when they were
back. A client learns that a server is back at that moment or later, so a rollout that keeps its promise is never
blamed. A server that never comes back is away in the books, even if a rollout without `ready=` takes the end of its job
for enough.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Final, NamedTuple

from bms_async.fleet.clock import wall_clock
from bms_async.simulator import Absence, Cloud
from bms_async.simulator.core.attributes import tags_of, zone_of
from bms_async.simulator.core.availability import most_away
from bms_async.testing._recording_cloud import RecordingCloud

BEGINNING: Final = frozenset(
    f"{api}servers.{action}"
    for api in ("", "nova.")
    for action in ("start", "stop", "reboot", "reinstall_os", "delete")
)
"""The operations that take a server away."""

_A_MOMENT: Final = 1e-6
"""Seconds by which sums of the same times may differ."""


class Books(NamedTuple):
    """What the cloud saw, in seconds of its clock.

    Attributes:
        absences: Which servers were asked for what, and when they were back; in the order of their acceptance.
        calls: When the calls arrived that begin something, also those that were refused.
        zero: The time of day when the cloud's clock showed 0.
    """

    absences: Sequence[Absence]
    calls: Sequence[float]
    zero: datetime

    def between(self, first: float, last: float) -> Books:
        """What began from `first` until before `last`: one of several runs."""
        return self._replace(
            absences=[absence for absence in self.absences if first <= absence.asked < last],
            calls=[at for at in self.calls if first <= at < last],
        )


def books_of(cloud: Cloud, operations: Collection[str] = BEGINNING) -> Books:
    """Read a cloud's books; on the loop of the run, whose time of day is the run's."""
    assert isinstance(cloud, RecordingCloud)
    zero = datetime.fromtimestamp(wall_clock(asyncio.get_running_loop())() - cloud.now(), UTC)
    return Books(cloud.availability.absences(), [call.at for call in cloud.calls if call.operation in operations], zero)


def racks(cloud: Cloud) -> Callable[[str], str]:
    """The rack of a server, as its tag has it."""
    of = {each.id: tags_of(each, cloud.attributes_of(each))[1] for each in cloud.servers.values()}
    return of.__getitem__


def zones(cloud: Cloud) -> Callable[[str], str]:
    """The availability zone of a server."""
    of = {each.id: zone_of(each, cloud.attributes_of(each)) for each in cloud.servers.values()}
    return of.__getitem__


def share(part: float, ids: Iterable[str], group_of: Callable[[str], str]) -> Callable[[str], int]:
    """How many servers of each group a share is: rounded down, at least 1."""
    sizes = Counter(map(group_of, ids))
    return lambda group: max(1, math.floor(Fraction(str(part)) * sizes[group]))


def judge(
    books: Books,
    *,
    group_of: Callable[[str], str] = lambda _: "all",
    allowed: int | Callable[[str], int] | None = None,
    canaries: Collection[str] = (),
    settle: float = 0.0,
    max_groups: int | None = None,
    is_open: Callable[[datetime], bool] = lambda _: True,
    pauses: Sequence[tuple[float, float]] = (),
    wire: float = 0.0,
) -> None:
    """Fail if a rollout broke a promise, or if nothing was begun, which would prove nothing.

    Args:
        books: What the cloud saw of one run.
        group_of: The group of a server, by its id.
        allowed: How many servers of each group may be away at once, or of each one by its name.
        canaries: The servers that go first, alone.
        settle: Seconds for which a server that is back still takes its room.
        max_groups: How many groups may be touched at once.
        is_open: Whether the window is open at a time of day; write it by hand, so that it is not the code under test.
        pauses: When the run was paused, from and until, in seconds of the cloud's clock.
        wire: The longest time that a call travels: one that was sent in time may arrive so much later.
    """
    assert books.absences, "nothing was begun: there is nothing to judge"
    found = [
        *_too_many(books, group_of, allowed, settle),
        *_before_canaries(books, canaries, settle),
        *_too_many_groups(books, group_of, max_groups),
        *_out_of_hours(books, is_open, wire),
        *_while_paused(books, pauses, wire),
    ]
    assert not found, "\n".join(found)


def _too_many(
    books: Books, group_of: Callable[[str], str], allowed: int | Callable[[str], int] | None, settle: float
) -> Iterator[str]:
    if allowed is None:
        return
    for group, (servers, at) in most_away(books.absences, group_of, max(0.0, settle - _A_MOMENT)).items():
        most = allowed if isinstance(allowed, int) else allowed(group)
        if servers > most:
            away = {each.server_id for each in books.absences if each.asked <= at < each.back + settle}
            names = sorted(each for each in away if group_of(each) == group)
            yield f"{group}: {servers} servers away at {at:.3f} s where {most} may be: {', '.join(names[:5])}"


def _before_canaries(books: Books, canaries: Collection[str], settle: float) -> Iterator[str]:
    names = frozenset(canaries)
    # The last action on a canary decides, as when it is tried again.
    backs = {each.server_id: each.back for each in books.absences if each.server_id in names}
    others = [each for each in books.absences if each.server_id not in names]
    if not backs or not others:
        return
    first, slowest = others[0], max(backs, key=backs.__getitem__)
    well = backs[slowest] + settle
    if first.asked < well - _A_MOMENT:
        yield (
            f"{first.server_id} was asked at {first.asked:.3f} s, before canary {slowest} was well and had settled:"
            f" {well:.3f} s"
        )


def _too_many_groups(books: Books, group_of: Callable[[str], str], max_groups: int | None) -> Iterator[str]:
    if max_groups is None:
        return
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for absence in books.absences:
        group = group_of(absence.server_id)
        # One that never comes back ends when the run gives it up, which is at its asking or later.
        end = absence.back if absence.back < math.inf else absence.asked
        first.setdefault(group, absence.asked)
        last[group] = max(last.get(group, end), end)
    begins, ends = sorted(first.values()), sorted(last.values())
    for at in begins:
        touched = bisect_right(begins, at) - bisect_right(ends, at)
        if touched > max_groups:
            yield f"{touched} groups touched at {at:.3f} s where {max_groups} may be"
            return


def _out_of_hours(books: Books, is_open: Callable[[datetime], bool], wire: float) -> Iterator[str]:
    for at in _moments(books):
        times = [books.zero + timedelta(seconds=each) for each in (at, at - wire)]
        if not any(map(is_open, times)):
            yield f"something was begun at {at:.3f} s, {times[0]}, outside of the window"
            return


def _while_paused(books: Books, pauses: Sequence[tuple[float, float]], wire: float) -> Iterator[str]:
    moments = _moments(books)
    for begun, ended in pauses:
        inside = moments[bisect_right(moments, begun + wire + _A_MOMENT) : bisect_left(moments, ended)]
        if inside:
            yield f"something was begun at {inside[0]:.3f} s, in the pause from {begun:.3f} to {ended:.3f} s"


def _moments(books: Books) -> list[float]:
    """When something was begun: also what the cloud refused, and also what came by another call than expected."""
    return sorted({*books.calls, *(absence.asked for absence in books.absences)})
