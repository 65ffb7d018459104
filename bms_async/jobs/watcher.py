"""One coroutine that polls any number of jobs."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakValueDictionary

import anyio
import anyio.lowlevel

from bms_async._foreign import contain, is_own_cancellation
from bms_async._tasks import BackgroundTasks, check_loop
from bms_async.errors import CallError, ClientClosedError, InvalidRequestError, JobLostError
from bms_async.limits import Pacer
from bms_async.models import Job, JobStatus, JobSummary

from . import schedule
from .events import EventBus, JobEvents, JobStarted
from .handle import JobHandle, WatchedJobs
from .patience import Patience, bounded_poll
from .poll_failures import classify_failure
from .poll_queue import PollQueue
from .record import JobRecord, PollPriority
from .statistics import WatcherStatistics

if TYPE_CHECKING:
    from bms_async.hooks import Hooks

_log = logging.getLogger("bms_async.jobs")

Fetch: TypeAlias = Callable[[str, Callable[[JobSummary], bool]], Awaitable[Job | None]]
"""Fetches a job; None if a glance at it shows nothing new."""

_MAX_CONCURRENT_POLLS = 32
_PAUSE_AFTER_BUG = 5.0
_YIELD_EVERY = 500
"""How many jobs are dealt with before others get a turn: some milliseconds of work."""


class Watcher:
    """Polls jobs, each with at most one request in flight however many wait for it.

    Args:
        fetch: The call that fetches a job; it should not retry, for the watcher polls again by itself.
        pace: Keeps the polls of all jobs within their share of the limit.
        project: Tells the project whose jobs these are, for saved handles; None as long as nobody knows.
        patience: How long the cloud may tell nothing before a job is lost.

    Attributes:
        hooks: Who is told of each poll, and of each job's end; None where nobody is.
    """

    def __init__(
        self, fetch: Fetch, *, pace: Pacer, project: Callable[[], str | None], patience: Patience | None = None
    ) -> None:
        self._fetch = fetch
        self._pace = pace
        self._project = project
        self._patience = patience or Patience()
        self.hooks: Hooks | None = None
        self._owner = BackgroundTasks("bms_async watcher")
        self._records: dict[str, JobRecord] = {}
        # Nobody waits for these: who drops the last handle of one lets it go.
        self._asleep: WeakValueDictionary[str, JobRecord] = WeakValueDictionary()
        self._ending: list[JobRecord] = []
        self._queue = PollQueue(pace.rate)
        self._bus = EventBus(self._wake_all)
        self._wake = asyncio.Event()
        self._profiles: dict[str, schedule.DurationProfile] = {}
        self._in_flight = self._polls = self._failed = self._ended = self._lost = 0
        self._is_closing = self._is_rousing = False

    async def open(self) -> None:
        """Start polling."""
        await self._owner.open()
        self._bus.is_open = True
        self._bus.loop = self._owner.loop
        self._owner.start(self._run, name="bms_async watcher")

    @property
    def has_current_task(self) -> bool:
        """Whether this is called from a poll, or from what one has started."""
        return self._owner.has_current_task

    def begin_closing(self) -> None:
        """Note that the client is being closed: what ends a poll from now on is that, and nothing of the job's."""
        self._is_closing = True

    async def aclose(self) -> None:
        """Stop polling; everyone who waits for a job gets `ClientClosedError`."""
        try:
            await self._owner.aclose()
        finally:
            await self._end_all()

    async def _end_all(self) -> None:
        # Kept where one that is called again, after it was cancelled, finds what is left.
        records = self._ending
        records += [*self._records.values(), *_alive(self._asleep)]
        self._records.clear()
        self._asleep.clear()
        await anyio.lowlevel.cancel_shielded_checkpoint()
        self._queue.clear()
        while records:
            some = records[-_YIELD_EVERY:]
            # What nobody holds any more goes a few at a time, too.
            del records[-_YIELD_EVERY:]
            for record in some:
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
        """Return a handle of a job, which is polled while somebody waits for it; several handles cost one poll.

        Args:
            job_id: The job.
            servers: The servers it was started for, if known.
            action: The call that started it, if known.
            redact: Takes what that call sent as secrets out of what is told of the job.
            keep_polling: Whether to poll it also when nobody waits for it.
            started: Whether it was accepted just now; its age is not known otherwise.

        Raises:
            ClientClosedError: The client is not open.
        """
        if not self._owner.is_open:
            raise ClientClosedError("the client is not open; use it inside `async with`")
        check_loop(self._owner.loop, "the client")
        record = self._records.get(job_id) or self._asleep.get(job_id)
        if record is None:
            now = anyio.current_time()
            record = JobRecord(job_id, servers, action, since=now, started=started, bus=self._bus)
            # Whatever has happened to it is news.
            record.viewed = not started
            record.keep_polling = keep_polling
            self._records[job_id] = record
            self._schedule(record, self._delay(record, now) if started else 0.0)
            if len(self._bus):
                self._bus.publish(JobStarted(job_id=job_id, action=action, servers=servers))
        else:
            record.add_servers(servers, action)
            if keep_polling:
                record.keep_polling = True
                record.wake_up()
        record.redact = redact or record.redact
        return JobHandle(record, self._project() or "", servers=servers, action=action)

    def events(self, max_buffer_size: int) -> JobEvents:
        """Return a subscription, not yet open, that holds so many events for a reader that is slow."""
        if isinstance(max_buffer_size, bool) or not isinstance(max_buffer_size, int) or max_buffer_size < 1:
            raise InvalidRequestError("max_buffer_size", max_buffer_size, "a whole number of events, at least 1")
        return JobEvents(self._bus, max_buffer_size)

    def watched(self) -> Sequence[JobHandle]:
        """Return a handle of each job that has not ended, as far as somebody holds it or waits for it."""
        return WatchedJobs([*self._records.values(), *_alive(self._asleep)], self._project() or "")

    def statistics(self) -> WatcherStatistics:
        """Tell what is polled."""
        due = self._queue.due
        wait = None if due is None else max(0.0, due - anyio.current_time())
        return WatcherStatistics(
            polled=len(self._records),
            idle=len(self._asleep),
            in_flight=self._in_flight,
            polls=self._polls,
            failed_polls=self._failed,
            ended=self._ended,
            lost=self._lost,
            load=self._queue.load(),
            subscribers=len(self._bus),
            next_poll=0.0 if self._queue.has_ready else wait,
        )

    def __repr__(self) -> str:
        return f"<Watcher of {len(self._records)} jobs, {self._polls} polls>"

    async def _run(self) -> None:
        while self._owner.is_open:
            try:
                await self._poll_next()
            except Exception:  # noqa: BLE001 - see below
                # Whoever waits would wait for ever if a fault of ours ended the only coroutine that polls.
                _log.exception("polling broke, and goes on")
                await anyio.sleep(_PAUSE_AFTER_BUG)

    async def _poll_next(self) -> None:
        await self._collect_due()
        if self._in_flight >= _MAX_CONCURRENT_POLLS or not self._queue.has_ready:
            due = None if self._in_flight >= _MAX_CONCURRENT_POLLS else self._queue.due
            self._wake.clear()
            with anyio.move_on_after(None if due is None else max(0.0, due - anyio.current_time())):
                await self._wake.wait()
            return
        await self._pace.acquire()
        if not self._owner.is_open:
            # The turn came in the very pass in which the client is closed.
            return
        # Who came to be due meanwhile, and is waited for, goes before who is not.
        await self._collect_due()
        record = self._queue.next_ready()
        record.viewed = False
        self._owner.start(self._poll, record, name="bms_async poll")
        self._in_flight += 1

    async def _collect_due(self) -> None:
        """Find the jobs that are due, and let those sleep that nobody waits for, some of them at a time."""
        while self._is_rousing:
            self._wake_some()
            await anyio.lowlevel.checkpoint()
        now = anyio.current_time()
        while not self._collect_some_due(now):
            await anyio.lowlevel.checkpoint()

    def _collect_some_due(self, now: float) -> bool:
        for record in self._queue.pop_due(now, self._priority, most=_YIELD_EVERY):
            self._queue.release_demand(record)
            self._asleep[record.job_id] = self._records.pop(record.job_id)
            record.suspend(self._wake_job, now)
        return not self._queue.is_due(now)

    def _priority(self, record: JobRecord) -> PollPriority:
        return PollPriority.AWAITED if len(self._bus) else record.priority()

    def _wake_job(self, record: JobRecord) -> None:
        if self._asleep.pop(record.job_id, None) is not None:
            record.wake(anyio.current_time())
            self._records[record.job_id] = record
            self._schedule(record, 0.0)

    def _wake_all(self) -> None:
        self._is_rousing = True
        self._wake.set()

    def _wake_some(self) -> None:
        for _ in range(_YIELD_EVERY):
            try:
                _, record = self._asleep.popitem()
            except KeyError:
                self._is_rousing = False
                return
            self._asleep[record.job_id] = record
            record.wake_up()
            # Whatever it wants, it is not come upon again.
            self._asleep.pop(record.job_id, None)

    async def _poll(self, record: JobRecord) -> None:
        self._polls += 1
        began = anyio.current_time()
        failure: Exception | None = None
        try:
            poll = self._fetch(record.job_id, functools.partial(self._has_changes, record))
            delay = self._on_success(record, await bounded_poll(poll, self._patience))
        except ClientClosedError as error:
            if self._is_closing or not self._owner.is_open:
                return
            # Somebody closed the transport under us.
            failure = error
            delay = self._give_up(record, "cannot be polled any more", error)
        except BaseException as error:
            if is_own_cancellation(error):
                if self._owner.is_open and not self._is_closing:
                    # It is this one poll that was cancelled, by what it calls: whoever waits goes on waiting.
                    self._schedule(record, schedule.failure_delay(1))
                raise
            # Code of the application's may raise anything, and that is one failed poll like any other.
            self._failed += 1
            failure = contain(f"what polls job {record.job_id}", error)
            delay = self._on_failure(record, failure, began)
        finally:
            self._in_flight -= 1
            self._wake.set()
        if record.finished:
            self._records.pop(record.job_id, None)
            self._queue.release_demand(record)
        else:
            self._schedule(record, delay)
        if self.hooks is not None:
            from .hook_events import emit_poll  # noqa: PLC0415 - most clients have no hooks

            emit_poll(self.hooks, record, failure, anyio.current_time())
        # It has a traceback, which has this frame.
        del failure

    def _has_changes(self, record: JobRecord, summary: JobSummary) -> bool:
        record.note_progress(summary, anyio.current_time())
        return record.has_changes(summary)

    def _on_success(self, record: JobRecord, job: Job | None) -> float:
        now = anyio.current_time()
        record.note_success(now)
        if job is not None:
            record.update(job)
            record.note_progress(job, now)
            if record.finished:
                self._ended += 1
                self._update_profile(record, now)
        if not record.finished:
            self._check_progress(record, now)
        record.last_poll_at = now
        return self._delay(record, now)

    def _check_progress(self, record: JobRecord, now: float) -> None:
        job, patience = record.job, self._patience
        goes_on = job is None or not job.is_final or record.shows_unended
        longest = patience.no_news if goes_on else patience.incomplete
        if job is None or now - record.last_progress_at <= longest:
            return
        if job.status is JobStatus.FAIL:
            self._ended += 1
            record.give_up()
        else:
            shown = "and goes on showing sub-jobs that have not ended" if job.is_final else ""
            self._give_up(record, f"says {job.status.value} {shown}".rstrip() + f", and nothing new for {longest:g} s")

    def _update_profile(self, record: JobRecord, now: float) -> None:
        kind = _profile_key(record)
        learned = schedule.update_profile(self._profiles.get(kind), record.durations(now))
        if learned is not None:
            self._profiles[kind] = learned

    def _on_failure(self, record: JobRecord, error: Exception, began: float) -> float:
        if not isinstance(error, CallError) and not record.failures:
            _log.error("polling job %s broke", record.job_id, exc_info=error)
        why = classify_failure(record, error, began=began, now=anyio.current_time(), patience=self._patience)
        if why is not None:
            return self._give_up(record, why, error)
        _log.info("poll %d of job %s in a row failed: %s", record.failures, record.job_id, type(error).__name__)
        delay = schedule.failure_delay(record.failures)
        if record.missing_since is not None:
            delay = min(delay, max(self._patience.not_found / 4, schedule.failure_delay(1)))
        return delay * self._queue.load(self._priority(record))

    def _give_up(self, record: JobRecord, why: str, error: Exception | None = None) -> float:
        self._lost += 1
        job = record.job
        lost = JobLostError(
            f"job {record.job_id} {why}; read the servers' own state to see what it did",
            job_id=record.job_id,
            job=job,
            code=(job.error_code or job.code) if job is not None else None,
            reason=job.reason if job is not None else None,
        )
        lost.__cause__ = error
        record.fail(lost)
        return 0.0

    def _delay(self, record: JobRecord, now: float) -> float:
        return schedule.next_poll_delay(
            age=now - record.since,
            profile=self._profiles.get(_profile_key(record)) if record.started else None,
            total=record.total,
            remaining=record.total - len(record.ended),
            load=self._queue.load(self._priority(record)),
            round_robin_interval=len(self._records) / self._pace.rate,
        )

    def _schedule(self, record: JobRecord, delay: float) -> None:
        self._queue.schedule(record, self._priority(record), anyio.current_time(), delay)
        self._wake.set()


def _alive(records: WeakValueDictionary[str, JobRecord]) -> list[JobRecord]:
    """Return those that somebody still holds; iterating over the values themselves takes four times as long."""
    return [record for each in records.valuerefs() if (record := each()) is not None]


def _profile_key(record: JobRecord) -> str:
    """Return what jobs that take alike have in common."""
    return record.action or (record.job.job_type if record.job else None) or ""
