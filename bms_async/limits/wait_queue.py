"""Who waits for a slot: two lanes, each first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import IntEnum
from typing import Generic, TypeVar

T = TypeVar("T")

_PURGE_THRESHOLD = 64
"""Dead waiters that are not worth clearing away."""


class Lane(IntEnum):
    """Who goes first when calls must wait."""

    INTERACTIVE = 0
    BULK = 1


class WaitQueue(Generic[T]):
    """Tickets in the order in which they came.

    Who leaves stays in the line as a waiter that is done and is passed over, for taking it out of the middle would cost
    more than it weighs; when most are such, they are cleared away together. So joining, leaving and serving cost the
    same however many wait.
    """

    __slots__ = ("_waiters", "length")

    def __init__(self) -> None:
        self._waiters: deque[asyncio.Future[T]] = deque()
        self.length = 0

    def append(self, waiter: asyncio.Future[T]) -> None:
        """Put a waiter at the end."""
        self._waiters.append(waiter)
        self.length += 1

    def discard(self) -> None:
        """Count out one whose waiter is done without having been served."""
        self.length -= 1
        if len(self._waiters) > 2 * self.length + _PURGE_THRESHOLD:
            self._waiters = deque(waiter for waiter in self._waiters if not waiter.done())

    def pop(self) -> asyncio.Future[T] | None:
        """Take the first who still waits; None when nobody does."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self.length -= 1
                return waiter
        return None
