"""The journal as the log of one claimed batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVarTuple

from bms_async._clock import own_clock, steady_time
from bms_async._threads import run_in_thread
from bms_async.errors import ClientClosedError, JournalError
from bms_async.fleet.batch import Batch, BatchWithdrawnError
from bms_async.fleet.durable_log import FollowingBatch
from bms_async.fleet.outcome import Outcome
from bms_async.fleet.packed import count_states, pack_details, pack_outcomes, unpack_server_ids
from bms_async.jobs import JobHandle
from bms_async.journal import Claim, Journal, KeptBatch, LedBy, NewBatch, NewBlock, Step, pack_ids, unpack_ids
from bms_async.journal.statements import Transaction
from bms_async.journal.transactions.claims import LEASE, hand_back_one
from bms_async.journal.transactions.leaders import leads
from bms_async.journal.transactions.steps import (
    add_outcomes,
    finish,
    mark_sending,
    mark_waiting,
    mark_watching,
    read_blocks_of_batch,
)

_log = logging.getLogger("bms_async.runs")

Ts = TypeVarTuple("Ts")

_PATIENCE_FOR_RESULTS = 600.0
"""Seconds for which a journal that does not answer is asked again where it has to learn what was done."""

_PACKED_IN_THREAD = 200
"""From so many outcomes on they are packed in a thread."""


class JournalLog:
    """Writes down how far one batch is.

    Args:
        journal: The journal.
        claim: The claim to the batch.
        sequence: How many blocks of outcomes it has already.
        clock: The clock that leases are counted on, in seconds; by default that of the loop if this is a virtual one,
            else the machine's.
        on_outcomes: Called when outcomes were written down.
        term: The term of the leader that began its run, without which it must not be sent; None if it is nobody's.
    """

    def __init__(
        self,
        journal: Journal,
        claim: Claim,
        sequence: int,
        *,
        clock: Callable[[], float] | None = None,
        on_outcomes: Callable[[], None] | None = None,
        term: LedBy | None = None,
    ) -> None:
        self._journal = journal
        self._claim = claim
        self._sequence = sequence
        self._on_outcomes = on_outcomes
        self._term = term
        self._clock = clock or own_clock(asyncio.get_running_loop()) or steady_time

    async def may_be_sent(self) -> bool:
        """Return whether the leader that began its run still leads; True if nobody leads that.

        Raises:
            BatchWithdrawnError: The journal cannot be read.
        """
        if self._term is None:
            return True
        try:
            return await self._journal.run(leads, self._term, writes=False)
        except JournalError as error:
            raise BatchWithdrawnError("the journal could not be read") from error

    async def sending(self, batch: Batch) -> None:
        """Write down that the request is about to leave, while the lease is surely this worker's."""
        was_sent, was_in_doubt = batch.send_count, batch.was_in_doubt
        # As it is once it was sent.
        batch.send_count, batch.was_in_doubt = was_sent + 1, was_in_doubt or batch.in_doubt
        details = pack_details(batch)
        batch.send_count, batch.was_in_doubt = was_sent, was_in_doubt
        began = self._clock()
        is_first = not was_sent and not batch.earlier
        await self._step(partial(mark_sending, is_first=is_first, term=self._term), details, patience=LEASE)
        if self._clock() - began >= LEASE:
            await self.refused(batch)
            raise BatchWithdrawnError("the journal took longer than the lease of the batch")

    async def refused(self, batch: Batch) -> None:
        """Write down that the cloud surely did nothing."""
        await self._step(mark_waiting, pack_details(batch))

    async def watching(self, batch: Batch, job: JobHandle) -> None:  # noqa: ARG002 - a log may need it
        """Write down the job."""
        await self._step(mark_watching, job.id, patience=_PATIENCE_FOR_RESULTS)

    async def add(self, outcomes: Sequence[Outcome]) -> None:
        """Write down outcomes."""
        block = await _make_block(outcomes, 0)
        await self._step(add_outcomes, self._sequence + 1, block, patience=_PATIENCE_FOR_RESULTS)
        self._sequence += 1
        if self._on_outcomes is not None:
            self._on_outcomes()

    async def finish(self, outcomes: Sequence[Outcome], following: Sequence[FollowingBatch], extra_calls: int) -> None:
        """Write down the end."""
        block = await _make_block(outcomes, extra_calls)
        children = [_new_batch(each) for each in following]
        splits = sum(each.is_part for each in following)
        await self._step(partial(finish, splits=splits), block, children, patience=_PATIENCE_FOR_RESULTS)

    async def hand_back(self, batch: Batch, *, delay: float = 0.0, patience: float = LEASE) -> None:
        """Let another worker have the batch at once, as far as it is.

        Args:
            batch: The batch.
            delay: Seconds before it may be sent.
            patience: Seconds for which a journal that does not answer is asked again.
        """
        try:
            if not batch.in_doubt:
                await self._journal.run(mark_waiting, self._claim, pack_details(batch), patience=patience)
            await self._journal.run(hand_back_one, self._claim, delay, patience=patience)
        except (JournalError, ClientClosedError) as error:
            _log.info("a batch could not be handed back, and is free when its lease is over: %s", error)

    async def _step(
        self, transaction: Callable[[Claim, *Ts], Transaction[Step]], *args: *Ts, patience: float = 30.0
    ) -> None:
        try:
            step = await self._journal.run(transaction, self._claim, *args, patience=patience)
        except JournalError as error:
            _log.warning("a batch goes on when the journal can be written again: %s", error)
            raise BatchWithdrawnError("the journal could not be written") from error
        self._journal.notify()
        if step is not Step.MADE:
            why = "its run was paused, ended or is led no more" if step is Step.STOPPED else "another worker has it"
            raise BatchWithdrawnError(why)


async def read_open_ids(journal: Journal, kept: KeptBatch) -> list[str]:
    """Return the servers of a batch that have no outcome yet.

    Args:
        journal: The journal, open.
        kept: The batch, which is claimed.

    Raises:
        JournalError: The journal cannot be read.
    """
    ids = unpack_ids(kept.ids)
    if not kept.sequence:
        return ids
    blocks = await journal.run(read_blocks_of_batch, kept.claim, writes=False)
    known = {server_id for block in blocks for server_id in unpack_server_ids(block.body)}
    return [server_id for server_id in ids if server_id not in known]


async def _make_block(outcomes: Sequence[Outcome], extra_calls: int) -> NewBlock:
    if not outcomes:
        body = b""
    elif len(outcomes) < _PACKED_IN_THREAD:
        body = pack_outcomes(outcomes)
    else:
        body = await run_in_thread(pack_outcomes, outcomes)
    return NewBlock(counts=count_states(outcomes), body=body, extra_calls=extra_calls)


def _new_batch(following: FollowingBatch) -> NewBatch:
    batch = following.batch
    return NewBatch(
        ids=pack_ids(batch.remaining),
        servers=len(batch.remaining),
        details=pack_details(batch),
        rank=0 if following.is_part else 1 if following.grid else 2,
        delay=following.delay,
        grid=following.grid,
    )
