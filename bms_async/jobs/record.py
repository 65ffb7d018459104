"""What is known of one job, and its waiters.

Guarantee (R10): memory per server of a job in flight is bounded and small, however often the job is polled. And each
sub-job ends once: the cloud shows sub-jobs late, in any order, twice, without their server, or takes an end back to
RUNNING, and the first end that was seen counts.

How: the end of each server's sub-job is kept in one dict. Where a poll shows it again, `intern_job` puts the object
that is held already in the place of the copy, and does the same with equal ids and texts. Of the polls only the last
one is kept, and of a large job only what has ended is kept as objects (`KeptJob`). Futures, the event that wakes
waiters and the list of ends are created when they are first needed, because most jobs are only polled. What the watcher
needs for polling is in a `PollState`, which the garbage collector does not visit.

Rejected: a future for each server from the start, since most servers of a large job are never asked about one by one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from enum import Enum, auto

from bms_async._tasks import check_loop
from bms_async.errors import BmsError, JobLostError
from bms_async.errors.base import own_copy
from bms_async.models import Job, JobEntities, JobStatus, SubJob
from bms_async.models.free_text import map_free_text
from bms_async.models.ids import canonical_id
from bms_async.models.jobs import intern_job
from bms_async.redaction import mask_when_shown

from .attribution import attribute_unnamed, is_complete, unended, with_first_ends
from .events import EventBus, JobChanged, JobEnded, JobLost, SubJobEnded
from .kept_job import KeptJob, PartialPoll
from .poll_reading import SPLIT_FROM, PollReader
from .poll_state import PollState
from .progress import NO_PROGRESS, advance, count
from .schedule import SAMPLES

_CLOCK_STEP = 5.0


class PollPriority(Enum):
    """How urgently a job is polled."""

    AWAITED = auto()
    """The job has a waiter."""
    BACKGROUND = auto()
    """No waiter, but the job is polled: always (`keep_polling`), or once because a caller has read its status."""
    IDLE = auto()
    """The job need not be polled."""


class JobRecord:
    """What the watcher knows of a job; its handles read it.

    Attributes:
        job_id: The job.
        action: The call that started it, None if not known.
        servers: The servers it was started for, empty if not known.
        expected_ids: The same by canonical id, for lookups: the cloud and callers may spell one id in two ways.
        polling: When it is polled, and how its polls have gone.
        ended: The sub-jobs that have ended, in the order in which their ends were seen.
        finished: Whether nothing more will be learned: the job has ended, or was lost.
        error: Why nothing more will be learned, if the job did not end by itself.
    """

    __slots__ = (
        "__weakref__",
        "_bus",
        "_changed",
        "_ended_by_server",
        "_futures",
        "_on_wake",
        "_progress",
        "_redacts",
        "_shared_by_calls",
        "_shown",
        "_waiter_count",
        "action",
        "ended",
        "error",
        "expected_ids",
        "finished",
        "job_id",
        "polling",
        "servers",
    )

    def __init__(
        self,
        job_id: str,
        servers: tuple[str, ...],
        action: str | None,
        *,
        since: float,
        started: bool,
        bus: EventBus,
    ) -> None:
        self.job_id = job_id
        self.servers = servers
        self.expected_ids = {canonical_id(server_id): server_id for server_id in servers}
        self.action = action
        self.polling = PollState(since=since, started=started, last_progress_at=since)
        self.ended: Sequence[SubJob] = ()
        self.finished = False
        self.error: BmsError | None = None
        self._bus = bus
        self._progress = NO_PROGRESS
        self._redacts: tuple[Callable[[str], str], ...] = ()
        self._shared_by_calls = False
        self._shown: Job | KeptJob | None = None
        self._ended_by_server: dict[str, SubJob] = {}
        self._futures: dict[str, list[asyncio.Future[SubJob]]] = {}
        self._waiter_count = 0
        self._on_wake: Callable[[JobRecord], None] | None = None
        self._changed: asyncio.Event | None = None

    def add_servers(self, servers: tuple[str, ...], action: str | None) -> None:
        """Add servers that the job was started for, and the call that did so; a second call adds its own.

        A cloud that returns one job for two calls has merged them, or mixed them up. From then on nothing is concluded
        from the job's end for a server that the job does not name.
        """
        added = {name: server_id for server_id in servers if (name := canonical_id(server_id)) not in self.expected_ids}
        if not added:
            return
        self._shared_by_calls = self._shared_by_calls or bool(self.servers)
        self.servers += tuple(added.values())
        self.expected_ids.update(added)
        self.action = self.action or action

    @property
    def head(self) -> Job | None:
        """What the last poll said of the job itself, None before the first; it need not have the sub-jobs."""
        return self._shown.head if isinstance(self._shown, KeptJob) else self._shown

    @property
    def job(self) -> Job | None:
        """What the last poll said of the whole job, None before the first."""
        return self._shown.whole(self._settle) if isinstance(self._shown, KeptJob) else self._shown

    @property
    def status(self) -> JobStatus | None:
        """The job's status in the last poll, None before the first."""
        return self.head.status if self.head is not None else None

    @property
    def total(self) -> int:
        """How many sub-jobs the job has, as far as is known; at least 1."""
        shown = len(self._shown.stages) if isinstance(self._shown, KeptJob) else 0
        return max(len(self.expected_ids), self.head.sub_jobs_total if self.head is not None else 0, shown, 1)

    def priority(self) -> PollPriority:
        """Return how urgently the job is polled."""
        if self._waiter_count:
            return PollPriority.AWAITED
        while self._futures:
            name, futures = next(iter(self._futures.items()))
            if any(not future.done() for future in futures):
                return PollPriority.AWAITED
            del self._futures[name]
        return PollPriority.BACKGROUND if self.polling.keep_polling or self.polling.viewed else PollPriority.IDLE

    def durations(self, now: float) -> list[float]:
        """Return how long some of the sub-jobs took, in seconds from the job's acceptance, once it has ended."""
        polling = self.polling
        begun = self.head.begin_time if self.head is not None else None
        sample = self.ended[:: -(-len(self.ended) // SAMPLES) or 1]
        shown = [(sub.end_time - begun).total_seconds() for sub in sample if begun and sub.end_time]
        oldest = now - polling.since + _CLOCK_STEP if polling.started else math.inf
        if shown and all(0 <= duration <= oldest for duration in shown):
            return shown
        # The cloud shows no times, or impossible ones. The end came between the poll before this one and now.
        seen_at = now if polling.last_poll_at is None else polling.last_poll_at
        return [(now + seen_at) / 2 - polling.since] if polling.started else []

    def suspend(self, on_wake: Callable[[JobRecord], None], now: float) -> None:
        """Note that the job is not polled any more until `wake`, which calls `on_wake` once."""
        self._on_wake = on_wake
        self.polling.suspended_at = now

    def wake(self) -> None:
        """Have the job polled again if polling is suspended."""
        on_wake, self._on_wake = self._on_wake, None
        if on_wake is not None and not self.finished:
            on_wake(self)

    def mark_viewed(self) -> None:
        """Have the job polled once more if it is suspended: a caller that reads its status counts as interested."""
        self.polling.viewed = True
        self.wake()

    def note_progress(self, now: float) -> None:
        """Note whether the last poll shows progress; the patience for jobs that show none is counted from it."""
        if self._shown is None or self.status is None:
            return
        counts = self._shown.counts if isinstance(self._shown, KeptJob) else count(self._shown)
        progress = advance(
            self._progress, self.status, counts, servers=len(self.expected_ids), ended=len(self._ended_by_server)
        )
        if progress != self._progress:
            self._progress, self.polling.last_progress_at = progress, now

    async def wait_for_change(self) -> None:
        """Wait until the next poll that shows a change, or the job's end."""
        check_loop(self._bus.loop, f"job {self.job_id}")
        self._waiter_count += 1
        changed = self._changed = self._changed or asyncio.Event()
        try:
            self.wake()
            await changed.wait()
        finally:
            self._waiter_count -= 1

    def sub_job(self, server_id: str) -> asyncio.Future[SubJob]:
        """Return a new future for the end of a server's sub-job; cancelling it affects no other future."""
        check_loop(self._bus.loop, f"job {self.job_id}")
        future: asyncio.Future[SubJob] = asyncio.get_running_loop().create_future()
        name = canonical_id(server_id)
        if name in self._ended_by_server:
            future.set_result(self._ended_by_server[name])
        elif self.finished:
            _fail(future, self._missing_error(name))
        else:
            self._futures.setdefault(name, []).append(future)
            self.wake()
        return future

    def mask_with(self, redact: Callable[[str], str]) -> None:
        """Mask the secrets that a call of the job has sent, and in what is known of the job too."""
        self._redacts += (redact,)
        if isinstance(self.ended, list):
            self.ended = list(self._masked_ends())
            self._ended_by_server.update(
                (name, sub)
                for sub in self.ended
                if (name := canonical_id(sub.server_id or "")) in self._ended_by_server
            )
        if self.job is not None:
            # As a whole, so that the next poll decodes and masks all of it.
            self._shown = self._settle(self.job)

    def make_reader(self, *, split_from: int = SPLIT_FROM) -> PollReader:
        """Return a reader of the next poll.

        Args:
            split_from: Bytes from which on a poll is read in parts.
        """
        return PollReader(self._shown, split_from=split_from)

    def update(self, poll: Job | PartialPoll) -> None:
        """Apply what a poll showed.

        One that was compared with anything but what is known now is left out; the next poll shows what it did.
        """
        if self.finished or (isinstance(poll, PartialPoll) and poll.known is not self._shown):
            return
        before = self.status
        changed = self._settle(poll if isinstance(poll, Job) else poll.changed)
        self._shown = changed if isinstance(poll, Job) else poll.keep(changed)
        if len(self._bus) and not changed.is_final and before != changed.status:
            self._bus.publish(JobChanged(job_id=self.job_id, status=changed.status))
        for sub in changed.sub_jobs:
            server_id = sub.server_id if sub.is_final else None
            if server_id is not None and (name := canonical_id(server_id)) not in self._ended_by_server:
                self._end(name, sub)
        if changed.is_final and (job := self.job) is not None and is_complete(job, self._ended_by_server):
            self._finish(job)
        self._notify()

    def _settle(self, job: Job) -> Job:
        """Return the job, masked, and sharing its parts with what is held already."""
        masked = map_free_text(job, self._mask) if self._redacts else job
        return intern_job(masked, self._ended_by_server, self.expected_ids)

    def _masked_ends(self) -> tuple[SubJob, ...]:
        ends = Job(job_id=self.job_id, entities=JobEntities(sub_jobs=tuple(self.ended)))
        return map_free_text(ends, self._mask).sub_jobs

    @property
    def shows_unended(self) -> bool:
        """Whether the last poll that showed a change showed sub-jobs that have not ended."""
        job = self.job
        return job is not None and any(unended(job, self._ended_by_server))

    def give_up(self) -> None:
        """Finish a job that has failed, though some sub-jobs were never shown, or seem to go on."""
        job = self.job
        if job is not None and not self.finished:
            self._finish(job)
            self._notify()

    def fail(self, error: BmsError) -> None:
        """Finish the job with an error, which every waiter gets."""
        if self.finished:
            return
        self.error = error
        self.finished = True
        self._release_waiters()
        if isinstance(error, JobLostError):
            self._bus.publish(JobLost(job_id=self.job_id, error=own_copy(error)))
        self._notify()

    def _mask(self, text: str) -> str:
        for redact in self._redacts:
            text = mask_when_shown(text, redact)
        return text

    def _end(self, name: str, sub: SubJob) -> None:
        self._ended_by_server[name] = sub
        self._append(sub)
        for future in self._futures.pop(name, ()):
            if not future.done():
                future.set_result(sub)

    def _append(self, sub: SubJob) -> None:
        if isinstance(self.ended, list):
            self.ended.append(sub)
        else:
            # Most jobs show no end for long, and each list is one more object for the garbage collector to visit.
            self.ended = [sub]
        if len(self._bus):
            self._bus.publish(SubJobEnded(job_id=self.job_id, server_id=sub.server_id, sub_job=sub))

    def _finish(self, job: Job) -> None:
        self._shown = job = with_first_ends(job, self._ended_by_server)
        unnamed = [sub for sub in job.sub_jobs if sub.is_final and not sub.server_id]
        # A job that names servers of no call of ours is not the job it was taken for.
        trusted = not self._shared_by_calls and all(name in self.expected_ids for name in self._ended_by_server)
        if trusted or not self._ended_by_server:
            running = {canonical_id(sub.server_id) for sub in unended(job, self._ended_by_server) if sub.server_id}
            named = self._ended_by_server.keys() | running
            missing = [server_id for name, server_id in self.expected_ids.items() if name not in named]
            for sub in attribute_unnamed(job, missing, unnamed, servers=len(self.expected_ids)):
                self._end(canonical_id(sub.server_id or ""), sub)
        if not self.servers:
            for sub in unnamed:
                self._append(sub)
        self.finished = True
        self._release_waiters()
        if len(self._bus):
            self._bus.publish(JobEnded(job_id=self.job_id, job=job))

    def _release_waiters(self) -> None:
        for name, futures in self._futures.items():
            for future in futures:
                _fail(future, self._missing_error(name))
        self._futures.clear()

    def _missing_error(self, name: str) -> BmsError:
        """Return why a server's future gets no result, as a new error for each future."""
        if self.error is not None:
            return own_copy(self.error)
        job, server_id = self.job, self.expected_ids.get(name, name)
        shown = next((sub for sub in (job.sub_jobs if job else ()) if canonical_id(sub.server_id or "") == name), None)
        if shown is not None:
            text = f"ended, but still shows {shown.status.value} for server {server_id}"
        elif not self.expected_ids or name in self.expected_ids:
            text = f"ended without reporting server {server_id}"
        else:
            text = f"was not started for server {server_id}"
        return JobLostError(
            f"job {self.job_id} {text}",
            job_id=self.job_id,
            job=job,
            code=(job.error_code or job.code) if job else None,
            reason=job.reason if job else None,
        )

    def _notify(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


def _fail(future: asyncio.Future[SubJob], error: BmsError) -> None:
    if not future.done():
        future.set_exception(error)
        # Marked as retrieved: a future that is never awaited is not an error to be logged.
        future.exception()
