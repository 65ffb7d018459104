"""The cloud's own words about what went wrong, and by what its support finds the case."""

from __future__ import annotations

from typing import NamedTuple

from bms_async import ApiError, BmsError, Job, JobError, JobFailedError, Outcome, SubJob
from bms_async.redaction import shown_text

from .output import strip_control_chars

__all__ = ["Words", "quote", "words_of", "words_of_error", "words_of_part"]

_LONGEST = 300


class Words(NamedTuple):
    """What the cloud said.

    Attributes:
        text: Its words, on one line and without what would move a cursor.
        job_id: The job that it said them of.
        request_id: Its id of the call that it said them to.
    """

    text: str
    job_id: str | None = None
    request_id: str | None = None

    @property
    def case(self) -> str:
        """What names the case to the cloud's support, in brackets; nothing where the cloud named neither."""
        ids = (("job", self.job_id), ("request id", self.request_id))
        told = ", ".join(f"{name} {strip_control_chars(each)}" for name, each in ids if each)
        return f" ({told})" if told else ""


def words_of(outcome: Outcome) -> Words | None:
    """Return what the cloud said of a server that is not as asked; None if it said nothing."""
    words = None if outcome.error is None else words_of_error(outcome.error)
    return words and words._replace(job_id=words.job_id or outcome.job_id)


def words_of_error(error: BmsError) -> Words | None:
    """Return what the cloud said when it refused a call or failed a job; None if it said nothing."""
    if isinstance(error, ApiError):
        return _words(error.message, request_id=error.request_id)
    if isinstance(error, JobFailedError):
        return words_of_part(error.job, error.job_id)
    if isinstance(error, JobError):
        told = getattr(error, "reason", None) or getattr(error, "job_reason", None)
        return _words(told, job_id=error.job_id)
    return None


def words_of_part(told: Job | SubJob, job_id: str | None = None) -> Words | None:
    """Return what the cloud said of a job or of a server's part of it; None if it said nothing.

    Args:
        told: The job or the part.
        job_id: The job.
    """
    return _words(getattr(told, "reason", None) or told.fail_reason or told.message, job_id=job_id)


def quote(error: BmsError) -> str:
    """Return what the cloud said, to be put behind what this command says of it; nothing if it said nothing."""
    words = words_of_error(error)
    return "" if words is None else f". The cloud said: {words.text}{words.case}"


def _words(text: str | None, *, job_id: str | None = None, request_id: str | None = None) -> Words | None:
    # As a text of its own: the cloud's may hold a secret that is masked when it is told.
    line = strip_control_chars(" ".join(str(text).split())) if text else ""
    if not line:
        return None
    return Words(line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…", job_id, shown_text(request_id))
