"""What is known of one job, and who waits for it.

The cloud tells little and changes its mind: sub-jobs come late, in any order, twice, without the server they are
about, or go back from an end to RUNNING. Here each sub-job ends once, and the first end that was seen counts.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from enum import Enum, auto

from bms_async._owner import check_loop
from bms_async.errors import BmsError, JobLostError
from bms_async.models import Job, JobGlance, SubJob
from bms_async.models.jobs import condense
from bms_async.models.telling import conceal
from bms_async.redaction import veil_text

from .events import EventBoard, JobChanged, JobEnded, JobLost, SubJobEnded
from .schedule import SAMPLES
from .settle import is_whole, mend, settle

_CLOCK_STEP = 5.0


class Rank(Enum):
    """How much anybody cares for news of a job."""

    AWAITED = auto()
    """Somebody waits for it."""
    KEPT = auto()
    """Nobody does, but it is to be polled: always, or once, because somebody asked how far it is."""
    IDLE = auto()
    """It need not be polled."""


class JobRecord:
    """What the watcher knows of a job; handles look at it.

    Attributes:
        servers: The servers it was started for, empty if not known; `expected` gives each by itself, for looking up.
        job: What the last poll with news showed, None before the first.
        ended: The sub-jobs that have ended, in the order in which that was seen.
        finished: Whether nothing more will be learned: it ended, or was lost.
        redact: Takes what its call sent as secrets out of what is told of it; None where it sent none.
        keep: Whether it is polled also when nobody waits for it.
        looked_at: Whether somebody asked how far it is since the last poll.
        since: When watching it began; ages are counted from there.
        started: Whether that was when it was accepted.
        seen_at: When it was last polled with success, None before the first.
        appetite: How many polls a second it wants, before all are thinned out.
        in_background: Whether that is counted among the wants of the jobs that nobody waits for.
        error: Why nothing more will be learned, when it is not the job's own end.
    """

    __slots__ = (
        "__weakref__",
        "_board",
        "_changed",
        "_named",
        "_nameless",
        "_rouse",
        "_shared",
        "_waiters",
        "_waiting",
        "action",
        "appetite",
        "barred_since",
        "ended",
        "error",
        "expected",
        "failing_since",
        "failures",
        "finished",
        "in_background",
        "job",
        "job_id",
        "keep",
        "looked_at",
        "missing_since",
        "redact",
        "seen_at",
        "servers",
        "since",
        "started",
        "untold_since",
    )  # fmt: skip

    def __init__(
        self,
        job_id: str,
        servers: tuple[str, ...],
        action: str | None,
        *,
        since: float,
        started: bool,
        board: EventBoard,
    ) -> None:
        self.job_id = job_id
        self.since = since
        self.started = started
        self.servers = servers
        self.expected = dict(zip(servers, servers, strict=True))
        self.action = action
        self.redact: Callable[[str], str] | None = None
        self.keep = False
        self.looked_at = False
        self.seen_at: float | None = None
        self.appetite = 0.0
        self.in_background = False
        self.job: Job | None = None
        self.ended: list[SubJob] = []
        self.finished = False
        self.error: BmsError | None = None
        self.failures = 0
        self.failing_since: float | None = None
        self.missing_since: float | None = None
        self.barred_since: float | None = None
        self.untold_since: float | None = None
        self._board = board
        self._shared = False
        self._nameless = 0
        self._named: dict[str, SubJob] = {}
        self._waiting: dict[str, list[asyncio.Future[SubJob]]] = {}
        self._waiters = 0
        self._rouse: Callable[[JobRecord], None] | None = None
        self._changed = asyncio.Event()

    def expect(self, servers: tuple[str, ...], action: str | None) -> None:
        """Note which servers the job was started for, and by which call; a second call adds its own.

        A cloud that gives two calls the same job has made one of them, or mixed them up. So what the job does not say
        of a server is not concluded from its end any more.
        """
        added = tuple(server_id for server_id in servers if server_id not in self.expected)
        if not added:
            return
        self._shared = self._shared or bool(self.servers)
        self.servers += added
        self.expected.update(zip(added, added, strict=True))
        self.action = self.action or action

    @property
    def total(self) -> int:
        """How many sub-jobs it has, as far as is known; at least 1."""
        return max(len(self.servers), self.job.sub_jobs_total if self.job else 0, 1)

    def rank(self) -> Rank:
        """Tell how much anybody cares for news of it."""
        if self._waiters:
            return Rank.AWAITED
        while self._waiting:
            server_id, futures = next(iter(self._waiting.items()))
            if any(not future.done() for future in futures):
                return Rank.AWAITED
            del self._waiting[server_id]
        return Rank.KEPT if self.keep or self.looked_at else Rank.IDLE

    def durations(self, now: float) -> list[float]:
        """Return how long some of its sub-jobs took, in seconds from its acceptance, once it has ended."""
        begun = self.job.begin_time if self.job else None
        some = self.ended[:: -(-len(self.ended) // SAMPLES) or 1]
        told = [(sub.end_time - begun).total_seconds() for sub in some if begun and sub.end_time]
        oldest = now - self.since + _CLOCK_STEP if self.started else math.inf
        if told and all(0 <= duration <= oldest for duration in told):
            return told
        # The cloud tells no times, or none that can be: the end came after the poll before this one.
        seen_at = now if self.seen_at is None else self.seen_at
        return [(now + seen_at) / 2 - self.since] if self.started else []

    def sleep(self, rouse: Callable[[JobRecord], None]) -> None:
        """Note that it is not polled until somebody wants it to be, and what to call then."""
        self._rouse = rouse
        # Nobody looks meanwhile, so that nothing can be concluded from how long it was.
        self.forget_failures()

    def forget_failures(self) -> None:
        """Begin anew to count how long polls have failed."""
        self.failures = 0
        self.failing_since = self.missing_since = self.barred_since = None

    def want(self) -> None:
        """Have it polled if it is not."""
        rouse, self._rouse = self._rouse, None
        if rouse is not None and not self.finished:
            rouse(self)

    def look(self) -> None:
        """Have it polled once more if it is not: who asks from time to time how far it is waits for it, too."""
        self.looked_at = True
        self.want()

    async def change(self) -> None:
        """Wait until more is known."""
        check_loop(self._board.loop, f"job {self.job_id}")
        self._waiters += 1
        try:
            self.want()
            await self._changed.wait()
        finally:
            self._waiters -= 1

    def sub_job(self, server_id: str) -> asyncio.Future[SubJob]:
        """Return a future of the asker's own, so that cancelling it touches nobody else."""
        check_loop(self._board.loop, f"job {self.job_id}")
        future: asyncio.Future[SubJob] = asyncio.get_running_loop().create_future()
        if server_id in self._named:
            future.set_result(self._named[server_id])
        elif self.finished:
            _fail(future, self._why_untold(server_id))
        else:
            self._waiting.setdefault(server_id, []).append(future)
            self.want()
        return future

    def is_news(self, glance: JobGlance) -> bool:
        """Tell whether a glance at a poll shows anything that was not known."""
        if self.job is None or glance.status is not self.job.status or glance.status.is_final:
            return True
        nameless = 0
        for sub in glance.sub_jobs:
            if sub.status.is_final:
                server_id = sub.server_id
                if server_id is None:
                    nameless += 1
                elif server_id not in self._named:
                    return True
        return nameless > self._nameless

    def update(self, job: Job, *, give_up: bool = False) -> None:
        """Take in what a poll showed.

        Args:
            job: What it showed.
            give_up: Take the job's end as the end of all, even where sub-jobs seem to go on.
        """
        if self.finished:
            return
        if self.redact is not None:
            job = conceal(job, self._hold)
        job = condense(job, self._named, self.expected)
        before, self.job = self.job, job
        if len(self._board) and not job.is_final and (before is None or before.status is not job.status):
            self._board.publish(JobChanged(job_id=self.job_id, status=job.status))
        self._nameless = 0
        for sub in job.sub_jobs:
            if sub.is_final:
                server_id = sub.server_id
                if server_id is None:
                    self._nameless += 1
                elif server_id not in self._named:
                    self._end(server_id, sub)
        if job.is_final and (give_up or is_whole(job, self._named)):
            self._finish(job)
        self._notify()

    def fail(self, error: BmsError) -> None:
        """Note that nothing more will be learned; every waiter gets the error."""
        if self.finished:
            return
        self.error = error
        self.finished = True
        self._release_waiters()
        if isinstance(error, JobLostError):
            self._board.publish(JobLost(job_id=self.job_id, error=error))
        self._notify()

    def _hold(self, text: str) -> str:
        return text if self.redact is None else veil_text(text, self.redact)

    def _end(self, server_id: str, sub: SubJob) -> None:
        self._named[server_id] = sub
        self._append(sub)
        for future in self._waiting.pop(server_id, ()):
            if not future.done():
                future.set_result(sub)

    def _append(self, sub: SubJob) -> None:
        self.ended.append(sub)
        if len(self._board):
            self._board.publish(SubJobEnded(job_id=self.job_id, server_id=sub.server_id, sub_job=sub))

    def _finish(self, job: Job) -> None:
        self.job = job = mend(job, self._named)
        nameless = [sub for sub in job.sub_jobs if sub.is_final and not sub.server_id]
        # A job that tells of servers nobody asked it for is not the one it was taken for.
        trusted = not self._shared and all(server_id in self.expected for server_id in self._named)
        if trusted or not self._named:
            untold = [server_id for server_id in self.servers if server_id not in self._named]
            for sub in settle(job, untold, nameless):
                self._end(sub.server_id or "", sub)
        if not self.servers:
            for sub in nameless:
                self._append(sub)
        self.finished = True
        self._release_waiters()
        if len(self._board):
            self._board.publish(JobEnded(job_id=self.job_id, job=job))

    def _release_waiters(self) -> None:
        for server_id, futures in self._waiting.items():
            for future in futures:
                _fail(future, self._why_untold(server_id))
        self._waiting.clear()

    def _why_untold(self, server_id: str) -> BmsError:
        if self.error is not None:
            return self.error
        known = not self.expected or server_id in self.expected
        text = "ended without telling of" if known else "was not started for"
        return JobLostError(f"job {self.job_id} {text} server {server_id}", job_id=self.job_id, job=self.job)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _fail(future: asyncio.Future[SubJob], error: BmsError) -> None:
    if not future.done():
        future.set_exception(error)
        # Nobody may ever ask this future, and that is no fault to be reported.
        future.exception()
