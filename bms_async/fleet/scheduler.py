"""The batch scheduler: which servers are sent next, and when.

What it guarantees (R2, R3): every admitted id is in exactly one place, the intake, a batch or the queue of deferred
ones, until it has its outcome; `next_batch` returns a server again only if it was requeued or deferred, and after a
stop none.

Batches are cut on demand, when the one before has been sent. So a batch is as full as it can be when it goes, and
several runs that share a limit take turns. First come the parts of a refused batch, then deferred servers that are
due, then new ids. New ids wait until they fill a batch, until the source is exhausted or has been silent for a second,
and within a wave until there is room for a quarter of a batch, or for 5 s.

Deferred servers are aligned to a grid of time, so that servers that failed one by one are sent together.

Rejected: to cut all batches at the start. A slow source would hold up the ids that it has given, and a wave has room
for servers as they end and not as they were cut.
"""

from __future__ import annotations

import math
from collections import deque

import anyio
import anyio.lowlevel

from .batch import Batch, EarlierAttempts
from .outcome import OutcomeState
from .plan import REFILL_TIMEOUT, DelayQueue, WaveLimit
from .requeue import Requeue
from .source import LINGER, IdSource
from .tracker import YIELD_EVERY, RunTracker


class BatchScheduler(Requeue):
    """Cuts batches: first the parts of a refused one, then deferred servers that are due, then new ids.

    Args:
        tracker: The run's.
        source: The source of new ids.
        wave_limit: The bound on servers in flight.
        retry: Whether servers may be deferred at all.
    """

    def __init__(self, tracker: RunTracker, source: IdSource, wave_limit: WaveLimit, *, retry: bool) -> None:
        super().__init__(tracker, retry=retry)
        self._source = source
        self._wave_limit = wave_limit
        self._requeued: deque[Batch] = deque()
        self._deferred: DelayQueue[EarlierAttempts] = DelayQueue()
        self._waiting_for_room_since: float | None = None

    async def next_batch(self) -> Batch | None:
        """Wait until a batch may be sent and return it; None once all servers have ended or the run is stopped."""
        tracker = self._tracker
        while not tracker.stopping:
            tracker.wake.clear()
            batch = self._cut(anyio.current_time())
            if batch is not None:
                return batch
            if tracker.is_over:
                break
            with anyio.move_on_after(self._next_wakeup(anyio.current_time())):
                await tracker.wake.wait()
        return None

    def requeue(self, batch: Batch) -> None:
        """Have a part of a refused batch sent before all other servers."""
        self._tracker.open_batches.add(batch)
        self._requeued.append(batch)
        self._tracker.wake.set()

    def add_deferred(self, attempts: EarlierAttempts, delay: float) -> None:
        """Have a server sent again after a delay, in seconds."""
        self._deferred.add(attempts, anyio.current_time(), delay)
        self._tracker.wake.set()

    async def drain(self, *, unknown: list[Batch] | None = None) -> None:
        """Give the deferred servers their outcome: they are not sent again.

        Args:
            unknown: Takes those that would be UNKNOWN, as batches, in the place of concluding them; None concludes all.
        """
        while deferred := self._deferred.pop_due(math.inf, YIELD_EVERY):
            if unknown is not None:
                batch = batch_of([attempts for attempts in deferred if attempts.state is OutcomeState.UNKNOWN])
                unknown += [batch] if batch.ids else []
                deferred = [attempts for attempts in deferred if attempts.state is not OutcomeState.UNKNOWN]
            self._tracker.conclude_batch(batch_of(deferred), OutcomeState.SKIPPED)
            await anyio.lowlevel.checkpoint()

    def _cut(self, now: float) -> Batch | None:
        if self._requeued:
            return self._requeued.popleft()
        due = self._deferred.pop_due(now, self._wave_limit.size)
        if due:
            batch = batch_of(due)
            self._tracker.open_batches.add(batch)
            return batch
        return self._cut_new(now)

    def _cut_new(self, now: float) -> Batch | None:
        tracker = self._tracker
        ready = tracker.intake.ready
        is_silent = self._source.last_id_at is not None and now - self._source.last_id_at >= LINGER
        count = self._wave_limit.next_batch_size(
            ready=ready,
            in_flight=tracker.in_flight,
            complete=tracker.source_exhausted or is_silent,
            waited=0.0 if self._waiting_for_room_since is None else now - self._waiting_for_room_since,
        )
        if count == 0:
            has_room = ready > self._wave_limit.room(tracker.in_flight) > 0
            self._waiting_for_room_since = (
                (now if self._waiting_for_room_since is None else self._waiting_for_room_since) if has_room else None
            )
            return None
        self._waiting_for_room_since = None
        batch = Batch(tracker.intake.pop_batch(count))
        tracker.start_batch(batch)
        self._source.resume()
        return batch

    def _next_wakeup(self, now: float) -> float | None:
        """Return the seconds until a batch may be due without a wake-up; None if there is nothing to wait for."""
        due = [self._deferred.next_due]
        if self._waiting_for_room_since is not None:
            due.append(self._waiting_for_room_since + REFILL_TIMEOUT)
        if (
            self._source.last_id_at is not None
            and self._tracker.intake.ready
            and self._source.last_id_at + LINGER > now
        ):
            due.append(self._source.last_id_at + LINGER)
        times = [time for time in due if time is not None]
        return max(0.0, min(times) - now) if times else None


def batch_of(deferred: list[EarlierAttempts]) -> Batch:
    """Return a batch of deferred servers."""
    return Batch(tuple(attempts.server_id for attempts in deferred), earlier=deferred)
