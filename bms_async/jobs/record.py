"""What is known of one job, and who waits for it.

The cloud tells little and changes its mind: sub-jobs come late, in any order, twice, without the server they are
about, or go back from an end to RUNNING. Here each sub-job ends once, and the first end that was seen counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

import msgspec

from bms_async.errors import BmsError, JobLostError
from bms_async.models import Job, JobGlance, JobStatus, SubJob, SubJobEntities
from bms_async.models.jobs import conceal


class JobRecord:
    """What the watcher knows of a job; handles look at it.

    Attributes:
        servers: The servers it was started for, empty if not known; `expected` holds the same for looking up.
        job: What the last poll with news showed, None before the first.
        ended: The sub-jobs that have ended, in the order in which that was seen.
        finished: Whether nothing more will be learned: it ended, or was lost.
        redact: Takes what its call sent as secrets out of what the cloud says of it; None where it sent none.
        error: Why nothing more will be learned, when it is not the job's own end.
    """

    __slots__ = (
        "_changed",
        "_named",
        "_waiting",
        "accepted",
        "action",
        "barred_since",
        "ended",
        "error",
        "expected",
        "failing_since",
        "failures",
        "finished",
        "job",
        "job_id",
        "missing_since",
        "redact",
        "servers",
        "untold_since",
    )  # fmt: skip

    def __init__(self, job_id: str, *, servers: tuple[str, ...], action: str | None, accepted: float) -> None:
        self.job_id = job_id
        self.accepted = accepted
        self.expect(servers, action)
        self.redact: Callable[[str], str] | None = None
        self.job: Job | None = None
        self.ended: list[SubJob] = []
        self.finished = False
        self.error: BmsError | None = None
        self.failures = 0
        self.failing_since: float | None = None
        self.missing_since: float | None = None
        self.barred_since: float | None = None
        self.untold_since: float | None = None
        self._named: dict[str, SubJob] = {}
        self._waiting: dict[str, list[asyncio.Future[SubJob]]] = {}
        self._changed = asyncio.Event()

    def expect(self, servers: tuple[str, ...], action: str | None) -> None:
        """Note which servers the job was started for, and by which call."""
        self.servers = servers
        self.expected = frozenset(servers)
        self.action = action

    async def change(self) -> None:
        """Wait until more is known."""
        await self._changed.wait()

    def sub_job(self, server_id: str) -> asyncio.Future[SubJob]:
        """Return a future of the asker's own, so that cancelling it touches nobody else."""
        future: asyncio.Future[SubJob] = asyncio.get_running_loop().create_future()
        if server_id in self._named:
            future.set_result(self._named[server_id])
        elif self.finished:
            _fail(future, self._why_untold(server_id))
        else:
            self._waiting.setdefault(server_id, []).append(future)
        return future

    def is_news(self, glance: JobGlance) -> bool:
        """Tell whether a glance at a poll shows anything that was not known."""
        if self.job is None or glance.status is not self.job.status or glance.status.is_final:
            return True
        return any(sub.status.is_final and sub.server_id not in self._named for sub in glance.sub_jobs)

    def update(self, job: Job, *, give_up: bool = False) -> None:
        """Take in what a poll showed.

        Args:
            job: What it showed.
            give_up: Take the job's end as the end of all, even where sub-jobs seem to go on.
        """
        if self.finished:
            return
        if self.redact is not None:
            job = conceal(job, self.redact)
        self.job = job
        for sub in job.sub_jobs:
            if sub.is_final and sub.server_id and sub.server_id not in self._named:
                self._end(sub.server_id, sub)
        if job.is_final and (give_up or _is_whole(job)):
            self._finish(job)
        self._notify()

    def fail(self, error: BmsError) -> None:
        """Note that nothing more will be learned; every waiter gets the error."""
        if self.finished:
            return
        self.error = error
        self.finished = True
        self._release_waiters()
        self._notify()

    def _end(self, server_id: str, sub: SubJob) -> None:
        self._named[server_id] = sub
        self.ended.append(sub)
        for future in self._waiting.pop(server_id, ()):
            if not future.done():
                future.set_result(sub)

    def _finish(self, job: Job) -> None:
        nameless = [sub for sub in job.sub_jobs if sub.is_final and not sub.server_id]
        untold = [server_id for server_id in self.servers if server_id not in self._named]
        for sub in _settle(job, untold, nameless):
            self._end(sub.server_id or "", sub)
        if not self.servers:
            self.ended.extend(nameless)
        self.finished = True
        self._release_waiters()

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


def _is_whole(job: Job) -> bool:
    """Tell whether an ended job has told of all its sub-jobs; one that failed fails before the last of them ends."""
    if not all(sub.is_final for sub in job.sub_jobs):
        return False
    return job.status is JobStatus.SUCCESS or len(job.sub_jobs) >= job.sub_jobs_total


def _settle(job: Job, untold: list[str], nameless: list[SubJob]) -> Iterator[SubJob]:
    """Tell what became of the servers that an ended job does not name.

    A job that succeeded did so for all. As many nameless failures as servers are those servers' failures. A job that
    failed as a whole, without sub-jobs, failed for each. Beyond that nothing can be told, and nothing is.
    """
    if job.status is JobStatus.SUCCESS and not any(sub.status is JobStatus.FAIL for sub in nameless):
        yield from (_named(SubJob(status=JobStatus.SUCCESS, end_time=job.end_time), server_id) for server_id in untold)
    elif nameless and len(nameless) == len(untold) and all(sub.status is JobStatus.FAIL for sub in nameless):
        reason = _common(nameless)
        yield from (_named(reason, server_id) for server_id in untold)
    elif not job.sub_jobs and (job.error_code or job.fail_reason):
        reason = SubJob(
            status=JobStatus.FAIL, error_code=job.error_code, fail_reason=job.fail_reason, end_time=job.end_time
        )
        yield from (_named(reason, server_id) for server_id in untold)


def _common(subs: list[SubJob]) -> SubJob:
    """Return what nameless failures have in common: which of them is whose, nobody can tell."""
    if len({(sub.error_code, sub.fail_reason) for sub in subs}) == 1:
        return subs[0]
    return SubJob(status=JobStatus.FAIL, fail_reason="one of: " + "; ".join(_reasons(subs)))


def _reasons(subs: Iterable[SubJob]) -> list[str]:
    return sorted({f"{sub.error_code or 'no code'} ({sub.fail_reason or 'no reason given'})" for sub in subs})


def _named(sub: SubJob, server_id: str) -> SubJob:
    return msgspec.structs.replace(sub, about=SubJobEntities(server_id=server_id))


def _fail(future: asyncio.Future[SubJob], error: BmsError) -> None:
    if not future.done():
        future.set_exception(error)
        # Nobody may ever ask this future, and that is no fault to be reported.
        future.exception()
