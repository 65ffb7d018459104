"""The hook events of jobs."""

from __future__ import annotations

from bms_async.errors import ApiError
from bms_async.hooks import Hooks, JobFinished, JobPolled
from bms_async.models import JobStatus
from bms_async.redaction import shown_text

from .record import JobRecord


def emit_poll(hooks: Hooks, record: JobRecord, error: Exception | None, now: float) -> None:
    """Emit `JobPolled` and, after the last poll, `JobFinished`.

    Args:
        hooks: The client's hooks.
        record: The job, as the poll left it.
        error: Why the poll failed; None if it did not.
        now: The event loop's time in seconds.
    """
    status, ended = record.status, record.ended
    hooks.emit(
        JobPolled(
            job_id=record.job_id,
            action=record.action,
            status=None if status is None else status.value,
            ended=len(ended),
            total=record.total,
            error=None if error is None else type(error).__name__,
            code=shown_text(error.code) if isinstance(error, ApiError) else None,
        )
    )
    if record.finished:
        emit_finished(hooks, record, now)


def emit_finished(hooks: Hooks, record: JobRecord, now: float) -> None:
    """Emit `JobFinished`.

    Args:
        hooks: The client's hooks.
        record: The job, which is finished.
        now: The event loop's time in seconds.
    """
    status, ended, lost = record.status, record.ended, record.error
    succeeded = sum(sub.status is JobStatus.SUCCESS for sub in ended)
    hooks.emit(
        JobFinished(
            job_id=record.job_id,
            action=record.action,
            status=None if status is None or lost is not None else status.value,
            succeeded=succeeded,
            failed=len(ended) - succeeded,
            seconds=now - record.polling.since if record.polling.started else None,
            error=None if lost is None else type(lost).__name__,
        )
    )
