"""What the watcher learns, told to whoever subscribes."""

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
        action: The call that started it, such as ``servers.stop``; None for a job picked up by its id.
        servers: The servers it was started for; empty if not known.
    """

    job_id: str
    action: str | None
    servers: tuple[str, ...]


class JobChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job has another status than before, which is not its end.

    Attributes:
        job_id: The job.
        status: The status.
    """

    job_id: str
    status: JobStatus


class SubJobEnded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A sub-job has ended, well or badly; each does so once.

    Attributes:
        job_id: The job that it is part of.
        server_id: The server it was about, None if the cloud did not say.
        sub_job: How it ended.
    """

    job_id: str
    server_id: str | None
    sub_job: SubJob


class JobEnded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job has ended, well or badly, and its sub-jobs with it.

    Attributes:
        job_id: The job.
        job: How it ended.
    """

    job_id: str
    job: Job


class JobLost(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended cannot be known; read the servers' own state.

    Attributes:
        job_id: The job.
        error: Why; `error.job` is what was known last.
    """

    job_id: str
    error: JobLostError


class EventGap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The subscriber was too slow, and the oldest events that waited for it are gone.

    Attributes:
        missed: How many.
    """

    missed: int


JobEvent: TypeAlias = JobStarted | JobChanged | SubJobEnded | JobEnded | JobLost | EventGap
"""What a subscriber is told."""


class JobEvents:
    """A subscription to what the watcher learns: ``async with`` opens it, ``async for`` reads it.

    As long as it is open, every job of the client counts as waited for.
    """

    __slots__ = ("_bus", "_end", "_is_open", "_limit", "_next", "_read")

    def __init__(self, bus: EventBus, limit: int) -> None:
        self._bus = bus
        self._limit = limit
        # Which event of the board it reads next, and the first that it may not read any more.
        self._next = 0
        self._end: int | None = None
        self._is_open = False
        self._read = 0

    async def __aenter__(self) -> Self:
        self._bus.add(self)
        self._next, self._end, self._is_open = self._bus.next, None, True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end = self._next
        self._bus.remove(self)
        while self._bus.forget_subscribers():
            await anyio.lowlevel.cancel_shielded_checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobEvent:
        """Wait for the next event.

        Raises:
            ClientClosedError: The client was closed, and all events before that were read; or the subscription was
                never opened.
            StopAsyncIteration: The subscription was left.
        """
        if not self._is_open:
            raise ClientClosedError("the subscription is not open; use it inside `async with`")
        while True:
            if self._missed:
                gap = EventGap(missed=self._missed)
                self._next += gap.missed
                return gap
            if self._waiting:
                await self._let_others_run()
                if self._missed or not self._waiting:
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

    @property
    def wanted(self) -> int:
        """The first event that may still be read by it."""
        return self._next + self._missed

    @property
    def _waiting(self) -> int:
        return (self._bus.next if self._end is None else self._end) - self._next

    @property
    def _missed(self) -> int:
        return max(0, self._waiting - self._limit)

    async def _let_others_run(self) -> None:
        # Whoever has fallen behind does not wait at all until it has caught up.
        self._read += 1
        if self._read % _YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        is_open = self._is_open and self._end is None and self._bus.is_open
        missed = self._missed
        return f"<JobEvents {'open' if is_open else 'closed'}, {self._waiting - missed} waiting, {missed} missed>"


class EventBus:
    """Tells every subscriber, and waits for none.

    Each event is kept once, however many subscribers there are; each of these remembers which one it reads next. So to
    tell of an event costs the same for one subscriber and for a thousand.
    """

    __slots__ = ("_changed", "_chunks", "_first", "_subscribers", "_wake_job", "is_open", "loop", "next")

    def __init__(self, on_wake: Callable[[], None]) -> None:
        self._wake_job = on_wake
        self._subscribers: list[JobEvents] = []
        # In chunks, which are dropped one after another: a million events at once would hold the event loop.
        self._chunks: deque[list[JobEvent]] = deque()
        self._first = 0
        self._changed: asyncio.Event | None = None
        # The number of the event that is published next.
        self.next = 0
        self.is_open = False
        self.loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._subscribers)

    def __getitem__(self, number: int) -> JobEvent:
        chunk, place = divmod(number - self._first, _YIELD_EVERY)
        return self._chunks[chunk][place]

    def add(self, subscriber: JobEvents) -> None:
        """Tell one more from now on.

        Raises:
            ClientClosedError: The client is not open.
        """
        if not self.is_open:
            raise ClientClosedError("the client is not open; use it inside `async with`")
        check_loop(self.loop, "the client")
        self._subscribers.append(subscriber)
        self._wake_job()

    def remove(self, subscriber: JobEvents) -> None:
        """Tell it no more."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)
            self._notify()

    def publish(self, event: JobEvent) -> None:
        """Tell everybody."""
        if not self._subscribers:
            return
        if not self._chunks or len(self._chunks[-1]) == _YIELD_EVERY:
            # Two go for one that comes, so that there is never much to drop.
            self.forget_subscribers()
            self.forget_subscribers()
            if not self._chunks:
                self._first = self.next
            self._chunks.append([])
        self._chunks[-1].append(event)
        self.next += 1
        self._notify()

    async def wait_for_change(self) -> None:
        """Wait until there is an event more, or there will be none."""
        changed = self._changed = self._changed or asyncio.Event()
        await changed.wait()

    def close(self) -> None:
        """Tell everybody that there will be no more."""
        self.is_open = False
        self._notify()

    def forget_subscribers(self) -> bool:
        """Drop some of what nobody reads any more, and tell whether there may be more of it."""
        wanted = min((subscriber.wanted for subscriber in self._subscribers), default=self.next)
        if not self._chunks or self._first + len(self._chunks[0]) > wanted:
            return False
        self._first += len(self._chunks.popleft())
        return True

    def _notify(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()
