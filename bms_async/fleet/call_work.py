"""The work of ``each``: a function of the application is called for each server.

What it guarantees: one outcome a server, whatever the function does (R2). It may raise anything, cancel its own task,
never return, or swallow what the SDK raises in it; that is its server's outcome, and no other's.

How: as many workers as the limit of the function's calls and their latency need (`crew`), never a task a server. A
probe sees the calls that the function makes. So a server whose call waits for its slot, and for which nothing was sent
yet, can be taken back, by a pause, the end of the window or the end of the run; and one for which something was sent
is UNKNOWN if the function is ended before it returns. A job that the function returns is followed without a task: its
end is a callback.

Rejected: to read the limit of the function's call from a table. A function may make several calls, or none of ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TypeAlias

import anyio

from bms_async._foreign import call_foreign
from bms_async.errors import (
    BmsError,
    CallError,
    ClientClosedError,
    FleetError,
    InvalidRequestError,
    JobLostError,
)
from bms_async.jobs import JobHandle
from bms_async.limits import Lane
from bms_async.models import SubJob
from bms_async.session.probe import current_probe

from .batch import Batch, BatchWithdrawnError
from .callbacks import call_on_job
from .crew import Crew
from .options import RunOptions
from .outcome import OutcomeState, is_transient, judge_sub_job
from .scheduler import BatchScheduler
from .source import IdSource
from .tracker import RunTracker
from .walk import Walk

_log = logging.getLogger("bms_async.fleet")

CallOne: TypeAlias = Callable[[str], Awaitable[object]]
"""A coroutine function of a server's id."""

Follow: TypeAlias = Callable[[str, Callable[[OutcomeState, BmsError | None], None]], None]
"""Follows a server of which the function has returned, and calls what it is given at its end."""


