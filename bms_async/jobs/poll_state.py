"""When one job is polled, and how its polls have gone."""

from __future__ import annotations

import msgspec


class PollState(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """The polling side of a job: numbers and flags only, so that the garbage collector need not track it.

    All times are seconds of the event loop's clock.

    Attributes:
        since: When watching began; ages are counted from there.
        started: Whether that was when the cloud accepted the job.
        last_progress_at: When a poll last showed progress, or watching began; time in which polls failed is left out.
        last_poll_at: When the job was last polled successfully, None before the first time.
        keep_polling: Whether the job is polled even without a waiter.
        viewed: Whether a caller has read the job's status since the last poll.
        demand: How many polls a second the job would get if there were no limit.
        in_background: Whether the demand counts as that of jobs without a waiter.
        failures: How many polls in a row have failed.
        failing_since: When the first poll since the last success that failed with anything but 404 began.
        missing_since: When the current run of 404 responses began.
        unauthorized_since: When the current run of polls that lacked credentials or rights began.
        suspended_at: When polling was suspended, None while the job is polled.
    """

    since: float
    started: bool
    last_progress_at: float
    last_poll_at: float | None = None
    keep_polling: bool = False
    viewed: bool = False
    demand: float = 0.0
    in_background: bool = False
    failures: int = 0
    failing_since: float | None = None
    missing_since: float | None = None
    unauthorized_since: float | None = None
    suspended_at: float | None = None

    def resume(self, now: float) -> None:
        """Note that the job is polled again; the time of the suspension is not one in which polls failed."""
        if self.suspended_at is None:
            return
        # Shifted, not reset: a job whose status is read once a minute is suspended after each of its polls.
        paused, self.suspended_at = now - self.suspended_at, None
        self.failing_since = _shifted(self.failing_since, paused)
        self.missing_since = _shifted(self.missing_since, paused)
        self.unauthorized_since = _shifted(self.unauthorized_since, paused)

    def record_success(self, now: float) -> None:
        """Note a successful poll: failures are counted anew, and the time of the outage is not one without progress."""
        if self.failures:
            outage_began = min(time for time in (self.failing_since, self.missing_since, now) if time is not None)
            self.last_progress_at = min(now, self.last_progress_at + now - outage_began)
        self.failures = 0
        self.failing_since = self.missing_since = self.unauthorized_since = None


def _shifted(since: float | None, seconds: float) -> float | None:
    return None if since is None else since + seconds
