"""A crew of workers that is as large as the limit and the latency of its work need, and no larger.

What it guarantees: one thing at most waits for a slot of a limit when the next one is handed out. So several runs that
share a limit take turns, as those do that send batches. A worker that refuses to end is waited for during a grace
period, and then given up (R4).

How: a worker is added where all are busy and none waits for a slot: then more could be under way at once. Where one
waits, another would only wait behind it.

Rejected: a task for each thing, which costs memory for each server (R10); as many workers as the limit has calls, for
with a short latency a few of them do the same; and an anyio task group, which waits for a worker for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from bms_async._tasks import BackgroundTasks

T = TypeVar("T")


class Crew(Generic[T]):
    """Workers, each of which does one thing at a time; used inside ``async with``, at whose end all have ended.

    Args:
        work: Does one thing; must not raise.
        max_workers: How many there may be.
        name: The name of their tasks.

    Attributes:
        workers: How many there are.
        waiting: How many wait for a slot of a limit: counted by whoever sees it.
    """

    def __init__(self, work: Callable[[T], Awaitable[None]], max_workers: int, name: str) -> None:
        self._work = work
        self._max_workers = max_workers
        self._name = name
        self._tasks = BackgroundTasks(name)
        # The one that became idle last is the first to go on, so that a slow stream of things keeps few of them busy.
        self._idle: list[asyncio.Future[T]] = []
        self._changed = asyncio.Event()
        self._is_dismissed = False
        self.workers = self.waiting = 0

    @property
    def is_ending(self) -> bool:
        """Whether its workers are being cancelled, by it or with all other tasks of the loop."""
        return not self._tasks.is_open

    async def __aenter__(self) -> Self:
        await self._tasks.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.aclose()

    async def wait_for_one(self) -> None:
        """Wait until something may be handed out, or nothing will be."""
        while not self._is_dismissed and (self.waiting or not (self._idle or self.workers < self._max_workers)):
            self._changed.clear()
            await self._changed.wait()

    async def hand(self, thing: T) -> None:
        """Have a worker begin something, after `wait_for_one`."""
        if self.is_ending:
            # With all other tasks of the loop, that of the caller included.
            await asyncio.sleep(0)
        elif self._idle:
            self._idle.pop().set_result(thing)
        else:
            self.workers += 1
            self._tasks.start(self._run, thing, name=self._name)
        # It may be about to wait for a slot, which says that nothing more is to be handed out.
        await asyncio.sleep(0)

    def note_change(self) -> None:
        """Note that `waiting` has changed."""
        self._changed.set()

    def dismiss(self) -> None:
        """Have `wait_for_one` wait no more: nothing is handed out."""
        self._is_dismissed = True
        self._changed.set()

    async def _run(self, thing: T) -> None:
        while True:
            await self._work(thing)
            if self.is_ending:
                return
            thing = await self._next()

    async def _next(self) -> T:
        """Wait until something is handed to this worker."""
        while True:
            handed: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._idle.append(handed)
            self._changed.set()
            try:
                return await handed
            except asyncio.CancelledError:
                if self.is_ending:
                    raise
                # Foreign code that once ran in this task may keep a reference to it, and cancel it late.
                if not handed.cancelled():
                    return handed.result()
                self._idle.remove(handed)
