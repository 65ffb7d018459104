"""What a poll means for its job: what is known of it now, whether it is lost, and when it is polled next."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from bms_async.errors import CallError, JobLostError
from bms_async.models import Job, JobStatus

from . import schedule
from .kept_job import PartialPoll
from .patience import Patience
from .poll_failures import classify_failure
from .poll_queue import PollQueue
from .record import JobRecord, PollPriority

_log = logging.getLogger("bms_async.jobs")


class PollVerdicts:
    """Applies polls to the records of their jobs.

    Args:
        queue: The poll queue, whose load delays are found with.
        rate: How many polls a second there may be.
        patience: How long a job may show nothing new before it is lost.
        priority: Returns how urgently a job is polled.
        count: Returns how many jobs are polled.

    Attributes:
        ended: How many jobs have ended.
        lost: How many are lost.
    """

    def __init__(
        self,
        queue: PollQueue,
        *,
        rate: float,
        patience: Patience,
        priority: Callable[[JobRecord], PollPriority],
        count: Callable[[], int],
    ) -> None:
        self.ended = self.lost = 0
        self._queue = queue
        self._rate = rate
        self._patience = patience
        self._priority = priority
        self._count = count
        self._profiles: dict[str, schedule.DurationProfile] = {}

    def on_success(self, record: JobRecord, poll: Job | PartialPoll | None) -> float:
        """Give a record what a poll shows, and return the seconds until the next one.

        Args:
            record: The job.
            poll: What it shows; None if that is what the last one showed.
        """
        now = anyio.current_time()
        record.polling.record_success(now)
        if poll is not None:
            record.update(poll)
            if record.finished:
                self.ended += 1
                self._update_profile(record, now)
        record.note_progress(now)
        if not record.finished:
            self._check_progress(record, now)
        record.polling.last_poll_at = now
        return self.delay(record, now)

    def _check_progress(self, record: JobRecord, now: float) -> None:
        job, patience = record.head, self._patience
        goes_on = job is None or not job.is_final or record.shows_unended
        grace = patience.no_news if goes_on else patience.incomplete
        if job is None or now - record.polling.last_progress_at <= grace:
            return
        if job.status is JobStatus.FAIL:
            self.ended += 1
            record.give_up()
        else:
            unended = ", but still shows sub-jobs that have not ended" if job.is_final else ""
            self.give_up(record, f"says {job.status.value}{unended}, and has shown nothing new for {grace:g} s")

    def _update_profile(self, record: JobRecord, now: float) -> None:
        key = _profile_key(record)
        profile = schedule.update_profile(self._profiles.get(key), record.durations(now))
        if profile is not None:
            self._profiles[key] = profile

    def on_failure(self, record: JobRecord, error: Exception, began: float) -> float:
        """Note that a poll has failed, and return the seconds until the next one.

        Args:
            record: The job, which is lost if nothing can be learned of it any more.
            error: The failure.
            began: When the poll began.
        """
        polling = record.polling
        if not isinstance(error, CallError) and not polling.failures:
            _log.error("polling job %s broke", record.job_id, exc_info=error)
        why = classify_failure(polling, error, began=began, now=anyio.current_time(), patience=self._patience)
        if why is not None:
            return self.give_up(record, why, error)
        _log.info("poll %d of job %s in a row failed: %s", polling.failures, record.job_id, type(error).__name__)
        delay = schedule.failure_delay(polling.failures)
        if polling.missing_since is not None:
            delay = min(delay, max(self._patience.not_found / 4, schedule.failure_delay(1)))
        return delay * self._queue.load(self._priority(record))

    def give_up(self, record: JobRecord, why: str, error: Exception | None = None) -> float:
        """Have a job be lost, and return 0 seconds.

        Args:
            record: The job.
            why: Why nothing can be learned of it any more.
            error: The failure that says so.
        """
        self.lost += 1
        job = record.job
        lost = JobLostError(
            f"job {record.job_id} {why}; read the servers' own state to see what it did",
            job_id=record.job_id,
            job=job,
            code=(job.error_code or job.code) if job is not None else None,
            reason=job.reason if job is not None else None,
        )
        lost.__cause__ = error
        record.fail(lost)
        return 0.0

    def delay(self, record: JobRecord, now: float) -> float:
        """Return the seconds until a job is to be polled next."""
        return schedule.next_poll_delay(
            age=now - record.polling.since,
            profile=self._profiles.get(_profile_key(record)) if record.polling.started else None,
            total=record.total,
            remaining=record.total - len(record.ended),
            load=self._queue.load(self._priority(record)),
            round_robin_interval=self._count() / self._rate,
        )


def _profile_key(record: JobRecord) -> str:
    """Return the key under which jobs of one kind share a duration profile."""
    return record.action or (record.head.job_type if record.head is not None else None) or ""
