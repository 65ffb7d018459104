"""What the session asks of whatever carries its requests."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from bms_async.wire import HttpRequest, HttpResponse

from ._queue import Flight


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

    def submit(self, request: HttpRequest) -> Flight:
        """Take a request and return at once."""
        ...
