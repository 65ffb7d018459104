"""Feeds: which new servers a run sends next, and how many.

A feed hands out ids that were never sent. Servers that are sent again are the scheduler's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from .batch import Batch
from .outcome import Outcome
from .plan import REFILL_TIMEOUT, WaveLimit
from .source import LINGER, IdSource
from .tracker import RunTracker


class Feed(Protocol):
    """Hands out new servers."""

    @property
    def batch_size(self) -> int:
        """How many servers a batch has at most."""
        ...

    @property
    def is_empty(self) -> bool:
        """Whether no server waits, and none will come."""
        ...

    def cut(self, now: float) -> tuple[str, ...]:
        """Return the servers of the next batch; none if none may go now.

        Args:
            now: The loop's time.
        """
        ...

    def next_due(self, now: float) -> float | None:
        """Return when servers may go without a wake-up, by the loop's time; None if time alone changes nothing."""
        ...

    def put_back(self, ids: Iterable[str], now: float) -> None:
        """Take back servers that were handed out and not sent."""
        ...

    def skip_blocked(self) -> None:
        """Skip some servers that can never go, if there are any."""
        ...

    def on_end(self, outcome: Outcome, batch: Batch) -> None:
        """Note that a server has its outcome."""
        ...

    def pop_waiting(self, max_count: int) -> tuple[str, ...]:
        """Remove and return servers that are not sent any more."""
        ...


class StreamFeed:
    """Hands ids out as they come, within the wave.

    New ids wait until they fill a batch, until the source is exhausted or has been silent for a second, and within a
    wave until there is room for a quarter of a batch, or for 5 s.

    Args:
        tracker: The run's.
        source: The source of new ids.
        wave_limit: The bound on servers in flight.
    """

    def __init__(self, tracker: RunTracker, source: IdSource, wave_limit: WaveLimit) -> None:
        self._tracker = tracker
        self._source = source
        self._wave_limit = wave_limit
        self._returned: deque[str] = deque()
        self._waiting_for_room_since: float | None = None

    @property
    def batch_size(self) -> int:
        """How many servers a batch has at most."""
        return self._wave_limit.size

    @property
    def is_empty(self) -> bool:
        """Whether no server waits, and none will come."""
        return self._tracker.source_exhausted and not self._ready

    @property
    def _ready(self) -> int:
        return self._tracker.intake.ready + len(self._returned)

    def cut(self, now: float) -> tuple[str, ...]:
        """Return the servers of the next batch; none if none may go now."""
        tracker = self._tracker
        ready = self._ready
        is_silent = self._source.last_id_at is not None and now - self._source.last_id_at >= LINGER
        count = self._wave_limit.next_batch_size(
            ready=ready,
            in_flight=tracker.in_flight,
            complete=tracker.source_exhausted or is_silent or bool(self._returned),
            waited=0.0 if self._waiting_for_room_since is None else now - self._waiting_for_room_since,
        )
        if count == 0:
            has_room = ready > self._wave_limit.room(tracker.in_flight) > 0
            self._waiting_for_room_since = (
                (now if self._waiting_for_room_since is None else self._waiting_for_room_since) if has_room else None
            )
            return ()
        self._waiting_for_room_since = None
        ids = self.pop_waiting(count)
        self._source.resume()
        return ids

    def next_due(self, now: float) -> float | None:
        """Return when servers may go without a wake-up, by the loop's time; None if time alone changes nothing."""
        due = []
        if self._waiting_for_room_since is not None:
            due.append(self._waiting_for_room_since + REFILL_TIMEOUT)
        last = self._source.last_id_at
        if last is not None and self._ready and last + LINGER > now:
            due.append(last + LINGER)
        return min(due, default=None)

    def put_back(self, ids: Iterable[str], now: float) -> None:  # noqa: ARG002 - a rollout's feed needs the time
        """Take back servers that were handed out and not sent; they go first."""
        self._returned.extendleft(reversed(tuple(ids)))

    def skip_blocked(self) -> None:
        """Skip some servers that can never go: here all can."""

    def on_end(self, outcome: Outcome, batch: Batch) -> None:
        """Note that a server has its outcome: here the tracker's own count says enough."""

    def pop_waiting(self, max_count: int) -> tuple[str, ...]:
        """Remove and return servers: those that were put back, then those of the source."""
        returned = tuple(self._returned.popleft() for _ in range(min(max_count, len(self._returned))))
        rest = max_count - len(returned)
        return returned + self._tracker.intake.pop_batch(rest) if rest else returned
