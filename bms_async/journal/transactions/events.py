"""Transactions about the events that whoever polls a job writes down for all.

What they guarantee: the numbers of a place grow without a gap, and become visible in their order, since they are
counted in the place's row, which stays locked until the commit.

Rejected: a sequence of the database for the numbers. A transaction that is committed late makes a number visible after
greater ones, and a reader that went on from those never sees it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from bms_async.journal.job_records import EventBlock, EventPage
from bms_async.journal.statements import SKIP_LOCKED, Statement, Transaction, ask

from .claims import EXPIRED

IS_FREE = f"(b.owner IS NULL OR ({EXPIRED}))"
"""Whether nobody polls a job."""

IS_WANTED = "CASE WHEN p.wanted > bms_wall() THEN 1 ELSE 0 END"
"""1 if somebody wants the events of a place."""

_TRIMMED_AT_ONCE = 500


def want_events(place: str, seconds: float, gap: bytes) -> Transaction[None]:
    """Have the events of a place written down from now on.

    Where they were wanted before, and then not any more, an event is written in the place of those that may be missing.

    Args:
        place: The endpoint and the project.
        seconds: For how long.
        gap: That event, packed.
    """
    yield from _make_place(place)
    # The row is locked before it is looked at, so that of two readers one finds what the other one has done.
    ((was_wanted,),) = yield from ask(
        "UPDATE bms_async_places SET trimmed = trimmed WHERE place = $1 "
        "RETURNING CASE WHEN wanted < 0 OR wanted > bms_wall() THEN 1 ELSE 0 END",
        place,
    )
    if not was_wanted:
        yield from append_blocks(place, [("", 1, gap)])
    yield from ask("UPDATE bms_async_places SET wanted = bms_wall() + $2 WHERE place = $1", place, seconds)


def read_place(place: str) -> Transaction[tuple[int, int]]:
    """Return the number of the last event of a place, and of the last one that was trimmed.

    Args:
        place: The endpoint and the project.
    """
    rows = yield from ask("SELECT number, trimmed FROM bms_async_places WHERE place = $1", place)
    return (_int(rows[0][0]), _int(rows[0][1])) if rows else (0, 0)


def read_events(place: str, after: int, limit: int) -> Transaction[EventPage]:
    """Read events.

    Args:
        place: The endpoint and the project.
        after: The number of the event after which to begin.
        limit: How many blocks of events at most.
    """
    rows = yield from ask(
        "SELECT number, job, events, body FROM bms_async_events WHERE place = $1 AND number > $2 "
        "ORDER BY number LIMIT $3",
        place,
        after,
        limit,
    )
    _, trimmed = yield from read_place(place)
    return EventPage(trimmed=trimmed, blocks=[_read_block(row) for row in rows])


def read_events_of(
    place: str, after: int, jobs: Collection[str], limit: int
) -> Transaction[tuple[int, list[EventBlock]]]:
    """Read events of some jobs alone.

    Args:
        place: The endpoint and the project.
        after: The number of the event after which to begin.
        jobs: The jobs.
        limit: How many blocks to look at, of whatever job.

    Returns:
        The number up to which all were looked at, and the blocks.
    """
    rows = yield from ask(
        "SELECT number, job FROM bms_async_events WHERE place = $1 AND number > $2 ORDER BY number LIMIT $3",
        place,
        after,
        limit,
    )
    blocks = []
    for number, job in rows:
        if job in jobs:
            found = yield from ask(
                "SELECT number, job, events, body FROM bms_async_events WHERE place = $1 AND number = $2", place, number
            )
            blocks += [_read_block(row) for row in found]
    return (_int(rows[-1][0]) if rows else after), blocks


def read_blocks_of(place: str, job: str) -> Transaction[list[EventBlock]]:
    """Return all events of a job.

    Args:
        place: The endpoint and the project.
        job: The job.
    """
    rows = yield from ask(
        "SELECT number, job, events, body FROM bms_async_events WHERE place = $1 AND job = $2 ORDER BY number",
        place,
        job,
    )
    return [_read_block(row) for row in rows]


def list_places() -> Transaction[list[str]]:
    """Return all places that have jobs or events."""
    rows = yield from ask("SELECT place FROM bms_async_places UNION SELECT place FROM bms_async_jobs ORDER BY place")
    return [str(place) for (place,) in rows]


def trim_events(place: str, age: float) -> Transaction[bool]:
    """Delete some of a place's oldest events, and the jobs of which none is left.

    Events of a job that goes on stay, and with them all later ones: whoever takes it over must know what is written.
    And so do those of a job that has ended since, whose end refers to them.

    Args:
        place: The endpoint and the project.
        age: Those that are older than so many seconds.

    Returns:
        Whether there are more of them.
    """
    is_left = f"(b.created < bms_wall() - $2 AND {IS_FREE})"
    is_old = f"(b.ended < bms_wall() - $2 OR (b.ended IS NULL AND {is_left}))"
    yield from _make_place(place)
    # Before any number is looked at, so that none is added meanwhile.
    ((number, trimmed),) = yield from ask(
        "UPDATE bms_async_places SET trimmed = trimmed WHERE place = $1 RETURNING number, trimmed", place
    )
    ((kept,),) = yield from ask(
        "SELECT min(e.number - e.events) FROM bms_async_events AS e WHERE e.place = $1 "
        "AND (e.created >= bms_wall() - $2 OR EXISTS (SELECT 1 FROM bms_async_jobs AS b WHERE b.place = e.place "
        f"AND b.job = e.job AND (b.ended >= bms_wall() - $2 OR (b.ended IS NULL AND NOT {is_left}))))",
        place,
        age,
    )
    rows = yield from ask(
        "SELECT number FROM bms_async_events WHERE place = $1 AND number <= $2 ORDER BY number LIMIT $3",
        place,
        kept if kept is not None else number,
        _TRIMMED_AT_ONCE,
    )
    if rows:
        last = max(_int(trimmed), _int(rows[-1][0]))
        yield from ask("DELETE FROM bms_async_events WHERE place = $1 AND number <= $2", place, last)
        yield from ask("UPDATE bms_async_places SET trimmed = $2 WHERE place = $1", place, last)
    yield from ask(
        "WITH picked AS MATERIALIZED (SELECT b.place, b.job FROM bms_async_jobs AS b "
        f"WHERE b.place = $1 AND {is_old} AND NOT EXISTS "
        "(SELECT 1 FROM bms_async_events AS e WHERE e.place = b.place AND e.job = b.job) "
        f"{SKIP_LOCKED}) DELETE FROM bms_async_jobs WHERE (place, job) IN (SELECT place, job FROM picked)",
        place,
        age,
    )
    return len(rows) == _TRIMMED_AT_ONCE


def append_blocks(place: str, blocks: Sequence[tuple[str, int, bytes]]) -> Transaction[None]:
    """Write events down, within a transaction that has nothing more to lock.

    Args:
        place: The endpoint and the project.
        blocks: Events of a job each: the job, how many they are, and the events, packed.
    """
    if not blocks:
        return
    yield from _make_place(place)
    total = sum(count for _, count, _ in blocks)
    ((number,),) = yield from ask(
        "UPDATE bms_async_places SET number = number + $2 WHERE place = $1 RETURNING number - $2", place, total
    )
    last = _int(number)
    rows = []
    for job, count, body in blocks:
        last += count
        rows.append((place, last, job, count, body))
    yield Statement(
        "INSERT INTO bms_async_events (place, number, job, events, created, body) "
        "VALUES ($1, $2, $3, $4, bms_wall(), $5)",
        rows=rows,
    )


def _make_place(place: str) -> Transaction[None]:
    found = yield from ask("SELECT 1 FROM bms_async_places WHERE place = $1", place)
    if not found:
        yield from ask(
            "INSERT INTO bms_async_places (place, number, trimmed, wanted) VALUES ($1, 0, 0, -1) "
            "ON CONFLICT (place) DO NOTHING",
            place,
        )


def _read_block(row: Sequence[object]) -> EventBlock:
    return msgspec.convert(dict(zip(EventBlock.__struct_fields__, row, strict=True)), EventBlock)


def _int(value: object) -> int:
    return msgspec.convert(value, int)
