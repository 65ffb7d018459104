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
from itertools import chain, repeat

import msgspec

from bms_async.journal.records import Claim, KeptBatch, RunStatus
from bms_async.journal.statements import SKIP_LOCKED, Row, Statement, Transaction, ask

LEASE = 15.0
"""Seconds for which a claim counts after it was made or renewed."""

EXPIRED = "b.owner IS NOT NULL AND (b.lease < bms_now() OR b.lease > bms_now() + 60)"
"""A lease that is longer than any is from before the clock was set back, or the machine came up again."""

_FIELDS = ("run", "number", "fence", "state", "ids", "servers", "details", "job", "sequence")
_AT = {name: at for at, name in enumerate(("is_counted", "rank", *_FIELDS, "parts"))}
OF_RUN = "run_key, action, options, status, aborted"

_TAKE = "UPDATE bms_async_batches SET owner = $2, fence = fence + 1, lease = bms_now() + $3, unready = 0"
_RETURNED = (
    ", ".join(f"bms_async_batches.{name}" for name in ("is_counted", "rank", *_FIELDS))
    + ", (SELECT r.parts FROM bms_async_batches AS r "
    "WHERE r.run = bms_async_batches.run AND r.number = bms_async_batches.root)"
)

CLAIM = (
    f"{_TAKE} FROM picked WHERE bms_async_batches.run = picked.run AND bms_async_batches.number = picked.number "
    f"RETURNING {_RETURNED}"
)

SEIZE = f"{_TAKE} WHERE {{condition}} RETURNING {_RETURNED}"
"""A claim to what somebody else may have; unlike `CLAIM` it waits for whoever has locked it."""

_IS_FREE = "b.state = 'waiting' AND b.owner IS NULL"
_LONGEST_DELAY = 600
# What is due later than any delay allows was written down before the time of day was set back.
IS_DUE = f"{_IS_FREE} AND (b.due <= bms_wall() OR b.due > bms_wall() + {_LONGEST_DELAY})"
_NO_WAVE = 1 << 60

_RUNS_LOOKED_AT = 8
# Of the new batches the first one is looked at and no other, since a run whose wave is full may have thousands.
_SENDABLE = (
    "SELECT * FROM (SELECT r.id, r.served FROM bms_async_runs AS r WHERE r.place = $1 AND r.action = {action} "
    "AND r.ended IS NULL AND r.unsent > 0 AND r.status = 'open' AND ($2 = '' OR r.id = $2) AND ("
    f"(SELECT b.servers FROM bms_async_batches AS b WHERE b.run = r.id AND b.is_counted = 0 AND {IS_DUE} "
    f"ORDER BY b.rank, b.due, b.number LIMIT 1) <= coalesce(r.wave - r.in_flight, {_NO_WAVE}) "
    f"OR EXISTS (SELECT 1 FROM bms_async_batches AS b WHERE b.run = r.id AND b.is_counted = 1 AND {IS_DUE})) "
    f"ORDER BY r.served LIMIT {_RUNS_LOOKED_AT}) AS those"
)
_MAX_SERVERS = 1000
_MERGED_AT_ONCE = 200
_RELEASED_AT_ONCE = 100


def claim_waiting(
    place: str, actions: Sequence[str], owner: str, run: str | None = None
) -> Transaction[list[KeptBatch]]:
    """Claim a batch that may be sent now; several of one run if these are of deferred servers, to be merged.

    The run whose turn is longest ago goes first, and of its batches those that are in flight already: first the parts
    of refused ones, then those of deferred servers.

    Args:
        place: The endpoint and the project that the worker has credentials for.
        actions: One to three actions whose limit has a slot.
        owner: The worker.
        run: The only run to look at; None for all.
    """
    kinds = list(dict.fromkeys(actions))
    # Each action by itself, so that an index has its runs in order, and those of others are not looked at.
    sendable = " UNION ALL ".join(_SENDABLE.format(action=f"${number}") for number in range(3, 3 + len(kinds)))
    runs = yield from ask(
        f"SELECT id FROM ({sendable}) AS sendable ORDER BY served LIMIT {_RUNS_LOOKED_AT}", place, run or "", *kinds
    )
    for (found,) in runs:
        batches = yield from _claim_of_run(str(found), owner)
        if batches:
            return batches
    return []


