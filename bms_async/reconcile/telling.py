"""The conditions of servers, made when they are asked for: the books keep none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Literal

from .books import Books
from .conditions import Condition, Degraded, PowerChange, Progressing, Synced
from .entries import Kind
from .ports import ReconcileAction

_MAX_DRIFT = 1.0
"""Seconds by which the clocks may differ before the difference is measured anew."""

_VERBS: Mapping[ReconcileAction, Literal["start", "stop"]] = {"servers.start": "start", "servers.stop": "stop"}


class DayTime:
    """The time of day of moments of the event loop's clock.

    The same moment has the same time of day each time it is asked for, unless the time of day was set or the machine
    has slept.

    Args:
        loop_time: Reads the loop's clock.
        wall: Reads the time of day, in seconds since 1970.
    """

    __slots__ = ("_ahead", "_loop_time", "_wall")

    def __init__(self, loop_time: Callable[[], float], wall: Callable[[], float]) -> None:
        self._loop_time = loop_time
        self._wall = wall
        self._ahead = wall() - loop_time()

    def seconds(self, moment: float) -> float:
        """Return a moment of the loop's clock in seconds since 1970."""
        ahead = self._wall() - self._loop_time()
        if abs(ahead - self._ahead) > _MAX_DRIFT:
            self._ahead = ahead
        return moment + self._ahead

    def moment(self, seconds: float) -> float:
        """Return seconds since 1970 as a moment of the loop's clock."""
        return seconds - self.seconds(0.0)

    def show(self, moment: float) -> datetime:
        """Return a moment of the loop's clock as a datetime."""
        return datetime.fromtimestamp(self.seconds(moment), UTC)


class Teller:
    """Makes conditions.

    Args:
        books: What is known.
        day_time: The time of day.
    """

    __slots__ = ("_books", "_day_time")

    def __init__(self, books: Books, day_time: DayTime) -> None:
        self._books = books
        self._day_time = day_time

    def condition(self, name: str) -> Condition | None:
        """Return the condition of a server, or of an entry that is no id; None if nothing is desired of it."""
        books = self._books
        entry = books.entries.get(name)
        if entry is None:
            refused = books.refused.get(name)
            return None if refused is None else Degraded(reason=refused[1], since=self._show(refused[2]), attempts=0)
        since = self._show(entry.since)
        if entry.kind is Kind.SYNCED:
            return Synced(since=since)
        trouble = books.troubles.get(name)
        if entry.kind is Kind.DEGRADED and trouble is not None:
            next_try = books.next_try(name)
            return Degraded(
                reason=trouble.left_alone or trouble.reason,
                since=since,
                attempts=trouble.attempts,
                next_try=None if next_try is None else self._show(next_try),
            )
        action = books.under_way.get(name)
        return Progressing(since=since, why=entry.why, action=None if action is None else _VERBS[action])

    def change(self, name: str) -> PowerChange | None:
        """Return what is said of a server now; None if nothing is desired of it, or nothing is known yet."""
        entry = self._books.entries.get(name)
        condition = self.condition(name)
        if condition is None or (entry is not None and entry.kind is Kind.NEW):
            return None
        desired = self._books.refused[name][0] if entry is None else entry.desired
        return PowerChange(server_id=name, desired=desired, condition=condition)

    def _show(self, moment: float) -> datetime:
        return self._day_time.show(moment)


class Conditions(Mapping[str, Condition]):
    """The conditions of all servers as they are now: nothing is copied, so that it may change while it is read."""

    __slots__ = ("_books", "_teller")

    def __init__(self, books: Books, teller: Teller) -> None:
        self._books = books
        self._teller = teller

    def __getitem__(self, server_id: str) -> Condition:
        condition = self._teller.condition(server_id)
        if condition is None:
            raise KeyError(server_id)
        return condition

    def __iter__(self) -> Iterator[str]:
        return self._books.names()

    def __len__(self) -> int:
        return self._books.total

    def __repr__(self) -> str:
        return f"<Conditions of {len(self):,} servers>"
