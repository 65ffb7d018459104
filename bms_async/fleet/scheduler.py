"""Which batch goes next, and when."""

from __future__ import annotations

import math
from collections import deque

import anyio
import anyio.lowlevel

from bms_async.errors import BmsError

from .batch import Batch, EarlierAttempts
from .outcome import OutcomeState
from .plan import REFILL_TIMEOUT, RETRY_DELAYS, DelayQueue, WaveLimit
from .source import LINGER, IdSource
from .tracker import YIELD_EVERY, RunTracker


class BatchScheduler:
    """Cuts batches: first what was parted from a refused one, then what was put off and is due, then new ids.

    Args:
        tracker: The run's.
        source: Where new ids come from.
        waves: How many servers may be under way.
        retry: Whether servers that were busy are asked for again.
    """

    def __init__(self, tracker: RunTracker, source: IdSource, waves: WaveLimit, *, retry: bool) -> None:
        self._tracker = tracker
        self._source = source
        self._waves = waves
        self._retry = retry
        self._requeued: deque[Batch] = deque()
        self._deferred: DelayQueue[EarlierAttempts] = DelayQueue()
        self._waiting_for_room_since: float | None = None

    async def next_batch(self) -> Batch | None:
        """Return the next batch once it may go; None when there is no other, or no other may go."""
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
        """Have a part of a refused batch go next."""
        self._tracker.open_batches.add(batch)
        self._requeued.append(batch)
        self._tracker.wake.set()

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
        past = batch.earlier.get(server_id)
        deferrals = past.deferrals if past is not None else 0
        if not self._retry or self._tracker.stopping or deferrals >= len(RETRY_DELAYS):
            return False
        known = self._tracker.intake.pending.get(server_id)
        if known is None:
            return True
        again = EarlierAttempts(
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
        self._deferred.add(again, anyio.current_time(), RETRY_DELAYS[deferrals])
        self._tracker.wake.set()
        return True

    async def drain(self, *, unknown: list[Batch] | None = None) -> None:
        """Give what was put off its outcome: there will be no other try.

        Args:
            unknown: Takes those of which nobody knows what became of them, instead of giving them one; None to give all
                of them one.
        """
        while put_off := self._deferred.take(math.inf, YIELD_EVERY):
            if unknown is not None:
                batch = _batch_of([past for past in put_off if past.state is OutcomeState.UNKNOWN])
                unknown += [batch] if batch.ids else []
                put_off = [past for past in put_off if past.state is not OutcomeState.UNKNOWN]
            self._tracker.conclude_batch(_batch_of(put_off), OutcomeState.SKIPPED)
            await anyio.lowlevel.checkpoint()

    def _cut(self, now: float) -> Batch | None:
        if self._requeued:
            return self._requeued.popleft()
        due = self._deferred.take(now, self._waves.size)
        if due:
            batch = _batch_of(due)
            self._tracker.open_batches.add(batch)
            return batch
        return self._cut_new(now)

    def _cut_new(self, now: float) -> Batch | None:
        tracker = self._tracker
        ready = tracker.intake.ready
        lingering = self._source.last is not None and now - self._source.last >= LINGER
        number = self._waves.next_batch_size(
            ready=ready,
            in_flight=tracker.in_flight,
            complete=tracker.source_exhausted or lingering,
            waited=0.0 if self._waiting_for_room_since is None else now - self._waiting_for_room_since,
        )
        if number == 0:
            has_room = ready > self._waves.room(tracker.in_flight) > 0
            self._waiting_for_room_since = (
                (now if self._waiting_for_room_since is None else self._waiting_for_room_since) if has_room else None
            )
            return None
        self._waiting_for_room_since = None
        batch = Batch(tracker.intake.take(number))
        tracker.start_batch(batch)
        self._source.resume()
        return batch

    def _next_wakeup(self, now: float) -> float | None:
        """Return the seconds until something is due by itself."""
        due = [self._deferred.next_due]
        if self._waiting_for_room_since is not None:
            due.append(self._waiting_for_room_since + REFILL_TIMEOUT)
        if self._source.last is not None and self._tracker.intake.ready and self._source.last + LINGER > now:
            due.append(self._source.last + LINGER)
        times = [time for time in due if time is not None]
        return max(0.0, min(times) - now) if times else None


def _batch_of(put_off: list[EarlierAttempts]) -> Batch:
    return Batch(tuple(past.server_id for past in put_off), past=put_off)