def _claim_of_run(run: str, owner: str) -> Transaction[list[KeptBatch]]:
    rows = yield from ask(
        "WITH picked AS MATERIALIZED (SELECT b.run, b.number FROM bms_async_batches AS b "
        f"WHERE b.run = $1 AND {IS_DUE} AND (b.is_counted = 1 OR b.servers <= "
        f"(SELECT coalesce(r.wave - r.in_flight, {_NO_WAVE}) FROM bms_async_runs AS r WHERE r.id = $1)) "
        f"ORDER BY b.is_counted DESC, b.rank, b.due, b.number LIMIT 1 {SKIP_LOCKED}) {CLAIM}",
        run,
        owner,
        LEASE,
    )
    if not rows:
        return []
    # Counted in the run's own row, whose lock makes this exact whatever other workers claim at the same moment.
    added = yield from _mark_counted(rows)
    counted = yield from ask(
        "UPDATE bms_async_runs SET in_flight = in_flight + $2, served = bms_wall() WHERE id = $1 AND status = 'open' "
        f"AND (wave IS NULL OR $2 = 0 OR in_flight + $2 <= wave) RETURNING {OF_RUN}",
        run,
        added,
    )
    if not counted:
        yield from ask(
            "UPDATE bms_async_batches SET owner = NULL, is_counted = $3 WHERE run = $1 AND number = $2",
            run,
            _value(rows[0], "number"),
            _value(rows[0], "is_counted"),
        )
        return []
    # A batch that has outcomes already is none to merge, since its ids are not all to be sent.
    if _value(rows[0], "rank") == 1 and not _value(rows[0], "sequence"):
        rows = [*rows, *(yield from _claim_to_merge(run, owner, _MAX_SERVERS - _value(rows[0], "servers")))]
    return [read_batch(row, owner, counted[0]) for row in rows]


def _claim_to_merge(run: str, owner: str, room: int) -> Transaction[list[Row]]:
    """Claim further batches of deferred servers that fit into one call with another one."""
    rows = yield from ask(
        "WITH locked AS MATERIALIZED (SELECT b.run, b.number, b.due, b.servers FROM bms_async_batches AS b "
        f"WHERE b.run = $1 AND b.is_counted = 1 AND b.rank = 1 AND b.sequence = 0 AND {IS_DUE} AND b.servers <= $4 "
        f"ORDER BY b.due, b.number LIMIT {_MERGED_AT_ONCE} {SKIP_LOCKED}), "
        "summed AS (SELECT run, number, sum(servers) OVER (ORDER BY due, number) AS total FROM locked), "
        f"picked AS MATERIALIZED (SELECT run, number FROM summed WHERE total <= $4) {CLAIM}",
        run,
        owner,
        LEASE,
        room,
    )
    return sorted(rows, key=lambda row: _value(row, "number"))


def _mark_counted(rows: Sequence[Row]) -> Transaction[int]:
    """Mark claimed batches as counted, and return how many servers that are new in flight they have."""
    new = [row for row in rows if not _value(row, "is_counted")]
    if new:
        yield Statement(
            "UPDATE bms_async_batches SET is_counted = 1 WHERE run = $1 AND number = $2",
            rows=[(str(row[_AT["run"]]), _value(row, "number")) for row in new],
        )
    return sum(_value(row, "servers") for row in new)


