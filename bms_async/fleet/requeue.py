"""Servers that are sent again: what isolation and the submitter ask for, whoever sends them.

A server is sent again because it was busy, or since its batch was refused and is split. The run's own scheduler does
that in this process. For a durable run they become batches of the journal, which any worker may send.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from bms_async.errors import BmsError

from .batch import Batch, EarlierAttempts
from .outcome import OutcomeState
from .plan import RETRY_DELAYS
from .tracker import RunTracker


class Requeue(ABC):
    """Takes servers that are to be sent again.

    Args:
        tracker: The run's.
        retry: Whether servers may be deferred at all.
    """

    def __init__(self, tracker: RunTracker, *, retry: bool) -> None:
        self._tracker = tracker
        self._retry = retry

    @abstractmethod
    def requeue(self, batch: Batch) -> None:
        """Have a part of a refused batch sent before all other servers."""

    @abstractmethod
    async def check_may_send(self) -> None:
        """Check that a batch that has its slot may be sent.

        Raises:
            BatchWithdrawnError: It must not be sent now.
        """

    @abstractmethod
    def take_back(self, batch: Batch) -> None:
        """Take back a batch that must not be sent now."""

    @abstractmethod
    def add_deferred(self, attempts: EarlierAttempts, delay: float) -> None:
        """Have a server sent again after a delay, in seconds."""

    def defer_or_conclude(
        self,
        server_id: str,
        batch: Batch,
        state: OutcomeState,
        error: BmsError | None,
        *,
        may_retry: bool = True,
        job_id: str | None = None,
        sub_job_id: str | None = None,
    ) -> None:
        """Have a server sent again later; where that is not possible, give it its outcome.

        Args:
            server_id: The server.
            batch: The batch that it was in.
            state: Its outcome if it is not sent again.
            error: The reason for that state.
            may_retry: Whether the action may be repeated on it at all.
            job_id: Its job, if there is one.
            sub_job_id: Its part of the job.
        """
        if not (may_retry and self.defer(server_id, batch, state, error, job_id=job_id, sub_job_id=sub_job_id)):
            self._tracker.conclude(server_id, state, batch=batch, job_id=job_id, sub_job_id=sub_job_id, error=error)

    def defer(
        self,
        server_id: str,
        batch: Batch,
        state: OutcomeState,
        error: BmsError | None,
        *,
        job_id: str | None = None,
        sub_job_id: str | None = None,
    ) -> bool:
        """Have a server sent again later, unless retries are off or used up; the arguments of `defer_or_conclude`.

        Returns:
            Whether it is deferred, or has its outcome already.
        """
        earlier = batch.earlier.get(server_id)
        deferrals = earlier.deferrals if earlier is not None else 0
        if not self._retry or self._tracker.stopping or deferrals >= len(RETRY_DELAYS):
            return False
        known = self._tracker.intake.pending.get(server_id)
        if known is None:
            return True
        attempts = EarlierAttempts(
            server_id=known,
            deferrals=deferrals + 1,
            attempts=batch.attempts_of(server_id),
            started=batch.started_for(server_id),
            state=state,
            error=error,
            job_id=job_id,
            sub_job_id=sub_job_id,
        )
        batch.moved.add(known)
        self.add_deferred(attempts, RETRY_DELAYS[deferrals])
        return True
