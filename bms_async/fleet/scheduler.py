"""The batch scheduler: which servers are sent next, and when.

What it guarantees (R2, R3): every admitted id is in exactly one place, the feed, a batch or the queue of deferred
ones, until it has its outcome; `next_batch` returns a server again only if it was requeued, deferred or not sent, and
after a stop none. While the gate is closed nothing is returned, and nothing that was returned before is sent.

Batches are cut on demand, when the one before has been sent. So a batch is as full as it can be when it goes, and
several runs that share a limit take turns. First come the parts of a refused batch, then deferred servers that are
due, then new ids, which the feed hands out.

A batch may wait for a slot of its limit for a minute, in which the run may be paused or its window close. So the gate
is asked once more when the batch has its slot. A new batch that was held up then goes back to the feed.

Deferred servers are aligned to a grid of time, so that servers that failed one by one are sent together.

Rejected: to cut all batches at the start. A slow source would hold up the ids that it has given, and a wave has room
for servers as they end and not as they were cut. And to cancel the batches that wait when the gate closes: one whose
slot has just come would be sent all the same, and its response lost.
"""

from __future__ import annotations

import math
from collections import deque

import anyio
import anyio.lowlevel

from .batch import Batch, BatchWithdrawnError, EarlierAttempts
from .feed import Feed
from .outcome import OutcomeState
from .plan import DelayQueue
from .requeue import Requeue
from .rollout.gate import Gate
from .tracker import YIELD_EVERY, RunTracker


class BatchScheduler(Requeue):
    """Cuts batches: first the parts of a refused one, then deferred servers that are due, then new ids.

    Args:
        tracker: The run's.
        feed: Hands out new ids.
        gate: Says whether something may begin now.
        retry: Whether servers may be deferred at all.
    """

    def __init__(self, tracker: RunTracker, feed: Feed, gate: Gate, *, retry: bool) -> None:
        super().__init__(tracker, retry=retry)
        self._feed = feed
        self._gate = gate
        self._requeued: deque[Batch] = deque()
        self._deferred: DelayQueue[EarlierAttempts] = DelayQueue()

    async def next_batch(self) -> Batch | None:
        """Wait until a batch may be sent and return it; None once all servers have ended or the run is stopped."""
        tracker = self._tracker
        while not tracker.stopping:
            tracker.wake.clear()
            now = self._tracker.loop_time()
            if self._gate.is_open(tracker.clock.now()):
                batch = self._cut(now)
                if batch is not None:
                    return batch
            else:
                # Those for which no gate will open need not wait for it.
                self._feed.skip_blocked()
            if self._feed.is_empty and not tracker.in_flight:
                break
            if tracker.wake.is_set():
                # The feed has skipped servers, and may have very many more to skip.
                await anyio.lowlevel.checkpoint()
                continue
            with anyio.move_on_after(self._next_wakeup(now)):
                await tracker.wake.wait()
        return None

    def requeue(self, batch: Batch) -> None:
        """Have a part of a refused batch sent before all other servers."""
        self._tracker.open_batches.add(batch)
        self._requeued.append(batch)
        self._tracker.wake.set()

    async def check_may_send(self) -> None:
        """Check that a batch that has its slot may be sent.

        Raises:
            BatchWithdrawnError: The run is paused or stopped, or its window has closed meanwhile.
        """
        self.check_now()

    def check_now(self) -> None:
        """Do what `check_may_send` does, where nothing can be awaited."""
        why = self._gate.why_closed(self._tracker.clock.now())
        if why is not None or self._tracker.stopping:
            raise BatchWithdrawnError(why or "the run is stopped")

    def take_back(self, batch: Batch) -> None:
        """Take back a batch that was not sent; its servers go first once the gate is open."""
        batch.scope = anyio.CancelScope()
        if not batch.ids:
            # All its servers have ended meanwhile.
            self._tracker.open_batches.discard(batch)
            self._tracker.wake.set()
        elif batch.is_new:
            self._tracker.withdraw_batch(batch)
            self._feed.put_back(batch.remaining, self._tracker.loop_time())
            self._tracker.wake.set()
        else:
            self.requeue(batch)

    def add_deferred(self, attempts: EarlierAttempts, delay: float) -> None:
        """Have a server sent again after a delay, in seconds."""
        self._deferred.add(attempts, self._tracker.loop_time(), delay)
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
        due = self._deferred.pop_due(now, self._feed.batch_size)
        if due:
            batch = batch_of(due)
            self._tracker.open_batches.add(batch)
            return batch
        ids = self._feed.cut(now)
        if not ids:
            return None
        batch = Batch(ids)
        self._tracker.start_batch(batch)
        return batch

    def _next_wakeup(self, now: float) -> float | None:
        """Return the seconds until a batch may be due without a wake-up; None if there is nothing to wait for."""
        wall = self._tracker.clock.now()
        of_gate = self._gate.seconds_to_change(wall)
        if not self._gate.is_open(wall):
            # What is due waits for the gate, and would be due again at once.
            return of_gate
        due = (self._deferred.next_due, self._feed.next_due(now), None if of_gate is None else now + of_gate)
        times = [time for time in due if time is not None]
        return max(0.0, min(times) - now) if times else None


def batch_of(deferred: list[EarlierAttempts]) -> Batch:
    """Return a batch of deferred servers."""
    return Batch(tuple(attempts.server_id for attempts in deferred), earlier=deferred)
