"""What the watcher learns about jobs, as a stream of events for any number of subscribers.

Guarantee: publishing waits for no subscriber and costs the same for one as for a thousand, and a slow subscriber takes
a bounded amount of memory.

How: the bus keeps each event once, and each subscription keeps the index of the event that it reads next. A subscriber
that falls behind by more than its buffer gets an `EventGap` in the place of the oldest events. Events that every
subscriber has read are dropped a chunk at a time, so that a million of them do not hold the event loop (R9).

Rejected: a queue for each subscriber, in which a job of 1000 servers costs a thousand entries for each of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

import anyio
import anyio.lowlevel
import msgspec

from bms_async._tasks import check_loop
from bms_async.errors import ClientClosedError, JobLostError
from bms_async.models import Job, JobStatus, SubJob

_YIELD_EVERY = 500


class JobStarted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job is watched from now on: a call has started it, or it was picked up.

    Attributes:
        job_id: The job.
        action: The call that started it, such as ``servers.stop``; None for a job that was picked up by its id.
        servers: The servers it was started for; empty if not known.
    """

    job_id: str
    action: str | None
    servers: tuple[str, ...]


class JobChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The status of a job has changed, and the job goes on.

    Attributes:
        job_id: The job.
        status: The new status.
    """

    job_id: str
    status: JobStatus


class SubJobEnded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A sub-job has ended, as SUCCESS or FAIL; there is one such event for each.

    Attributes:
        job_id: The job that it is part of.
        server_id: Its server, None if the cloud did not say.
        sub_job: The sub-job at its end.
    """

    job_id: str
    server_id: str | None
    sub_job: SubJob


class JobEnded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job has ended, as SUCCESS or FAIL, and its sub-jobs with it.

    Attributes:
        job_id: The job.
        job: The job at its end.
    """

    job_id: str
    job: Job


class JobLost(msgspec.Struct, frozen=True, kw_only=True):
    """A job is lost: its end cannot be known. Read the servers' own states.

    Attributes:
        job_id: The job.
        error: Why; `error.job` is what was known last.
    """

    job_id: str
    error: JobLostError


class EventGap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The subscriber was too slow, or away for too long, and the oldest of the events it had not read are gone.

    Attributes:
        missed: How many events are gone; 0 if nobody knows, because none was written down (``events(since=)`` alone).
    """

    missed: int


JobEvent: TypeAlias = JobStarted | JobChanged | SubJobEnded | JobEnded | JobLost | EventGap
"""Any event that a subscriber reads."""


class JobEvents:
    """A subscription to the events of all jobs: ``async with`` opens it, ``async for`` reads it.

    As long as it is open, every job of the client counts as awaited.
    """

    __slots__ = ("_bus", "_end", "_is_open", "_max_buffer_size", "_next", "_read_count")

    def __init__(self, bus: EventBus, max_buffer_size: int) -> None:
        self._bus = bus
        self._max_buffer_size = max_buffer_size
        # Indices of the bus: of the event that is read next, and of the first that was published after leaving.
        self._next = 0
        self._end: int | None = None
        self._is_open = False
        self._read_count = 0

    async def __aenter__(self) -> Self:
        self._bus.add(self._oldest_readable)
        self._next, self._end, self._is_open = self._bus.next, None, True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end = self._next
        self._bus.remove(self._oldest_readable)
        while self._bus.drop_read_chunk():
            await anyio.lowlevel.cancel_shielded_checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobEvent:
        """Wait for the next event.

        Raises:
            ClientClosedError: The client was closed, and all events before that have been read; or the subscription
                was never opened.
            StopAsyncIteration: The subscription was left.
        """
        if not self._is_open:
            raise ClientClosedError("the subscription is not open; use it inside `async with`")
        while True:
            if self._missed:
                gap = EventGap(missed=self._missed)
                self._next += gap.missed
                return gap
            if self._unread:
                await self._yield_now_and_then()
                if self._missed or not self._unread:
                    continue
                event = self._bus[self._next]
                self._next += 1
                return event
            if self._end is not None:
                raise StopAsyncIteration
            if not self._bus.is_open:
                raise ClientClosedError("the client was closed")
            check_loop(self._bus.loop, "the subscription")
            await self._bus.wait_for_change()

    def _oldest_readable(self) -> int:
        return self._next + self._missed

    @property
    def _unread(self) -> int:
        return (self._bus.next if self._end is None else self._end) - self._next

    @property
    def _missed(self) -> int:
        return max(0, self._unread - self._max_buffer_size)

    async def _yield_now_and_then(self) -> None:
        # A subscriber that has fallen behind never waits for an event until it has caught up.
        self._read_count += 1
        if self._read_count % _YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        is_open = self._is_open and self._end is None and self._bus.is_open
        missed = self._missed
        return f"<JobEvents {'open' if is_open else 'closed'}, {self._unread - missed} waiting, {missed} missed>"


class EventBus:
    """Broadcasts events to all subscribers without blocking on any of them.

    A subscriber is known to the bus by a function that returns the index of the oldest event that it may still read.

    Args:
        on_subscribe: Called when a subscriber was added.

    Attributes:
        next: The index of the event that is published next.
        is_open: Whether there may be further events.
        loop: The event loop of the client, None before it is open.
    """

    __slots__ = ("_changed", "_chunks", "_first", "_on_subscribe", "_subscribers", "is_open", "loop", "next")

    def __init__(self, on_subscribe: Callable[[], None]) -> None:
        self._on_subscribe = on_subscribe
        self._subscribers: list[Callable[[], int]] = []
        # Freed one by one: freeing a million events at once would hold the event loop.
        self._chunks: deque[list[JobEvent]] = deque()
        self._first = 0
        self._changed: asyncio.Event | None = None
        self.next = 0
        self.is_open = False
        self.loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._subscribers)

    def __getitem__(self, index: int) -> JobEvent:
        chunk, offset = divmod(index - self._first, _YIELD_EVERY)
        return self._chunks[chunk][offset]

    def add(self, subscriber: Callable[[], int]) -> None:
        """Add a subscriber.

        Raises:
            ClientClosedError: The client is not open.
        """
        if not self.is_open:
            raise ClientClosedError("the client is not open; use it inside `async with`")
        check_loop(self.loop, "the client")
        self._subscribers.append(subscriber)
        self._on_subscribe()

    def remove(self, subscriber: Callable[[], int]) -> None:
        """Remove a subscriber, if it is one."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)
            self._notify()

    def publish(self, event: JobEvent) -> None:
        """Publish an event to all subscribers."""
        if not self._subscribers:
            return
        if not self._chunks or len(self._chunks[-1]) == _YIELD_EVERY:
            # Two are dropped for each one that is added, so that there is never much to drop.
            self.drop_read_chunk()
            self.drop_read_chunk()
            if not self._chunks:
                self._first = self.next
            self._chunks.append([])
        self._chunks[-1].append(event)
        self.next += 1
        self._notify()

    async def wait_for_change(self) -> None:
        """Wait until an event is published, a subscriber is removed or the bus is closed."""
        changed = self._changed = self._changed or asyncio.Event()
        await changed.wait()

    def close(self) -> None:
        """Publish no further events, and wake every subscriber."""
        self.is_open = False
        self._notify()

    def drop_read_chunk(self) -> bool:
        """Drop the oldest chunk if no subscriber needs it any more, and return whether one was dropped."""
        needed = min((oldest_readable() for oldest_readable in self._subscribers), default=self.next)
        if not self._chunks or self._first + len(self._chunks[0]) > needed:
            return False
        self._first += len(self._chunks.popleft())
        return True

    def _notify(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()
