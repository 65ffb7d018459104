"""The least that a call can cost in Python: what any client has to do, and nothing else.

It writes a request to a connection and hands the body of its response to the caller. It has what a client cannot do
without: a pool, a bound on connections with a queue that is first come, first served, a bound on the body, and a
timeout. It has no retries, redirects, proxies, decompression, limits, log or masking, and it shows no headers.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from urllib.parse import urlsplit

import httptools

from benchmarks._samples import REQUEST_HEADERS

CONNECTIONS = 100
MAX_BYTES = 64 * 2**20
TIMEOUT = 60.0


class FloorClient:
    """Gets documents from one host.

    Args:
        address: Scheme, host and port.
        context: For TLS; None for plain HTTP.
    """

    def __init__(self, address: str, context: ssl.SSLContext | None) -> None:
        parts = urlsplit(address)
        assert parts.hostname
        assert parts.port
        self._host, self._port, self._context = parts.hostname, parts.port, context
        headers = "".join(f"{name}: {value}\r\n" for name, value in REQUEST_HEADERS.items())
        self._tail = f" HTTP/1.1\r\nHost: {parts.netloc}\r\n{headers}\r\n".encode()
        self._idle: list[_Connection] = []
        self._waiting: deque[asyncio.Future[_Connection]] = deque()
        self._open: list[_Connection] = []

    async def get(self, path: str) -> bytes:
        """Return the body of a response, whose status must be 200."""
        connection = self._idle.pop() if self._idle else await self._find()
        try:
            return await connection.exchange(b"GET " + path.encode() + self._tail)
        finally:
            self._release(connection)

    async def _find(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if len(self._open) < CONNECTIONS:
            connection = _Connection(loop)
            self._open.append(connection)
            await loop.create_connection(lambda: connection, self._host, self._port, ssl=self._context)
            return connection
        waiter: asyncio.Future[_Connection] = loop.create_future()
        self._waiting.append(waiter)
        return await waiter

    def _release(self, connection: _Connection) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(connection)
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._open:
            connection.close()


class _Connection(asyncio.Protocol):
    """A connection, which exchanges one request at a time."""

    _transport: asyncio.Transport
    _response: asyncio.Future[bytes]

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._ends_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def exchange(self, request: bytes) -> asyncio.Future[bytes]:
        """Write a request and return the future of its response's body."""
        self._body = b""
        self._response = self._loop.create_future()
        self._ends_at = self._loop.time() + TIMEOUT
        # One timer for all requests: to set and cancel one for each costs as much as parsing.
        if self._timer is None:
            self._timer = self._loop.call_at(self._ends_at, self._on_time)
        self._transport.write(request)
        return self._response

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body = self._body + data if self._body else data
        if len(self._body) > MAX_BYTES:
            self._fail("the response is too large")

    def on_message_complete(self) -> None:
        if self._response.done():
            return
        if self._parser.get_status_code() != 200:
            self._fail(f"status {self._parser.get_status_code()}")
        else:
            self._response.set_result(self._body)

    def connection_lost(self, _error: Exception | None) -> None:
        self._fail("the connection was lost")

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def _on_time(self) -> None:
        self._timer = None
        if self._loop.time() < self._ends_at:
            self._timer = self._loop.call_at(self._ends_at, self._on_time)
        elif not self._response.done():
            self._fail("no response in time")

    def _fail(self, why: str) -> None:
        if not self._response.done():
            self._response.set_exception(ConnectionError(why))
