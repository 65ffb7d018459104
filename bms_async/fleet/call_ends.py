"""What became of the call of a server: what its function returned or raised, and the end of a job that it returned.

What it guarantees: a server is FAILED only if nothing else can be true, by the errors of this package and those in a
group; where the cloud may have done what was asked for, it is UNKNOWN (R2). No job is followed when the run has ended
(R4).

A server that FAILED counts as touched, for the room that a rollout leaves, unless the error is one of this package and
no call that changes anything was sent: a function may do more than make calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import anyio.lowlevel

from bms_async.errors import (
    BmsError,
    CallError,
    ClientClosedError,
    FleetError,
    ForeignCodeError,
    InvalidRequestError,
    JobLostError,
)
from bms_async.jobs import JobHandle
from bms_async.models import JobStatus, SubJob

from .batch import Batch
from .call_probe import CallProbe
from .callbacks import call_on_job
from .options import OnJob
from .outcome import OutcomeState, is_transient, judge_sub_job, may_repeat_sub_job
from .scheduler import BatchScheduler
from .tracker import YIELD_EVERY, RunTracker

_log = logging.getLogger("bms_async.fleet")

Follow: TypeAlias = Callable[[str, Callable[[OutcomeState, BmsError | None], None]], None]
"""Follows a server of which the function has returned, and calls what it is given at its end."""


class _JobEnd(NamedTuple):
    """The end of a job that a function has returned.

    Attributes:
        batch: The server of the call.
        job: The job.
        may_repeat: Whether the function may be called again.
        end: How the job has ended for the server.
    """

    batch: Batch
    job: JobHandle
    may_repeat: bool
    end: asyncio.Future[SubJob]


class CallEnds:
    """Gives each server its outcome by what became of its call.

    Args:
        tracker: The run's.
        scheduler: Takes servers that are to be called again.
        on_job: Called with each job that a function returned; None for nothing.
        keeps_results: Whether outcomes have what the function returned.
        follow: Follows each server to its end once the function has returned; None where that was the end, or a job
            says what is.
    """

    def __init__(
        self,
        tracker: RunTracker,
        scheduler: BatchScheduler,
        *,
        on_job: OnJob | None,
        keeps_results: bool,
        follow: Follow | None,
    ) -> None:
        self._tracker = tracker
        self._scheduler = scheduler
        self._on_job = on_job
        self._keeps_results = keeps_results
        self._follow = follow
        self._job_ends: set[asyncio.Future[SubJob]] = set()
        self._ended: deque[_JobEnd] = deque()
        self._wake = asyncio.Event()
        self._has_logged = self._is_over = False

    async def run(self) -> None:
        """Give the servers of jobs that have ended their outcomes, until `finish`.

        Not in the callback of a future: what an outcome leads to needs a task, and may fail.
        """
        while not self._is_over:
            self._wake.clear()
            for _ in range(min(YIELD_EVERY, len(self._ended))):
                ended = self._ended.popleft()
                try:
                    self._on_job_end(ended)
                except Exception as fault:  # noqa: BLE001 - R2 holds for faults of this package, too
                    self.on_fault(ended.batch, fault)
            await (anyio.lowlevel.checkpoint() if self._ended else self._wake.wait())

    def finish(self) -> None:
        """Have `run` end: every server has its outcome."""
        self._is_over = True
        self._wake.set()

    def on_fault(self, batch: Batch, fault: Exception) -> None:
        """Give a server its outcome after a fault of this package, which the waiters of the run get."""
        _log.error("%s: the call of a server could not be followed", self._tracker.action, exc_info=fault)
        self._tracker.record_error(fault)
        self.conclude(batch, OutcomeState.UNKNOWN)

    async def close(self) -> None:
        """Follow no job any more: a future that nobody needs would have it polled on."""
        self._is_over = True
        self._ended.clear()
        while self._job_ends:
            for end in [self._job_ends.pop() for _ in range(min(YIELD_EVERY, len(self._job_ends)))]:
                end.cancel()
            await anyio.lowlevel.cancel_shielded_checkpoint()

    def conclude(
        self, batch: Batch, state: OutcomeState, error: BmsError | None = None, *, result: object = None
    ) -> None:
        """Give a server its outcome."""
        tracker = self._tracker
        if tracker.timed_out and state is OutcomeState.UNKNOWN:
            # The end of the run says more.
            batch.error = error
            return
        tracker.conclude(batch.ids[0], state, batch=batch, job_id=batch.job_id, error=error, result=result)
        tracker.open_batches.discard(batch)

    async def on_result(self, batch: Batch, result: object, probe: CallProbe) -> None:
        """Give a server its outcome by what the function returned, or follow what that has begun."""
        if isinstance(result, JobHandle):
            batch.job_id = result.id
            self._tracker.accepted += 1
            await call_on_job(self._tracker, self._on_job, result)
            self._follow_job(batch, result, may_repeat=probe.may_repeat(besides=result.action))
        elif self._follow is not None:
            self._follow(batch.ids[0], partial(self._on_followed, batch))
        else:
            self.conclude(batch, OutcomeState.SUCCEEDED, result=result if self._keeps_results else None)

    def _on_followed(self, batch: Batch, state: OutcomeState, error: BmsError | None) -> None:
        self.conclude(batch, state, error)

    def _follow_job(self, batch: Batch, job: JobHandle, *, may_repeat: bool) -> None:
        """Follow the job that the function returned; its end is a callback, and no task waits for it."""
        try:
            end = job.sub_job(batch.ids[0])
        except InvalidRequestError:
            self.conclude(batch, OutcomeState.UNKNOWN, _not_of(job, batch.ids[0]))
            return
        except ClientClosedError as closed:
            self.conclude(batch, OutcomeState.UNKNOWN, closed)
            return
        self._job_ends.add(end)
        end.add_done_callback(lambda end: self._note_job_end(_JobEnd(batch, job, may_repeat, end)))

    def _note_job_end(self, ended: _JobEnd) -> None:
        self._job_ends.discard(ended.end)
        if not ended.end.cancelled():
            # Marks it as retrieved: the run may be over.
            ended.end.exception()
        if not self._is_over:
            self._ended.append(ended)
            self._wake.set()

    def _on_job_end(self, ended: _JobEnd) -> None:
        batch, job, may_repeat, end = ended
        error = None if end.cancelled() else end.exception()
        if end.cancelled() or error is not None:
            self.conclude(batch, OutcomeState.UNKNOWN, error if isinstance(error, BmsError) else None)
            return
        server_id, sub = batch.ids[0], end.result()
        has_reason = sub.error_code or sub.code or sub.reason
        state, why = judge_sub_job(
            self._tracker.action,
            sub,
            server_id,
            job.id,
            job=None if sub.status is JobStatus.SUCCESS or has_reason else job.job,
        )
        # A job that is only known by its id may be a reboot.
        action = job.action or "servers.reboot"
        self._scheduler.defer_or_conclude(
            server_id,
            batch,
            state,
            why,
            may_retry=may_repeat and why is not None and may_repeat_sub_job(action, state, why),
            job_id=job.id,
            sub_job_id=sub.job_id,
        )
        self._tracker.open_batches.discard(batch)

    def on_error(self, batch: Batch, error: Exception, probe: CallProbe) -> None:
        """Give a server its outcome by what the function raised, or have it called again later."""
        error = _unwrapped(error)
        if isinstance(error, ClientClosedError):
            self.conclude(batch, OutcomeState.UNKNOWN if probe.changes else OutcomeState.SKIPPED, error)
            return
        if any(_proves_nothing(each, in_doubt=batch.in_doubt) for each in _leaves(error)):
            batch.in_doubt = True
            self.conclude(batch, OutcomeState.UNKNOWN, self._as_bms_error(batch, error))
            return
        if probe.changes:
            batch.in_doubt = True
        elif isinstance(error, BmsError) and not isinstance(error, ForeignCodeError):
            batch.in_doubt = False
        why = self._as_bms_error(batch, error)
        may_retry = isinstance(error, CallError) and is_transient(error) and probe.may_repeat()
        self._scheduler.defer_or_conclude(batch.ids[0], batch, OutcomeState.FAILED, why, may_retry=may_retry)
        self._tracker.open_batches.discard(batch)

    def _as_bms_error(self, batch: Batch, error: Exception) -> BmsError:
        if isinstance(error, BmsError):
            return error
        if not self._has_logged:
            self._has_logged = True
            _log.error("%s: the call of a server raised; others are not logged", self._tracker.action, exc_info=error)
        text = f"{self._tracker.action}: the call of server {batch.ids[0]} raised {type(error).__name__}"
        wrapped = FleetError(text, code=None, server_ids=(batch.ids[0],))
        # Without its frames, which may hold anything.
        wrapped.__cause__ = error.with_traceback(None)
        return wrapped


def _leaves(error: BaseException) -> list[BaseException]:
    """Return an error, or those in a group, however deep."""
    leaves, left = [], [error]
    while left:
        error = left.pop()
        if isinstance(error, BaseExceptionGroup):
            left += error.exceptions
        else:
            leaves.append(error)
    return leaves


def _unwrapped(error: Exception) -> Exception:
    """Return an error without the groups that task groups have put around it alone."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _proves_nothing(error: BaseException, *, in_doubt: bool) -> bool:
    """Return whether the cloud may have done what a function asked for that raised this.

    Args:
        error: The error.
        in_doubt: Whether the function may have done something.
    """
    if isinstance(error, CallError):
        return error.maybe_done
    return isinstance(error, JobLostError) or (in_doubt and isinstance(error, TimeoutError))


def _not_of(job: JobHandle, server_id: str) -> FleetError:
    return FleetError(
        f"job {job.id}, which the call returned, is not about server {server_id}: expected a job of this server; "
        "await the job in the function, or return nothing",
        code=None,
        server_ids=(server_id,),
    )