def take_over(place: str, owner: str, limit: int, run: str | None = None) -> Transaction[list[KeptBatch]]:
    """Claim batches that were sent, and whose worker does not renew its lease any more.

    Args:
        place: The endpoint and the project that the worker has credentials for.
        owner: The worker.
        limit: How many at most.
        run: The only run to look at; None for all.
    """
    # Nearly always there is nothing, and a store that may ask so before a transaction begins asks nothing else.
    if not (yield from ask(f"SELECT 1 FROM bms_async_batches AS b WHERE {EXPIRED} LIMIT 1")):
        return []
    yield from _release_expired()
    rows = yield from ask(
        "WITH picked AS MATERIALIZED (SELECT b.run, b.number FROM bms_async_batches AS b "
        f"WHERE {EXPIRED} AND b.state IN ('sending', 'watching') AND EXISTS "
        "(SELECT 1 FROM bms_async_runs AS r WHERE r.id = b.run AND r.place = $1) AND ($5 = '' OR b.run = $5) "
        f"ORDER BY b.lease LIMIT $4 {SKIP_LOCKED}) {CLAIM}",
        place,
        owner,
        LEASE,
        limit,
        run or "",
    )
    batches: list[KeptBatch] = []
    for its_run in dict.fromkeys(str(row[_AT["run"]]) for row in rows):
        (fields,) = yield from ask(f"SELECT {OF_RUN} FROM bms_async_runs WHERE id = $1", its_run)
        batches += [read_batch(row, owner, fields) for row in rows if row[_AT["run"]] == its_run]
    return batches


def _release_expired() -> Transaction[None]:
    """Give batches back to all that were claimed and not sent: for these one needs a slot of the limit."""
    yield from ask(
        "WITH picked AS MATERIALIZED (SELECT b.run, b.number FROM bms_async_batches AS b "
        f"WHERE {EXPIRED} AND b.state = 'waiting' LIMIT {_RELEASED_AT_ONCE} {SKIP_LOCKED}) "
        "UPDATE bms_async_batches SET owner = NULL, fence = fence + 1 FROM picked "
        "WHERE bms_async_batches.run = picked.run AND bms_async_batches.number = picked.number"
    )


def claim_unsendable(run: str | None, place: str | None, owner: str, limit: int) -> Transaction[list[KeptBatch]]:
    """Claim batches of a cancelled or aborted run that were never sent, to skip their servers.

    Args:
        run: The run; None for all.
        place: The endpoint and the project; None for all.
        owner: The worker, which needs no credentials for this.
        limit: How many at most.
    """
    runs = yield from ask(
        "SELECT r.id FROM bms_async_runs AS r WHERE r.ended IS NULL AND r.unsent > 0 "
        "AND r.status IN ('cancelled', 'aborted') AND ($1 = '' OR r.id = $1) AND ($2 = '' OR r.place = $2)",
        run or "",
        place or "",
    )
    if runs:
        yield from _release_expired()
    for (found,) in runs:
        rows = yield from ask(
            "WITH picked AS MATERIALIZED (SELECT b.run, b.number FROM bms_async_batches AS b "
            f"WHERE b.run = $1 AND {_IS_FREE} LIMIT $4 {SKIP_LOCKED}) {CLAIM}",
            str(found),
            owner,
            LEASE,
            limit,
        )
        if not rows:
            continue
        added = yield from _mark_counted(rows)
        (fields,) = yield from ask(
            f"UPDATE bms_async_runs SET in_flight = in_flight + $2 WHERE id = $1 RETURNING {OF_RUN}", str(found), added
        )
        return [read_batch(row, owner, fields) for row in rows]
    return []


def release_unsendable(run: str) -> Transaction[None]:
    """Take what was not sent from its workers, if its run was cancelled or aborted: none of them may send it any more.

    So it can be skipped at once, also where a worker has died that had it.

    Args:
        run: The run.
    """
    yield from ask(
        "WITH picked AS MATERIALIZED (SELECT b.run, b.number FROM bms_async_batches AS b "
        "WHERE b.run = $1 AND b.state = 'waiting' AND b.owner IS NOT NULL AND EXISTS "
        f"(SELECT 1 FROM bms_async_runs AS r WHERE r.id = $1 AND r.status IN ('cancelled', 'aborted')) {SKIP_LOCKED}) "
        "UPDATE bms_async_batches SET owner = NULL, fence = fence + 1 FROM picked "
        "WHERE bms_async_batches.run = picked.run AND bms_async_batches.number = picked.number",
        run,
    )


