"""What a failed poll says of a job: nothing, unless there were only failed ones for long."""

from __future__ import annotations

from bms_async.errors import (
    AuthenticationError,
    CallError,
    ConfigurationError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)

from .patience import Patience
from .record import JobRecord

_POLL = "jobs.get"


def classify_failure(
    record: JobRecord, error: Exception, *, began: float, now: float, patience: Patience
) -> str | None:
    """Note a failed poll, and return why the job is lost, None as long as it is not.

    Args:
        record: The job.
        error: What the poll ended in; credentials and transports of the application's may raise anything.
        began: When the poll began, by the loop's clock.
        now: The loop's time.
        patience: For how long polls may fail.
    """
    record.failures += 1
    if isinstance(error, ConfigurationError | InvalidRequestError):
        return "could not be polled"
    if isinstance(error, NotFoundError):
        record.unauthorized_since = None
        record.missing_since = now if record.missing_since is None else record.missing_since
        missing = now - record.missing_since >= patience.not_found
        return "is not known to the cloud (any more)" if missing else None
    record.missing_since = None
    record.failing_since = began if record.failing_since is None else record.failing_since
    since, longest = record.failing_since, patience.failing
    if _is_unauthorized(error):
        since = record.unauthorized_since = now if record.unauthorized_since is None else record.unauthorized_since
        longest = patience.unauthorized
    else:
        record.unauthorized_since = None
    return f"could not be read for {longest:g} s" if now - since >= longest else None


def _is_unauthorized(error: Exception) -> bool:
    """Tell whether it is the credentials that keep polls from being answered, or from being sent at all."""
    # The error of another call than the poll is of one that has to go before it, such as the one for a token.
    if isinstance(error, AuthenticationError | PermissionDeniedError):
        return True
    return isinstance(error, CallError) and error.operation not in (None, _POLL)
