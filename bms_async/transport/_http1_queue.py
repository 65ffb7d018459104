"""The queue of requests that are written where they are submitted (rules R3, R4).

The guarantee is that of `_queue.py`: first come, first served over all callers; at most so many requests in flight;
cancelling a caller affects no other request and no connection; closing leaves no task, no socket and no pending future.

How: a request for which a connection is idle is written by `submit` itself, and a connection that becomes free takes
the next one of the queue. The request is resolved where its response arrives. Only opening a connection takes a task,
which belongs to one request: if its caller has gone when the connection is open, the request is not sent, and the
connection serves another.

Rejected: worker tasks, which are woken twice for each request and cost as much as reading and writing it.
"""

from __future__ import annotations

import asyncio

import anyio.lowlevel

from bms_async.errors import BmsError

from ._connector import Connector, Route
from ._http1 import check_timeout, split_url
from ._http1_connection import Connection
from ._pending import PendingRequest, as_transport_error, fail, fail_closed
from ._pool import SAFE_METHODS, IdlePool
from ._queue import YIELD_EVERY, RequestQueue

_BUFFER_SIZE = 256 * 1024
_PASSES_TO_CLOSE = 5


class Http1Queue(RequestQueue):
    """Sends requests over connections of its own.

    Args:
        connector: Opens the connections.
        connections: The maximum number of requests in flight.
        keep_alive: Seconds after which an idle connection is closed.
        max_response_bytes: The size limit of a response, in bytes after decompression.
    """

    def __init__(self, connector: Connector, *, connections: int, keep_alive: float, max_response_bytes: int) -> None:
        super().__init__(connections=connections)
        self._connector = connector
        self._keep_alive = keep_alive
        self._max_response_bytes = max_response_bytes
        self._buffer = memoryview(bytearray(_BUFFER_SIZE))
        self._idle: IdlePool[Connection] = IdlePool(Connection.close)
        self._sweep: asyncio.TimerHandle | None = None
        self._open_connections: set[Connection] = set()
        self._connecting: set[PendingRequest] = set()

    async def close_connections(self) -> None:
        """Close all connections, and wait until they are."""
        self._fail_all()
        # The last response may have had a token.
        self._buffer[:] = bytes(_BUFFER_SIZE)
        if self._loop is None or self._loop.is_closed():
            return
        for _ in range(_PASSES_TO_CLOSE):
            if not self._open_connections:
                break
            await anyio.lowlevel.cancel_shielded_checkpoint()

    def _accept(self, pending: PendingRequest) -> None:
        if self._waiting or self._in_flight >= self._connections:
            self._waiting.append(pending)
        else:
            self._start(pending, self._now())

    def _start(self, pending: PendingRequest, now: float) -> None:
        """Send a request on an idle connection, or open one for it."""
        self._in_flight += 1
        request = pending.request
        connection = data = None
        keep = False
        try:
            check_timeout(request)
            scheme, netloc, target = split_url(request)
            route = self._connector.routes.get((scheme, netloc))
            if route is not None:
                data, keep = route.writer.write(request, target)
                connection = self._idle.pop(route, now, replayable=request.method in SAFE_METHODS)
        except Exception as error:  # noqa: BLE001 - a request of the application's may hold anything
            self._give_up(pending, error)
            return
        if connection is not None and data is not None:
            self._sent += 1
            connection.exchange(pending, data, now, keep=keep)
            return
        self._connecting.add(pending)
        # The connection serves many callers, and must not run in the context of the first one.
        self._context.copy().run(self._start_connecting, pending, scheme, netloc, target)

    def _start_connecting(self, pending: PendingRequest, scheme: str, netloc: str, target: str) -> None:
        task = self._tasks.start(self._connect, pending, scheme, netloc, target, name="bms_async connect")
        # One that is cancelled before it begins does nothing at all.
        task.add_done_callback(lambda _: self._on_connect_end(pending))

    async def _connect(self, pending: PendingRequest, scheme: str, netloc: str, target: str) -> None:
        """Open a connection for a request, and send it."""
        request = pending.request
        try:
            route = await self._connector.route_to(request, scheme, netloc)
            # One that cannot be sent is refused before a connection is opened for it.
            data, keep = route.writer.write(request, target)
            self._make_room()
            connection = self._new_connection(route)
            await self._connector.open(request, route, connection)
        except Exception as error:  # noqa: BLE001 - nothing was sent, whatever it is
            if pending in self._connecting:
                self._connecting.discard(pending)
                self._give_up(pending, error)
                self._fill(self._now())
            return
        if pending not in self._connecting:
            # The queue was closed meanwhile.
            connection.close()
            return
        self._connecting.discard(pending)
        self._open_connections.add(connection)
        if pending.is_abandoned:
            # It has not been sent, and will not be.
            pending.finish()
            self._release(connection, reusable=True)
        else:
            self._sent += 1
            connection.exchange(pending, data, self._now(), keep=keep)

    def _on_connect_end(self, pending: PendingRequest) -> None:
        """Fail the request of a task that was cancelled."""
        if pending in self._connecting:
            self._connecting.discard(pending)
            self._in_flight -= 1
            fail_closed(pending)
            pending.finish()
            self._fill(self._now())

    def _make_room(self) -> None:
        if self._idle.count and self._idle.count + self._in_flight > self._connections:
            # One that its server has closed takes no place.
            self._idle.drop_expired(self._now())
        while self._idle.count and self._idle.count + self._in_flight > self._connections:
            self._idle.drop_oldest()

    def _new_connection(self, route: Route) -> Connection:
        return Connection(
            route,
            buffer=self._buffer,
            max_bytes=self._max_response_bytes,
            keep_alive=self._keep_alive,
            on_end=self._release,
            on_lost=self._open_connections.discard,
        )

    def _release(self, connection: Connection, *, reusable: bool) -> None:
        """Take back a connection, and send what waits."""
        self._in_flight -= 1
        now = self._now()
        if reusable:
            self._idle.put(connection.route, connection, now)
            if self._sweep is None:
                self._set_sweep(self._keep_alive)
        if self._waiting:
            self._fill(now)

    def _fill(self, now: float) -> None:
        """Send what waits, as far as there are connections."""
        abandoned = 0
        while self._waiting and self._in_flight < self._connections and self.is_open:
            pending = self._waiting.popleft()
            if not pending.is_abandoned:
                self._start(pending, now)
                continue
            pending.finish()
            abandoned += 1
            if abandoned == YIELD_EVERY and self._loop is not None:
                # These may be all, and others have to run in between.
                self._loop.call_soon(lambda: self._fill(self._now()), context=self._context)
                return

    def _give_up(self, pending: PendingRequest, error: Exception) -> None:
        """Fail a request of which nothing was sent."""
        self._in_flight -= 1
        failure = error if isinstance(error, BmsError) else None
        if failure is None:
            failure = as_transport_error(pending.request, error, maybe_delivered=False)
        # Its frames may hold the headers.
        fail(pending, failure.with_traceback(None))
        pending.finish()

    def _fail_all(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self._loop is not None and self._loop.is_closed():
            # Nothing can be closed in order any more.
            self._open_connections.clear()
            self._connecting.clear()
        super()._fail_all()
        connecting, self._connecting = self._connecting, set()
        for pending in connecting:
            self._in_flight -= 1
            fail_closed(pending)
            pending.finish()
        for connection in list(self._open_connections):
            connection.close()
        self._idle.drop_all()

    def _set_sweep(self, seconds: float) -> None:
        self._sweep = asyncio.get_running_loop().call_later(seconds, self._on_sweep, context=self._context)

    def _on_sweep(self) -> None:
        self._sweep = None
        self._idle.drop_expired(self._now())
        if self._idle.count:
            self._set_sweep(self._keep_alive / 2)

    def _now(self) -> float:
        return 0.0 if self._loop is None else self._loop.time()
