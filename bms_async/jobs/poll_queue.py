"""Which job is polled next: those that are due in their order, those that somebody waits for first."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator

from . import schedule
from .record import JobRecord, PollPriority

_RESERVE = 0.05


class PollQueue:
    """Jobs by when they are due, and how much more they would be polled than they may.

    Args:
        rate: How many polls a second there may be.
    """

    __slots__ = ("_appetites", "_heap", "_order", "_rate", "_ready")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        # Of the jobs that somebody waits for, and of the others.
        self._appetites = [0.0, 0.0]
        self._heap: list[tuple[float, int, JobRecord]] = []
        self._order = itertools.count()
        self._ready: tuple[deque[JobRecord], deque[JobRecord]] = (deque(), deque())

    def load(self, priority: PollPriority = PollPriority.AWAITED) -> float:
        """How many times more polls jobs want than they may have, at least 1.

        Jobs that nobody waits for have what the others leave, and a small part for themselves.
        """
        awaited, kept = self._appetites
        reserve = min(kept, _RESERVE * self._rate)
        if priority is PollPriority.BACKGROUND:
            return max(1.0, kept / max(self._rate - awaited, reserve)) if kept else 1.0
        return max(1.0, awaited / (self._rate - reserve))

    @property
    def due(self) -> float | None:
        """When the next job is due that is not yet, None if there is none."""
        return self._heap[0][0] if self._heap else None

    @property
    def has_ready(self) -> bool:
        """Whether a job is due."""
        return any(self._ready)

    def schedule(self, record: JobRecord, priority: PollPriority, now: float, delay: float) -> None:
        """Have a job polled after so many seconds, and take its share of the polls into account."""
        self.release_demand(record)
        record.demand = schedule.demand(delay, self.load(priority))
        record.in_background = priority is PollPriority.BACKGROUND
        self._appetites[record.in_background] += record.demand
        heapq.heappush(self._heap, (now + delay, next(self._order), record))

    def release_demand(self, record: JobRecord) -> None:
        """Take a job that is not in the queue out of the account."""
        left = self._appetites[record.in_background] - record.demand
        self._appetites[record.in_background] = max(0.0, left)
        record.demand = 0.0

    def is_due(self, now: float) -> bool:
        """Whether a job is due that was not sorted yet."""
        return bool(self._heap) and self._heap[0][0] <= now

    def pop_due(self, now: float, priority: Callable[[JobRecord], PollPriority], *, most: int) -> Iterator[JobRecord]:
        """Find so many at most of those that are due; yield the ones that nobody wants polled, out of the queue."""
        for _ in range(most):
            if not self.is_due(now):
                break
            record = heapq.heappop(self._heap)[2]
            ranked = priority(record)
            if ranked is PollPriority.IDLE:
                yield record
            else:
                self._ready[ranked is PollPriority.BACKGROUND].append(record)

    def next_ready(self) -> JobRecord:
        """Take out the job that is to be polled now; there must be one."""
        return (self._ready[0] or self._ready[1]).popleft()

    def clear(self) -> None:
        """Forget all of them."""
        self._heap.clear()
        for ready in self._ready:
            ready.clear()
        self._appetites = [0.0, 0.0]
