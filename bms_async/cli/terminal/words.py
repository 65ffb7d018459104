"""The cloud's own message about a failure, and the ids by which its support finds the case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from bms_async import ApiError, BmsError, JobError, JobFailedError
from bms_async.redaction import shown_text

from .texts import strip_control_chars

if TYPE_CHECKING:
    from bms_async import Job, Outcome, SubJob

__all__ = ["CloudMessage", "message_of", "message_of_error", "message_of_job", "quote", "shown_code"]

_MAX_LENGTH = 300
_ERROR = re.compile(r"(?<=[a-z])Error")
_WORDS: Final[Mapping[str, str]] = {
    "TransportError": "no answer",
    "InvalidRequestError": "unfit",
}
"""What errors without a code are called, where their names say too little."""


class CloudMessage(NamedTuple):
    """What the cloud said.

    Attributes:
        text: The message, on one line and without control characters.
        job_id: The job that it is about.
        request_id: The cloud's id of the call that it answers.
    """

    text: str
    job_id: str | None = None
    request_id: str | None = None

    @property
    def case(self) -> str:
        """The ids that the cloud's support asks for, in brackets; empty where the cloud gave none."""
        ids = (("job", self.job_id), ("request id", self.request_id))
        text = ", ".join(f"{name} {strip_control_chars(value)}" for name, value in ids if value)
        return f" ({text})" if text else ""


def shown_code(code: str) -> str:
    """Return a reason for people: the cloud's code as it is, the name of an error in words, and a state as elsewhere.

    Args:
        code: The code of a `Reason`.
    """
    # Here, so that a command that only reads does without the fleet.
    from bms_async import OutcomeState

    if code in OutcomeState.__members__:
        return code.lower()
    if not _ERROR.search(code) or not code.isalpha():
        return strip_control_chars(code)
    return _WORDS.get(code) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", code.removesuffix("Error")).lower()


def message_of(outcome: Outcome) -> CloudMessage | None:
    """Return what the cloud said of a server that is not as asked; None if it said nothing."""
    message = None if outcome.error is None else message_of_error(outcome.error)
    return message and message._replace(job_id=message.job_id or outcome.job_id)


def message_of_error(error: BmsError) -> CloudMessage | None:
    """Return what the cloud said when it refused a call or failed a job; None if it said nothing."""
    if isinstance(error, ApiError):
        return _clean(error.message, request_id=error.request_id)
    if isinstance(error, JobFailedError):
        return message_of_job(error.job, error.job_id)
    if isinstance(error, JobError):
        reason = getattr(error, "reason", None) or getattr(error, "job_reason", None)
        return _clean(reason, job_id=error.job_id)
    return None


def message_of_job(job: Job | SubJob, job_id: str | None = None) -> CloudMessage | None:
    """Return what the cloud said of a job or a sub-job; None if it said nothing.

    Args:
        job: The job or the sub-job.
        job_id: The id of the job.
    """
    return _clean(getattr(job, "reason", None) or job.fail_reason or job.message, job_id=job_id)


def quote(error: BmsError) -> str:
    """Return what the cloud said, to be appended to a message of this command; empty if it said nothing."""
    message = message_of_error(error)
    return "" if message is None else f". The cloud said: {message.text}{message.case}"


def _clean(text: str | None, *, job_id: str | None = None, request_id: str | None = None) -> CloudMessage | None:
    # str(): the cloud's text may hold a secret that is masked only when it is converted.
    line = strip_control_chars(" ".join(str(text).split())) if text else ""
    if not line:
        return None
    return CloudMessage(
        line if len(line) <= _MAX_LENGTH else f"{line[: _MAX_LENGTH - 1]}…", job_id, shown_text(request_id)
    )
