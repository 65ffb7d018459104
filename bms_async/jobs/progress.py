"""How far a job has got, as a bounded measure that only rises: pure.

A job is lost when it makes no progress for too long. If every poll that differs from the one before counted, a job
whose status goes back and forth, or that shows ever new sub-jobs, would be waited for without end. So the measure is
the maximum seen so far: each sub-job counts once when it appears, once when it begins and once when it ends.
"""

from __future__ import annotations

from typing import TypeAlias

from bms_async.models import Job, JobStatus, JobSummary

Progress: TypeAlias = tuple[int, int, int, int]
"""The job's own stage (0 not seen, 1 seen, 2 begun, 3 ended), and the most sub-jobs seen to exist, begin and end."""

NO_PROGRESS: Progress = (0, 0, 0, 0)

_MAX_SUB_JOBS = 1000


def advance(known: Progress, shown: Job | JobSummary, *, servers: int, ended: int = 0) -> Progress:
    """Return a job's progress after one more poll.

    Args:
        known: The progress before it.
        shown: What the poll shows.
        servers: How many servers the job was started for, 0 if not known.
        ended: How many sub-jobs are known to have ended; this poll need not show them.
    """
    status = shown.status
    stage = 3 if status.is_final else 1 if status == JobStatus.INIT else 2
    begun = shown_ended = 0
    for sub in shown.sub_jobs:
        begun += sub.status != JobStatus.INIT
        shown_ended += sub.status.is_final
    limit = servers or _MAX_SUB_JOBS
    return (
        max(known[0], stage),
        max(known[1], min(len(shown.sub_jobs), limit)),
        max(known[2], min(begun, limit)),
        max(known[3], min(max(ended, shown_ended), limit)),
    )
