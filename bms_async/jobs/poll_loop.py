"""The polls themselves: which job is next, and one request for it.

Guarantee: application code below a poll may raise anything, `CancelledError` included, and that is one failed poll.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import anyio
import anyio.lowlevel

from bms_async._foreign import contain, is_own_cancellation
from bms_async._tasks import BackgroundTasks
from bms_async.errors import ClientClosedError
from bms_async.limits import Pacer
from bms_async.models import Job

from . import schedule
from .followed import Followed
from .kept_job import PartialPoll
from .patience import Patience, bounded_poll
from .poll_queue import PollQueue
from .poll_reading import PollReader
from .poll_verdicts import PollVerdicts
from .record import JobRecord, PollPriority

if TYPE_CHECKING:
    from bms_async.hooks import Hooks

    from .board import JobBoard

_log = logging.getLogger("bms_async.jobs")

Fetch: TypeAlias = Callable[[str, PollReader], Awaitable[Job | PartialPoll | None]]
"""Fetches a job, whose poll the reader reads; returns None if it shows what the last poll showed."""

_MAX_CONCURRENT_POLLS = 32
_PAUSE_AFTER_BUG = 5.0
_YIELD_EVERY = 500


class PolledJobs(Protocol):
    """What the polls need of whoever has the jobs.

    Attributes:
        hooks: The client's hooks, None if it has none.
    """

    hooks: Hooks | None

    def wake_some(self) -> bool:
        """Wake some of the jobs that are to be woken, and return whether there may be more."""
        ...

    def suspend(self, record: JobRecord, now: float) -> None:
        """Keep a job without a waiter, which is not polled."""
        ...

    def remove(self, record: JobRecord) -> None:
        """Drop a job that has ended."""
        ...

    def priority(self, record: JobRecord) -> PollPriority:
        """Return how urgently a job is polled."""
        ...

    def schedule(self, record: JobRecord, delay: float) -> None:
        """Have a job polled after so many seconds."""
        ...


class PollLoop:
    """Polls jobs as they come due.

    Args:
        fetch: The call that fetches a job.
        jobs: Whoever has the jobs.
        tasks: The tasks that polls are made in.
        queue: The jobs that are to be polled.
        pace: The pacer that keeps the polls of all jobs within their share of the limit.
        patience: How long a poll may take.
        verdicts: What a poll means for its job.
        board: The jobs of all processes that share a journal, None without one.

    Attributes:
        fetch: The call that fetches a job.
        wake: Set when a job may have come due, or have to be woken.
        is_closing: Whether a poll that fails says nothing of its job any more.
        in_flight: How many polls are in flight.
        polls: How many were made.
        failed: How many of them have failed.
    """

    def __init__(
        self,
        fetch: Fetch,
        jobs: PolledJobs,
        *,
        tasks: BackgroundTasks,
        queue: PollQueue,
        pace: Pacer,
        patience: Patience,
        verdicts: PollVerdicts,
        board: JobBoard | None,
    ) -> None:
        self.wake = asyncio.Event()
        self.is_closing = False
        self.in_flight = self.polls = self.failed = 0
        self.fetch = fetch
        self._jobs = jobs
        self._tasks = tasks
        self._queue = queue
        self._pace = pace
        self._patience = patience
        self._verdicts = verdicts
        self._board = board

    async def run(self) -> None:
        """Poll until the tasks end."""
        while self._tasks.is_open:
            try:
                await self._poll_next()
            except Exception:  # noqa: BLE001 - a bug that ended this loop would leave all waiters waiting
                _log.exception("polling broke and goes on")
                await anyio.sleep(_PAUSE_AFTER_BUG)

    async def _poll_next(self) -> None:
        await self._collect_due()
        if self.in_flight >= _MAX_CONCURRENT_POLLS or not self._queue.has_ready:
            due = None if self.in_flight >= _MAX_CONCURRENT_POLLS else self._queue.next_due
            self.wake.clear()
            with anyio.move_on_after(None if due is None else max(0.0, due - anyio.current_time())):
                await self.wake.wait()
            return
        await self._pace.acquire()
        if not self._tasks.is_open:
            # The client was closed in the very pass of the loop in which the pacer let us through.
            return
        # Meanwhile a job with a waiter may have come due, and it goes first.
        await self._collect_due()
        record = self._queue.next_ready()
        record.polling.viewed = False
        self._tasks.start(self._poll, record, name="bms_async poll")
        self.in_flight += 1

    async def _collect_due(self) -> None:
        """Collect the jobs that are due and suspend those without a waiter, yielding in between."""
        while self._jobs.wake_some():
            await anyio.lowlevel.checkpoint()
        now = anyio.current_time()
        while not self._collect_chunk(now):
            await anyio.lowlevel.checkpoint()

    def _collect_chunk(self, now: float) -> bool:
        """Collect at most `_YIELD_EVERY` jobs and return whether none is left that is due."""
        for record in self._queue.pop_due(now, self._jobs.priority, limit=_YIELD_EVERY):
            self._queue.release_demand(record)
            if record.finished:
                # By what another process has learned.
                continue
            self._jobs.suspend(record, now)
        return not self._queue.has_due(now)

    async def _poll(self, record: JobRecord) -> None:
        self.polls += 1
        began = anyio.current_time()
        failure: Exception | None = None
        try:
            shown = await bounded_poll(self._make_poll(record), self._patience)
            if isinstance(shown, Followed):
                self._follow(record)
                return
            delay = self._verdicts.on_success(record, shown)
        except ClientClosedError as error:
            if self.is_closing or not self._tasks.is_open:
                return
            # The application has closed the transport that it gave to the client.
            failure = error
            delay = self._verdicts.give_up(record, "cannot be polled any more", error)
        except BaseException as error:
            if is_own_cancellation(error):
                if self._tasks.is_open and not self.is_closing:
                    # Code below this poll cancelled it; the waiters of the job go on waiting.
                    self._jobs.schedule(record, schedule.failure_delay(1))
                raise
            self.failed += 1
            failure = contain(f"the poll of job {record.job_id}", error)
            delay = self._verdicts.on_failure(record, failure, began)
        finally:
            self.in_flight -= 1
            self.wake.set()
        if self._board is not None:
            self._board.note(record)
        if record.finished:
            self._jobs.remove(record)
            self._queue.release_demand(record)
        else:
            self._jobs.schedule(record, delay)
        if self._jobs.hooks is not None:
            from .hook_events import emit_poll  # noqa: PLC0415 - most clients have no hooks

            emit_poll(self._jobs.hooks, record, failure, anyio.current_time())
        # Its traceback refers to this frame, which would be a cycle.
        del failure

    def _make_poll(self, record: JobRecord) -> Awaitable[Job | PartialPoll | Followed | None]:
        if self._board is None:
            return self.fetch(record.job_id, record.make_reader())
        return self._board.poll(record, lambda: self.fetch(record.job_id, record.make_reader()))

    def _follow(self, record: JobRecord) -> None:
        """Leave the polls of a job to another process."""
        self.polls -= 1
        self._queue.release_demand(record)
        if not record.finished and self._board is not None:
            self._board.park(record)
