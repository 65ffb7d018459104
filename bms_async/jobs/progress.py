"""How far a job has got, as a bounded measure that only rises: pure.

A job is lost when it makes no progress for too long. If every poll that differs from the one before counted, a job
whose status goes back and forth, or that shows ever new sub-jobs, would be waited for without end. So the measure is
the maximum seen so far: each sub-job counts once when it appears, once when it begins and once when it ends.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from bms_async.models import Job, JobStatus

Progress: TypeAlias = tuple[int, int, int, int]
"""The job's own stage (0 not seen, 1 seen, 2 begun, 3 ended), and the most sub-jobs seen to exist, begin and end."""

NO_PROGRESS: Progress = (0, 0, 0, 0)

_MAX_SUB_JOBS = 1000


class Counts(NamedTuple):
    """How many sub-jobs a poll shows, how many of them have begun, and how many have ended."""

    shown: int
    begun: int
    ended: int


def count(job: Job) -> Counts:
    """Return the counts of a job."""
    statuses = [sub.status for sub in job.sub_jobs]
    ended = statuses.count(JobStatus.SUCCESS) + statuses.count(JobStatus.FAIL)
    return Counts(len(statuses), len(statuses) - statuses.count(JobStatus.INIT), ended)


def advance(known: Progress, status: JobStatus, counts: Counts, *, servers: int, ended: int = 0) -> Progress:
    """Return a job's progress after one more poll.

    Args:
        known: The progress before it.
        status: The status that the poll shows.
        counts: What it shows of the sub-jobs.
        servers: How many servers the job was started for, 0 if not known.
        ended: How many sub-jobs are known to have ended; this poll need not show them.
    """
    stage = 3 if status.is_final else 1 if status == JobStatus.INIT else 2
    limit = servers or _MAX_SUB_JOBS
    return (
        max(known[0], stage),
        max(known[1], min(counts.shown, limit)),
        max(known[2], min(counts.begun, limit)),
        max(known[3], min(max(ended, counts.ended), limit)),
    )
