"""Transactions about the desired states of reconcilers, which replicas share.

What they guarantee: each change has a number, and the numbers of a reconciler become visible in their order, since they
are counted in its own row, which stays locked until the commit. So a replica that has read up to a number reads what
comes after it, and misses nothing. A server has one row: what was changed twice since is read once, as it is now. What
was forgotten leaves a row without a status, for replicas that have not read it yet; once such rows are deleted, a
replica that was away for longer sees by `DesiredPage.trimmed` that it has to read all anew.

Rejected: a time for the number. Two replicas may have the same one, and a clock that is set back hides a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from bms_async.journal.statements import Row, Statement, Transaction, ask

DesiredFields: TypeAlias = tuple[str, str | None, int, float | None, str | None]
"""A server, its desired status (None where it was forgotten), its attempts in a row, when it may be tried again in
seconds since the epoch, and why it could not be brought there."""

_DELETED_AT_ONCE = 500


class DesiredPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the desired states, in the order in which they were changed.

    Attributes:
        rows: The states.
        number: The number after which to go on.
        trimmed: The greatest number of a forgotten server that was deleted.
        is_last: Whether no more are known.
    """

    rows: list[DesiredFields]
    number: int
    trimmed: int
    is_last: bool


def save_desired(place: str, name: str, rows: Sequence[DesiredFields]) -> Transaction[int]:
    """Write desired states down; those that are so already stay as they are, with their attempts.

    Args:
        place: The endpoint and the project.
        name: The reconciler.
        rows: Some hundred states; the last of a server counts.

    Returns:
        The number of the last of them.
    """
    number = yield from _count_up(place, name, len(rows))
    yield Statement(
        "INSERT INTO bms_async_desired AS d "
        "(place, reconciler, server, status, attempts, retry_at, retry_reason, number, changed) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, bms_wall()) ON CONFLICT (place, reconciler, server) DO UPDATE SET "
        "status = excluded.status, attempts = excluded.attempts, retry_at = excluded.retry_at, "
        "retry_reason = excluded.retry_reason, number = excluded.number, changed = excluded.changed "
        "WHERE coalesce(d.status, '') <> coalesce(excluded.status, '')",
        rows=[(place, name, *row, number + at) for at, row in enumerate(rows, 1)],
    )
    return number + len(rows)


def save_attempts(place: str, name: str, rows: Sequence[DesiredFields]) -> Transaction[None]:
    """Write down how often servers were tried; those that have another desired status by now are left alone.

    Args:
        place: The endpoint and the project.
        name: The reconciler.
        rows: Some hundred states.
    """
    number = yield from _count_up(place, name, len(rows))
    yield Statement(
        "UPDATE bms_async_desired SET attempts = $5, retry_at = $6, retry_reason = $7, number = $8 "
        "WHERE place = $1 AND reconciler = $2 AND server = $3 AND status = $4",
        rows=[(place, name, *row, number + at) for at, row in enumerate(rows, 1)],
    )


def read_desired(place: str, name: str, after: int, limit: int) -> Transaction[DesiredPage]:
    """Read desired states that were changed after a number.

    Args:
        place: The endpoint and the project.
        name: The reconciler.
        after: The number of the last change that is known; 0 for none, and then forgotten servers are left out.
        limit: How many at most.
    """
    last, _ = yield from read_numbers(place, name)
    found: Sequence[Row] = ()
    if last > after:
        found = yield from ask(
            "SELECT number, server, status, attempts, retry_at, retry_reason FROM bms_async_desired "
            "WHERE place = $1 AND reconciler = $2 AND number > $3 AND ($3 > 0 OR status IS NOT NULL) "
            "ORDER BY number LIMIT $4",
            place,
            name,
            after,
            limit,
        )
    numbers = [_int(row[0]) for row in found]
    # After the states, so that whoever does not find a row that was deleted learns that some were.
    _, trimmed = yield from read_numbers(place, name)
    return DesiredPage(
        rows=[msgspec.convert(tuple(row)[1:], DesiredFields) for row in found],
        number=numbers[-1] if len(numbers) == limit else max([last, after, *numbers]),
        trimmed=trimmed,
        is_last=len(numbers) < limit,
    )


def trim_forgotten(place: str, name: str, age: float) -> Transaction[bool]:
    """Delete some of the rows of servers that were forgotten long ago.

    Args:
        place: The endpoint and the project.
        name: The reconciler.
        age: Those that were forgotten more than so many seconds ago.

    Returns:
        Whether there are more of them.
    """
    is_old = "place = $1 AND reconciler = $2 AND status IS NULL AND changed < bms_wall() - $3"
    # Nearly always there is nothing, and then nothing is locked.
    if not (yield from ask(f"SELECT 1 FROM bms_async_desired WHERE {is_old} LIMIT 1", place, name, age)):
        return False
    yield from _count_up(place, name, 0)
    rows = yield from ask(
        f"SELECT number FROM bms_async_desired WHERE {is_old} ORDER BY number LIMIT $4",
        place,
        name,
        age,
        _DELETED_AT_ONCE,
    )
    if rows:
        last = _int(rows[-1][0])
        yield from ask(f"DELETE FROM bms_async_desired WHERE {is_old} AND number <= $4", place, name, age, last)
        yield from ask(
            "UPDATE bms_async_reconcilers SET trimmed = $3 WHERE place = $1 AND name = $2 AND trimmed < $3",
            place,
            name,
            last,
        )
    return len(rows) == _DELETED_AT_ONCE


def list_reconcilers(place: str | None) -> Transaction[list[tuple[str, str]]]:
    """Return the place and the name of each reconciler that has, or had, desired states.

    Args:
        place: The endpoint and the project; None for all.
    """
    rows = yield from ask(
        "SELECT place, name FROM bms_async_reconcilers WHERE $1 = '' OR place = $1 ORDER BY place, name", place or ""
    )
    return [(str(its_place), str(name)) for its_place, name in rows]


def read_numbers(place: str, name: str) -> Transaction[tuple[int, int]]:
    """Return the number of the last change, and that of the last forgotten server that was deleted.

    Args:
        place: The endpoint and the project.
        name: The reconciler.
    """
    rows = yield from ask(
        "SELECT number, trimmed FROM bms_async_reconcilers WHERE place = $1 AND name = $2", place, name
    )
    return (_int(rows[0][0]), _int(rows[0][1])) if rows else (0, 0)


def _count_up(place: str, name: str, count: int) -> Transaction[int]:
    """Lock the row of a reconciler, and return the number before those that are its changes' now."""
    ((number,),) = yield from ask(
        "INSERT INTO bms_async_reconcilers AS r (place, name, number, trimmed) VALUES ($1, $2, $3, 0) "
        "ON CONFLICT (place, name) DO UPDATE SET number = r.number + $3 RETURNING number",
        place,
        name,
        count,
    )
    return _int(number) - count


def _int(value: object) -> int:
    return msgspec.convert(value, int)
