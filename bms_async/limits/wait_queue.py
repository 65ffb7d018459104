"""The queues that calls wait in for a slot: two lanes, each first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import IntEnum
from typing import Generic, TypeVar

T = TypeVar("T")

_PURGE_THRESHOLD = 64
"""Dead waiters that are not worth purging."""


class Lane(IntEnum):
    """Which calls go first when calls must wait: all of INTERACTIVE before any of BULK."""

    INTERACTIVE = 0
    BULK = 1


class WaitQueue(Generic[T]):
    """Waiters in the order in which they came.

    A cancelled waiter stays in the deque and is skipped when popped: removing it from the middle would be O(n). Once
    most entries are dead they are purged together. So each operation is O(1) amortized, however many wait.
    """

    __slots__ = ("_length", "_waiters")

    def __init__(self) -> None:
        self._waiters: deque[asyncio.Future[T]] = deque()
        self._length = 0

    def __len__(self) -> int:
        """Return how many wait, without the dead waiters."""
        return self._length

    def append(self, waiter: asyncio.Future[T]) -> None:
        """Add a waiter at the end."""
        self._waiters.append(waiter)
        self._length += 1

    def discard(self) -> None:
        """Count a waiter out that is done without having been popped."""
        self._length -= 1
        if len(self._waiters) > 2 * self._length + _PURGE_THRESHOLD:
            self._waiters = deque(waiter for waiter in self._waiters if not waiter.done())

    def pop(self) -> asyncio.Future[T] | None:
        """Return the first live waiter; None if there is none."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._length -= 1
                return waiter
        return None
