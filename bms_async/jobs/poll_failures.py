"""Whether a job is lost after a failed poll: one says nothing of the job, a long run of them does."""

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
from .poll_state import PollState

_POLL = "jobs.get"


def classify_failure(
    polling: PollState, error: Exception, *, began: float, now: float, patience: Patience
) -> str | None:
    """Count a failed poll, and return why the job is lost; None while it is not.

    Args:
        polling: The job's polling state, which is updated.
        error: The failure; credentials and transports of the application may raise anything.
        began: When the poll began, by the event loop's clock in seconds.
        now: The loop's time.
        patience: For how long polls may fail.
    """
    polling.failures += 1
    if isinstance(error, ConfigurationError | InvalidRequestError):
        return "could not be polled"
    if isinstance(error, NotFoundError):
        polling.unauthorized_since = None
        polling.missing_since = now if polling.missing_since is None else polling.missing_since
        is_missing = now - polling.missing_since >= patience.not_found
        return "is not known to the cloud (any more)" if is_missing else None
    polling.missing_since = None
    polling.failing_since = began if polling.failing_since is None else polling.failing_since
    since, grace = polling.failing_since, patience.failing
    if _is_unauthorized(error):
        since = polling.unauthorized_since = now if polling.unauthorized_since is None else polling.unauthorized_since
        grace = patience.unauthorized
    else:
        polling.unauthorized_since = None
    return f"could not be read for {grace:g} s" if now - since >= grace else None


def _is_unauthorized(error: Exception) -> bool:
    """Return whether credentials are the reason that polls fail or cannot be sent."""
    # An error of another operation comes from a call that has to go first, such as the one for a token.
    if isinstance(error, AuthenticationError | PermissionDeniedError):
        return True
    return isinstance(error, CallError) and error.operation not in (None, _POLL)
