"""Transactions about runs: writing one down, finding, pausing, cancelling and deleting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from bms_async.journal.records import (
    BatchState,
    Counts,
    KeptRun,
    LedBy,
    NewBatch,
    NewBlock,
    NewPlan,
    NewRun,
    RunStatus,
)
from bms_async.journal.statements import Row, Statement, Transaction, Value, ask

from .leaders import hold_lead

_READ_BESIDE = ("counts", "held", "unready", "sent")
_FIELDS = tuple(name for name in KeptRun.__struct_fields__ if name not in _READ_BESIDE) + Counts.__struct_fields__
_COLUMNS = ", ".join({"key": "run_key", "unknown": "unknown_count"}.get(field, field) for field in _FIELDS)

_ROWS_A_STATEMENT = 50
"""Batches that are written by one statement, so that none takes long."""


def begin_run(
    run: NewRun, batches: Sequence[NewBatch], refused: Sequence[NewBlock], plan: Sequence[NewPlan] = ()
) -> Transaction[tuple[KeptRun, bool]]:
    """Write a run down with all its servers, unless its place has one of that key.

    Args:
        run: The run.
        batches: Its servers.
        refused: The outcomes of ids that are invalid.
        plan: Its servers in the place of `batches`, if these are made by a rollout.

    Returns:
        The run that has the key, and whether it is this very one: that it was written now or, by a transaction whose
        commit was not confirmed, a moment ago.
    """
    skipped = sum(block.counts.total for block in refused)
    # That of the plan holds the run open until it is carried out.
    open_batches = len(batches) + bool(plan)
    added = yield Statement(
        "INSERT INTO bms_async_runs (id, place, run_key, action, options, digest, wave, abort_above, abort_sample, "
        "status, servers, open_batches, unsent, next_batch, in_flight, submitted, accepted, extra_calls, succeeded, "
        "unchanged, failed, unknown_count, skipped, number, served, created, ended) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $15, $12, 0, 0, 0, 0, 0, 0, 0, 0, $13, $14, 0, "
        "bms_wall(), CASE WHEN CAST($12 AS bigint) = 0 THEN bms_wall() END) "
        "ON CONFLICT (place, run_key) DO NOTHING RETURNING id",
        (
            run.id,
            run.place,
            run.key,
            run.action,
            run.options,
            run.digest,
            run.wave,
            run.abort_above,
            run.abort_sample,
            RunStatus.OPEN.value,
            sum(batch.servers for batch in batches) + sum(part.servers for part in plan) + skipped,
            open_batches,
            skipped,
            len(refused),
            len(batches),
        ),
    )
    if added:
        for start in range(0, len(batches), _ROWS_A_STATEMENT):
            chunk = batches[start : start + _ROWS_A_STATEMENT]
            yield Statement(INSERT_BATCH, rows=[new_row(run.id, start + at, batch) for at, batch in enumerate(chunk)])
        if plan:
            yield Statement(_INSERT_PLAN_BATCH, (run.id, b"", sum(part.servers for part in plan)))
        for number, part in enumerate(plan):
            yield Statement(_INSERT_PLAN, (run.id, number, part.ids, part.details))
        for number, block in enumerate(refused, 1):
            yield Statement(INSERT_BLOCK, (run.id, number, -1, block.counts.total, block.body))
    found = yield from find_run(run.place, run.key)
    if found is None:
        raise RuntimeError("a run that was just written down is not there")
    return found, found.id == run.id


def begin_led_run(
    term: LedBy, run: NewRun, batches: Sequence[NewBatch], refused: Sequence[NewBlock], plan: Sequence[NewPlan] = ()
) -> Transaction[tuple[KeptRun, bool] | None]:
    """Write a run down as `begin_run` does, if whoever begins it leads.

    So whoever leads next finds every run of the leaders before it.

    Args:
        term: The term of the leader.
        run: The run.
        batches: Its servers.
        refused: The outcomes of ids that are invalid.
        plan: Its servers in the place of `batches`, if these are made by a rollout.

    Returns:
        What `begin_run` returns; None if the term is over.
    """
    if not (yield from hold_lead(term)):
        return None
    return (yield from begin_run(run, batches, refused, plan))


INSERT_BATCH = (
    "INSERT INTO bms_async_batches (run, number, state, ids, servers, details, rank, due, is_counted, owner, fence, "
    "lease, job, sequence, root, parts) VALUES ($1, $2, 'waiting', $3, $4, $5, $6, "
    "CASE WHEN CAST($10 AS double precision) > 0 THEN bms_floor((bms_wall() + $7) / $10 + 1) * $10 "
    "WHEN CAST($7 AS double precision) > 0 THEN bms_wall() + $7 ELSE 0 END, $8, NULL, 0, 0, "
    "NULL, 0, $9, 0)"
)
_INSERT_PLAN_BATCH = (
    "INSERT INTO bms_async_batches (run, number, state, ids, servers, details, rank, due, is_counted, owner, fence, "
    "lease, job, sequence, root, parts) VALUES ($1, 0, 'planning', $2, $3, $2, 0, 0, 0, NULL, 0, 0, NULL, 0, 0, 0)"
)
_INSERT_PLAN = "INSERT INTO bms_async_plans (run, number, ids, details) VALUES ($1, $2, $3, $4)"
INSERT_BLOCK = "INSERT INTO bms_async_outcomes (run, number, batch, servers, body) VALUES ($1, $2, $3, $4, $5)"


def new_row(run: str, number: int, batch: NewBatch, *, root: int | None = None) -> tuple[Value, ...]:
    """Return the parameters of `INSERT_BATCH`.

    Args:
        run: The run's id.
        number: The batch's number.
        batch: The batch.
        root: The batch that it descends from, whose servers count as in flight; None for none.
    """
    is_counted = int(root is not None)
    return (
        run,
        number,
        batch.ids,
        batch.servers,
        batch.details,
        batch.rank,
        batch.delay,
        is_counted,
        number if root is None else root,
        batch.grid,
    )


def find_run(place: str, key: str) -> Transaction[KeptRun | None]:
    """Find a run by its key.

    Args:
        place: The endpoint and the project.
        key: The key.
    """
    rows = yield from ask(
        f"SELECT {_COLUMNS} FROM bms_async_runs WHERE place = $1 AND run_key = $2",
        place,
        key,
    )
    return _read_run(rows[0]) if rows else None


def read_run(run: str) -> Transaction[KeptRun | None]:
    """Read a run, and how many of its batches a worker holds.

    Args:
        run: Its id.
    """
    rows = yield from ask(f"SELECT {_COLUMNS} FROM bms_async_runs WHERE id = $1", run)
    if not rows:
        return None
    # What was sent has an owner until it has ended, also one that has died.
    held, unready = "CASE WHEN lease >= bms_now() THEN 1 ELSE 0 END", "CASE WHEN lease >= bms_now() THEN unready END"
    sums = (held, unready, "CASE WHEN state IN ('sending', 'watching') THEN servers END")
    columns = ", ".join(f"CAST(coalesce(sum({each}), 0) AS bigint)" for each in sums)
    (counts,) = yield from ask(
        f"SELECT {columns} FROM bms_async_batches WHERE run = $1 AND owner IS NOT NULL",
        run,
    )
    return _read_run(rows[0], beside=dict(zip(("held", "unready", "sent"), counts, strict=True)))


def read_first_batch(run: str) -> Transaction[tuple[BatchState, str | None, bool] | None]:
    """Read how far the first batch of a run is.

    Args:
        run: The run's id.

    Returns:
        Its state, its job, and whether it is not any more with the worker that it was with first; None if there is no
        batch.
    """
    rows = yield from ask(
        "SELECT state, job, CASE WHEN fence > 1 OR (owner IS NOT NULL AND lease < bms_now()) THEN 1 ELSE 0 END "
        "FROM bms_async_batches WHERE run = $1 AND number = 0",
        run,
    )
    if not rows:
        return None
    state, job, has_moved = rows[0]
    return BatchState(str(state)), None if job is None else str(job), bool(has_moved)


def list_runs(
    place: str | None, *, is_open: bool | None, after: tuple[float, str] | None, limit: int
) -> Transaction[list[KeptRun]]:
    """Read runs, the latest first.

    Args:
        place: The endpoint and the project; None for all.
        is_open: True for those that have not ended, False for those that have, None for both.
        after: The time and the id of the run after which to go on, None to begin.
        limit: How many at most.
    """
    created, last = (float("inf"), "") if after is None else after
    rows = yield from ask(
        f"SELECT {_COLUMNS} FROM bms_async_runs "
        "WHERE ($1 = '' OR place = $1) AND ($2 = -1 OR ($2 = 1) = (ended IS NULL)) "
        "AND (created < $3 OR (created = $3 AND id > $4)) ORDER BY created DESC, id LIMIT $5",
        place or "",
        -1 if is_open is None else int(is_open),
        min(created, 1e18),
        last,
        limit,
    )
    return [_read_run(row) for row in rows]


def list_open(place: str, prefix: str) -> Transaction[list[KeptRun]]:
    """Read the runs of a place that have not ended, the earliest first.

    Args:
        place: The endpoint and the project.
        prefix: What their keys begin with.
    """
    rows = yield from ask(
        f"SELECT {_COLUMNS} FROM bms_async_runs WHERE place = $1 AND ended IS NULL "
        "AND substr(run_key, 1, length(CAST($2 AS text))) = $2 ORDER BY created, id",
        place,
        prefix,
    )
    return [_read_run(row) for row in rows]


def read_open_batches(run: str) -> Transaction[list[bytes]]:
    """Return the servers, packed, of each batch that has not ended; some of them may have their outcomes.

    Args:
        run: The run's id.
    """
    rows = yield from ask(
        "SELECT ids FROM bms_async_batches WHERE run = $1 AND state NOT IN ('done', 'planning') ORDER BY number", run
    )
    return [msgspec.convert(ids, bytes) for (ids,) in rows]


def set_status(run: str, status: RunStatus) -> Transaction[KeptRun | None]:
    """Pause, resume or cancel a run; one that has ended, or ends already, stays as it is.

    Args:
        run: Its id.
        status: `OPEN`, `PAUSED` or `CANCELLED`.

    Returns:
        The run as it is now, None if there is none.
    """
    yield from ask(
        "UPDATE bms_async_runs SET status = $2 WHERE id = $1 AND ended IS NULL AND status IN ('open', 'paused')",
        run,
        status.value,
    )
    return (yield from read_run(run))


def delete_ended(age: float, place: str | None, prefix: str = "") -> Transaction[int]:
    """Delete a few runs that have ended, with all that is kept of them.

    Args:
        age: Those that ended more than so many seconds ago.
        place: The endpoint and the project; None for all.
        prefix: What their keys begin with.

    Returns:
        How many were deleted; 0 if none is left.
    """
    rows = yield from ask(
        "SELECT id FROM bms_async_runs WHERE ended < bms_wall() - $1 AND ($2 = '' OR place = $2) "
        "AND substr(run_key, 1, length(CAST($3 AS text))) = $3 LIMIT 20",
        age,
        place or "",
        prefix,
    )
    for (run,) in rows:
        for table, column in (("plans", "run"), ("outcomes", "run"), ("batches", "run"), ("runs", "id")):
            yield from ask(f"DELETE FROM bms_async_{table} WHERE {column} = $1", run)
    return len(rows)


def _read_run(row: Row, *, beside: Mapping[str, Value] | None = None) -> KeptRun:
    values = dict(zip(_FIELDS, row, strict=True))
    counts = {state: values.pop(state) for state in Counts.__struct_fields__}
    return msgspec.convert({**values, "counts": counts, **(beside or {})}, KeptRun)
