"""The log of calls."""

from __future__ import annotations

import logging

from bms_async.errors import CallError
from bms_async.redaction import shown_text

logger = logging.getLogger("bms_async.session")


def log_attempt(
    level: int,
    operation: str,
    attempt: int,
    waited: float,
    error: CallError | None = None,
    *,
    status: int | None = None,
    request_id: str | None = None,
) -> None:
    """Log how one attempt ended, without the cloud's message: showing that is up to the application.

    Each figure is also an attribute of the log record, for JSON formatters.
    """
    code: str | None = None
    if error is not None:
        status, code = getattr(error, "status", None), shown_text(getattr(error, "code", None))
        request_id = getattr(error, "request_id", None)
    request_id = shown_text(request_id)
    ended = [f"failed with {type(error).__name__}"] if error else []
    ended += [str(part) for part in (status, code) if part is not None]
    logger.log(
        level,
        "%s attempt %d: %s; waited %.3f s for its slot; request id %s",
        operation,
        attempt,
        " ".join(ended),
        waited,
        request_id or "unknown",
        extra={
            "operation": operation,
            "attempt": attempt,
            "status": status,
            "code": code,
            "request_id": request_id,
            "wait": waited,
        },
    )
