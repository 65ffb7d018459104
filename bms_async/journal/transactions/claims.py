"""Transactions by which workers come to batches, keep them and hand them back.

What they guarantee: a batch belongs to one worker at a time, under a fence that grows with each claim. A worker that
died, or stood still for longer than its lease, loses its batches to whichever worker asks next.

How: a row is claimed by its lock, and rows that others have locked are passed over, so that no worker waits for another
one. The rows are locked in a materialized part of the statement: as a subquery with a limit, the planner may run that
part again for each row, and lock rows that it does not return.

Rejected: advisory locks and notifications, which are of a session. A pooler that gives each transaction another session
loses them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bms_async.journal.records import Claim, KeptBatch, RunStatus
from bms_async.journal.statements import SKIP_LOCKED, RollBack, Row, Transaction, ask

LEASE = 15.0
"""Seconds for which a claim counts after it was made or renewed."""

EXPIRED = "b.owner IS NOT NULL AND (b.lease < bms_now() OR b.lease > bms_now() + 60)"
"""A lease that is longer than any is from before the clock was set back, or the machine came up again."""

_CLAIM = (
    "UPDATE bms_async_batches SET owner = $2, fence = fence + 1, lease = bms_now() + $3 FROM picked "
    "WHERE bms_async_batches.run = picked.run AND bms_async_batches.number = picked.number "
    "RETURNING bms_async_batches.run, bms_async_batches.number, bms_async_batches.servers, bms_async_batches.is_counted"
)

_RUNS_LOOKED_AT = 8
_MAX_SERVERS = 1000
_MERGED_AT_ONCE = 200

_OF_BATCH = "run, number, fence, state, ids, servers, details, job, sequence, root"


def claim_waiting(
    place: str, actions: Sequence[str], owner: str, run: str | None = None
) -> Transaction[list[KeptBatch]]:
    """Claim a batch that may be sent now; several of one run if these are of deferred servers, to be merged.

    The run whose turn is longest ago goes first, and of its batches the parts of refused ones.

    Args:
        place: The endpoint and the project that the worker has credentials for.
        actions: One to three actions whose limit has a slot.
        owner: The worker.
        run: The only run to look at; None for all.
    """
    first, second, third = (*actions, actions[0], actions[0])[:3]
    runs = yield from ask(
        "SELECT r.id FROM bms_async_runs AS r WHERE r.place = $1 AND r.ended IS NULL AND r.unsent > 0 "
        "AND r.status = 'open' AND r.action IN ($2, $3, $4) AND EXISTS (SELECT 1 FROM bms_async_batches AS b "
        "WHERE b.run = r.id AND b.state = 'waiting' AND b.owner IS NULL AND b.due <= bms_wall() "
        "AND (b.is_counted = 1 OR r.wave IS NULL OR r.in_flight + b.servers <= r.wave)) "
        f"AND ($5 = '' OR r.id = $5) ORDER BY r.served LIMIT {_RUNS_LOOKED_AT}",
        place,
        first,
        second,
        third,
        run or "",
    )
    for (found,) in runs:
        batches = yield from _claim_of_run(str(found), owner)
        if batches:
            return batches
    return []


def _claim_of_run(run: str, owner: str) -> Transaction[list[KeptBatch]]:
    rows = yield from ask(
        "WITH picked AS MATERIALIZED (SELECT b.run, b.number FROM bms_async_batches AS b "
        "WHERE b.run = $1 AND b.state = 'waiting' AND b.owner IS NULL AND b.due <= bms_wall() "
        "AND (b.is_counted = 1 OR EXISTS (SELECT 1 FROM bms_async_runs AS r WHERE r.id = b.run "
        "AND (r.wave IS NULL OR r.in_flight + b.servers <= r.wave))) "
        f"ORDER BY b.rank, b.due, b.number LIMIT 1 {SKIP_LOCKED}) {_CLAIM}",
        run,
        owner,
        LEASE,
    )
    if not rows:
        return []
    # Counted in the run's own row, whose lock makes this exact whatever other workers claim at the same moment.
    added = yield from _count_in_flight(run, rows)
    counted = yield from ask(
        "UPDATE bms_async_runs SET in_flight = in_flight + $2, served = bms_wall() WHERE id = $1 AND status = 'open' "
        "AND (wave IS NULL OR $2 = 0 OR in_flight + $2 <= wave) RETURNING id",
        run,
        added,
    )
    if not counted:
        raise RollBack([])
    rows = [*rows, *(yield from _claim_to_merge(run, owner, rows[0]))]
    return (yield from _read_batches(run, [row[1] for row in rows], owner))


def _claim_to_merge(run: str, owner: str, first: Row) -> Transaction[list[Row]]:
    """Claim further batches of deferred servers that fit into one call with the first, which is of such ones too."""
    room = _MAX_SERVERS - _int(first[2])
    of_deferred = yield from ask(
        "SELECT 1 FROM bms_async_batches WHERE run = $1 AND number = $2 AND rank = 1 AND sequence = 0", run, first[1]
    )
    if not of_deferred or room <= 0:
        return []
    rows = yield from ask(
        "WITH picked AS MATERIALIZED (SELECT b.run, b.number FROM bms_async_batches AS b WHERE b.run = $1 "
        "AND b.state = 'waiting' AND b.owner IS NULL AND b.rank = 1 AND b.sequence = 0 AND b.due <= bms_wall() "
        "AND b.servers <= $4 "
        f"ORDER BY b.due, b.number LIMIT {_MERGED_AT_ONCE} {SKIP_LOCKED}) {_CLAIM}",
        run,
        owner,
        LEASE,
        room,
    )
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: _int(row[1])):
        if _int(row[2]) <= room:
            room -= _int(row[2])
            kept.append(row)
        else:
            yield from ask("UPDATE bms_async_batches SET owner = NULL WHERE run = $1 AND number = $2", run, row[1])
    return kept


def _count_in_flight(run: str, rows: Sequence[Row]) -> Transaction[int]:
    """Mark claimed batches as counted, and return how many servers that are new in flight they have."""
    new = [(_int(number), _int(servers)) for _, number, servers, is_counted in rows if not is_counted]
    for number, _ in new:
        yield from ask("UPDATE bms_async_batches SET is_counted = 1 WHERE run = $1 AND number = $2", run, number)
    return sum(servers for _, servers in new)


def take_over(place: str, owner: str, limit: int, run: str | None = None) -> Transaction[list[KeptBatch]]:
    """Claim batches that were sent, and whose worker does not renew its lease any more.

    Args:
        place: The endpoint and the project that the worker has credentials for.
        owner: The worker.
        limit: How many at most.
        run: The only run to look at; None for all.
    """
    # A batch that was not sent needs no credentials, but a slot. So it goes back to all.
    yield from ask(
        "WITH picked AS MATERIALIZED (SELECT b.run, b.number FROM bms_async_batches AS b "
        f"WHERE {EXPIRED} AND b.state = 'waiting' LIMIT 100 {SKIP_LOCKED}) "
        "UPDATE bms_async_batches SET owner = NULL, fence = fence + 1 FROM picked "
        "WHERE bms_async_batches.run = picked.run AND bms_async_batches.number = picked.number"
    )
    rows = yield from ask(
        "WITH picked AS MATERIALIZED (SELECT b.run, b.number FROM bms_async_batches AS b "
        f"WHERE {EXPIRED} AND b.state IN ('sending', 'watching') AND EXISTS "
        "(SELECT 1 FROM bms_async_runs AS r WHERE r.id = b.run AND r.place = $1) AND ($5 = '' OR b.run = $5) "
        f"ORDER BY b.lease LIMIT $4 {SKIP_LOCKED}) {_CLAIM}",
        place,
        owner,
        LEASE,
        limit,
        run or "",
    )
    return (yield from _read_all(rows, owner))


def claim_unsendable(run: str | None, place: str | None, owner: str, limit: int) -> Transaction[list[KeptBatch]]:
    """Claim batches of cancelled or aborted runs that were never sent, to skip their servers.

    Args:
        run: The run; None for all.
        place: The endpoint and the project; None for all.
        owner: The worker, which needs no credentials for this.
        limit: How many at most.
    """
    rows = yield from ask(
        "WITH picked AS MATERIALIZED (SELECT b.run, b.number FROM bms_async_batches AS b "
        f"WHERE (b.owner IS NULL OR ({EXPIRED})) AND b.state = 'waiting' AND ($1 = '' OR b.run = $1) AND b.run IN "
        "(SELECT r.id FROM bms_async_runs AS r WHERE r.ended IS NULL AND r.unsent > 0 "
        "AND r.status IN ('cancelled', 'aborted') AND ($4 = '' OR r.place = $4)) "
        f"LIMIT $5 {SKIP_LOCKED}) {_CLAIM}",
        run or "",
        owner,
        LEASE,
        place or "",
        limit,
    )
    for its_run in _runs_of(rows):
        added = yield from _count_in_flight(its_run, [row for row in rows if row[0] == its_run])
        yield from ask("UPDATE bms_async_runs SET in_flight = in_flight + $2 WHERE id = $1", its_run, added)
    return (yield from _read_all(rows, owner))


def renew(owner: str) -> Transaction[dict[tuple[str, int], tuple[int, RunStatus]]]:
    """Renew the lease of all batches of a worker.

    Args:
        owner: The worker.

    Returns:
        The fence and the status of the run, by run and number of the batch, of all that are its own.
    """
    yield from ask("UPDATE bms_async_batches SET lease = bms_now() + $2 WHERE owner = $1", owner, LEASE)
    rows = yield from ask(
        "SELECT b.run, b.number, b.fence, r.status FROM bms_async_batches AS b "
        "JOIN bms_async_runs AS r ON r.id = b.run WHERE b.owner = $1",
        owner,
    )
    return {(str(run), _int(number)): (_int(fence), RunStatus(str(status))) for run, number, fence, status in rows}


def hand_back(owner: str) -> Transaction[None]:
    """Hand all batches of a worker back, so that others need not wait for the end of its lease.

    Args:
        owner: The worker.
    """
    yield from ask(
        "UPDATE bms_async_batches SET owner = NULL, fence = fence + 1 WHERE owner = $1 AND state = 'waiting'", owner
    )
    yield from ask("UPDATE bms_async_batches SET lease = -1 WHERE owner = $1", owner)


def hand_back_one(claim: Claim) -> Transaction[None]:
    """Hand one batch back.

    Args:
        claim: The claim to it.
    """
    yield from ask(
        "UPDATE bms_async_batches SET lease = -1, owner = CASE WHEN state = 'waiting' THEN NULL ELSE owner END "
        "WHERE run = $1 AND number = $2 AND owner = $3 AND fence = $4",
        claim.run,
        claim.number,
        claim.owner,
        claim.fence,
    )


def _runs_of(rows: Sequence[Row]) -> list[str]:
    return [str(run) for run in dict.fromkeys(row[0] for row in rows)]


def _read_all(rows: Sequence[Row], owner: str) -> Transaction[list[KeptBatch]]:
    batches: list[KeptBatch] = []
    for run in _runs_of(rows):
        batches += yield from _read_batches(run, [row[1] for row in rows if row[0] == run], owner)
    return batches


def _read_batches(run: str, numbers: Sequence[object], owner: str) -> Transaction[list[KeptBatch]]:
    ((key, action, options, status, aborted),) = yield from ask(
        "SELECT run_key, action, options, status, aborted FROM bms_async_runs WHERE id = $1", run
    )
    batches = []
    for number in numbers:
        (row,) = yield from ask(
            f"SELECT {_OF_BATCH} FROM bms_async_batches WHERE run = $1 AND number = $2",
            run,
            _int(number),
        )
        ((parts,),) = yield from ask(
            "SELECT parts FROM bms_async_batches WHERE run = $1 AND number = $2", run, _int(row[-1])
        )
        batches.append(_read_batch(row, owner, parts=_int(parts), run=(key, action, options, status, aborted)))
    return batches


def _read_batch(row: Row, owner: str, *, parts: int, run: Row) -> KeptBatch:
    its_run, number, fence, state, ids, servers, details, job, sequence, _ = row
    key, action, options, status, aborted = run
    fields = {
        "claim": Claim(run=str(its_run), number=_int(number), owner=owner, fence=_int(fence)),
        "state": state,
        "ids": ids,
        "servers": servers,
        "details": details,
        "job": job,
        "sequence": sequence,
        "parts": parts,
        "key": key,
        "action": action,
        "options": options,
        "status": status,
        "aborted": aborted,
    }
    return msgspec.convert(fields, KeptBatch)


def _int(value: object) -> int:
    return msgspec.convert(value, int)
