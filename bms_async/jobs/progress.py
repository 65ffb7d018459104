"""How far a job has got, as a measure that only rises and has an end: pure.

Patience runs from the last news. If each poll that differs from the one before were news, a job whose status goes back
and forth, or that shows ever new sub-jobs, would be waited for without end. So what counts is what has been seen at
most: each sub-job is news when it appears, when it begins and when it ends, once.
"""

from __future__ import annotations

from typing import TypeAlias

from bms_async.models import Job, JobStatus, JobSummary

Progress: TypeAlias = tuple[int, int, int, int]
"""How far the job itself is (not seen, seen, begun, ended), and at most how many sub-jobs were shown, begun, ended."""

NO_PROGRESS: Progress = (0, 0, 0, 0)

_MAX_SUB_JOBS = 1000


def advance(known: Progress, shown: Job | JobSummary, *, servers: int, ended: int = 0) -> Progress:
    """Return how far a job has got, with what one more poll shows.

    Args:
        known: How far it was known to be.
        shown: What the poll shows.
        servers: How many servers it was started for, 0 if that is not known.
        ended: How many sub-jobs are known to have ended, which this poll need not show.
    """
    status = shown.status
    stage = 3 if status.is_final else 1 if status == JobStatus.INIT else 2
    begun = shown_ended = 0
    for sub in shown.sub_jobs:
        begun += sub.status != JobStatus.INIT
        shown_ended += sub.status.is_final
    most = servers or _MAX_SUB_JOBS
    return (
        max(known[0], stage),
        max(known[1], min(len(shown.sub_jobs), most)),
        max(known[2], min(begun, most)),
        max(known[3], min(max(ended, shown_ended), most)),
    )
