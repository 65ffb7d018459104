"""Transactions about watched jobs, and about the events that whoever polls them writes down for all.

What they guarantee: a job belongs to one process at a time, under a fence that grows with each claim. An event is
written once: whoever owns a job says how many events of it there are already, and one that lost the job writes nothing.
The numbers of a place grow without a gap, and become visible in their order, since they are counted in the place's row,
which stays locked until the commit.

How: whatever locks several rows locks those of jobs first, in the order of their ids, and that of the place last.

Rejected: a sequence of the database for the numbers. A transaction that is committed late makes a number visible after
greater ones, and a reader that went on from those never sees it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from bms_async.journal.records import EventBlock, EventPage, FreeJob, JobOffer, KeptJobRow, NewEvents
from bms_async.journal.statements import SKIP_LOCKED, Statement, Transaction, ask

from .claims import EXPIRED, LEASE

_IS_FREE = f"(b.owner IS NULL OR ({EXPIRED}))"
_TRIMMED_AT_ONCE = 500


def claim_jobs(place: str, owner: str, offers: Sequence[JobOffer]) -> Transaction[dict[str, KeptJobRow]]:
    """Write jobs down that are not there yet, and claim those that nobody else polls.

    Args:
        place: The endpoint and the project.
        owner: Who asks.
        offers: The jobs.

    Returns:
        Each job by its id, with the events of those that were there already.
    """
    yield from _make_place(place)
    added = set()
    fences: dict[str, tuple[int, int]] = {}
    for offer in sorted(offers, key=lambda offer: offer.job):
        rows = yield from ask(
            "INSERT INTO bms_async_jobs (place, job, action, servers, owner, fence, lease, sequence, created, ended) "
            "VALUES ($1, $2, $3, $4, NULL, 0, -1, 1, bms_wall(), NULL) ON CONFLICT (place, job) DO NOTHING "
            "RETURNING job",
            place,
            offer.job,
            offer.action,
            offer.servers,
        )
        if rows:
            added.add(offer.job)
        rows = yield from ask(
            "UPDATE bms_async_jobs AS b SET owner = $3, fence = fence + 1, lease = bms_now() + $4 "
            f"WHERE b.place = $1 AND b.job = $2 AND b.ended IS NULL AND (b.owner = $3 OR {_IS_FREE}) "
            "RETURNING fence, sequence",
            place,
            offer.job,
            owner,
            LEASE,
        )
        if rows:
            fences[offer.job] = _int(rows[0][0]), _int(rows[0][1])
    yield from _append(place, [(offer.job, 1, offer.started) for offer in offers if offer.job in added])
    ((number,),) = yield from ask("SELECT number FROM bms_async_places WHERE place = $1", place)
    kept = {}
    for offer in offers:
        ((ended,),) = yield from ask("SELECT ended FROM bms_async_jobs WHERE place = $1 AND job = $2", place, offer.job)
        blocks = [] if offer.job in added else (yield from _read_blocks_of(place, offer.job))
        fence, sequence = fences.get(offer.job, (None, 0))
        kept[offer.job] = KeptJobRow(
            job=offer.job,
            fence=fence,
            sequence=sequence,
            is_ended=ended is not None,
            number=_int(number),
            blocks=blocks,
        )
    return kept


def append_events(place: str, owner: str, parts: Sequence[NewEvents]) -> Transaction[set[str]]:
    """Write events of jobs down that the owner polls.

    Args:
        place: The endpoint and the project.
        owner: Who polls them.
        parts: The events, by job.

    Returns:
        The jobs whose events are there now. Another process has the others.
    """
    made, new = set(), []
    for part in sorted(parts, key=lambda part: part.job):
        rows = yield from ask(
            "UPDATE bms_async_jobs SET sequence = sequence + $6, "
            "ended = CASE WHEN CAST($7 AS bigint) = 1 THEN bms_wall() END, "
            "lease = CASE WHEN CAST($7 AS bigint) = 1 THEN -1 ELSE bms_now() + $8 END "
            "WHERE place = $1 AND job = $2 AND owner = $3 AND fence = $4 AND sequence = $5 AND ended IS NULL "
            "RETURNING job",
            place,
            part.job,
            owner,
            part.fence,
            part.sequence,
            part.count,
            int(part.is_end),
            LEASE,
        )
        if rows:
            new.append((part.job, part.count, part.body))
        else:
            # It was committed already if it is asked for once more.
            rows = yield from ask(
                "SELECT job FROM bms_async_jobs WHERE place = $1 AND job = $2 AND fence = $3 AND sequence = $4",
                place,
                part.job,
                part.fence,
                part.sequence + part.count,
            )
        if rows:
            made.add(part.job)
    yield from _append(place, new)
    return made


def renew_jobs(owner: str) -> Transaction[dict[tuple[str, str], int]]:
    """Renew the lease of all jobs that a process polls.

    Args:
        owner: The process.

    Returns:
        The fence of each, by place and job.
    """
    rows = yield from ask(
        "UPDATE bms_async_jobs SET lease = bms_now() + $2 WHERE owner = $1 AND ended IS NULL "
        "RETURNING place, job, fence",
        owner,
        LEASE,
    )
    return {(str(place), str(job)): _int(fence) for place, job, fence in rows}


def release_jobs(place: str, owner: str, jobs: Iterable[str] | None) -> Transaction[None]:
    """Let others poll jobs at once.

    Args:
        place: The endpoint and the project.
        owner: Who has polled them.
        jobs: The jobs; None for all.
    """
    if jobs is None:
        yield from ask(
            "UPDATE bms_async_jobs SET owner = NULL, lease = -1 WHERE owner = $1 AND place = $2 AND ended IS NULL",
            owner,
            place,
        )
        return
    for job in sorted(jobs):
        yield from ask(
            "UPDATE bms_async_jobs SET owner = NULL, lease = -1 WHERE place = $1 AND job = $2 AND owner = $3 "
            "AND ended IS NULL",
            place,
            job,
            owner,
        )


def find_free_jobs(place: str, limit: int) -> Transaction[list[FreeJob]]:
    """Return jobs that have not ended and that nobody polls.

    Args:
        place: The endpoint and the project.
        limit: How many at most.
    """
    rows = yield from ask(
        "SELECT b.job, b.action, b.servers FROM bms_async_jobs AS b "
        f"WHERE b.place = $1 AND b.ended IS NULL AND {_IS_FREE} ORDER BY b.lease LIMIT $2",
        place,
        limit,
    )
    return [msgspec.convert(dict(zip(FreeJob.__struct_fields__, row, strict=True)), FreeJob) for row in rows]


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


def list_places() -> Transaction[list[str]]:
    """Return all places that have events."""
    rows = yield from ask("SELECT place FROM bms_async_places ORDER BY place")
    return [str(place) for (place,) in rows]


def trim_events(place: str, age: float) -> Transaction[bool]:
    """Delete some of a place's oldest events, and the jobs of which none is left.

    Events of a job that goes on stay, and with them all later ones: whoever takes it over must know what is written.

    Args:
        place: The endpoint and the project.
        age: Those that are older than so many seconds.

    Returns:
        Whether there are more of them.
    """
    is_left = f"(b.created < bms_wall() - $2 AND {_IS_FREE})"
    is_old = f"(b.ended < bms_wall() - $2 OR (b.ended IS NULL AND {is_left}))"
    # Before any number is looked at, so that none is added meanwhile.
    rows = yield from ask(
        "UPDATE bms_async_places SET trimmed = trimmed WHERE place = $1 RETURNING number, trimmed", place
    )
    if not rows:
        return False
    number, trimmed = map(_int, rows[0])
    ((kept,),) = yield from ask(
        "SELECT min(e.number - e.events) FROM bms_async_events AS e WHERE e.place = $1 "
        "AND (e.created >= bms_wall() - $2 OR EXISTS (SELECT 1 FROM bms_async_jobs AS b WHERE b.place = e.place "
        f"AND b.job = e.job AND b.ended IS NULL AND NOT {is_left}))",
        place,
        age,
    )
    rows = yield from ask(
        "SELECT number FROM bms_async_events WHERE place = $1 AND number <= $2 ORDER BY number LIMIT $3",
        place,
        number if kept is None else kept,
        _TRIMMED_AT_ONCE,
    )
    if rows:
        last = max(trimmed, _int(rows[-1][0]))
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


def _make_place(place: str) -> Transaction[None]:
    found = yield from ask("SELECT 1 FROM bms_async_places WHERE place = $1", place)
    if not found:
        yield from ask(
            "INSERT INTO bms_async_places (place, number, trimmed) VALUES ($1, 0, 0) ON CONFLICT (place) DO NOTHING",
            place,
        )


def _append(place: str, blocks: Sequence[tuple[str, int, bytes]]) -> Transaction[None]:
    if not blocks:
        return
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


def _read_blocks_of(place: str, job: str) -> Transaction[list[EventBlock]]:
    rows = yield from ask(
        "SELECT number, job, events, body FROM bms_async_events WHERE place = $1 AND job = $2 ORDER BY number",
        place,
        job,
    )
    return [_read_block(row) for row in rows]


def _read_block(row: Sequence[object]) -> EventBlock:
    return msgspec.convert(dict(zip(EventBlock.__struct_fields__, row, strict=True)), EventBlock)


def _int(value: object) -> int:
    return msgspec.convert(value, int)
