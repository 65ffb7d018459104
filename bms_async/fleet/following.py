"""What follows a batch of a durable run: the batches of servers that are to be sent again."""

from __future__ import annotations

from bms_async.errors import BmsError

from .batch import Batch, EarlierAttempts
from .durable_log import FollowingBatch
from .outcome import Outcome, OutcomeState
from .plan import AbortRule, Intake, retry_grid
from .requeue import Requeue
from .scheduler import batch_of
from .tracker import RunTracker


class Following(Requeue):
    """Collects the servers that are to be sent again."""

    def __init__(self, tracker: RunTracker, *, retry: bool) -> None:
        super().__init__(tracker, retry=retry)
        self._parts: list[Batch] = []
        self._deferred: dict[float, list[EarlierAttempts]] = {}

    def requeue(self, batch: Batch) -> None:
        """Have a part of a refused batch sent before all other servers."""
        self._parts.append(batch)
        self._tracker.in_flight -= len(batch.ids)

    async def check_may_send(self) -> None:
        """Let all pass: what may not be sent is not claimed."""

    def take_back(self, batch: Batch) -> None:
        """Refuse: its log takes back what is not sent."""
        raise AssertionError(f"a batch of {len(batch.ids)} was to be taken back, which its log does")

    def add_deferred(self, attempts: EarlierAttempts, delay: float) -> None:
        """Have a server sent again after a delay, in seconds."""
        self._deferred.setdefault(delay, []).append(attempts)
        self._tracker.in_flight -= 1

    def take(self) -> list[FollowingBatch]:
        """Return the batches that follow: parts of a refused one, and deferred servers by their delay."""
        parts = [FollowingBatch(batch=batch, is_part=True) for batch in self._parts]
        later = (
            FollowingBatch(batch=batch_of(deferred), delay=delay, grid=retry_grid(delay))
            for delay, deferred in self._deferred.items()
        )
        return [*parts, *later]


def skipped_outcomes(action: str, batch: Batch, error: BmsError | None) -> list[Outcome]:
    """Return the outcomes of the servers of a batch that is not sent any more.

    Args:
        action: Such as ``servers.reboot``.
        batch: The batch.
        error: The reason.
    """
    tracker = RunTracker(action, Intake(), AbortRule(None, 1), hold=False)
    tracker.intake.adopt(batch.ids)
    tracker.start_batch(batch)
    tracker.conclude_batch(batch, batch.default_state, batch.error or error)
    return list(tracker.outcomes)


def as_earlier(batch: Batch) -> list[EarlierAttempts]:
    """Return the earlier attempts of the servers of a deferred batch, those included that the batch itself had.

    Args:
        batch: The batch, which the cloud has surely refused each time that it was sent.
    """
    if batch.send_count:
        for attempts in batch.earlier.values():
            attempts.attempts = batch.attempts_of(attempts.server_id)
            attempts.started = batch.started_for(attempts.server_id)
            if batch.was_in_doubt:
                attempts.state = OutcomeState.UNKNOWN
    return list(batch.earlier.values())
