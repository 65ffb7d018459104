"""Feeds: which new servers a run sends next, and how many.

A feed hands out ids that were never sent. Servers that are sent again are the scheduler's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from bms_async.validation.common import MAX_BATCH_SIZE

from .batch import Batch
from .outcome import Outcome
from .plan import ANY_NUMBER, REFILL_TIMEOUT, WaveLimit
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

    A wave that is a share of all servers grows as they come from the source. Where a call carries many servers, none
    goes before a full call's worth has come, since the first calls would be of very few.

    Args:
        tracker: The run's.
        source: The source of new ids.
        find_wave: Returns how many may be in flight at once, by how many servers have come; None for no bound.
        packs: Whether one call carries many servers.
    """

    def __init__(
        self, tracker: RunTracker, source: IdSource, find_wave: Callable[[int], int | None], *, packs: bool
    ) -> None:
        self._tracker = tracker
        self._source = source
        self._find_wave = find_wave
        self._packs = packs
        self._grows = find_wave(0) != find_wave(ANY_NUMBER)
        self._wave_limit = WaveLimit(find_wave(0), None if packs else 1)
        self._returned: deque[str] = deque()
        self._waiting_for_room_since: float | None = None

    @property
    def batch_size(self) -> int:
        """How many servers a batch has at most."""
        return self._wave_limit.size

    @property
    def wave_size(self) -> int | None:
        """How many servers may be in flight at once, of those that have come so far; None for no bound."""
        return self._find_wave(len(self._tracker.intake.pending))

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
        complete = tracker.source_exhausted or is_silent or bool(self._returned)
        if self._grows and not self._grow(complete=complete):
            return ()
        count = self._wave_limit.next_batch_size(
            ready=ready,
            in_flight=tracker.in_flight,
            complete=complete,
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

    def _grow(self, *, complete: bool) -> bool:
        """Have the wave be a share of all servers that have come; return whether that says enough to begin."""
        known = len(self._tracker.intake.pending)
        self._wave_limit.resize(self._find_wave(known))
        self._grows = not self._tracker.source_exhausted
        return complete or not self._packs or known >= MAX_BATCH_SIZE

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
