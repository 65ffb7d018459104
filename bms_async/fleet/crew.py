"""A crew of workers that is as large as the limit and the latency of its work need, and no larger.

A worker is added where all are busy and none of them waits for a slot of a limit: then more calls could be on their way
at once. Where one waits for its slot, a further worker would only wait behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


class Crew(Generic[T]):
    """Workers, each of which does one thing at a time.

    Args:
        work: Does one thing; must not raise.
        tasks: Where the workers run.
        max_workers: How many there may be.

    Attributes:
        workers: How many there are.
        waiting: How many wait for a slot of a limit: counted by whoever sees it.
    """

    def __init__(self, work: Callable[[T], Awaitable[None]], tasks: TaskGroup, max_workers: int) -> None:
        self._work = work
        self._tasks = tasks
        self._max_workers = max_workers
        self._handed: deque[T] = deque()
        self._hand = anyio.Event()
        self._changed = anyio.Event()
        self._idle = 0
        self._is_closed = False
        self.workers = self.waiting = 0

    async def wait_for_one(self) -> None:
        """Wait until a worker is idle, or one may be added."""
        while self._idle <= len(self._handed):
            if not self.waiting and self.workers < self._max_workers:
                self.workers += 1
                self._idle += 1
                self._tasks.start_soon(self._run)
                return
            self._changed = anyio.Event()
            await self._changed.wait()

    def hand(self, thing: T) -> None:
        """Have a worker do something."""
        self._handed.append(thing)
        hand, self._hand = self._hand, anyio.Event()
        hand.set()

    def note_change(self) -> None:
        """Note that `waiting` has changed."""
        self._changed.set()

    def close(self) -> None:
        """Have the workers end when all that was handed out is done."""
        self._is_closed = True
        self._hand.set()

    async def _run(self) -> None:
        while True:
            while not self._handed:
                if self._is_closed:
                    return
                await self._hand.wait()
            thing = self._handed.popleft()
            self._idle -= 1
            await self._work(thing)
            self._idle += 1
            self._changed.set()
