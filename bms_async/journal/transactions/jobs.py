"""Transactions about watched jobs, each of which one process polls for all.

What they guarantee: a job belongs to one process at a time, under a fence that grows with each claim. An event is
written once: whoever owns a job says how many events of it there are already, and one that lost the job writes nothing.

How: events are written for whoever wants them. A place has a time until which its readers do, and a job is marked by a
process that waits for it while another one polls it. Of a job that ends without either nothing is left: its row, which
says who polls it, is deleted. That nobody wants it and that it ends are one statement, so that no reader who comes up
meanwhile misses the end.

Whatever locks several rows locks those of jobs first, in the order of their ids, and that of the place last.

Rejected: to have the claim of a durable batch stand for that of its job. Whoever asks for a job knows its id alone, so
that batches would need an index of their jobs, whose upkeep costs what the row of a job does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from bms_async.journal.job_records import (
    AppendedJobs,
    ClaimedJobs,
    FreeJob,
    JobOffer,
    KeptJobRow,
    NewEvents,
    RenewedJobs,
)
from bms_async.journal.statements import Transaction, ask

from .claims import LEASE
from .events import IS_FREE, IS_WANTED, append_blocks, read_blocks_of


def claim_jobs(place: str, owner: str, offers: Sequence[JobOffer]) -> Transaction[ClaimedJobs]:
    """Write jobs down that are not there yet, and claim those that nobody else polls.

    Args:
        place: The endpoint and the project.
        owner: Who asks.
        offers: The jobs.

    Returns:
        Each job by its id, with the events of those that were there already.
    """
    kept = {}
    for offer in sorted(offers, key=lambda offer: offer.job):
        rows = yield from ask(
            "INSERT INTO bms_async_jobs AS b "
            "(place, job, action, servers, owner, fence, lease, sequence, followed, created, ended) "
            "VALUES ($1, $2, $3, $4, $5, 1, bms_now() + $6, 0, 0, bms_wall(), NULL) "
            "ON CONFLICT (place, job) DO UPDATE SET owner = $5, fence = b.fence + 1, lease = bms_now() + $6 "
            f"WHERE b.ended IS NULL AND (b.owner = $5 OR {IS_FREE}) RETURNING fence, sequence, followed",
            place,
            offer.job,
            offer.action,
            b"",
            owner,
            LEASE,
        )
        is_ended = False
        fence: int | None = None
        if rows:
            fence, sequence, followed = map(_int, rows[0])
        else:
            ((ended, *others),) = yield from ask(
                "UPDATE bms_async_jobs SET followed = 1 WHERE place = $1 AND job = $2 "
                "RETURNING ended, sequence, followed",
                place,
                offer.job,
            )
            is_ended = ended is not None
            sequence, followed = map(_int, others)
        kept[offer.job] = KeptJobRow(
            job=offer.job,
            fence=fence,
            sequence=sequence,
            is_followed=followed == 1,
            is_ended=is_ended,
            blocks=(yield from read_blocks_of(place, offer.job)) if sequence else [],
        )
    rows = yield from ask(f"SELECT number, {IS_WANTED} FROM bms_async_places AS p WHERE p.place = $1", place)
    number, wanted = map(_int, rows[0]) if rows else (0, 0)
    return ClaimedJobs(number=number, is_wanted=wanted == 1, jobs=kept)


def append_events(place: str, owner: str, parts: Sequence[NewEvents]) -> Transaction[AppendedJobs]:
    """Write events of jobs down that the owner polls; or the end alone of one whose events nobody wants.

    Such a job is forgotten, and so are those that no process has waited for: none of it is left.

    Args:
        place: The endpoint and the project.
        owner: Who polls them.
        parts: The events, by job.

    Returns:
        The jobs whose events are there now, and those that have ended and whose events are wanted after all. Another
        process has the others.
    """
    made: set[str] = set()
    wanted: set[str] = set()
    new: list[tuple[str, int, bytes]] = []
    for part in sorted(parts, key=lambda part: part.job):
        if not part.count:
            left = yield from _end_unwanted(place, owner, part)
            if left is not None:
                (wanted if left else made).add(part.job)
            continue
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
                "SELECT job FROM bms_async_jobs "
                "WHERE place = $1 AND job = $2 AND owner = $3 AND fence = $4 AND sequence = $5",
                place,
                part.job,
                owner,
                part.fence,
                part.sequence + part.count,
            )
        if rows:
            made.add(part.job)
    yield from append_blocks(place, new)
    return AppendedJobs(made=made, wanted=wanted)


def _end_unwanted(place: str, owner: str, part: NewEvents) -> Transaction[bool | None]:
    """Forget a job, and return whether its events are wanted instead; None if another process has it."""
    rows = yield from ask(
        "DELETE FROM bms_async_jobs WHERE place = $1 AND job = $2 AND owner = $3 AND fence = $4 AND sequence = 0 "
        "AND followed = 0 AND NOT EXISTS "
        f"(SELECT 1 FROM bms_async_places AS p WHERE p.place = $1 AND {IS_WANTED} = 1) RETURNING job",
        place,
        part.job,
        owner,
        part.fence,
    )
    if rows:
        return False
    rows = yield from ask("SELECT owner, fence FROM bms_async_jobs WHERE place = $1 AND job = $2", place, part.job)
    # It was committed already if it is asked for once more.
    return False if not rows else True if tuple(rows[0]) == (owner, part.fence) else None


def renew_jobs(owner: str) -> Transaction[RenewedJobs]:
    """Renew the lease of all jobs that a process polls.

    Args:
        owner: The process.

    Returns:
        The jobs, and whose events are wanted.
    """
    rows = yield from ask(
        "UPDATE bms_async_jobs SET lease = bms_now() + $2 WHERE owner = $1 AND ended IS NULL "
        "RETURNING place, job, fence, followed",
        owner,
        LEASE,
    )
    places = yield from ask(f"SELECT p.place FROM bms_async_places AS p WHERE {IS_WANTED} = 1")
    return RenewedJobs(
        fences={(str(place), str(job)): _int(fence) for place, job, fence, _ in rows},
        followed={(str(place), str(job)) for place, job, _, followed in rows if followed},
        wanted={str(place) for (place,) in places},
    )


def release_jobs(place: str, owner: str, jobs: Mapping[str, bytes] | None) -> Transaction[None]:
    """Let others poll jobs at once.

    Args:
        place: The endpoint and the project.
        owner: Who has polled them.
        jobs: The jobs, with the servers of those of which no event is written, packed; None for all.
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
            "UPDATE bms_async_jobs SET owner = NULL, lease = -1, servers = $4 WHERE place = $1 AND job = $2 "
            "AND owner = $3 AND ended IS NULL",
            place,
            job,
            owner,
            jobs[job],
        )


def find_free_jobs(place: str, limit: int) -> Transaction[list[FreeJob]]:
    """Return jobs that have not ended and that nobody polls.

    Args:
        place: The endpoint and the project.
        limit: How many at most.
    """
    rows = yield from ask(
        "SELECT b.job, b.action, b.servers FROM bms_async_jobs AS b "
        f"WHERE b.place = $1 AND b.ended IS NULL AND {IS_FREE} ORDER BY b.lease LIMIT $2",
        place,
        limit,
    )
    return [msgspec.convert(dict(zip(FreeJob.__struct_fields__, row, strict=True)), FreeJob) for row in rows]


def _int(value: object) -> int:
    return msgspec.convert(value, int)
