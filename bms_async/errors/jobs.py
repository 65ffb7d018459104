"""The errors of jobs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bms_async.errorcodes import explain

from .base import BmsError

if TYPE_CHECKING:
    from bms_async.models import Job

_MAX_REASONS = 3
_MAX_REASON_LENGTH = 256


class JobError(BmsError):
    """Base class of the errors that a job ends with.

    Attributes:
        job_id: The job.
        job: Its last known state, with its sub-jobs; None if it was never read.
    """

    def __init__(self, message: str, *, job_id: str, job: Job | None) -> None:
        self.job_id = job_id
        self.job = job
        super().__init__(message)


class JobFailedError(JobError):
    """The job ended as FAIL; some of its sub-jobs may have succeeded all the same.

    The text has the cloud's own words: those of the sub-jobs, most frequent first, and those of the job.
    """

    job: Job

    def __init__(self, job: Job) -> None:
        failed = [sub for sub in job.sub_jobs if sub.is_final and sub.status != "SUCCESS"]
        # str() of a code is its masked form, for one that has a secret in it.
        codes = sorted({str(code) for code in (job.error_code, *(sub.error_code for sub in failed)) if code})
        text = f"job {job.job_id} failed"
        if failed:
            text += f" for {len(failed)} of {job.sub_jobs_total} servers"
        if codes:
            text += f" with {', '.join(codes)}"
        reasons = Counter(sub.reason for sub in failed if sub.reason)
        parts = _list_reasons(reasons)
        if job.reason and job.reason not in reasons:
            parts.append(f"of the job as a whole: {_shorten(job.reason)}" if parts else _shorten(job.reason))
        super().__init__(text + (f": {'; '.join(parts)}" if parts else ""), job_id=job.job_id, job=job)

    @property
    def code(self) -> str | None:
        """The code that the job as a whole failed with; None if there is none."""
        return self.job.error_code or self.job.code


class SubJobFailedError(JobError):
    """One server's part of a job ended as FAIL.

    Attributes:
        server_id: The server.
        code: The code that it failed with; None if there is none.
        reason: The cloud's own words; None if there are none.
        job_reason: The code and words for the job as a whole, where there are none for this server; None otherwise.
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
    """The result of the job cannot be known: the cloud has deleted it, or could not be read for too long.

    Or the job ended without a result for a server; the text then has the cloud's words for the job as a whole.

    Attributes:
        code: The code that the job as a whole failed with; None if there is none.
        reason: The cloud's own words for the job as a whole; None if there are none.
    """

    def __init__(
        self, message: str, *, job_id: str, job: Job | None, code: str | None = None, reason: str | None = None
    ) -> None:
        self.code = code
        self.reason = reason
        failure = describe_failure(code, reason)
        super().__init__(
            message + (f"; of the job the cloud says: {failure}" if failure else ""), job_id=job_id, job=job
        )


class JobTimeoutError(JobError, TimeoutError):
    """The wait timed out while the job goes on; ``bms.jobs.restore(error.resume)`` resumes the wait, in any process.

    Attributes:
        resume: The handle as `JobHandle.to_json` writes it.
    """

    def __init__(self, message: str, *, job_id: str, job: Job | None, resume: str) -> None:
        self.resume = resume
        super().__init__(message, job_id=job_id, job=job)


def describe_failure(code: str | None, reason: str | None) -> str | None:
    """Return a failure as one text: code, words, documented meaning and remedy; None if the cloud said nothing.

    Args:
        code: The cloud's code, if any.
        reason: The cloud's own words, if any.
    """
    text = ": ".join(part for part in (str(code or ""), _shorten(reason or "")) if part)
    documented = explain(code)
    return f"{text} [{documented.meaning} {documented.measure}]" if documented else text or None


def _list_reasons(reasons: Counter[str]) -> list[str]:
    shown = reasons.most_common(_MAX_REASONS)
    if len(reasons) == 1:
        return [_shorten(reason) for reason, _ in shown]
    parts = [f"{_shorten(reason)} ({count} server{'s' if count > 1 else ''})" for reason, count in shown]
    left = len(reasons) - len(shown)
    return [*parts, f"{left} more reason{'s' if left > 1 else ''}"] if left else parts


def _shorten(text: str) -> str:
    # str() gives the masked form; joining and slicing would give the original.
    text = str(text)
    return text if len(text) <= _MAX_REASON_LENGTH else text[: _MAX_REASON_LENGTH - 3] + "..."
