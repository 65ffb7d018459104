"""Transactions by which one worker carries out the plan of a rollout: it makes the batches that any worker sends.

What they guarantee: a server of a plan gets into one batch, or gets its outcome, once. The plan is a row among the
batches, which one worker has at a time, under a fence. Each step of it has a number. So a step whose commit was not
confirmed is made again without harm, and one of a worker that has lost the plan changes nothing.

What was taken from a plan is nowhere noted by itself. It is what the batches and the outcomes of the run have, so that
there is nothing that could contradict them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bms_async.journal.records import BatchState, Claim, KeptBatch, KeptPlan, NewBatch, NewBlock, Step
from bms_async.journal.statements import SKIP_LOCKED, RollBack, Row, Transaction, ask

from .claims import CLAIM, EXPIRED, IS_DUE, LEASE, OF_RUN, SEIZE, read_batch
from .runs import INSERT_BATCH, new_row
from .steps import IS_MINE, count_outcomes, of_claim

_IS_OPEN = f"b.state = 'planning' AND (b.owner IS NULL OR ({EXPIRED}))"


def claim_plan(place: str, owner: str, run: str | None = None) -> Transaction[KeptBatch | None]:
    """Claim a plan that nobody carries out.

    Args:
        place: The endpoint and the project that the worker works for.
        owner: The worker.
        run: The only run to look at; None for all.
    """
    rows = yield from ask(
        "WITH picked AS MATERIALIZED (SELECT b.run, b.number FROM bms_async_batches AS b "
        f"WHERE {_IS_OPEN} AND ($1 = '' OR b.run = $1) AND EXISTS (SELECT 1 FROM bms_async_runs AS r "
        "WHERE r.id = b.run AND r.place = $4) "
        f"LIMIT 1 {SKIP_LOCKED}) {CLAIM}",
        run or "",
        owner,
        LEASE,
        place,
    )
    return (yield from _read_claimed(rows, owner))


def seize_plan(run: str, owner: str) -> Transaction[KeptBatch | None]:
    """Claim the plan of a run that was cancelled or aborted, whoever has it: none of its servers is sent any more.

    Args:
        run: The run's id.
        owner: Whoever skips them, which needs no credentials for this.
    """
    rows = yield from ask(
        SEIZE.format(
            condition="run = $1 AND state = 'planning' AND EXISTS (SELECT 1 FROM bms_async_runs AS r WHERE r.id = $1 "
            "AND r.status IN ('cancelled', 'aborted'))"
        ),
        run,
        owner,
        LEASE,
    )
    return (yield from _read_claimed(rows, owner))


def _read_claimed(rows: Sequence[Row], owner: str) -> Transaction[KeptBatch | None]:
    if not rows:
        return None
    (fields,) = yield from ask(f"SELECT {OF_RUN} FROM bms_async_runs WHERE id = $1", rows[0][2])
    return read_batch(rows[0], owner, fields)


def read_plan(run: str, after: int) -> Transaction[KeptPlan | None]:
    """Read the part of a plan that comes after a number.

    Args:
        run: The run's id.
        after: The number; -1 for the first part.
    """
    rows = yield from ask(
        "SELECT number, ids, details FROM bms_async_plans WHERE run = $1 AND number > $2 ORDER BY number LIMIT 1",
        run,
        after,
    )
    if not rows:
        return None
    number, ids, details = rows[0]
    return msgspec.convert({"number": number, "ids": ids, "details": details}, KeptPlan)


def read_open_batches(run: str, after: int, limit: int) -> Transaction[list[tuple[int, bytes]]]:
    """Read the servers of the batches of a run that have not ended, those that have their outcome included.

    Args:
        run: The run's id.
        after: The number of the batch after which to begin; 0 for the first.
        limit: How many at most.
    """
    rows = yield from ask(
        "SELECT number, ids FROM bms_async_batches WHERE run = $1 AND number > $2 "
        "AND state NOT IN ('done', 'planning') ORDER BY number LIMIT $3",
        run,
        after,
        limit,
    )
    return [msgspec.convert(tuple(row), tuple[int, bytes]) for row in rows]


def has_unsent(run: str) -> Transaction[bool]:
    """Return whether a batch of a run could be sent and was not: it waits for a worker, or for a slot of the limit.

    Args:
        run: The run's id.
    """
    rows = yield from ask(
        f"SELECT 1 WHERE EXISTS (SELECT 1 FROM bms_async_batches AS b WHERE b.run = $1 AND {IS_DUE}) OR EXISTS "
        "(SELECT 1 FROM bms_async_batches AS b WHERE b.run = $1 AND b.state = 'waiting' AND b.owner IS NOT NULL)",
        run,
    )
    return bool(rows)


def release(claim: Claim, sequence: int, batch: NewBatch) -> Transaction[Step]:
    """Make a batch of servers of a plan that may go now.

    Args:
        claim: The claim to the plan.
        sequence: The number of this step of the plan; the first is 1.
        batch: The batch.
    """
    if not (yield from _begin_step(claim, sequence, batch.servers)):
        return (yield from _made_or_lost(claim, sequence))
    rows = yield from ask(
        "UPDATE bms_async_runs SET open_batches = open_batches + 1, unsent = unsent + 1, next_batch = next_batch + 1 "
        "WHERE id = $1 AND status = 'open' RETURNING next_batch - 1",
        claim.run,
    )
    if not rows:
        raise RollBack(Step.STOPPED)
    yield from ask(INSERT_BATCH, *new_row(claim.run, msgspec.convert(rows[0][0], int), batch))
    return Step.MADE


def skip_planned(claim: Claim, sequence: int, block: NewBlock) -> Transaction[Step]:
    """Write down the outcomes of servers of a plan that are not sent any more.

    Args:
        claim: The claim to the plan.
        sequence: The number of this step of the plan.
        block: The outcomes.
    """
    if not (yield from _begin_step(claim, sequence, block.counts.total)):
        return (yield from _made_or_lost(claim, sequence))
    yield from count_outcomes(claim, block, in_flight=0)
    return Step.MADE


def abort_planned(claim: Claim, reason: str) -> Transaction[Step]:
    """Abort the run of a plan.

    Args:
        claim: The claim to the plan.
        reason: The reason.
    """
    rows = yield from ask(f"SELECT number FROM bms_async_batches WHERE {IS_MINE}", *of_claim(claim))
    if not rows:
        return Step.LOST
    yield from ask(
        "UPDATE bms_async_runs SET status = 'aborted', aborted = $2 WHERE id = $1 AND status IN ('open', 'paused')",
        claim.run,
        reason,
    )
    return Step.MADE


def note_standing(claim: Claim, standing: bytes) -> Transaction[Step]:
    """Write down how far a rollout is.

    Args:
        claim: The claim to its plan.
        standing: How far it is, encoded by the caller.
    """
    rows = yield from ask(
        f"UPDATE bms_async_runs SET standing = $5 WHERE id = $1 AND EXISTS "
        f"(SELECT 1 FROM bms_async_batches WHERE {IS_MINE}) RETURNING id",
        *of_claim(claim),
        standing,
    )
    return Step.MADE if rows else Step.LOST


def _begin_step(claim: Claim, sequence: int, servers: int) -> Transaction[bool]:
    """Take so many servers from a plan, unless this very step was made already; never more than it has."""
    rows = yield from ask(
        f"UPDATE bms_async_batches SET sequence = $5, servers = servers - $7 WHERE {IS_MINE} AND state = $6 "
        "AND sequence = $5 - 1 AND servers >= $7 RETURNING number",
        *of_claim(claim),
        sequence,
        BatchState.PLANNING.value,
        servers,
    )
    return bool(rows)


def _made_or_lost(claim: Claim, sequence: int) -> Transaction[Step]:
    rows = yield from ask(
        f"SELECT number FROM bms_async_batches WHERE {IS_MINE} AND sequence = $5", *of_claim(claim), sequence
    )
    return Step.MADE if rows else Step.LOST
