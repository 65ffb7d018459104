"""One coroutine that polls any number of jobs.

Guarantee (R6): a job has at most one poll in flight, however many tasks wait for it, over all processes that share a
journal (`board`). And (R4): cancelling a waiter
affects no other waiter, and closing leaves no task and no waiter behind.

How: a job is in the poll queue, in flight, or idle, and never in two of these. It leaves the queue when it is polled
and returns when that poll has ended. Waiters do not poll. They wait for the record's event or for a future of their
own, and polls run in tasks of the watcher's. A job without a waiter becomes idle: it is held by a weak reference only,
costs no poll, and goes with its last handle; `JobRecord.wake` puts it back into the queue. Application code below a
poll may raise anything, `CancelledError` included, and that is one failed poll. Whatever touches all jobs (closing, a
new subscriber) yields to the event loop every `_YIELD_EVERY` jobs (R9), and closing goes on where a cancelled call
left off.

Rejected: a polling task for each job or each waiter. A hundred thousand timers would compete for one rate limit, and
none of them could know which poll is worth most.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import anyio
import anyio.lowlevel

from bms_async._tasks import BackgroundTasks, check_loop
from bms_async.errors import ClientClosedError, InvalidRequestError
from bms_async.limits import Pacer

from .events import EventBus, JobEvents, JobStarted
from .handle import JobHandle, WatchedJobs
from .patience import Patience
from .poll_loop import Fetch, PollLoop
from .poll_queue import PollQueue
from .poll_verdicts import PollVerdicts
from .record import JobRecord, PollPriority
from .statistics import WatcherStatistics

if TYPE_CHECKING:
    from bms_async.hooks import Hooks

    from .board import JobBoard
    from .shared_events import SharedJobEvents

_log = logging.getLogger("bms_async.jobs")

_YIELD_EVERY = 500
"""How many jobs are processed between two yields to the event loop: some milliseconds of work."""


class Watcher:
    """Polls jobs, each with at most one request in flight however many wait for it.

    Args:
        fetch: The call that fetches a job. It should not retry, because the watcher polls again by itself.
        pace: The pacer that keeps the polls of all jobs within their share of the limit.
        project: Returns the project whose jobs these are, for saved handles; None while it is not known.
        patience: How long a job may show nothing new before it is lost.
        board: The jobs of all processes that share a journal, None without one.

    Attributes:
        hooks: The client's hooks, None if it has none.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        pace: Pacer,
        project: Callable[[], str | None],
        patience: Patience | None = None,
        board: JobBoard | None = None,
    ) -> None:
        self._project = project
        self.board = board
        self.hooks: Hooks | None = None
        self._tasks = BackgroundTasks("bms_async watcher")
        self._records: dict[str, JobRecord] = {}
        # Jobs without a waiter; dropping the last handle of one frees it.
        self._idle: WeakValueDictionary[str, JobRecord] = WeakValueDictionary()
        self._unclosed: list[JobRecord] = []
        self._queue = PollQueue(pace.rate)
        self._bus = EventBus(self._wake_all)
        self._is_waking_all = False
        patience = patience or Patience()
        self._verdicts = PollVerdicts(
            self._queue, rate=pace.rate, patience=patience, priority=self.priority, count=lambda: len(self._records)
        )
        self._polls = PollLoop(
            fetch,
            self,
            tasks=self._tasks,
            queue=self._queue,
            pace=pace,
            patience=patience,
            verdicts=self._verdicts,
            board=board,
        )

    async def open(self) -> None:
        """Start polling."""
        await self._tasks.open()
        self._bus.is_open = True
        self._bus.loop = self._tasks.loop
        if self.board is not None:
            await self.board.open(self, self._tasks)
        self._tasks.start(self._polls.run, name="bms_async watcher")

    @property
    def has_current_task(self) -> bool:
        """Whether the caller runs in a poll, or in a task that a poll has started."""
        return self._tasks.has_current_task

    def begin_closing(self) -> None:
        """Note that the client is being closed: from now on a poll that fails says nothing of its job."""
        self._polls.is_closing = True

    async def aclose(self) -> None:
        """Stop polling; every waiter gets `ClientClosedError`."""
        try:
            await self._tasks.aclose()
        finally:
            try:
                if self.board is not None:
                    await self.board.aclose()
            finally:
                await self._end_all()

    async def _end_all(self) -> None:
        # An attribute, so that a second call finds what a cancelled one has left.
        records = self._unclosed
        records += [*self._records.values(), *_alive(self._idle)]
        self._records.clear()
        self._idle.clear()
        await anyio.lowlevel.cancel_shielded_checkpoint()
        self._queue.clear()
        while records:
            chunk = records[-_YIELD_EVERY:]
            # Freed a chunk at a time, too: freeing a hundred thousand at once would hold the event loop.
            del records[-_YIELD_EVERY:]
            for record in chunk:
                record.fail(
                    ClientClosedError(f"the client was closed before job {record.job_id} ended; the job goes on")
                )
            await anyio.lowlevel.cancel_shielded_checkpoint()
        self._bus.close()

    def watch(
        self,
        job_id: str,
        *,
        servers: tuple[str, ...] = (),
        action: str | None = None,
        redact: Callable[[str], str] | None = None,
        keep_polling: bool = False,
        started: bool = True,
    ) -> JobHandle:
        """Return a handle of a job, which is polled while it has a waiter; all handles of a job share its polls.

        Args:
            job_id: The job.
            servers: The servers it was started for, if known.
            action: The call that started it, if known.
            redact: Masks the secrets that this call has sent.
            keep_polling: Whether to poll the job even without a waiter.
            started: Whether it was accepted just now; otherwise its age is unknown.

        Raises:
            ClientClosedError: The client is not open.
        """
        if not self._tasks.is_open:
            raise ClientClosedError("the client is not open; use it inside `async with`")
        check_loop(self._tasks.loop, "the client")
        record = self._records.get(job_id) or self._idle.get(job_id)
        if record is None:
            record = self._add(job_id, servers, action, keep_polling=keep_polling, started=started)
        else:
            record.add_servers(servers, action)
            if keep_polling:
                record.polling.keep_polling = True
                record.wake()
        if redact is not None:
            record.mask_with(redact)
        return JobHandle(record, self._project() or "", servers=servers, action=action)

    def _add(
        self, job_id: str, servers: tuple[str, ...], action: str | None, *, keep_polling: bool, started: bool
    ) -> JobRecord:
        now = anyio.current_time()
        record = self._records[job_id] = JobRecord(job_id, servers, action, since=now, started=started, bus=self._bus)
        record.polling.keep_polling = keep_polling
        # A job that was picked up is polled once without a waiter: much may have happened to it.
        record.polling.viewed = not started
        self.schedule(record, self._verdicts.delay(record, now) if started else 0.0)
        if self.board is not None:
            self.board.add(record)
        if len(self._bus):
            self._bus.publish(JobStarted(job_id=job_id, action=action, servers=servers))
        return record

    def adopt(self, job_id: str, servers: tuple[str, ...], action: str | None) -> None:
        """Watch a job that no call of this process has named, as long as there are readers of its events.

        Args:
            job_id: The job.
            servers: The servers it was started for, if known.
            action: The call that started it, if known.
        """
        record = self._records.get(job_id) or self._idle.get(job_id)
        if record is None:
            self._add(job_id, servers, action, keep_polling=False, started=False)
        else:
            record.wake()

    def resume(self, record: JobRecord) -> None:
        """Poll a job whose owner does not do so any more."""
        if not record.finished:
            self.schedule(record, 0.0)

    def learned(self, record: JobRecord) -> None:
        """Note that a job was given what another process has learned."""
        now = anyio.current_time()
        record.polling.record_success(now)
        record.note_progress(now)
        if record.finished and self._records.get(record.job_id) is record:
            del self._records[record.job_id]
            self._verdicts.ended += 1
            if self.hooks is not None:
                from .hook_events import emit_finished  # noqa: PLC0415 - most clients have no hooks

                emit_finished(self.hooks, record, now)

    def is_needed(self, record: JobRecord) -> bool:
        """Return whether anybody in this process waits for a job."""
        return self.priority(record) is not PollPriority.IDLE

    def wake_all(self) -> None:
        """Have jobs without a waiter polled again."""
        self._wake_all()

    def events(self, max_buffer_size: int) -> JobEvents:
        """Return a subscription, not yet open, that holds at most `max_buffer_size` events for a slow reader."""
        if isinstance(max_buffer_size, bool) or not isinstance(max_buffer_size, int) or max_buffer_size < 1:
            raise InvalidRequestError(
                "max_buffer_size", max_buffer_size, "expected a whole number of events, at least 1"
            )
        return JobEvents(self._bus, max_buffer_size)

    def shared_events(self, since: str) -> SharedJobEvents:
        """Return a subscription, not yet open, to the events of all processes that share the journal."""
        from .board import no_board  # noqa: PLC0415 - most clients keep no runs
        from .shared_events import SharedJobEvents  # noqa: PLC0415

        if self.board is None:
            raise no_board()
        return SharedJobEvents(self.board, since)

    def watched(self) -> Sequence[JobHandle]:
        """Return a handle of each job that has not ended and that is polled or still has a handle."""
        return WatchedJobs([*self._records.values(), *_alive(self._idle)], self._project() or "")

    def statistics(self) -> WatcherStatistics:
        """Return the watcher's figures."""
        due = self._queue.next_due
        wait = None if due is None else max(0.0, due - anyio.current_time())
        return WatcherStatistics(
            polled=len(self._records),
            idle=len(self._idle),
            in_flight=self._polls.in_flight,
            polls=self._polls.polls,
            failed_polls=self._polls.failed,
            ended=self._verdicts.ended,
            lost=self._verdicts.lost,
            load=self._queue.load(),
            subscribers=len(self._bus),
            next_poll=0.0 if self._queue.has_ready else wait,
        )

    def __repr__(self) -> str:
        return f"<Watcher of {len(self._records)} jobs, {self._polls.polls} polls>"

    def priority(self, record: JobRecord) -> PollPriority:
        """Return how urgently a job is polled."""
        is_read = len(self._bus) or (self.board is not None and self.board.readers)
        return PollPriority.AWAITED if is_read else record.priority()

    def _wake_job(self, record: JobRecord) -> None:
        if self._idle.pop(record.job_id, None) is not None:
            record.polling.resume(anyio.current_time())
            self._records[record.job_id] = record
            self.schedule(record, 0.0)

    def _wake_all(self) -> None:
        self._is_waking_all = True
        self._polls.wake.set()

    def wake_some(self) -> bool:
        """Wake some of the jobs that are to be woken, and return whether there may be more."""
        if not self._is_waking_all:
            return False
        for _ in range(_YIELD_EVERY):
            try:
                _, record = self._idle.popitem()
            except KeyError:
                self._is_waking_all = False
                break
            self._idle[record.job_id] = record
            record.wake()
            # Popped in any case, so that a record that `wake` left where it was is not found again.
            self._idle.pop(record.job_id, None)
        return True

    def suspend(self, record: JobRecord, now: float) -> None:
        """Keep a job without a waiter, which is not polled."""
        self._idle[record.job_id] = self._records.pop(record.job_id)
        record.suspend(self._wake_job, now)
        if self.board is not None:
            self.board.release(record)

    def remove(self, record: JobRecord) -> None:
        """Drop a job that has ended."""
        self._records.pop(record.job_id, None)

    def schedule(self, record: JobRecord, delay: float) -> None:
        """Have a job polled after so many seconds."""
        self._queue.schedule(record, self.priority(record), anyio.current_time(), delay)
        self._polls.wake.set()


def _alive(records: WeakValueDictionary[str, JobRecord]) -> list[JobRecord]:
    """Return the records that still have a handle; iterating over the dict's `values()` takes four times as long."""
    return [record for reference in records.valuerefs() if (record := reference()) is not None]
