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
from .reconcile import Settler
from .scheduler import Line
from .tracker import Books

_log = logging.getLogger("bms_async.fleet")

_FLIGHTS = 50
"""How many batches may be on their way to the cloud at once: what the limit lets go in one burst."""

Act: TypeAlias = Callable[[tuple[str, ...], Callable[[], None], Callable[[], None]], Awaitable[JobHandle]]
"""Sends a batch: its ids, what is called when it is sent, and when it was surely refused and is sent again."""


class Submitter:
    """Sends a run's batches one after another, and watches each to its end.

    Args:
        books: Where outcomes go.
        line: Where batches come from.
        act: What sends one.
        isolation: What deals with refused ones.
        settler: What deals with those of which no answer tells.
        on_job: What is called for each job.
    """

    def __init__(
        self, books: Books, line: Line, act: Act, *, isolation: Isolation, settler: Settler, on_job: OnJob | None
    ) -> None:
        self._books = books
        self._line = line
        self._act = act
        self._isolation = isolation
        self._settler = settler
        self._on_job = on_job
        self._flights = anyio.Semaphore(_FLIGHTS)

    async def run(self, tasks: TaskGroup) -> None:
        """Send all batches; what watches them goes on in the task group."""
        while (batch := await self._line.next()) is not None:
            # One at a time: where several runs share a limit, each has one batch in the limit's line and none starves.
            turn = anyio.Event()
            await self._flights.acquire()
            tasks.start_soon(self._carry, batch, turn)
            await turn.wait()
        await self._line.clear()
        await self._books.skip_unasked()

    def adopt(self, job: JobHandle, tasks: TaskGroup) -> None:
        """Watch a job that another run has started; its servers are this run's now."""
        batch = Batch(self._books.intake.adopt(job.servers))
        batch.asked, batch.in_doubt = 1, True
        self._books.begin(batch)
        self._books.submitted += len(batch.ids)
        tasks.start_soon(self._carry_on, job, batch)

    async def _carry(self, batch: Batch, turn: anyio.Event) -> None:
        job: JobHandle | None = None
        with batch.scope:
            if self._books.stopping:
                self._flights.release()
            else:
                job = await self._ask(batch, turn)
        # Also when its scope was cancelled before it could begin.
        turn.set()
        if job is None:
            self._let_go(batch, batch.fate)
        else:
            await self._carry_on(job, batch)

    async def _carry_on(self, job: JobHandle, batch: Batch) -> None:
        # Not where this is cancelled: so are a thousand others in one pass of the loop, and the run goes through them.
        batch.job_id = job.id
        await self._watch(job, batch)
        self._let_go(batch, OutcomeState.UNKNOWN)

    def _let_go(self, batch: Batch, state: OutcomeState) -> None:
        """Give what is left of a batch its outcome, unless it is to be looked at once more."""
        if not (self._books.timed_out and state is OutcomeState.UNKNOWN):
            self._books.conclude_batch(batch, state, batch.error, job_id=batch.job_id)

    async def _ask(self, batch: Batch, turn: anyio.Event) -> JobHandle | None:
        before = batch.asked
        try:
            job = await self._send(batch, turn)
        except ClientClosedError as error:
            self._books.conclude_batch(batch, batch.fate, error)
        except CallError as error:
            if batch.asked == before:
                # What never left, for want of a token for instance, was not asked for.
                self._books.conclude_batch(batch, batch.fate, error)
            elif error.maybe_done:
                await self._settle(batch, error)
            else:
                batch.in_doubt = False
                await self._isolation.take(batch, error)
        except GeneratorExit:
            # The loop has gone, and nothing can be awaited any more.
            raise
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            # Credentials may raise anything, and this is but one batch of many.
            await self._take_fault(
                batch, contain(f"what {self._books.action} calls", error), asked=batch.asked > before
            )
        else:
            self._books.accepted += 1
            return job
        return None

    async def _take_fault(self, batch: Batch, fault: Exception, *, asked: bool) -> None:
        """Deal with a batch whose call ended in what is no error of a call."""
        self._books.keep_fault(fault)
        if isinstance(fault, BmsError):
            error = fault
        else:
            text = (
                f"{self._books.action}: {type(fault).__name__} came out of the call, which is no error of the cloud's"
            )
            error = FleetError(text, code=None, server_ids=())
            error.__cause__ = fault
        if asked and batch.in_doubt:
            await self._settle(batch, error)
        else:
            self._books.conclude_batch(batch, batch.fate, error)

    async def _send(self, batch: Batch, turn: anyio.Event) -> JobHandle:
        books, is_first = self._books, True

        def sent() -> None:
            nonlocal is_first
            if batch.started is None:
                batch.started = books.clock.now()
                books.submitted += len(batch.ids) - len(batch.past)
            if is_first and batch.course is not None:
                books.extra_calls += 1
            is_first = False
            batch.asked += 1
            batch.was_in_doubt = batch.was_in_doubt or batch.in_doubt
            batch.in_doubt = True
            turn.set()

        def refused() -> None:
            batch.in_doubt = False
            if books.stopping:
                batch.scope.cancel()

        try:
            return await self._act(batch.ids, sent, refused)
        finally:
            turn.set()
            self._flights.release()

    async def _watch(self, job: JobHandle, batch: Batch) -> None:
        books = self._books
        error: BmsError
        try:
            await self._tell_job(job)
            async for sub in job.sub_jobs():
                server_id = None if sub.server_id is None else canonical_id(sub.server_id)
                if server_id is None or server_id in batch.moved:
                    continue
                is_told = sub.status is JobStatus.SUCCESS or sub.error_code or sub.code or sub.reason
                state, why = judge_sub_job(
                    books.action,
                    sub,
                    server_id,
                    job.id,
                    in_doubt=batch.is_in_doubt(server_id),
                    job=None if is_told else job.job,
                )
                if may_repeat_sub_job(books.action, state, why) and self._line.put_off(
                    books.intake.unsettled.get(server_id) or server_id,
                    batch, state, why, job_id=job.id, sub_job_id=sub.job_id,
                ):  # fmt: skip
                    continue
                books.conclude(server_id, state, batch=batch, job_id=job.id, sub_job_id=sub.job_id, error=why)
            error = _untold(job)
        except ClientClosedError as closed:
            books.conclude_batch(batch, OutcomeState.UNKNOWN, closed, job_id=job.id)
            return
        except BmsError as lost:
            error = lost
        await self._settle(batch, error)

    async def _settle(self, batch: Batch, error: BmsError) -> None:
        """Have the servers' own states tell; what they do not tell is asked for again, if that does no harm."""
        batch.error = error
        try:
            shown = await self._settler.settle(batch)
        except ClientClosedError:
            shown = []
        if self._books.action != "servers.reboot":
            for server_id in shown:
                self._line.put_off(server_id, batch, OutcomeState.UNKNOWN, error, job_id=batch.job_id)
        self._books.conclude_batch(batch, OutcomeState.UNKNOWN, error, job_id=batch.job_id)

    async def _tell_job(self, job: JobHandle) -> None:
        if self._on_job is None:
            return
        try:
            await call_foreign("on_job", self._on_job, job)
        except Exception as error:  # noqa: BLE001 - the caller's own fault, which is raised once all has ended
            _log.exception("%s: on_job raised for job %s, which is watched all the same", self._books.action, job.id)
            self._books.break_down(error)


def _untold(job: JobHandle) -> JobLostError:
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