def renew(
    owner: str, claims: Sequence[Claim], unready: Sequence[int] = ()
) -> Transaction[dict[tuple[str, int], tuple[int, RunStatus]]]:
    """Renew the lease of batches of a worker.

    A claim whose answer was lost is not among them: it is over with its lease, and not kept by those of others.

    Args:
        owner: The worker.
        claims: The batches that it carries on.
        unready: How many servers of each are not ready yet; of those that are left out, none.

    Returns:
        The fence and the status of the run, by run and number of the batch, of all that are its own.
    """
    # In the order in which `merge` locks them, too.
    counts = chain(unready, repeat(0))
    keys = sorted((claim.run, claim.number, claim.owner, claim.fence, next(counts)) for claim in claims)
    if keys:
        yield Statement(
            "UPDATE bms_async_batches SET lease = bms_now() + $6, unready = $5 "
            "WHERE run = $1 AND number = $2 AND owner = $3 AND fence = $4",
            rows=[(*key, LEASE) for key in keys],
        )
    rows = yield from ask(
        "SELECT b.run, b.number, b.fence, r.status FROM bms_async_batches AS b "
        "JOIN bms_async_runs AS r ON r.id = b.run WHERE b.owner = $1",
        owner,
    )
    return {(str(run), _int(number)): (_int(fence), RunStatus(str(status))) for run, number, fence, status in rows}


def others_send(place: str, owner: str) -> Transaction[bool]:
    """Return whether a batch of a place is with another worker that has sent it.

    Args:
        place: The endpoint and the project.
        owner: The worker that asks.
    """
    rows = yield from ask(
        "SELECT 1 FROM bms_async_batches AS b JOIN bms_async_runs AS r ON r.id = b.run "
        "WHERE b.owner IS NOT NULL AND b.owner <> $2 AND b.state IN ('sending', 'watching') "
        "AND b.lease >= bms_now() AND r.place = $1 LIMIT 1",
        place,
        owner,
    )
    return bool(rows)


def hand_back(owner: str) -> Transaction[None]:
    """Hand all batches of a worker back, so that others need not wait for the end of its lease.

    Args:
        owner: The worker.
    """
    yield from ask(
        "UPDATE bms_async_batches SET owner = NULL, fence = fence + 1 WHERE owner = $1 AND state = 'waiting'", owner
    )
    yield from ask("UPDATE bms_async_batches SET lease = -1 WHERE owner = $1", owner)


def hand_back_one(claim: Claim, delay: float = 0.0) -> Transaction[None]:
    """Hand one batch back.

    Args:
        claim: The claim to it.
        delay: Seconds before it may be claimed to be sent.
    """
    yield from ask(
        "UPDATE bms_async_batches SET lease = -1, owner = CASE WHEN state = 'waiting' THEN NULL ELSE owner END, "
        "due = CASE WHEN state = 'waiting' AND CAST($5 AS double precision) > 0 THEN bms_wall() + $5 ELSE due END "
        "WHERE run = $1 AND number = $2 AND owner = $3 AND fence = $4",
        claim.run,
        claim.number,
        claim.owner,
        claim.fence,
        delay,
    )


def read_batch(row: Row, owner: str, run: Row) -> KeptBatch:
    """Return the batch that a claim returned.

    Args:
        row: What `CLAIM` returned of it.
        owner: The worker.
        run: The columns `OF_RUN` of its run.
    """
    fields = {name: row[at] for name, at in _AT.items() if name not in ("is_counted", "rank", "run", "number", "fence")}
    key, action, options, status, aborted = run
    claim = Claim(run=str(row[_AT["run"]]), number=_value(row, "number"), owner=owner, fence=_value(row, "fence"))
    of_run = {"key": key, "action": action, "options": options, "status": status, "aborted": aborted}
    return msgspec.convert({**fields, **of_run, "claim": claim}, KeptBatch)


def _value(row: Row, name: str) -> int:
    return _int(row[_AT[name]])


def _int(value: object) -> int:
    return msgspec.convert(value, int)
