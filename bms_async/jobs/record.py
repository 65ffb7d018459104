"""What is known of one job, and who waits for it.

The cloud tells little and changes its mind: sub-jobs come late, in any order, twice, without the server they are
about, or go back from an end to RUNNING. Here each sub-job ends once, and the first end that was seen counts.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from enum import Enum, auto

from bms_async._tasks import check_loop
from bms_async.errors import BmsError, JobLostError
from bms_async.errors.base import own_copy
from bms_async.models import Job, JobSummary, SubJob
from bms_async.models.free_text import map_free_text
from bms_async.models.ids import canonical_id
from bms_async.models.jobs import intern_job
from bms_async.redaction import mask_when_shown

from .attribution import attribute_unnamed, is_complete, unended, with_first_ends
from .events import EventBus, JobChanged, JobEnded, JobLost, SubJobEnded
from .progress import NO_PROGRESS, advance
from .schedule import SAMPLES

_CLOCK_STEP = 5.0


class PollPriority(Enum):
    """How much anybody cares for news of a job."""

    AWAITED = auto()
    """Somebody waits for it."""
    BACKGROUND = auto()
    """Nobody does, but it is to be polled: always, or once, because somebody asked how far it is."""
    IDLE = auto()
    """It need not be polled."""


class JobRecord:
    """What the watcher knows of a job; handles look at it.

    Attributes:
        servers: The servers it was started for, empty if not known.
        expected_ids: The same by their canonical ids, by which they are looked up: clouds and callers may spell an id
            in two ways.
        job: What the last poll with news showed, None before the first.
        ended: The sub-jobs that have ended, in the order in which that was seen.
        finished: Whether nothing more will be learned: it ended, or was lost.
        redact: Takes what its call sent as secrets out of what is told of it; None where it sent none.
        keep_polling: Whether it is polled also when nobody waits for it.
        viewed: Whether somebody asked how far it is since the last poll.
        since: When watching it began; ages are counted from there.
        started: Whether that was when it was accepted.
        last_poll_at: When it was last polled with success, None before the first.
        last_progress_at: When a poll last showed something new, or watching began; the time in which polls failed is
            left out.
        demand: How many polls a second it wants, before all are thinned out.
        in_background: Whether that is counted among the wants of the jobs that nobody waits for.
        error: Why nothing more will be learned, when it is not the job's own end.
    """

    __slots__ = (
        "__weakref__",
        "_bus",
        "_changed",
        "_ended_by_server",
        "_progress",
        "_shared_by_calls",
        "_unnamed_count",
        "_waiters",
        "_waiting",
        "_wake_job",
        "action",
        "demand",
        "ended",
        "error",
        "expected_ids",
        "failing_since",
        "failures",
        "finished",
        "in_background",
        "job",
        "job_id",
        "keep_polling",
        "last_poll_at",
        "last_progress_at",
        "missing_since",
        "redact",
        "servers",
        "since",
        "started",
        "suspended_at",
        "unauthorized_since",
        "viewed",
    )  # fmt: skip

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
        self.since = since
        self.started = started
        self.servers = servers
        self.expected_ids = {canonical_id(server_id): server_id for server_id in servers}
        self.action = action
        self.redact: Callable[[str], str] | None = None
        self.keep_polling = False
        self.viewed = False
        self.last_poll_at: float | None = None
        self.demand = 0.0
        self.in_background = False
        self.job: Job | None = None
        self.ended: Sequence[SubJob] = ()
        self.finished = False
        self.error: BmsError | None = None
        self.failures = 0
        self.failing_since: float | None = None
        self.missing_since: float | None = None
        self.unauthorized_since: float | None = None
        self.last_progress_at = since
        self.suspended_at: float | None = None
        self._bus = bus
        self._progress = NO_PROGRESS
        self._shared_by_calls = False
        self._unnamed_count = 0
        self._ended_by_server: dict[str, SubJob] = {}
        self._waiting: dict[str, list[asyncio.Future[SubJob]]] = {}
        self._waiters = 0
        self._wake_job: Callable[[JobRecord], None] | None = None
        # Made when somebody waits: of many jobs most are only polled.
        self._changed: asyncio.Event | None = None

    def add_servers(self, servers: tuple[str, ...], action: str | None) -> None:
        """Note which servers the job was started for, and by which call; a second call adds its own.

        A cloud that gives two calls the same job has made one of them, or mixed them up. So what the job does not say
        of a server is not concluded from its end any more.
        """
        added = {name: server_id for server_id in servers if (name := canonical_id(server_id)) not in self.expected_ids}
        if not added:
            return
        self._shared_by_calls = self._shared_by_calls or bool(self.servers)
        self.servers += tuple(added.values())
        self.expected_ids.update(added)
        self.action = self.action or action

    @property
    def total(self) -> int:
        """How many sub-jobs it has, as far as is known; at least 1."""
        return max(len(self.expected_ids), self.job.sub_jobs_total if self.job else 0, 1)

    def priority(self) -> PollPriority:
        """Tell how much anybody cares for news of it."""
        if self._waiters:
            return PollPriority.AWAITED
        while self._waiting:
            server_id, futures = next(iter(self._waiting.items()))
            if any(not future.done() for future in futures):
                return PollPriority.AWAITED
            del self._waiting[server_id]
        return PollPriority.BACKGROUND if self.keep_polling or self.viewed else PollPriority.IDLE

    def durations(self, now: float) -> list[float]:
        """Return how long some of its sub-jobs took, in seconds from its acceptance, once it has ended."""
        begun = self.job.begin_time if self.job else None
        some = self.ended[:: -(-len(self.ended) // SAMPLES) or 1]
        told = [(sub.end_time - begun).total_seconds() for sub in some if begun and sub.end_time]
        oldest = now - self.since + _CLOCK_STEP if self.started else math.inf
        if told and all(0 <= duration <= oldest for duration in told):
            return told
        # The cloud tells no times, or none that can be: the end came after the poll before this one.
        seen_at = now if self.last_poll_at is None else self.last_poll_at
        return [(now + seen_at) / 2 - self.since] if self.started else []

    def suspend(self, on_wake: Callable[[JobRecord], None], now: float) -> None:
        """Note that it is not polled until somebody wants it to be, and what to call then."""
        self._wake_job = on_wake
        self.suspended_at = now

    def wake(self, now: float) -> None:
        """Note that it is polled again. Nobody looked meanwhile: that time is none in which polls failed."""
        if self.suspended_at is None:
            return
        slept, self.suspended_at = now - self.suspended_at, None
        # What was before still counts: who asks every minute how far a job is has it polled once a minute.
        for name in ("failing_since", "missing_since", "unauthorized_since"):
            since = getattr(self, name)
            if since is not None:
                setattr(self, name, since + slept)

    def note_success(self, now: float) -> None:
        """Note a poll that was answered: how long polls have failed is counted anew, and is no time without news."""
        if self.failures:
            begun = min(each for each in (self.failing_since, self.missing_since, now) if each is not None)
            self.last_progress_at = min(now, self.last_progress_at + now - begun)
        self.failures = 0
        self.failing_since = self.missing_since = self.unauthorized_since = None

    def note_progress(self, shown: Job | JobSummary, now: float) -> None:
        """Note whether a poll shows that the job has got on, which is the news that patience counts from."""
        progress = advance(self._progress, shown, servers=len(self.expected_ids), ended=len(self._ended_by_server))
        if progress != self._progress:
            self._progress, self.last_progress_at = progress, now

    def wake_up(self) -> None:
        """Have it polled if it is not."""
        on_wake, self._wake_job = self._wake_job, None
        if on_wake is not None and not self.finished:
            on_wake(self)

    def mark_viewed(self) -> None:
        """Have it polled once more if it is not: who asks from time to time how far it is waits for it, too."""
        self.viewed = True
        self.wake_up()

    async def wait_for_change(self) -> None:
        """Wait until more is known."""
        check_loop(self._bus.loop, f"job {self.job_id}")
        self._waiters += 1
        changed = self._changed = self._changed or asyncio.Event()
        try:
            self.wake_up()
            await changed.wait()
        finally:
            self._waiters -= 1

    def sub_job(self, server_id: str) -> asyncio.Future[SubJob]:
        """Return a future of the asker's own, so that cancelling it touches nobody else."""
        check_loop(self._bus.loop, f"job {self.job_id}")
        future: asyncio.Future[SubJob] = asyncio.get_running_loop().create_future()
        name = canonical_id(server_id)
        if name in self._ended_by_server:
            future.set_result(self._ended_by_server[name])
        elif self.finished:
            _fail(future, self._missing_error(name))
        else:
            self._waiting.setdefault(name, []).append(future)
            self.wake_up()
        return future

    def has_changes(self, summary: JobSummary) -> bool:
        """Tell whether a glance at a poll shows anything that was not known."""
        if self.job is None or summary.status != self.job.status or summary.status.is_final:
            return True
        nameless = 0
        for sub in summary.sub_jobs:
            if sub.status.is_final:
                server_id = sub.server_id
                if server_id is None:
                    nameless += 1
                elif canonical_id(server_id) not in self._ended_by_server:
                    return True
        return nameless > self._unnamed_count

    def update(self, job: Job) -> None:
        """Take in what a poll showed."""
        if self.finished:
            return
        if self.redact is not None:
            job = map_free_text(job, self._hold)
        job = intern_job(job, self._ended_by_server, self.expected_ids)
        before, self.job = self.job, job
        if len(self._bus) and not job.is_final and (before is None or before.status != job.status):
            self._bus.publish(JobChanged(job_id=self.job_id, status=job.status))
        self._unnamed_count = 0
        for sub in job.sub_jobs:
            if sub.is_final:
                server_id = sub.server_id
                if server_id is None:
                    self._unnamed_count += 1
                elif (name := canonical_id(server_id)) not in self._ended_by_server:
                    self._end(name, sub)
        if job.is_final and is_complete(job, self._ended_by_server):
            self._finish(job)
        self._notify()

    @property
    def shows_unended(self) -> bool:
        """Whether the last poll with news showed sub-jobs that have not ended."""
        return self.job is not None and any(unended(self.job, self._ended_by_server))

    def give_up(self) -> None:
        """Take the end of the job, which has failed, as the end of all, though sub-jobs are untold or seem to go on."""
        if self.job is not None and not self.finished:
            self._finish(self.job)
            self._notify()

    def fail(self, error: BmsError) -> None:
        """Note that nothing more will be learned; every waiter gets the error."""
        if self.finished:
            return
        self.error = error
        self.finished = True
        self._release_waiters()
        if isinstance(error, JobLostError):
            self._bus.publish(JobLost(job_id=self.job_id, error=own_copy(error)))
        self._notify()

    def _hold(self, text: str) -> str:
        return text if self.redact is None else mask_when_shown(text, self.redact)

    def _end(self, name: str, sub: SubJob) -> None:
        self._ended_by_server[name] = sub
        self._append(sub)
        for future in self._waiting.pop(name, ()):
            if not future.done():
                future.set_result(sub)

    def _append(self, sub: SubJob) -> None:
        if isinstance(self.ended, list):
            self.ended.append(sub)
        else:
            # Of many jobs most show nothing for long, and each list is one more thing that the collector visits.
            self.ended = [sub]
        if len(self._bus):
            self._bus.publish(SubJobEnded(job_id=self.job_id, server_id=sub.server_id, sub_job=sub))

    def _finish(self, job: Job) -> None:
        self.job = job = with_first_ends(job, self._ended_by_server)
        nameless = [sub for sub in job.sub_jobs if sub.is_final and not sub.server_id]
        # A job that tells of servers nobody asked it for is not the one it was taken for.
        trusted = not self._shared_by_calls and all(name in self.expected_ids for name in self._ended_by_server)
        if trusted or not self._ended_by_server:
            going_on = {canonical_id(sub.server_id) for sub in unended(job, self._ended_by_server) if sub.server_id}
            told = self._ended_by_server.keys() | going_on
            untold = [server_id for name, server_id in self.expected_ids.items() if name not in told]
            for sub in attribute_unnamed(job, untold, nameless, servers=len(self.expected_ids)):
                self._end(canonical_id(sub.server_id or ""), sub)
        if not self.servers:
            for sub in nameless:
                self._append(sub)
        self.finished = True
        self._release_waiters()
        if len(self._bus):
            self._bus.publish(JobEnded(job_id=self.job_id, job=job))

    def _release_waiters(self) -> None:
        for name, futures in self._waiting.items():
            for future in futures:
                _fail(future, self._missing_error(name))
        self._waiting.clear()

    def _missing_error(self, name: str) -> BmsError:
        """Return why nothing will be told of a server, as an error of the asker's own."""
        if self.error is not None:
            return own_copy(self.error)
        job, server_id = self.job, self.expected_ids.get(name, name)
        shown = next((sub for sub in (job.sub_jobs if job else ()) if canonical_id(sub.server_id or "") == name), None)
        if shown is not None:
            text = f"ended, and goes on showing {shown.status.value} for server {server_id}"
        elif not self.expected_ids or name in self.expected_ids:
            text = f"ended without telling of server {server_id}"
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
        # Nobody may ever ask this future, and that is no fault to be reported.
        future.exception()
