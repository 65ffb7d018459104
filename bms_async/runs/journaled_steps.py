"""The steps of a batch with a journal: the batch is a run of its own under its key, and a worker carries it on."""

from __future__ import annotations

import msgspec

from bms_async._tasks import BackgroundTasks
from bms_async.errors import JournalError
from bms_async.fleet.outcome import OutcomeState
from bms_async.fleet.packed import count_states, unpack_outcomes
from bms_async.jobs import Watcher
from bms_async.journal import BatchState, Block, Journal, KeptRun, NewBatch, NewBlock, digest_ids
from bms_async.journal.transactions.runs import read_first_batch, read_run
from bms_async.journal.transactions.steps import read_blocks
from bms_async.session import Session

from .begin import write_packed
from .options import CheckedOptions
from .step_records import BatchResult, SentBatch, SentState
from .worker import Worker

_LOOK_EVERY = 1.0
"""Seconds between two looks for what other processes have written."""

_BLOCKS_AT_ONCE = 20
_PLACE = "|steps"
"""What the place of runs of steps ends with: workers of other runs leave them alone."""


def place_of_steps(place: str) -> str:
    """Return where the journal has the runs of steps.

    Args:
        place: The endpoint and the project.
    """
    return place + _PLACE


class JournaledSteps:
    """Takes the steps.

    Args:
        journal: The journal, open.
        session: What makes the calls.
        watcher: What polls jobs.
        tasks: What a worker runs in, until the client is closed.
        workers: Takes the worker, so that the client can close it.
    """

    def __init__(
        self, journal: Journal, session: Session, watcher: Watcher, tasks: BackgroundTasks, workers: dict[str, Worker]
    ) -> None:
        self._journal = journal
        self._session = session
        self._watcher = watcher
        self._tasks = tasks
        self._workers = workers

    async def send(self, sent: SentBatch, place: str) -> SentBatch:
        """Write a batch down under its key, unless it is, and wait until it was sent once.

        Args:
            sent: What is to be sent, and how; its state counts for nothing.
            place: The endpoint and the project.

        Returns:
            What is known of the batch, whichever call and whichever process has sent it.

        Raises:
            InvalidRequestError: The key is that of another batch.
            JournalError: The journal cannot be used.
        """
        run = await self._write_down(sent, place)
        self._work(place)
        while True:
            kept = await self._read(run)
            if kept.ended is not None:
                return await self._ended(sent, kept)
            first = await self._journal.run(read_first_batch, run, writes=False)
            state, job, has_moved = first or (BatchState.DONE, None, False)
            if job is not None:
                return _known(sent, run, SentState.ACCEPTED, job)
            if state is BatchState.DONE:
                # Its servers are being sent again.
                return _known(sent, run, SentState.REFUSED, None)
            if state is BatchState.SENDING and has_moved:
                return _known(sent, run, SentState.UNKNOWN, None)
            await self._journal.wait_for_change(_LOOK_EVERY)

    async def finish(self, sent: SentBatch, place: str) -> BatchResult:
        """Wait until a batch has ended, with all that was sent again; one that was never written down is, and is sent.

        Args:
            sent: The batch.
            place: The endpoint and the project.

        Raises:
            JournalError: The journal cannot be used.
        """
        if sent.result is not None:
            return sent.result
        # A process that stood still may yet write it down: under the same key that is the same run.
        run = sent.run or await self._write_down(sent, place)
        self._work(place)
        while (kept := await self._read(run)).ended is None:
            await self._journal.wait_for_change(_LOOK_EVERY)
        return await self._result(sent, kept)

    async def _write_down(self, sent: SentBatch, place: str) -> str:
        options = CheckedOptions(retry_transient=sent.retry_transient, verify=sent.verify, lane=sent.lane)
        batch = NewBatch(ids=sent.packed, servers=sent.servers, details=sent.details)
        invalid = unpack_outcomes(sent.invalid) if sent.invalid else []
        kept, _ = await write_packed(
            self._journal,
            [batch] if sent.servers else [],
            [NewBlock(counts=count_states(invalid), body=sent.invalid)] if invalid else [],
            digest_ids([sent.packed]),
            action=sent.action,
            key=sent.key,
            place=place_of_steps(place),
            options=options,
        )
        return kept.id

    def _work(self, place: str) -> None:
        """Have a worker look after batches of steps for as long as the client is open."""
        name = place_of_steps(place)
        if name not in self._workers:
            worker = self._workers[name] = Worker(self._journal, self._session, self._watcher, place=name)
            self._tasks.start(self._run_worker, worker, name, name="bms_async worker of steps")
        self._workers[name].wake()

    async def _run_worker(self, worker: Worker, name: str) -> None:
        try:
            await worker.run()
        finally:
            self._workers.pop(name, None)

    async def _read(self, run: str) -> KeptRun:
        kept = await self._journal.run(read_run, run, writes=False)
        if kept is None:
            raise JournalError(f"the batch of the run {run}: expected it in the journal, but it was deleted")
        return kept

    async def _ended(self, sent: SentBatch, kept: KeptRun) -> SentBatch:
        result = await self._result(sent, kept)
        outcomes = result.outcomes
        job = next((outcome.job_id for outcome in outcomes if outcome.job_id is not None), None)
        if job is not None:
            state = SentState.ACCEPTED
        elif any(outcome.state in _MAYBE_DONE for outcome in outcomes):
            state = SentState.UNKNOWN
        else:
            state = SentState.REFUSED
        return _known(sent, kept.id, state, job, result)

    async def _result(self, sent: SentBatch, kept: KeptRun) -> BatchResult:
        blocks: list[Block] = []
        while page := await self._read_blocks(kept, blocks):
            blocks += page
        return BatchResult(
            action=sent.action,
            key=sent.key,
            counts=kept.counts,
            packed=tuple(block.body for block in blocks),
            extra_calls=kept.extra_calls,
        )

    async def _read_blocks(self, kept: KeptRun, known: list[Block]) -> list[Block]:
        after = known[-1].number if known else 0
        return await self._journal.run(read_blocks, kept.id, after, _BLOCKS_AT_ONCE, writes=False)


_MAYBE_DONE = (OutcomeState.SUCCEEDED, OutcomeState.UNKNOWN)


def _known(
    sent: SentBatch, run: str, state: SentState, job: str | None, result: BatchResult | None = None
) -> SentBatch:
    return msgspec.structs.replace(sent, run=run, state=state, job=job, result=result)
