"""The steps of a batch without a journal: what is known of it is in the JSON that one step hands to the next."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bms_async._threads import run_in_thread
from bms_async.errors import ClientClosedError, FleetError, InvalidRequestError
from bms_async.fleet.batch import Batch, BatchWithdrawnError
from bms_async.fleet.durable import DurableBatch
from bms_async.fleet.durable_log import FollowingBatch
from bms_async.fleet.following import skipped_outcomes
from bms_async.fleet.outcome import Outcome
from bms_async.fleet.packed import count_states, pack_details, pack_outcomes, unpack_batch, unpack_outcomes
from bms_async.fleet.scheduler import batch_of
from bms_async.fleet.sending import make_sender
from bms_async.fleet.state_reader import StateReader
from bms_async.jobs import JobHandle, Watcher
from bms_async.journal import BatchState, pack_ids
from bms_async.limits import Lane
from bms_async.session import Session

from .step_records import BatchResult, NextBatch, SentBatch, SentState


class _SentError(BatchWithdrawnError):
    """The job of a batch is known, and the next step watches it."""


class _MemoryLog:
    """Keeps what a batch wants to have written down."""

    def __init__(self, *, stops_at_job: bool) -> None:
        self._stops_at_job = stops_at_job
        self.job: JobHandle | None = None
        self.outcomes: list[Outcome] = []
        self.following: list[FollowingBatch] = []
        self.extra_calls = 0

    async def sending(self, batch: Batch) -> None:
        """Keep nothing: the engine knows that this step has begun."""

    async def refused(self, batch: Batch) -> None:
        """Keep nothing: this very step sends it again."""

    async def watching(self, batch: Batch, job: JobHandle) -> None:  # noqa: ARG002 - a log may need it
        """Keep the job, and leave the batch to the next step."""
        self.job = job
        if self._stops_at_job:
            raise _SentError("it was sent")

    async def add(self, outcomes: Sequence[Outcome]) -> None:
        """Keep outcomes."""
        self.outcomes += outcomes

    async def finish(self, outcomes: Sequence[Outcome], following: Sequence[FollowingBatch], extra_calls: int) -> None:
        """Keep the rest."""
        self.outcomes += outcomes
        self.following += following
        self.extra_calls = extra_calls


class PlainSteps:
    """Takes the steps.

    Args:
        session: What makes the calls.
        watcher: What polls jobs.
    """

    def __init__(self, session: Session, watcher: Watcher) -> None:
        self._session = session
        self._watcher = watcher
        self._readers: dict[Lane, StateReader] = {}

    async def send(self, sent: SentBatch) -> SentBatch:
        """Send a batch once, and return it with its job; or with its result, where there is no job to be watched.

        Args:
            sent: What is to be sent, and how; its state counts for nothing.

        Raises:
            ClientClosedError: The client is closed.
        """
        batch = unpack_batch(sent.ids, sent.details)
        log = _MemoryLog(stops_at_job=True)
        try:
            await self._carry_on(sent, batch, log, BatchState.WAITING)
        except _SentError:
            details, job = pack_details(batch), log.job
            return msgspec.structs.replace(
                sent, state=SentState.ACCEPTED, details=details, job=None if job is None else job.id
            )
        # What is settled already may have reached the cloud, and what is left of it says whether it did.
        state = SentState.UNKNOWN if batch.in_doubt or batch.was_in_doubt else SentState.REFUSED
        return msgspec.structs.replace(sent, state=state, result=await _result(sent, log))

    async def watch(self, sent: SentBatch) -> BatchResult:
        """Watch the job of a batch to its end, and settle by states what it does not say.

        Raises:
            ClientClosedError: The client is closed.
        """
        if sent.result is not None:
            return sent.result
        if sent.job is None:
            return await self.settle(sent)
        batch = unpack_batch(sent.ids, sent.details)
        job = self._watcher.watch(sent.job, servers=batch.ids, action=sent.action, started=False)
        log = _MemoryLog(stops_at_job=False)
        await self._carry_on(sent, batch, log, BatchState.WATCHING, job)
        return await _result(sent, log)

    async def settle(self, sent: SentBatch) -> BatchResult:
        """Find out by the servers' states what became of a batch whose response or job is lost.

        Raises:
            ClientClosedError: The client is closed.
        """
        if sent.result is not None:
            return sent.result
        batch = unpack_batch(sent.ids, sent.details)
        if sent.state is SentState.UNKNOWN:
            batch.send_count += 1
        batch.job_id = sent.job
        log = _MemoryLog(stops_at_job=False)
        await self._carry_on(sent, batch, log, BatchState.SENDING)
        return await _result(sent, log)

    async def skip(self, given_up: NextBatch, *, key: str, why: str | None) -> BatchResult:
        """Return the outcomes of a batch that is not sent again.

        Args:
            given_up: The batch.
            key: The key that it would be sent under.
            why: The reason.
        """
        error = None if why is None else FleetError(why, code=None, server_ids=())
        batch = unpack_batch(given_up.ids, given_up.details)
        outcomes = skipped_outcomes(given_up.action, batch, error)
        return await _pack(given_up.action, key, outcomes)

    async def _carry_on(
        self, sent: SentBatch, batch: Batch, log: _MemoryLog, state: BatchState, job: JobHandle | None = None
    ) -> None:
        work = DurableBatch(
            batch,
            log,
            action=sent.action,
            send=make_sender(self._session, self._watcher, sent.action, sent.lane),
            reader=self._readers.setdefault(sent.lane, StateReader(self._session, sent.lane)),
            retry=sent.retry_transient,
            verify=sent.verify,
            splits=sent.parts,
        )
        try:
            await work.run(state, job)
        except _SentError:
            raise
        except BatchWithdrawnError as error:
            raise ClientClosedError("the client was closed before the batch ended; call the step again") from error


def merge(batches: Sequence[NextBatch]) -> NextBatch:
    """Return one batch with the servers of several that may share a call.

    Args:
        batches: One, or several of busy servers.

    Raises:
        InvalidRequestError: They are of different actions, or one of them must go by itself.
    """
    if len(batches) == 1:
        return batches[0]
    if len({batch.action for batch in batches}) != 1 or not all(batch.grid for batch in batches):
        raise InvalidRequestError("ids", "...", "expected one NextBatch, or several of one action that have a grid")
    earlier = [attempts for batch in batches for attempts in unpack_batch(batch.ids, batch.details).earlier.values()]
    merged = batch_of(earlier)
    return NextBatch(
        action=batches[0].action, packed=pack_ids(merged.ids), servers=len(merged.ids), details=pack_details(merged)
    )


async def _result(sent: SentBatch, log: _MemoryLog) -> BatchResult:
    outcomes = [*(unpack_outcomes(sent.invalid) if sent.invalid else ()), *log.outcomes]
    again = tuple(_next_batch(sent.action, following) for following in log.following)
    return await _pack(sent.action, sent.key, outcomes, again, log.extra_calls)


async def _pack(
    action: str, key: str, outcomes: list[Outcome], again: tuple[NextBatch, ...] = (), extra_calls: int = 0
) -> BatchResult:
    return BatchResult(
        action=action,
        key=key,
        counts=count_states(outcomes),
        packed=(await run_in_thread(pack_outcomes, outcomes),) if outcomes else (),
        again=again,
        extra_calls=extra_calls,
    )


def _next_batch(action: str, following: FollowingBatch) -> NextBatch:
    batch = following.batch
    ids = batch.remaining
    return NextBatch(
        action=action,
        packed=pack_ids(ids),
        servers=len(ids),
        delay=following.delay,
        grid=following.grid,
        details=pack_details(batch),
        parts=0 if batch.split_budget is None else batch.split_budget.batches_sent,
    )
