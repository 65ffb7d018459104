"""Sending batches, and watching what becomes of them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup

from bms_async._foreign import call_foreign, contain, is_own_cancellation
from bms_async.errors import (
    BmsError,
    CallError,
    ClientClosedError,
    FleetError,
    JobLostError,
)
from bms_async.jobs import JobHandle
from bms_async.models import JobStatus
from bms_async.models.ids import canonical_id

from .batch import Batch
from .isolate import Isolation
from .options import OnJob
from .outcome import OutcomeState, judge_sub_job, may_repeat_sub_job
from .reconcile import Reconciler
from .scheduler import BatchScheduler
from .tracker import RunTracker

_log = logging.getLogger("bms_async.fleet")

_MAX_IN_FLIGHT = 50
"""How many batches may be on their way to the cloud at once: what the limit lets go in one burst."""

SendBatch: TypeAlias = Callable[[tuple[str, ...], Callable[[], None], Callable[[], None]], Awaitable[JobHandle]]
"""Sends a batch: its ids, what is called when it is sent, and when it was surely refused and is sent again."""


class Submitter:
    """Sends a run's batches one after another, and watches each to its end.

    Args:
        tracker: Where outcomes go.
        scheduler: Where batches come from.
        act: What sends one.
        isolation: What deals with refused ones.
        reconciler: What deals with those of which no answer tells.
        on_job: What is called for each job.
    """

    def __init__(
        self,
        tracker: RunTracker,
        scheduler: BatchScheduler,
        act: SendBatch,
        *,
        isolation: Isolation,
        reconciler: Reconciler,
        on_job: OnJob | None,
    ) -> None:
        self._tracker = tracker
        self._scheduler = scheduler
        self._act = act
        self._isolation = isolation
        self._reconciler = reconciler
        self._on_job = on_job
        self._in_flight = anyio.Semaphore(_MAX_IN_FLIGHT)

    async def run(self, tasks: TaskGroup) -> None:
        """Send all batches; what watches them goes on in the task group."""
        while (batch := await self._scheduler.next_batch()) is not None:
            # One at a time: where several runs share a limit, each has one batch in the limit's line and none starves.
            sent_or_failed = anyio.Event()
            await self._in_flight.acquire()
            tasks.start_soon(self._run_batch, batch, sent_or_failed)
            await sent_or_failed.wait()
        await self._scheduler.drain()
        await self._tracker.skip_unasked()

    def adopt(self, job: JobHandle, tasks: TaskGroup) -> None:
        """Watch a job that another run has started; its servers are this run's now."""
        batch = Batch(self._tracker.intake.adopt(job.servers))
        batch.asked, batch.in_doubt = 1, True
        self._tracker.start_batch(batch)
        self._tracker.submitted += len(batch.ids)
        tasks.start_soon(self._follow_job, job, batch)

    async def _run_batch(self, batch: Batch, sent_or_failed: anyio.Event) -> None:
        job: JobHandle | None = None
        with batch.scope:
            if self._tracker.stopping:
                self._in_flight.release()
            else:
                job = await self._request_job(batch, sent_or_failed)
        # Also when its scope was cancelled before it could begin.
        sent_or_failed.set()
        if job is None:
            self._let_go(batch, batch.default_state)
        else:
            await self._follow_job(job, batch)

    async def _follow_job(self, job: JobHandle, batch: Batch) -> None:
        # Not where this is cancelled: so are a thousand others in one pass of the loop, and the run goes through them.
        batch.job_id = job.id
        await self._watch(job, batch)
        self._let_go(batch, OutcomeState.UNKNOWN)

    def _let_go(self, batch: Batch, state: OutcomeState) -> None:
        """Give what is left of a batch its outcome, unless it is to be looked at once more."""
        if not (self._tracker.timed_out and state is OutcomeState.UNKNOWN):
            self._tracker.conclude_batch(batch, state, batch.error, job_id=batch.job_id)

    async def _request_job(self, batch: Batch, sent_or_failed: anyio.Event) -> JobHandle | None:
        before = batch.asked
        try:
            job = await self._send(batch, sent_or_failed)
        except ClientClosedError as error:
            self._tracker.conclude_batch(batch, batch.default_state, error)
        except CallError as error:
            if batch.asked == before:
                # What never left, for want of a token for instance, was not asked for.
                self._tracker.conclude_batch(batch, batch.default_state, error)
            elif error.maybe_done:
                await self._reconcile(batch, error)
            else:
                batch.in_doubt = False
                await self._isolation.handle_refusal(batch, error)
        except GeneratorExit:
            # The loop has gone, and nothing can be awaited any more.
            raise
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            # Credentials may raise anything, and this is but one batch of many.
            await self._on_fault(
                batch, contain(f"what {self._tracker.action} calls", error), asked=batch.asked > before
            )
        else:
            self._tracker.accepted += 1
            return job
        return None

    async def _on_fault(self, batch: Batch, fault: Exception, *, asked: bool) -> None:
        """Deal with a batch whose call ended in what is no error of a call."""
        self._tracker.record_fault(fault)
        if isinstance(fault, BmsError):
            error = fault
        else:
            text = (
                f"{self._tracker.action}: {type(fault).__name__} came out of the call, which is no error of the cloud's"
            )
            error = FleetError(text, code=None, server_ids=())
            error.__cause__ = fault
        if asked and batch.in_doubt:
            await self._reconcile(batch, error)
        else:
            self._tracker.conclude_batch(batch, batch.default_state, error)

    async def _send(self, batch: Batch, sent_or_failed: anyio.Event) -> JobHandle:
        tracker, is_first = self._tracker, True

        def sent() -> None:
            nonlocal is_first
            if batch.started is None:
                batch.started = tracker.clock.now()
                tracker.submitted += len(batch.ids) - len(batch.earlier)
            if is_first and batch.split_budget is not None:
                tracker.extra_calls += 1
            is_first = False
            batch.asked += 1
            batch.was_in_doubt = batch.was_in_doubt or batch.in_doubt
            batch.in_doubt = True
            sent_or_failed.set()

        def refused() -> None:
            batch.in_doubt = False
            if tracker.stopping:
                batch.scope.cancel()

        try:
            return await self._act(batch.ids, sent, refused)
        finally:
            sent_or_failed.set()
            self._in_flight.release()

    async def _watch(self, job: JobHandle, batch: Batch) -> None:
        tracker = self._tracker
        error: BmsError
        try:
            await self._call_on_job(job)
            async for sub in job.sub_jobs():
                server_id = None if sub.server_id is None else canonical_id(sub.server_id)
                if server_id is None or server_id in batch.moved:
                    continue
                is_told = sub.status is JobStatus.SUCCESS or sub.error_code or sub.code or sub.reason
                state, why = judge_sub_job(
                    tracker.action,
                    sub,
                    server_id,
                    job.id,
                    in_doubt=batch.is_in_doubt(server_id),
                    job=None if is_told else job.job,
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
            tracker.conclude_batch(batch, OutcomeState.UNKNOWN, closed, job_id=job.id)
            return
        except BmsError as lost:
            error = lost
        await self._reconcile(batch, error)

    async def _reconcile(self, batch: Batch, error: BmsError) -> None:
        """Have the servers' own states tell; what they do not tell is asked for again, if that does no harm."""
        batch.error = error
        try:
            shown = await self._reconciler.reconcile(batch)
        except ClientClosedError:
            shown = []
        if self._tracker.action != "servers.reboot":
            for server_id in shown:
                self._scheduler.defer(server_id, batch, OutcomeState.UNKNOWN, error, job_id=batch.job_id)
        self._tracker.conclude_batch(batch, OutcomeState.UNKNOWN, error, job_id=batch.job_id)

    async def _call_on_job(self, job: JobHandle) -> None:
        if self._on_job is None:
            return
        try:
            await call_foreign("on_job", self._on_job, job)
        except Exception as error:  # noqa: BLE001 - the caller's own fault, which is raised once all has ended
            _log.exception("%s: on_job raised for job %s, which is watched all the same", self._tracker.action, job.id)
            self._tracker.record_error(error)


def _unreported(job: JobHandle) -> JobLostError:
    """Return the error for servers that a job has ended without telling of, with what the cloud said of the job."""
    shown = job.job
    status = f"as {shown.status.value} " if shown is not None and shown.status else ""
    return JobLostError(
        f"job {job.id} ended {status}without telling of this server; read the server's own state",
        job_id=job.id,
        job=None,
        code=None if shown is None else shown.error_code or shown.code,
        reason=None if shown is None else shown.reason,
    )
