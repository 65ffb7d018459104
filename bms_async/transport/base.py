"""The protocols of a transport, and the base classes of those that are included."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import anyio

from bms_async._tasks import run_to_completion
from bms_async.errors import ConfigurationError
from bms_async.wire import HttpRequest, HttpResponse

from ._pending import PendingRequest
from ._queue import RequestQueue, SendQueue, TransportStatistics


@runtime_checkable
class Transport(Protocol):
    """Sends one request and returns its response."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request once and return the whole response, whatever its status.

        An implementation keeps ``request.timeout``, follows no redirects, and sends nothing twice.

        Raises:
            TransportError: No response arrived; ``maybe_delivered`` is False only if nothing of it was sent.
        """
        ...


@runtime_checkable
class TaskRunningTransport(Protocol):
    """A transport that recognises its own tasks, so that a client can be closed from one of them."""

    @property
    def has_current_task(self) -> bool:
        """Whether the caller runs in one of its tasks, or in one that such a task has started."""
        ...


@runtime_checkable
class OwningTransport(Transport, Protocol):
    """A transport that sends in tasks of its own; the clients that use it open and close it."""

    async def open(self) -> None:
        """Open the transport, or count one more client of an open one."""
        ...

    async def aclose(self) -> None:
        """Count one client less; the last one closes the connections."""
        ...

    def submit(self, request: HttpRequest) -> PendingRequest:
        """Queue a request and return at once."""
        ...


MAX_RESPONSE_BYTES = 64 * 2**20


def check_max_response_bytes(owner: str, value: object) -> int:
    """Return the size limit of a response.

    Raises:
        ConfigurationError: It is not a positive number of bytes.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{owner}(max_response_bytes={value!r}): expected a whole number of bytes above 0")
    return value


class OwnedTransport(ABC):
    """Sends the requests of a queue; it is opened and closed with its clients.

    Args:
        queue: The queue.
    """

    def __init__(self, queue: RequestQueue) -> None:
        self._queue = queue
        self._load_lock = anyio.Lock()

    def __repr__(self) -> str:
        state = "open" if self._queue.is_open else "closed"
        figures = self._queue.statistics()
        return f"<{type(self).__name__} {state}, {figures.in_flight} of {figures.max_connections} in flight>"

    @property
    def has_current_task(self) -> bool:
        """Whether the caller runs in one of its tasks, or in one that such a task has started."""
        return self._queue.has_current_task

    async def open(self) -> None:
        """Open the transport, or count one more client of an open one.

        Raises:
            ClientClosedError: It was closed before; make a new one.
            ConfigurationError: `ca_bundle` cannot be read.
        """
        async with self._load_lock:
            if not self._queue.is_closed:
                await self._load_files()
        await self._queue.open()

    async def aclose(self) -> None:
        """Count one client less; after the last one, end all requests and close the connections."""
        started: list[None] = []
        try:
            await run_to_completion(self._close(started))
        except asyncio.CancelledError:
            if not started:
                # Code that cancels all tasks of the loop also cancels a task that has not started.
                await run_to_completion(self._close(started))
            raise

    async def _close(self, started: list[None]) -> None:
        started.append(None)
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
        """Queue a request and return at once; it is sent as soon as a connection is free."""
        return self._queue.submit(request)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request once and return the whole response.

        Raises:
            TransportError: No response arrived.
            ClientClosedError: The transport is not open, or was closed before a response arrived.
        """
        return await self._queue.submit(request).wait()

    def statistics(self) -> TransportStatistics:
        """Return the current load."""
        return self._queue.statistics()

    @abstractmethod
    async def _load_files(self) -> None:
        """Read certificates and the like from the disk, in a thread; called before each client is added."""

    @abstractmethod
    async def _close_connections(self) -> None:
        """Close the connections, after the last client."""


class QueuedTransport(OwnedTransport):
    """Sends requests in tasks of its own, at most one for each connection.

    Args:
        connections: The maximum number of requests in flight.
    """

    def __init__(self, *, connections: int) -> None:
        super().__init__(SendQueue(self._exchange, connections=connections))

    @abstractmethod
    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        """Send a request on one of the connections and return its response."""
