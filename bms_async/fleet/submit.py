"""The submitter: sends batches and follows each to its end.

What it guarantees: when the task of a batch ends, each of its servers has its outcome, belongs to another batch, or is
deferred (R2); and no server is sent again that a reboot may have reached (R3).

A batch is marked as in doubt when the request is handed to the transport, and cleared only by a response that proves
that the cloud did nothing. So a cancellation, a fault of the credentials or a crash of a callback at any point leaves
the right state: SKIPPED where it was not in doubt, else UNKNOWN. A batch whose response or job was lost is settled
by the servers' own states; only a start or a stop is sent again after that.

Rejected: to end the tasks by their cancellation and conclude each batch in its own task. A thousand that are cancelled
together run in one pass of the loop, which blocks it; the run concludes open batches one by one instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio

from bms_async._foreign import contain, is_own_cancellation
from bms_async.errors import BmsError, CallError, ClientClosedError, FleetError, JobLostError
from bms_async.jobs import JobHandle
from bms_async.models import JobStatus
from bms_async.models.ids import canonical_id

from .batch import Batch, BatchWithdrawnError
from .callbacks import call_on_job
from .isolate import Isolation
from .options import OnJob
from .outcome import OutcomeState, judge_sub_job, may_repeat_sub_job
from .proving import StateProver
from .requeue import Requeue
from .tracker import RunTracker

_MAX_IN_FLIGHT = 50
"""How many batches may wait for their response at once: what the limit lets through in one burst."""

SendBatch: TypeAlias = Callable[
    [Batch, Callable[[], Awaitable[None]], Callable[[], None], Callable[[], None]], Awaitable[JobHandle]
]
"""Sends a batch. Takes what is awaited before each request leaves, and called on each send and on a refusal."""


class Submitter:
    """Sends batches, and follows each to its end.

    Args:
        tracker: Takes the outcomes.
        scheduler: Takes the servers that are to be sent again.
        send_batch: Sends one.
        isolation: Handles refused ones.
        prover: Handles those whose response or job was lost.
        on_job: Called for each job.
        concludes_on_close: Whether servers have their outcome when the client is closed. If not, another worker goes on
            with them, and a `BatchWithdrawnError` is raised.
    """

    def __init__(
        self,
        tracker: RunTracker,
        scheduler: Requeue,
        send_batch: SendBatch,
        *,
        isolation: Isolation,
        prover: StateProver,
        on_job: OnJob | None,
        concludes_on_close: bool = True,
    ) -> None:
        self._tracker = tracker
        self._scheduler = scheduler
        self._send_batch = send_batch
        self._isolation = isolation
        self._prover = prover
        self._on_job = on_job
        self._concludes_on_close = concludes_on_close
        self._in_flight = anyio.Semaphore(_MAX_IN_FLIGHT)

    async def send(self, batch: Batch, sent_or_failed: anyio.Event) -> None:
        """Send a batch and follow it to its end.

        Args:
            batch: The batch.
            sent_or_failed: Set once it was sent, or will not be.
        """
        job: JobHandle | None = None
        is_held_up = False
        with batch.scope:
            if not self._tracker.stopping:
                await self._in_flight.acquire()
                try:
                    job = await self._request_job(batch, sent_or_failed)
                except BatchWithdrawnError:
                    if not self._concludes_on_close:
                        raise
                    is_held_up = True
        if is_held_up and not self._tracker.stopping:
            # Before the next one is cut: nothing was awaited since its request was held up.
            self._scheduler.take_back(batch)
            return
        # Also where its scope was cancelled before it was sent.
        sent_or_failed.set()
        if job is None:
            self._conclude_rest(batch, batch.default_state)
        else:
            await self.follow(job, batch)

    async def follow(self, job: JobHandle, batch: Batch) -> None:
        """Follow a batch that the cloud has accepted to its end.

        Args:
            job: Its job.
            batch: The batch.
        """
        batch.job_id = job.id
        await self._watch(job, batch)
        self._conclude_rest(batch, OutcomeState.UNKNOWN)

    def _conclude_rest(self, batch: Batch, state: OutcomeState) -> None:
        """Conclude what is left of a batch, unless its state is to be read once more after `total_timeout`."""
        if not (self._tracker.timed_out and state is OutcomeState.UNKNOWN):
            self._tracker.conclude_batch(batch, state, batch.error, job_id=batch.job_id)

    async def _request_job(self, batch: Batch, sent_or_failed: anyio.Event) -> JobHandle | None:
        before = batch.send_count
        try:
            job = await self._send(batch, sent_or_failed)
        except ClientClosedError as error:
            self._on_closed(batch, batch.default_state, error)
        except CallError as error:
            if batch.send_count == before:
                # It was never sent, for instance for want of a token.
                self._tracker.conclude_batch(batch, batch.default_state, error)
            elif error.maybe_done:
                await self.settle(batch, error)
            else:
                batch.in_doubt = False
                await self._isolation.handle_refusal(batch, error)
        except BatchWithdrawnError as error:
            if not (self._concludes_on_close and batch.in_doubt):
                raise
            await self.settle(batch, _not_repeated(self._tracker.action, error))
        except GeneratorExit:
            # The loop is closed, and nothing can be awaited any more.
            raise
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            # Credentials may raise anything, and this is one batch of many.
            fault = contain(f"what {self._tracker.action} calls", error)
            await self._on_fault(batch, fault, was_sent=batch.send_count > before)
        else:
            self._tracker.accepted += 1
            return job
        return None

    async def _on_fault(self, batch: Batch, fault: Exception, *, was_sent: bool) -> None:
        """Handle a batch whose call raised something other than a `CallError`."""
        self._tracker.record_fault(fault)
        if isinstance(fault, BmsError):
            error = fault
        else:
            text = f"{self._tracker.action}: the call raised {type(fault).__name__}, which is not an error of the cloud"
            error = FleetError(text, code=None, server_ids=())
            error.__cause__ = fault
        if was_sent and batch.in_doubt:
            await self.settle(batch, error)
        else:
            self._tracker.conclude_batch(batch, batch.default_state, error)

    async def _send(self, batch: Batch, sent_or_failed: anyio.Event) -> JobHandle:
        tracker, is_first = self._tracker, True

        def on_send() -> None:
            nonlocal is_first
            if batch.started is None:
                batch.started = tracker.clock.now()
                tracker.submitted += len(batch.ids) - len(batch.earlier)
            if is_first and batch.split_budget is not None:
                tracker.extra_calls += 1
            is_first = False
            batch.send_count += 1
            batch.was_in_doubt = batch.was_in_doubt or batch.in_doubt
            batch.in_doubt = True
            sent_or_failed.set()

        def on_refused() -> None:
            batch.in_doubt = False
            if tracker.stopping:
                batch.scope.cancel()

        try:
            return await self._send_batch(batch, self._scheduler.check_may_send, on_send, on_refused)
        finally:
            sent_or_failed.set()
            self._in_flight.release()

    async def _watch(self, job: JobHandle, batch: Batch) -> None:
        tracker = self._tracker
        error: BmsError
        try:
            await call_on_job(self._tracker, self._on_job, job)
            async for sub in job.sub_jobs():
                server_id = None if sub.server_id is None else canonical_id(sub.server_id)
                if server_id is None or server_id in batch.moved:
                    continue
                has_reason = sub.status is JobStatus.SUCCESS or sub.error_code or sub.code or sub.reason
                state, why = judge_sub_job(
                    tracker.action,
                    sub,
                    server_id,
                    job.id,
                    in_doubt=batch.is_in_doubt(server_id),
                    job=None if has_reason else job.job,
                )
                self._scheduler.defer_or_conclude(
                    server_id,
                    batch,
                    state,
                    why,
                    may_retry=may_repeat_sub_job(tracker.action, state, why),
                    job_id=job.id,
                    sub_job_id=sub.job_id,
                )
            error = _unreported(job)
        except ClientClosedError as closed:
            self._on_closed(batch, OutcomeState.UNKNOWN, closed)
            return
        except BmsError as lost:
            error = lost
        await self.settle(batch, error)

    async def settle(self, batch: Batch, error: BmsError) -> None:
        """Have the states of the servers prove what became of a batch whose response or job was lost.

        Those that prove nothing are sent again if that does no harm, and else are UNKNOWN.

        Args:
            batch: The batch.
            error: Why it is not known what became of it.
        """
        batch.error = error
        try:
            shown = await self._prover.prove(batch)
        except ClientClosedError as closed:
            self._on_closed(batch, OutcomeState.UNKNOWN, error, closed=closed)
            return
        if self._tracker.action != "servers.reboot":
            for server_id in shown:
                self._scheduler.defer(server_id, batch, OutcomeState.UNKNOWN, error, job_id=batch.job_id)
        self._tracker.conclude_batch(batch, OutcomeState.UNKNOWN, error, job_id=batch.job_id)

    def _on_closed(
        self, batch: Batch, state: OutcomeState, error: BmsError, *, closed: ClientClosedError | None = None
    ) -> None:
        """Conclude a batch because the client was closed, unless another worker goes on with it."""
        if not self._concludes_on_close:
            raise BatchWithdrawnError("the client was closed") from (closed or error)
        self._tracker.conclude_batch(batch, state, error, job_id=batch.job_id)


def _not_repeated(action: str, held_up: BatchWithdrawnError) -> FleetError:
    """Return the error for servers whose response was lost and whose call was not repeated."""
    return FleetError(
        f"{action}: the response was lost, and the call was not repeated: {held_up}; read the server's own state",
        code=None,
        server_ids=(),
    )


def _unreported(job: JobHandle) -> JobLostError:
    """Return the error for servers that an ended job does not mention, with the code and reason of the job."""
    shown = job.job
    status = f"as {shown.status.value} " if shown is not None and shown.status else ""
    return JobLostError(
        f"job {job.id} ended {status}without reporting this server; read the server's own state",
        job_id=job.id,
        job=None,
        code=None if shown is None else shown.error_code or shown.code,
        reason=None if shown is None else shown.reason,
    )
