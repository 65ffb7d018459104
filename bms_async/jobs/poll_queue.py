"""Which job is polled next: due jobs in order, those with a waiter first.

Guarantee: jobs never get more polls than their share of the limit, and a job never has two polls in flight (R6).

How: the watcher's pacer lets no more polls through than the share. So that ends are seen in time nevertheless, each job
has a demand: how often it would be polled if there were no limit. The `load` is the sum of the demands over what the
limit allows, and every delay is found with the load of the moment. So when the demand exceeds the share, all jobs of a
priority are thinned out by the same factor, which is the best use of it (`schedule`). Jobs that come due together wait
here, and those with a waiter are popped first. Jobs without one get what the others leave, and a small reserve, so that
they are never starved. A popped job returns to the queue only when its poll has ended and the watcher schedules it.

Rejected: a bound on the number of jobs, or one interval for all of them. Both delay ends that are due now for the sake
of polls that can hardly show one.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator

from . import schedule
from .record import JobRecord, PollPriority

_RESERVE = 0.05


class PollQueue:
    """A heap of jobs by due time, and the demand for polls of all jobs.

    Args:
        rate: How many polls a second there may be.
    """

    __slots__ = ("_demands", "_heap", "_order", "_rate", "_ready")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        # Of jobs with a waiter, and of background jobs: the index is `in_background`. So it is in `_ready`.
        self._demands = [0.0, 0.0]
        self._heap: list[tuple[float, int, JobRecord]] = []
        self._order = itertools.count()
        self._ready: tuple[deque[JobRecord], deque[JobRecord]] = (deque(), deque())

    def load(self, priority: PollPriority = PollPriority.AWAITED) -> float:
        """Return the ratio of the polls that jobs of a priority demand to those they may get, at least 1."""
        awaited, background = self._demands
        reserve = min(background, _RESERVE * self._rate)
        if priority is PollPriority.BACKGROUND:
            return max(1.0, background / max(self._rate - awaited, reserve)) if background else 1.0
        return max(1.0, awaited / (self._rate - reserve))

    @property
    def next_due(self) -> float | None:
        """When the next job in the heap is due, None if it is empty."""
        return self._heap[0][0] if self._heap else None

    @property
    def has_ready(self) -> bool:
        """Whether a job is ready to be polled."""
        return any(self._ready)

    def schedule(self, record: JobRecord, priority: PollPriority, now: float, delay: float) -> None:
        """Have a job polled after `delay` seconds, and add its demand."""
        self.release_demand(record)
        polling = record.polling
        polling.demand = schedule.demand(delay, self.load(priority))
        polling.in_background = priority is PollPriority.BACKGROUND
        self._demands[polling.in_background] += polling.demand
        heapq.heappush(self._heap, (now + delay, next(self._order), record))

    def release_demand(self, record: JobRecord) -> None:
        """Subtract the demand of a job that is not in the queue."""
        polling = record.polling
        left = self._demands[polling.in_background] - polling.demand
        self._demands[polling.in_background] = max(0.0, left)
        polling.demand = 0.0

    def has_due(self, now: float) -> bool:
        """Return whether the heap has a job that is due."""
        return bool(self._heap) and self._heap[0][0] <= now

    def pop_due(self, now: float, priority: Callable[[JobRecord], PollPriority], *, limit: int) -> Iterator[JobRecord]:
        """Pop at most `limit` due jobs from the heap: idle ones are yielded, all others become ready."""
        for _ in range(limit):
            if not self.has_due(now):
                break
            record = heapq.heappop(self._heap)[2]
            current = priority(record)
            if current is PollPriority.IDLE:
                yield record
            else:
                self._ready[current is PollPriority.BACKGROUND].append(record)

    def next_ready(self) -> JobRecord:
        """Pop the ready job that is to be polled now; there must be one."""
        return (self._ready[0] or self._ready[1]).popleft()

    def clear(self) -> None:
        """Drop all jobs and their demand."""
        self._heap.clear()
        for ready in self._ready:
            ready.clear()
        self._demands = [0.0, 0.0]