class CallWork:
    """Calls a function for each server.

    Args:
        tracker: The run's.
        source: The source of ids.
        walk: As the attribute.
        call: The function.
        options: The run's options.
        max_workers: How many calls may be under way at once.
        keeps_results: Whether outcomes have what the function returned.
        follow: Follows each server to its end once the function has returned; None where that was the end, or a job
            says what is.

    Attributes:
        walk: How the fleet is walked through.
        extra_calls: How many calls were made only to find out what no response says.
    """

    def __init__(
        self,
        tracker: RunTracker,
        source: IdSource,
        walk: Walk,
        call: CallOne,
        options: RunOptions,
        *,
        max_workers: int,
        keeps_results: bool,
        follow: Follow | None = None,
    ) -> None:
        self._tracker = tracker
        self._source = source
        self.walk = walk
        self._call = call
        self._options = options
        self._max_workers = max_workers
        self._keeps_results = keeps_results
        self._follow = follow
        self._scheduler = BatchScheduler(tracker, walk.feed, walk.gate, retry=options.retry_transient)
        self._crew: Crew[Batch]
        self._has_logged = False

    @property
    def extra_calls(self) -> int:
        """How many calls were made only to find out what no response says."""
        return self.walk.calls

    async def carry_out(self) -> None:
        """Read the source, and call the function for each server."""
        async with self.walk, anyio.create_task_group() as tasks:
            tasks.start_soon(self._source.read)
            await self.walk.prepare()
            self._crew = Crew(self._call_one, tasks, self._max_workers)
            try:
                await self._hand_out()
            finally:
                self._crew.close()
            await self.drain()
            self._source.scope.cancel()
            await self._wait_for_ends()

    def stop(self) -> None:
        """Call the function no more."""
        self._source.scope.cancel()
        self.walk.stop()

    async def drain(self, *, unknown: list[Batch] | None = None) -> None:
        """Give all servers that wait their outcome."""
        await self._scheduler.drain(unknown=unknown)
        if unknown is None:
            await self._tracker.skip_unasked(self.walk.feed.pop_waiting)

    async def read_states(self, batches: Collection[Batch]) -> None:
        """Read nothing: no state of a server says what a function has done."""

    async def release(self) -> None:
        """Give the servers whose outcome was held back theirs."""
        await self.walk.release()

    async def _hand_out(self) -> None:
        while True:
            await self._crew.wait_for_one()
            batch = await self._scheduler.next_batch()
            if batch is None:
                return
            self._crew.hand(batch)

    async def _wait_for_ends(self) -> None:
        """Wait for the ends of jobs that are followed, after the run was told to stop as well."""
        tracker = self._tracker
        while tracker.in_flight:
            tracker.wake.clear()
            await tracker.wake.wait()

    async def _call_one(self, batch: Batch) -> None:
        tracker = self._tracker
        probe = _CallProbe(batch, self._crew, self._scheduler, self._options.lane)
        token = current_probe.set(probe)
        server_id = batch.ids[0]
        was_called = is_over = False
        result: object = None
        error: Exception | None = None
        try:
            with batch.scope:
                if not tracker.stopping:
                    self._note_call(batch)
                    was_called = True
                    result = await call_foreign("the call of a server", self._call, server_id)
                    is_over = True
        except Exception as raised:  # noqa: BLE001 - one server of many, whose outcome it is
            error = raised
        finally:
            current_probe.reset(token)
            probe.end()
        if (error is None and not is_over) or probe.withheld is not None:
            # It was cancelled while its call waited for its slot, or held up when it had it; whatever the function
            # makes of that, nothing was sent.
            self._take_back(batch, was_called=was_called)
        elif error is not None:
            self._on_error(batch, error, was_sent=probe.is_sent)
        else:
            await self._on_result(batch, result)

    def _note_call(self, batch: Batch) -> None:
        tracker = self._tracker
        # A function may do anything before its first call.
        batch.in_doubt = True
        batch.send_count += 1
        if batch.started is None:
            batch.started = tracker.clock.now()
            tracker.submitted += 1

    def _take_back(self, batch: Batch, *, was_called: bool) -> None:
        batch.in_doubt = False
        if was_called:
            batch.send_count -= 1
            if not batch.earlier:
                batch.started = None
                self._tracker.submitted -= 1
        if self._tracker.stopping:
            self._conclude(batch, batch.default_state, self._tracker.skip_error)
        else:
            self._scheduler.take_back(batch)

    async def _on_result(self, batch: Batch, result: object) -> None:
        server_id = batch.ids[0]
        if isinstance(result, JobHandle):
            self._tracker.accepted += 1
            await call_on_job(self._tracker, self._options.on_job, result)
            self._follow_job(batch, result)
        elif self._follow is not None:
            self._follow(server_id, partial(self._on_followed, batch))
        else:
            self._conclude(batch, OutcomeState.SUCCEEDED, result=result if self._keeps_results else None)

    def _on_followed(self, batch: Batch, state: OutcomeState, error: BmsError | None) -> None:
        self._conclude(batch, state, error)

    def _follow_job(self, batch: Batch, job: JobHandle) -> None:
        """Follow the job that the function returned; its end is a callback, and no task waits for it."""
        batch.job_id = job.id
        server_id = batch.ids[0]
        try:
            end = job.sub_job(server_id) if job.servers else job.sub_job(job.servers[0])
        except (InvalidRequestError, IndexError):
            self._conclude(batch, OutcomeState.UNKNOWN, _not_of(job, server_id))
            return
        end.add_done_callback(partial(self._on_job_end, batch, job))

    def _on_job_end(self, batch: Batch, job: JobHandle, end: asyncio.Future[SubJob]) -> None:
        server_id = batch.ids[0]
        error = None if end.cancelled() else end.exception()
        if end.cancelled() or error is not None:
            self._conclude(batch, OutcomeState.UNKNOWN, error if isinstance(error, BmsError) else None)
            return
        sub = end.result()
        state, why = judge_sub_job(
            self._tracker.action, sub, server_id, job.id, in_doubt=batch.is_in_doubt(server_id), job=job.job
        )
        self._scheduler.defer_or_conclude(
            server_id,
            batch,
            state,
            why,
            may_retry=why is not None and is_transient(why),
            job_id=job.id,
            sub_job_id=sub.job_id,
        )
        self._tracker.open_batches.discard(batch)

    def _on_error(self, batch: Batch, error: Exception, *, was_sent: bool) -> None:
        """Give a server its outcome by what the function raised, or have it called again later."""
        if isinstance(error, ClientClosedError):
            self._conclude(batch, OutcomeState.UNKNOWN if was_sent else OutcomeState.SKIPPED, error)
            return
        is_unproved = (isinstance(error, CallError) and error.maybe_done) or isinstance(error, JobLostError)
        if is_unproved or (was_sent and isinstance(error, TimeoutError)):
            self._conclude(batch, OutcomeState.UNKNOWN, self._as_bms_error(batch, error))
            return
        batch.in_doubt = False
        why = self._as_bms_error(batch, error)
        self._scheduler.defer_or_conclude(
            batch.ids[0], batch, OutcomeState.FAILED, why, may_retry=isinstance(error, CallError) and is_transient(why)
        )
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

    def _conclude(
        self, batch: Batch, state: OutcomeState, error: BmsError | None = None, *, result: object = None
    ) -> None:
        tracker = self._tracker
        if tracker.timed_out and state is OutcomeState.UNKNOWN:
            # The end of the run says more.
            return
        tracker.conclude(batch.ids[0], state, batch=batch, job_id=batch.job_id, error=error, result=result)
        tracker.open_batches.discard(batch)


class _CallProbe:
    """Sees the calls that the function makes for one server."""

    def __init__(self, batch: Batch, crew: Crew[Batch], scheduler: BatchScheduler, lane: Lane) -> None:
        self.lane = lane
        self.is_sent = False
        self.withheld: BatchWithdrawnError | None = None
        self._batch = batch
        self._crew = crew
        self._scheduler = scheduler
        self._waits = False

    def on_wait(self) -> None:
        if not self.is_sent:
            self._batch.in_doubt = False
        self._set_waiting(waits=True)

    def check_may_send(self) -> None:
        if self.is_sent:
            # What has begun is carried to its end.
            return
        try:
            self._scheduler.check_now()
        except BatchWithdrawnError as error:
            self.withheld = error
            raise

    def on_send(self) -> None:
        self.is_sent = self._batch.in_doubt = True
        self._set_waiting(waits=False)

    def end(self) -> None:
        self._set_waiting(waits=False)

    def _set_waiting(self, *, waits: bool) -> None:
        if waits is not self._waits:
            self._waits = waits
            self._crew.waiting += 1 if waits else -1
            self._crew.note_change()


def _not_of(job: JobHandle, server_id: str) -> FleetError:
    return FleetError(
        f"job {job.id}, which the call returned, is not about server {server_id}: expected a job of this server; "
        "await the job in the function, or return nothing",
        code=None,
        server_ids=(server_id,),
    )
