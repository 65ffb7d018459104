"""Skipping what is not sent any more: batches of runs that were cancelled or aborted. It needs no credentials."""

from __future__ import annotations

from contextlib import suppress

from bms_async.errors import FleetError
from bms_async.fleet.batch import BatchWithdrawnError
from bms_async.fleet.following import skipped_outcomes
from bms_async.fleet.packed import unpack_batch
from bms_async.journal import Journal, KeptBatch
from bms_async.journal.transactions.claims import claim_unsendable
from bms_async.journal.transactions.plans import seize_plan

from .batch_log import JournalLog, read_open_ids
from .rollouts import RunPlan

_AT_ONCE = 20


async def skip_plan(journal: Journal, owner: str, *, run: str) -> None:
    """Give the servers of a plan their outcomes that were not released, if their run was cancelled or aborted.

    Args:
        journal: The journal, open.
        owner: The worker.
        run: The run.

    Raises:
        JournalError: The journal cannot be used.
    """
    kept = await journal.run(seize_plan, run, owner)
    if kept is None:
        return
    # Whoever has it now skips them as well.
    with suppress(BatchWithdrawnError):
        await RunPlan(journal, kept).skip_all()


async def skip_unsendable(journal: Journal, owner: str, *, run: str | None, place: str | None) -> None:
    """Give the servers of batches that are not sent any more their outcomes.

    Args:
        journal: The journal, open.
        owner: The worker.
        run: The only run to look at; None for all.
        place: The only endpoint and project to look at; None for all.

    Raises:
        JournalError: The journal cannot be used.
    """
    while batches := await journal.run(claim_unsendable, run, place, owner, _AT_ONCE):
        for kept in batches:
            batch = unpack_batch(await read_open_ids(journal, kept), kept.details)
            log = JournalLog(journal, kept.claim, kept.sequence)
            try:
                await log.finish(skipped_outcomes(kept.action, batch, _why(kept)), (), 0)
            except BatchWithdrawnError:
                # Another worker was faster.
                continue


def _why(kept: KeptBatch) -> FleetError | None:
    if kept.aborted is None:
        return None
    return FleetError(f"{kept.action}: not sent, since the run was aborted: {kept.aborted}", code=None, server_ids=())
