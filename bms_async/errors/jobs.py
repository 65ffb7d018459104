"""How a job can end badly."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bms_async.errorcodes import explain

from .base import BmsError

if TYPE_CHECKING:
    from bms_async.models import Job

_MOST_REASONS = 3
_LONGEST_REASON = 256


class JobError(BmsError):
    """A job that did not end well.

    Attributes:
        job_id: The job.
        job: What was known of it last, with its sub-jobs; None if nothing ever was.
    """

    def __init__(self, message: str, *, job_id: str, job: Job | None) -> None:
        self.job_id = job_id
        self.job = job
        super().__init__(message)


class JobFailedError(JobError):
    """The job ended as FAIL; some of its sub-jobs may have succeeded all the same.

    Its text has the cloud's own words: those of the sub-jobs, the most frequent first, and those of the job.
    """

    job: Job

    def __init__(self, job: Job) -> None:
        failed = [sub for sub in job.sub_jobs if sub.is_final and sub.status != "SUCCESS"]
        # As texts of their own: what the cloud said may be masked where it is told.
        codes = sorted({str(code) for code in (job.error_code, *(sub.error_code for sub in failed)) if code})
        text = f"job {job.job_id} failed"
        if failed:
            text += f" for {len(failed)} of {job.sub_jobs_total} servers"
        if codes:
            text += f" with {', '.join(codes)}"
        reasons = Counter(sub.reason for sub in failed if sub.reason)
        told = _list_reasons(reasons)
        if job.reason and job.reason not in reasons:
            told.append(f"of the job as a whole: {_shorten(job.reason)}" if told else _shorten(job.reason))
        super().__init__(text + (f": {'; '.join(told)}" if told else ""), job_id=job.job_id, job=job)

    @property
    def code(self) -> str | None:
        """The code that the job as a whole failed with, None if the cloud gave none."""
        return self.job.error_code or self.job.code


class SubJobFailedError(JobError):
    """One server's part of a job ended as FAIL.

    Attributes:
        server_id: The server.
        code: The code it failed with, None if the cloud gave none.
        reason: The cloud's own words, None if it gave none.
        job_reason: What the cloud said of the job as a whole, its code and its words, where it said nothing of this
            server; None otherwise.
    """

    def __init__(
        self, *, server_id: str, job_id: str, code: str | None, reason: str | None, job_reason: str | None = None
    ) -> None:
        self.server_id = server_id
        self.code = code
        self.reason = reason
        self.job_reason = None if code or reason else job_reason
        text = f"server {server_id} failed in job {job_id}"
        if code:
            text += f" with {code}"
        if reason:
            text += f": {reason}"
        if self.job_reason:
            text += f"; of the job as a whole the cloud says: {self.job_reason}"
        documented = explain(code)
        self.meaning = documented.meaning if documented else None
        self.measure = documented.measure if documented else None
        if documented:
            text += f" [{documented.meaning} {documented.measure}]"
        super().__init__(text, job_id=job_id, job=None)


class JobLostError(JobError):
    """How the job ended cannot be known: the cloud has forgotten it, or has not told of it for too long.

    Or it ended and did not tell of a server: what the cloud said of the job as a whole is then in the text, too.

    Attributes:
        code: The code that the job as a whole failed with, None if the cloud gave none.
        reason: The cloud's own words about the job as a whole, None if it gave none.
    """

    def __init__(
        self, message: str, *, job_id: str, job: Job | None, code: str | None = None, reason: str | None = None
    ) -> None:
        self.code = code
        self.reason = reason
        told = describe_failure(code, reason)
        super().__init__(message + (f"; of the job the cloud says: {told}" if told else ""), job_id=job_id, job=job)


class JobTimeoutError(JobError, TimeoutError):
    """The wait is over, the job goes on; ``bms.jobs.restore(error.resume)`` waits for it again, in any process.

    Attributes:
        resume: What `JobHandle.to_json` made of the handle.
    """

    def __init__(self, message: str, *, job_id: str, job: Job | None, resume: str) -> None:
        self.resume = resume
        super().__init__(message, job_id=job_id, job=job)


def describe_failure(code: str | None, reason: str | None) -> str | None:
    """Return what the cloud said of a failure as one text, with what the code means; None if it said nothing.

    Args:
        code: The code it gave, if any.
        reason: Its own words, if any.
    """
    told = ": ".join(part for part in (str(code or ""), _shorten(reason or "")) if part)
    documented = explain(code)
    return f"{told} [{documented.meaning} {documented.measure}]" if documented else told or None


def _list_reasons(reasons: Counter[str]) -> list[str]:
    shown = reasons.most_common(_MOST_REASONS)
    if len(reasons) == 1:
        return [_shorten(reason) for reason, _ in shown]
    told = [f"{_shorten(reason)} ({count} server{'s' if count > 1 else ''})" for reason, count in shown]
    left = len(reasons) - len(shown)
    return [*told, f"{left} more reason{'s' if left > 1 else ''}"] if left else told


def _shorten(text: str) -> str:
    # What may be told of it: joining and slicing would give what a masked text hides.
    text = str(text)
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."
