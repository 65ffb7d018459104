"""What the watcher learns, told to whoever subscribes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

import msgspec

from bms_async._owner import check_loop
from bms_async.errors import ClientClosedError, JobLostError
from bms_async.models import Job, JobStatus, SubJob


class JobStarted(msgspec.Struct, frozen=True, kw_only=True):
    """A job is watched from now on: a call has started it, or it was picked up.

    Attributes:
        job_id: The job.
        action: The call that started it, such as ``servers.stop``; None for a job picked up by its id.
        servers: The servers it was started for; empty if not known.
    """

    job_id: str
    action: str | None
    servers: tuple[str, ...]


class JobChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A job has another status than before, which is not its end.

    Attributes:
        job_id: The job.
        status: The status.
    """

    job_id: str
    status: JobStatus


class SubJobEnded(msgspec.Struct, frozen=True, kw_only=True):
    """A sub-job has ended, well or badly; each does so once.

    Attributes:
        job_id: The job that it is part of.
        server_id: The server it was about, None if the cloud did not say.
        sub_job: How it ended.
    """

    job_id: str
    server_id: str | None
    sub_job: SubJob


class JobEnded(msgspec.Struct, frozen=True, kw_only=True):
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


class EventGap(msgspec.Struct, frozen=True, kw_only=True):
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

    __slots__ = ("_board", "_changed", "_end", "_limit", "_missed", "_waiting")

    def __init__(self, board: EventBoard, limit: int) -> None:
        self._board = board
        self._limit = limit
        self._waiting: deque[JobEvent] = deque()
        self._missed = 0
        self._end: Exception | None = ClientClosedError("the subscription is not open; use it inside `async with`")
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._board.add(self)
        self._end = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._board.remove(self)
        self._waiting.clear()
        self._missed = 0
        self.close(StopAsyncIteration())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobEvent:
        """Wait for the next event.

        Raises:
            ClientClosedError: The client was closed, and all events before that were read; or the subscription was
                never opened.
            StopAsyncIteration: The subscription was left.
        """
        while True:
            if self._missed:
                missed, self._missed = self._missed, 0
                return EventGap(missed=missed)
            if self._waiting:
                return self._waiting.popleft()
            if self._end is not None:
                raise self._end
            check_loop(self._board.loop, "the subscription")
            self._changed.clear()
            await self._changed.wait()

    def take(self, event: JobEvent) -> None:
        """Take in an event, in the place of the oldest one if too many wait to be read."""
        if len(self._waiting) >= self._limit:
            self._waiting.popleft()
            self._missed += 1
        self._waiting.append(event)
        self._changed.set()

    def close(self, end: Exception) -> None:
        """Let the reader have what is left, and no more."""
        self._end = self._end or end
        self._changed.set()

    def __repr__(self) -> str:
        state = "open" if self._end is None else "closed"
        return f"<JobEvents {state}, {len(self._waiting)} waiting, {self._missed} missed>"


class EventBoard:
    """Tells every subscriber, and waits for none."""

    __slots__ = ("_rouse", "_subscribers", "is_open", "loop")

    def __init__(self, rouse: Callable[[], None]) -> None:
        self._rouse = rouse
        self._subscribers: list[JobEvents] = []
        self.is_open = False
        self.loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._subscribers)

    def add(self, subscriber: JobEvents) -> None:
        """Tell one more from now on.

        Raises:
            ClientClosedError: The client is not open.
        """
        if not self.is_open:
            raise ClientClosedError("the client is not open; use it inside `async with`")
        check_loop(self.loop, "the client")
        self._subscribers.append(subscriber)
        self._rouse()

    def remove(self, subscriber: JobEvents) -> None:
        """Tell it no more."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)

    def publish(self, event: JobEvent) -> None:
        """Tell everybody."""
        for subscriber in self._subscribers:
            subscriber.take(event)

    def close(self) -> None:
        """Tell everybody that there will be no more."""
        self.is_open = False
        for subscriber in self._subscribers:
            subscriber.close(ClientClosedError("the client was closed"))
