"""What the session asks of whatever carries its requests."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import anyio

from bms_async._tasks import run_to_completion
from bms_async.errors import ConfigurationError
from bms_async.wire import HttpRequest, HttpResponse

from ._queue import PendingRequest, SendQueue, TransportStatistics


@runtime_checkable
class Transport(Protocol):
    """Carries one request and brings its answer back."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request once and return the whole answer, whatever its status.

        ``request.timeout`` is to be kept; redirects are not to be followed, and nothing is to be sent twice.

        Raises:
            TransportError: No answer came; ``maybe_delivered`` is False only if the request surely never left.
        """
        ...


@runtime_checkable
class TaskRunningTransport(Protocol):
    """A transport that knows its own tasks, so that a client can be closed from one of them."""

    @property
    def has_current_task(self) -> bool:
        """Whether this is called from one of its tasks, or from one that such a task has started."""
        ...


@runtime_checkable
class OwningTransport(Transport, Protocol):
    """A transport that sends in tasks of its own, opened and closed with the clients that use it."""

    async def open(self) -> None:
        """Open the transport, or count one more client of an open one."""
        ...

    async def aclose(self) -> None:
        """Count one client less; the last one closes the connections."""
        ...

    def submit(self, request: HttpRequest) -> PendingRequest:
        """Take a request and return at once."""
        ...


MAX_RESPONSE_BYTES = 64 * 2**20


def check_max_response_bytes(owner: str, value: object) -> int:
    """Return a bound for answers.

    Raises:
        ConfigurationError: It is no number of bytes.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{owner}(max_response_bytes={value!r}): a whole number of bytes above 0 is needed")
    return value


class QueuedTransport(ABC):
    """Sends requests in tasks of its own, never more at once than it has connections.

    Args:
        connections: How many requests run at once at most.
    """

    def __init__(self, *, connections: int) -> None:
        self._queue = SendQueue(self._exchange, connections=connections)
        self._preparing = anyio.Lock()

    def __repr__(self) -> str:
        state = "open" if self._queue.is_open else "closed"
        figures = self._queue.statistics()
        return f"<{type(self).__name__} {state}, {figures.in_flight} of {figures.max_connections} in flight>"

    @property
    def has_current_task(self) -> bool:
        """Whether this is called from one of its tasks, or from one that such a task has started."""
        return self._queue.has_current_task

    async def open(self) -> None:
        """Open the transport, or count one more client of an open one.

        Raises:
            ClientClosedError: It was closed before; make a new one.
            ConfigurationError: `ca_bundle` cannot be read.
        """
        async with self._preparing:
            if not self._queue.is_closed:
                await self._load_files()
        await self._queue.open()

    async def aclose(self) -> None:
        """Count one client less; after the last one, end what is under way and close the connections."""
        begun: list[None] = []
        try:
            await run_to_completion(self._close(begun))
        except asyncio.CancelledError:
            if not begun:
                # Whoever cancels every task of the loop cancels what has not begun, too.
                await run_to_completion(self._close(begun))
            raise

    async def _close(self, begun: list[None]) -> None:
        begun.append(None)
        try:
            await self._queue.aclose()
        finally:
            if self._queue.is_closed:
                await self._close_connections()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def submit(self, request: HttpRequest) -> PendingRequest:
        """Take a request and return at once; it is sent as soon as a connection is free."""
        return self._queue.submit(request)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request once and return the whole answer.

        Raises:
            TransportError: No answer came.
            ClientClosedError: The transport is not open, or was closed meanwhile.
        """
        return await self._queue.submit(request).wait()

    def statistics(self) -> TransportStatistics:
        """Tell what is under way."""
        return self._queue.statistics()

    @abstractmethod
    async def _load_files(self) -> None:
        """Read what it needs from the disk, in a thread; before the first client, and again before each."""

    @abstractmethod
    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        """Send a request on one of the connections."""

    @abstractmethod
    async def _close_connections(self) -> None:
        """Close them, after the last client."""
