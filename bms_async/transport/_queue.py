"""The queues of requests: they are sent in tasks of the transport, not of their callers (rule R4).

The guarantee: cancelling a caller affects no other request and no connection. Closing the queue leaves no task and no
pending future, whichever task closes it.

A caller waits for a `PendingRequest`. In a `SendQueue`, worker tasks, at most one for each connection, take requests
from one queue and exchange them; the queue in `_http1_queue.py` needs tasks for opening connections alone. A request
whose caller was cancelled is dropped if it has not been sent yet; else its exchange runs to its end, so that its
connection stays usable. When the tasks end, by `aclose` or by the cancellation of all tasks of the loop, every request
that waits fails with `ClientClosedError`, and no more are accepted.

Rejected: sending in the caller's task, because a request that is cancelled before its connection is open can leave a
phantom connection in an HTTP library's pool for ever; queuing in that pool, because it scans its queue for each request
(so no more requests than connections are passed on to it); and a task for each request, because it would cost as much
as everything else here.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context

import anyio.lowlevel
import msgspec

from bms_async._foreign import contain, is_own_cancellation
from bms_async._tasks import BackgroundTasks, check_loop, runs_on
from bms_async.errors import BmsError, ClientClosedError
from bms_async.wire import HttpRequest, HttpResponse

from ._pending import PendingRequest, as_transport_error, fail, fail_closed

YIELD_EVERY = 500
"""How many abandoned requests are finished before other tasks run."""


class TransportStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The current load of a transport.

    Attributes:
        max_connections: The maximum number of requests in flight.
        in_flight: Requests in flight.
        queued: Requests that wait for a connection.
        sent: Requests sent so far.
    """

    max_connections: int
    in_flight: int
    queued: int
    sent: int


class RequestQueue(ABC):
    """Requests in the order in which they were submitted, and the life of the queue that sends them.

    Args:
        connections: The maximum number of requests in flight.
    """

    def __init__(self, *, connections: int) -> None:
        self._connections = connections
        self._waiting: deque[PendingRequest] = deque()
        self._in_flight = 0
        self._sent = 0
        self._tasks = BackgroundTasks("bms_async sending")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = Context()
        self._is_closed = self._is_guarded = False

    @property
    def is_open(self) -> bool:
        """Whether requests are accepted."""
        return self._is_guarded and self._tasks.is_open

    @property
    def has_current_task(self) -> bool:
        """Whether the caller runs in one of its tasks, or in one that such a task has started."""
        return self._tasks.has_current_task

    @property
    def is_closed(self) -> bool:
        """Whether its last user has closed it; a closed queue is never opened again."""
        return self._is_closed

    async def open(self) -> None:
        """Open the queue, or count one more user of it.

        Raises:
            ClientClosedError: Its last user has closed it, or is closing it.
        """
        if self._is_closed:
            raise ClientClosedError("the transport was closed with its last client: make a new one")
        await self._tasks.open()
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        if not self._is_guarded and self._tasks.is_open:
            self._is_guarded = True
            self._tasks.start(self._guard, name="bms_async queue")

    async def aclose(self) -> None:
        """Count one user less; after the last one, end all requests."""
        # Marked as closed before the first await, so that no other user opens it meanwhile.
        self._is_closed = self._is_closed or self._tasks.open_count <= 1
        try:
            if self._is_closed:
                await self._drop_unwaited()
            await self._tasks.aclose()
        finally:
            if self._is_closed:
                self._fail_all()

    def submit(self, request: HttpRequest) -> PendingRequest:
        """Queue a request; it is sent as soon as a connection is free.

        Raises:
            ClientClosedError: The queue is not open, or was opened on another event loop.
        """
        if not self.is_open:
            state = "was closed" if self._is_closed else "is not open"
            if self._loop is not None and not self._is_closed:
                state = "is closed, because its tasks were cancelled or ended with its event loop"
            raise ClientClosedError(f"{request.operation}: the transport {state}; use it inside `async with`")
        if self._loop is None or not runs_on(self._loop):
            check_loop(self._loop, f"{request.operation}: the client")
        pending = PendingRequest(request)
        self._accept(pending)
        return pending

    def statistics(self) -> TransportStatistics:
        """Return the current load."""
        return TransportStatistics(
            max_connections=self._connections, in_flight=self._in_flight, queued=len(self._waiting), sent=self._sent
        )

    @abstractmethod
    def _accept(self, pending: PendingRequest) -> None:
        """Send a request now, or once those before it are on their way."""

    async def _guard(self) -> None:
        """Close the queue as soon as its tasks are cancelled, by any task, and fail the requests that wait."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._is_guarded = False
            self._fail_all()

    async def _drop_unwaited(self) -> None:
        """Finish abandoned requests, with checkpoints in between: when a client is closed, these may be all."""
        ended = 0
        while self._waiting and self._waiting[0].response.done():
            self._waiting.popleft().finish()
            ended += 1
            if ended % YIELD_EVERY == 0:
                await anyio.lowlevel.cancel_shielded_checkpoint()

    def _fail_all(self) -> None:
        """Fail all requests that no task sends."""
        while self._waiting:
            pending = self._waiting.popleft()
            fail_closed(pending)
            pending.finish()


class SendQueue(RequestQueue):
    """Sends requests in tasks of its own, at most `connections` at a time.

    Args:
        exchange: Sends one request and returns its response.
        connections: The maximum number of requests in flight.
    """

    def __init__(self, exchange: Callable[[HttpRequest], Awaitable[HttpResponse]], *, connections: int) -> None:
        super().__init__(connections=connections)
        self._exchange = exchange
        self._idle_workers: list[asyncio.Future[None]] = []
        self._workers = 0

    def _accept(self, pending: PendingRequest) -> None:
        self._waiting.append(pending)
        while self._idle_workers:
            waiter = self._idle_workers.pop()
            # A worker that was cancelled meanwhile will not send it.
            if not waiter.done():
                waiter.set_result(None)
                return
        if self._workers < self._connections:
            self._workers += 1
            # A worker sends for many callers, and must not run in the context of the first one.
            self._context.copy().run(lambda: self._tasks.start(self._work, name="bms_async send"))

    async def _work(self) -> None:
        """Send queued requests one after another, and wait for more."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] | None = None
        try:
            while True:
                while self._waiting:
                    pending = self._waiting.popleft()
                    if pending.is_abandoned:
                        pending.finish()
                    else:
                        await self._send(pending)
                    # An idle worker must not keep the last response in memory.
                    del pending
                if not self._tasks.is_open:
                    # The transport has swallowed the cancellation of this task.
                    break
                waiter = loop.create_future()
                self._idle_workers.append(waiter)
                await waiter
        finally:
            self._workers -= 1
            if waiter in self._idle_workers:
                self._idle_workers.remove(waiter)
            if not self._workers:
                self._fail_all()

    async def _send(self, pending: PendingRequest) -> None:
        pending.sent = True
        self._sent += 1
        self._in_flight += 1
        try:
            response = await self._exchange(pending.request)
        except BmsError as error:
            fail(pending, error)
        except BaseException as error:
            # The error of a transport is for this request's caller. Raised here it would end the whole client, as only
            # this task's own cancellation and Ctrl-C may.
            if is_own_cancellation(error):
                fail_closed(pending)
                raise
            fail(pending, as_transport_error(pending.request, error, maybe_delivered=True))
            contain("the transport", error)
        else:
            if not pending.response.done():
                pending.response.set_result(response)
        finally:
            self._in_flight -= 1
            pending.finish()
