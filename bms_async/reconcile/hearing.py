"""What the events of jobs say of the servers of a reconciler.

A job that is not the reconciler's own holds its servers for as long as it goes on: they are left alone, and looked at
once it has ended. Events make this quick, and nothing depends on them: one that is missed is found by the next reading.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel

from bms_async.jobs import EventGap, JobEnded, JobLost, JobStarted, SubJobEnded, Watcher
from bms_async.jobs.events import JobEvent

from .books import Books

_MAX_UNREAD = 10_000


class Hearing:
    """Reads events as long as it runs.

    Args:
        books: What is known.
        watcher: The client's.
        on_change: Called when servers may have to be looked at.
        on_gap: Called when events were missed.
    """

    def __init__(
        self, books: Books, watcher: Watcher, *, on_change: Callable[[], None], on_gap: Callable[[], None]
    ) -> None:
        self._books = books
        self._watcher = watcher
        self._on_change = on_change
        self._on_gap = on_gap
        self._own: set[str] = set()
        self._held: dict[str, tuple[str, ...]] = {}

    async def run(self) -> None:
        """Read, until this is cancelled.

        Raises:
            ClientClosedError: The client was closed.
        """
        async with self._watcher.events(_MAX_UNREAD) as events:
            async for event in events:
                self._hear(event)
                if isinstance(event, EventGap):
                    await self._release_all()
                if self._books.to_look:
                    self._on_change()

    def _hear(self, event: JobEvent) -> None:
        books, now = self._books, anyio.current_time()
        match event:
            case JobStarted(job_id=job_id, servers=servers):
                if books.hold(job_id, servers, now):
                    self._held[job_id] = servers
                elif any(server_id in books.under_way for server_id in servers):
                    self._own.add(job_id)
            case SubJobEnded(job_id=job_id, server_id=str(server_id)) if job_id not in self._own:
                if job_id in self._held:
                    books.release(job_id, (server_id,), now)
                else:
                    books.look(server_id)
            case JobEnded(job_id=job_id) | JobLost(job_id=job_id):
                self._own.discard(job_id)
                books.release(job_id, self._held.pop(job_id, ()), now)
            case EventGap():
                self._own.clear()
                self._held.clear()
            case _:
                pass

    async def _release_all(self) -> None:
        while self._books.release_some(anyio.current_time()):
            await anyio.lowlevel.checkpoint()
        self._on_gap()
