"""Transactions by which a batch goes on: waiting, sending, watching, done.

What they guarantee: each step is made by the worker that has the batch, and by no other, since it names owner and fence
of its claim. Making a step twice does no harm, so that a worker whose connection was lost while a step was committed
just makes it again. And each outcome is written down once: a block of outcomes has a number in its batch, and the
outcomes of the end are written in the transaction that ends the batch.

The counts of a run are changed in the same transactions. So is its number of blocks, by which readers go on: the lock
of the run's row makes numbers become visible in their order, which a sequence of the database would not.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bms_async.journal.records import Block, Claim, LedBy, NewBatch, NewBlock, Step
from bms_async.journal.statements import RollBack, Row, Statement, Transaction, ask
from bms_async.validation.aborting import why_abort

from .claims import LEASE
from .leaders import leads
from .runs import INSERT_BATCH, INSERT_BLOCK, new_row

_DEFERRED = 1
"""The rank of deferred servers: what their batch is split into later is no part of what the one before was."""

IS_MINE = "run = $1 AND number = $2 AND owner = $3 AND fence = $4"
"""The batch of a claim, by the parameters of `of_claim`."""


def mark_sending(claim: Claim, details: bytes, *, is_first: bool, term: LedBy | None = None) -> Transaction[Step]:
    """Note that the request of a batch is about to leave.

    Args:
        claim: The claim to it.
        details: What is known of it, with this attempt.
        is_first: Whether its servers were never sent before.
        term: The term without which it must not be sent; None for none.
    """
    rows = yield from ask(
        f"UPDATE bms_async_batches SET state = 'sending', details = $5, lease = bms_now() + $6 WHERE {IS_MINE} "
        "AND state = 'waiting' RETURNING servers",
        *of_claim(claim),
        details,
        LEASE,
    )
    if not rows:
        return (yield from _mark_sending_again(claim, details, term))
    # The run's row is locked until the commit, so that nothing is sent any more once a pause is there.
    sendable = yield from ask(
        "UPDATE bms_async_runs SET unsent = unsent - 1, submitted = submitted + $2 "
        "WHERE id = $1 AND status = 'open' RETURNING id",
        claim.run,
        rows[0][0] if is_first else 0,
    )
    if not sendable or not (yield from _may_send(term)):
        raise RollBack(Step.STOPPED)
    return Step.MADE


def _mark_sending_again(claim: Claim, details: bytes, term: LedBy | None) -> Transaction[Step]:
    """Note that a batch is about to be sent once more, whose response was lost; or that it was noted already."""
    rows = yield from ask(
        f"UPDATE bms_async_batches SET details = $5, lease = bms_now() + $6 WHERE {IS_MINE} AND state = 'sending' "
        "RETURNING number",
        *of_claim(claim),
        details,
        LEASE,
    )
    if not rows:
        return Step.LOST
    sendable = yield from ask(
        "UPDATE bms_async_runs SET status = status WHERE id = $1 AND status = 'open' RETURNING id", claim.run
    )
    if not sendable or not (yield from _may_send(term)):
        raise RollBack(Step.STOPPED)
    return Step.MADE


def _may_send(term: LedBy | None) -> Transaction[bool]:
    return term is None or (yield from leads(term))


def mark_waiting(claim: Claim, details: bytes) -> Transaction[Step]:
    """Note that the cloud surely refused a batch, which is to be sent again.

    Args:
        claim: The claim to it.
        details: What is known of it.
    """
    rows = yield from ask(
        f"UPDATE bms_async_batches SET state = 'waiting', details = $5 WHERE {IS_MINE} AND state = 'sending' "
        "RETURNING number",
        *of_claim(claim),
        details,
    )
    if not rows:
        return (yield from _made_or_lost(claim, "waiting"))
    yield from ask("UPDATE bms_async_runs SET unsent = unsent + 1 WHERE id = $1", claim.run)
    return Step.MADE


def mark_watching(claim: Claim, job: str) -> Transaction[Step]:
    """Note the job of a batch that the cloud has accepted.

    Args:
        claim: The claim to it.
        job: The job's id.
    """
    rows = yield from ask(
        f"UPDATE bms_async_batches SET state = 'watching', job = $5 WHERE {IS_MINE} AND state = 'sending' "
        "RETURNING number",
        *of_claim(claim),
        job,
    )
    if not rows:
        return (yield from _made_or_lost(claim, "watching"))
    yield from ask("UPDATE bms_async_runs SET accepted = accepted + 1 WHERE id = $1", claim.run)
    return Step.MADE


def add_outcomes(claim: Claim, sequence: int, block: NewBlock) -> Transaction[Step]:
    """Write down outcomes of a batch that goes on.

    Args:
        claim: The claim to it.
        sequence: The number of this block in the batch; the first is 1.
        block: The outcomes.
    """
    rows = yield from ask(
        f"UPDATE bms_async_batches SET sequence = $5, servers = servers - $6 WHERE {IS_MINE} "
        "AND sequence = $5 - 1 RETURNING number",
        *of_claim(claim),
        sequence,
        block.counts.total,
    )
    if not rows:
        found = yield from ask(
            f"SELECT number FROM bms_async_batches WHERE {IS_MINE} AND sequence = $5",
            *of_claim(claim),
            sequence,
        )
        return Step.MADE if found else Step.LOST
    yield from count_outcomes(claim, block)
    return Step.MADE


def finish(claim: Claim, block: NewBlock, children: Sequence[NewBatch], *, splits: int = 0) -> Transaction[Step]:
    """Write down that a batch has ended, with the outcomes that are left and the batches that follow it.

    Args:
        claim: The claim to it.
        block: The outcomes that were not written down yet.
        children: The batches of servers that are to be sent again.
        splits: How many of these are parts of it, since it was refused.
    """
    rows = yield from _end(claim, "state <> 'waiting'")
    was_waiting = not rows
    if was_waiting:
        rows = yield from _end(claim, "state = 'waiting'")
    if not rows:
        return Step.MADE if (yield from _is_done(claim)) else Step.LOST
    root = rows[0][0]
    first = yield from count_outcomes(claim, block, ended=1, unsent=1 if was_waiting else 0, children=len(children))
    for number, child in enumerate(children, first):
        descends_from = number if child.rank == _DEFERRED else int(root or 0)
        yield Statement(INSERT_BATCH, new_row(claim.run, number, child, root=descends_from))
    if splits:
        yield from ask(
            "UPDATE bms_async_batches SET parts = parts + $3 WHERE run = $1 AND number = $2", claim.run, root, splits
        )
    return Step.MADE


def _end(claim: Claim, condition: str) -> Transaction[Sequence[Row]]:
    """End a batch that is in a certain state; return the number of the batch that it descends from."""
    return (
        yield from ask(
            "UPDATE bms_async_batches SET state = 'done', owner = NULL, ids = $5, details = $5, servers = 0, "
            f"sequence = sequence + 1 WHERE {IS_MINE} AND {condition} RETURNING root",
            *of_claim(claim),
            b"",
        )
    )


def merge(claim: Claim, others: Sequence[Claim], ids: bytes, details: bytes, servers: int) -> Transaction[Step]:
    """Put the servers of claimed batches into one of them, and end the others.

    Args:
        claim: The claim to the batch that has them from now on.
        others: The claims to the others.
        ids: The servers of all, packed.
        details: What is known of them.
        servers: How many these are.
    """
    rows = yield from ask(
        f"UPDATE bms_async_batches SET ids = $5, details = $6, servers = $7 WHERE {IS_MINE} AND state = 'waiting' "
        "RETURNING number",
        *of_claim(claim),
        ids,
        details,
        servers,
    )
    ended = already = 0
    for other in others:
        ended += len(
            (
                yield from ask(
                    f"UPDATE bms_async_batches SET state = 'done', owner = NULL, ids = $5, details = $5, servers = 0 "
                    f"WHERE {IS_MINE} AND state = 'waiting' RETURNING number",
                    *of_claim(other),
                    b"",
                )
            )
        )
        already += yield from _is_done(other)
    # None is ended here if this very transaction is made once more. But all were, or their servers are another's.
    if not rows or already != len(others) or ended not in (0, len(others)):
        raise RollBack(Step.LOST)
    yield from ask(
        "UPDATE bms_async_runs SET open_batches = open_batches - $2, unsent = unsent - $2 WHERE id = $1",
        claim.run,
        ended,
    )
    return Step.MADE


def read_blocks(run: str, since: int, limit: int) -> Transaction[list[Block]]:
    """Read blocks of outcomes of a run, in the order in which they became known.

    Args:
        run: The run's id.
        since: The number of the block after which to begin; 0 for the first.
        limit: How many at most.
    """
    rows = yield from ask(
        "SELECT number, servers, body FROM bms_async_outcomes WHERE run = $1 AND number > $2 ORDER BY number LIMIT $3",
        run,
        since,
        limit,
    )
    return [_read_block(number, servers, body) for number, servers, body in rows]


def read_blocks_of_batch(claim: Claim) -> Transaction[list[Block]]:
    """Read the outcomes that a batch has already, from an earlier worker.

    Args:
        claim: The claim to it.
    """
    rows = yield from ask(
        "SELECT number, servers, body FROM bms_async_outcomes WHERE run = $1 AND batch = $2 ORDER BY number",
        claim.run,
        claim.number,
    )
    return [_read_block(number, servers, body) for number, servers, body in rows]


def count_outcomes(
    claim: Claim,
    block: NewBlock,
    *,
    ended: int = 0,
    unsent: int = 0,
    children: int = 0,
    in_flight: int | None = None,
) -> Transaction[int]:
    """Count outcomes in the run's row, with all else that changes in it by the same step; return the first child.

    Args:
        claim: The claim to the batch.
        block: The outcomes.
        ended: How many batches end.
        unsent: How many of these were not sent.
        children: How many batches follow.
        in_flight: How many of the servers were in flight; None for all.
    """
    counts = block.counts
    rows = yield from ask(
        "UPDATE bms_async_runs SET succeeded = succeeded + $2, unchanged = unchanged + $3, failed = failed + $4, "
        "unknown_count = unknown_count + $5, skipped = skipped + $6, in_flight = in_flight - $12, "
        "extra_calls = extra_calls + $7, number = number + $8, open_batches = open_batches - $9 + $11, "
        "unsent = unsent - $10 + $11, next_batch = next_batch + $11, "
        "ended = CASE WHEN open_batches - $9 + $11 = 0 THEN coalesce(ended, bms_wall()) ELSE ended END WHERE id = $1 "
        "RETURNING number, abort_above, abort_sample, succeeded + unchanged + failed + unknown_count, "
        "failed + unknown_count, next_batch - $11",
        claim.run,
        counts.succeeded,
        counts.unchanged,
        counts.failed,
        counts.unknown,
        counts.skipped,
        block.extra_calls,
        1 if counts.total else 0,
        ended,
        unsent,
        children,
        counts.total if in_flight is None else in_flight,
    )
    ((number, above, sample, known, bad, first),) = rows
    if counts.total:
        yield from ask(INSERT_BLOCK, claim.run, number, claim.number, counts.total, block.body)
    share = None if above is None else float(above)
    why = why_abort(share, int(sample or 1), failed=int(bad or 0), ended=int(known or 0))
    if why is not None:
        yield from ask(
            "UPDATE bms_async_runs SET status = 'aborted', aborted = $2 WHERE id = $1 AND status IN ('open', 'paused')",
            claim.run,
            why,
        )
    return int(first or 0)


def _made_or_lost(claim: Claim, state: str) -> Transaction[Step]:
    """Return whether a step was made already: nobody but the owner makes one."""
    rows = yield from ask(
        f"SELECT number FROM bms_async_batches WHERE {IS_MINE} AND state = $5",
        *of_claim(claim),
        state,
    )
    return Step.MADE if rows else Step.LOST


def _is_done(claim: Claim) -> Transaction[bool]:
    """Return whether a batch was ended under this claim; whoever ends one leaves it without an owner."""
    rows = yield from ask(
        "SELECT number FROM bms_async_batches WHERE run = $1 AND number = $2 AND fence = $3 AND state = 'done'",
        claim.run,
        claim.number,
        claim.fence,
    )
    return bool(rows)


def of_claim(claim: Claim) -> tuple[str, int, str, int]:
    """Return the parameters of `IS_MINE`."""
    return claim.run, claim.number, claim.owner, claim.fence


def _read_block(number: object, servers: object, body: object) -> Block:
    return msgspec.convert({"number": number, "servers": servers, "body": body}, Block)
