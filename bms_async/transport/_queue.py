"""Sending that belongs to the client and not to the caller.

Two faults of HTTP pools are kept from users here. A request cancelled before its connection opens can leave a phantom
connection behind for ever, so a request runs in a task that a caller's cancellation does not reach. And a pool that
requests queue in scans its queue for each of them, so the queue is ours, and no more requests than connections go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from bms_async._owner import TaskOwner
from bms_async.errors import BmsError, ClientClosedError, TransportError
from bms_async.wire import HttpRequest, HttpResponse


class Flight:
    """A request on its way.

    Attributes:
        answer: Resolves with the answer, or with what came instead of it.
        sent: Whether anything of it may have left; a flight abandoned before that never leaves.
    """

    __slots__ = ("answer", "request", "sent")

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.answer: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        self.sent = False

    async def wait(self) -> HttpResponse:
        """Wait for the answer; when the caller is cancelled, what was sent flies on without him.

        Raises:
            TransportError: No answer came.
            ClientClosedError: The transport was closed before one came.
        """
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            if not self.sent:
                self.answer.cancel()
            raise


class TransportStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a transport is doing.

    Attributes:
        connections: How many requests it sends at once at most.
        in_flight: How many it is sending now.
        queued: How many wait for one of those to end.
        sent: How many it has sent in all.
    """

    connections: int
    in_flight: int
    queued: int
    sent: int


class SendQueue:
    """Sends requests in tasks of its own, never more at once than there are connections."""

    def __init__(self, exchange: Callable[[HttpRequest], Awaitable[HttpResponse]], *, connections: int) -> None:
        self._exchange = exchange
        self._connections = connections
        self._waiting: deque[Flight] = deque()
        self._flying: set[Flight] = set()
        self._workers = 0
        self._sent = 0
        self._owner = TaskOwner("bms_async sending")

    @property
    def is_open(self) -> bool:
        """Whether requests are taken."""
        return self._owner.is_open

    async def open(self) -> None:
        """Open the queue, or count one more user of it."""
        await self._owner.open()

    async def aclose(self) -> None:
        """Count one user less; after the last one, end what is under way."""
        await self._owner.aclose()
        if self._owner.is_open:
            return
        for flight in (*self._flying, *self._waiting):
            if not flight.answer.done():
                flight.answer.set_exception(ClientClosedError("the transport was closed before an answer came"))
                flight.answer.exception()
        self._waiting.clear()
        self._flying.clear()
        self._workers = 0

    def submit(self, request: HttpRequest) -> Flight:
        """Take a request; it is sent as soon as a connection is free.

        Raises:
            ClientClosedError: The queue is not open.
        """
        if not self._owner.is_open:
            raise ClientClosedError("the transport is not open: use it inside `async with`")
        flight = Flight(request)
        self._waiting.append(flight)
        if self._workers < self._connections:
            self._workers += 1
            self._owner.start(self._work, name="bms_async send")
        return flight

    def statistics(self) -> TransportStatistics:
        """Tell what is under way."""
        return TransportStatistics(
            connections=self._connections, in_flight=len(self._flying), queued=len(self._waiting), sent=self._sent
        )

    async def _work(self) -> None:
        while self._waiting:
            flight = self._waiting.popleft()
            if not flight.answer.done():
                await self._send(flight)
        self._workers -= 1

    async def _send(self, flight: Flight) -> None:
        flight.sent = True
        self._sent += 1
        self._flying.add(flight)
        answer = flight.answer
        try:
            answer.set_result(await self._exchange(flight.request))
        except BmsError as error:
            answer.set_exception(error)
        except Exception as error:  # noqa: BLE001 - whatever a transport raises must reach the caller, not end us
            failure = TransportError(
                f"{type(error).__name__} while sending", maybe_delivered=True, operation=flight.request.operation
            )
            failure.__cause__ = error
            answer.set_exception(failure)
        else:
            self._flying.discard(flight)
            return
        self._flying.discard(flight)
        # The caller may have left; a failure that nobody waits for any more is no news.
        answer.exception()


async def within(request: HttpRequest, seconds: float, exchange: Awaitable[HttpResponse]) -> HttpResponse:
    """Await an exchange for so long and no longer.

    Raises:
        TransportError: The time ran out.
    """
    with anyio.move_on_after(seconds):
        return await exchange
    raise TransportError(f"no whole answer within {seconds:g} s", maybe_delivered=True, operation=request.operation)
