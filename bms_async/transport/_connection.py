"""One connection of aiohttp, and the exchanges on it (rule R3).

The guarantee: an error says `maybe_delivered=False` only if nothing of the request was handed to the socket. After no
other transport error is a reboot sent again, and so it reaches a server at most once per request for it.

`Connection.wrote` decides this. It is set right before the request is written, so that an error of the write itself
counts as delivered. A request is written once, to one connection. If a kept connection breaks before a byte of the
response has arrived, nothing can prove that the server had not read the request.

The connection is passed in, so this module does not import aiohttp: every attribute that it uses of the library is
named here and nowhere else. `try_parser` checks them with a response that no server sent.

Rejected: the retry of `aiohttp.ClientSession`, which sends a request again on another connection when a kept one
breaks; and the type of the library's exception as the criterion, for it says where the library was and not what left.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
from collections.abc import Hashable
from typing import Any

from bms_async.errors import ResponseTooLargeError
from bms_async.redaction import SecretBytes
from bms_async.wire import HttpRequest, HttpResponse

from ._decompress import CHUNK_SIZE, Decompressor, make_decompressor
from ._pool import MAX_IDLE_FOR_UNSAFE

# A Keystone token alone may be larger than aiohttp's default of 8 KB.
_MAX_HEADER = 64 * 1024
_INFORMATIONAL = range(100, 200)
_SWITCHING_PROTOCOLS = 101
# Seconds off the announced time at which a server closes: a request needs time to arrive.
_KEEP_ALIVE_MARGIN = 1.0
_TRIAL_BODY = b"{}"


class Connection:
    """A connection that sends one request after another.

    Args:
        connection: The connection, from aiohttp's connector.
        keep_alive: Seconds that it may be idle, unless the server announces less.

    Attributes:
        idle_since: When it became idle, by the loop's clock.
        wrote: Whether anything of the last request may have been handed to the socket.
        idle_limit: Seconds that it may be idle.
    """

    __slots__ = ("_connection", "_keep_alive", "_protocol", "_skip_body", "idle_limit", "idle_since", "wrote")

    def __init__(self, connection: Any, keep_alive: float) -> None:
        self._connection = connection
        self._protocol = connection.protocol
        self._skip_body: bool | None = None
        self._keep_alive = self.idle_limit = keep_alive
        self.idle_since = 0.0
        self.wrote = False

    @property
    def usable(self) -> bool:
        """Whether it is open, and has received nothing unrequested."""
        return self._protocol.is_connected() and not self._protocol.should_close

    @property
    def sending(self) -> bool:
        """Whether part of a request is still in the write buffer."""
        transport = self._protocol.transport
        return transport is not None and transport.get_write_buffer_size() > 0

    def close(self) -> None:
        """Close the connection at once."""
        transport = self._protocol.transport
        if transport is not None:
            # Drop the write buffer, and do not wait for the TLS shutdown.
            transport.abort()
        self._connection.close()

    async def exchange(self, request: HttpRequest, data: SecretBytes, max_bytes: int) -> HttpResponse:
        """Write a request and read its response.

        Args:
            request: The request, for its method and for errors.
            data: The whole request as bytes.
            max_bytes: The size limit of the decompressed body.

        Raises:
            ResponseTooLargeError: The body is larger.
            Exception: An error of aiohttp or of the socket.
        """
        self.wrote = False
        protocol = self._protocol
        transport = protocol.transport
        if transport is None:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        skip_body = request.method == "HEAD"
        if skip_body is not self._skip_body:
            # The parser keeps its parameters from one response to the next.
            self._skip_body = skip_body
            protocol.set_response_params(
                skip_payload=skip_body,
                read_until_eof=True,
                auto_decompress=False,
                max_line_size=_MAX_HEADER,
                max_field_size=_MAX_HEADER,
            )
        self.wrote = True
        transport.write(data)
        message, payload = await protocol.read()
        while message.code in _INFORMATIONAL and message.code != _SWITCHING_PROTOCOLS:
            message, payload = await protocol.read()
        headers = message.headers
        length = headers.get("Content-Length", "")
        decompressor = make_decompressor(headers.get("Content-Encoding"))
        if length.isdecimal() and int(length) > max_bytes and not skip_body:
            body = None
        elif decompressor is None and payload.is_eof():
            body = payload.read_nowait()
        else:
            body = await _read(payload, decompressor, max_bytes)
        if body is None or len(body) > max_bytes:
            raise ResponseTooLargeError(limit=max_bytes, status=message.code, operation=request.operation)
        if not length and not message.chunked and isinstance(error := protocol.exception(), OSError):
            # A body that ends with its connection is complete only if the connection was closed and did not break.
            raise error
        if (keep_alive := headers.get("Keep-Alive")) is not None:
            self.idle_limit = min(self._keep_alive, parse_keep_alive(keep_alive))
        return HttpResponse(status=message.code, headers=tuple(headers.items()), body=body)


class IdleConnections(dict[Hashable, list[Connection]]):
    """Idle connections by route, those used last at the end.

    Args:
        keep_alive: Seconds after which an idle connection is closed.
    """

    def __init__(self, keep_alive: float) -> None:
        super().__init__()
        self._keep_alive = keep_alive
        self._eviction_timer: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """The number of idle connections, over all routes."""
        return sum(map(len, self.values()))

    def put(self, route: Hashable, connection: Connection) -> None:
        """Keep a connection for the next request."""
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self.setdefault(route, []).append(connection)
        if self._eviction_timer is None:
            self._eviction_timer = loop.call_later(self._keep_alive, self._evict_expired)

    def pop_idle(self, route: Hashable, *, replayable: bool) -> Connection | None:
        """Take the connection that was used last; None if there is none that is safe to use.

        Args:
            route: The route of the request.
            replayable: Whether the request may be repeated.
        """
        connections = self.get(route)
        while connections:
            connection = connections[-1]
            idle = asyncio.get_running_loop().time() - connection.idle_since
            if not connection.usable or idle > connection.idle_limit:
                connections.pop().close()
                continue
            if not replayable and idle > min(MAX_IDLE_FOR_UNSAFE, connection.idle_limit / 2):
                return None
            return connections.pop()
        return None

    def evict_oldest(self) -> None:
        """Close the connection that has been idle for longest."""
        connections = min(filter(None, self.values()), key=lambda connections: connections[0].idle_since)
        connections.pop(0).close()

    def close(self) -> None:
        """Close all connections."""
        if self._eviction_timer is not None:
            self._eviction_timer.cancel()
            self._eviction_timer = None
        for connections in self.values():
            for connection in connections:
                connection.close()
        self.clear()

    def _evict_expired(self) -> None:
        now = asyncio.get_running_loop().time()
        for route, connections in list(self.items()):
            kept = []
            for connection in connections:
                if connection.usable and now - connection.idle_since <= connection.idle_limit:
                    kept.append(connection)
                else:
                    connection.close()
            if kept:
                self[route] = kept
            else:
                del self[route]
        self._eviction_timer = (
            asyncio.get_running_loop().call_later(self._keep_alive / 2, self._evict_expired) if self else None
        )


async def try_parser(protocol: Any, request: HttpRequest) -> None:
    """Check a protocol of aiohttp with a response that no server sent.

    Args:
        protocol: A new protocol, without a connection.
        request: A request, for its method.

    Raises:
        Exception: The protocol does not behave as this module expects.
    """
    connection = Connection(_TrialConnection(protocol), math.inf)
    response = await connection.exchange(request, SecretBytes(), len(_TRIAL_BODY))
    if (response.status, response.body, connection.usable) != (200, _TRIAL_BODY, True):
        raise ValueError("the trial response was parsed incorrectly")
    connection.close()


class _TrialConnection(asyncio.Transport):
    """A connection without a socket that responds to whatever is written."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        protocol.connection_made(self)

    def write(self, data: object) -> None:
        del data
        self.protocol.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_TRIAL_BODY) + _TRIAL_BODY)

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.protocol.connection_lost(None)

    close = abort


async def _read(payload: Any, decompressor: Decompressor | None, max_bytes: int) -> bytes | None:
    """Return a whole body; None if it is larger than `max_bytes`."""
    parts: list[bytes] = []
    size = 0
    while part := await payload.readany():
        for chunk in (part,) if decompressor is None else decompressor.feed(part):
            size += len(chunk)
            if size > max_bytes:
                return None
            parts.append(chunk)
            if len(chunk) == CHUNK_SIZE:
                # This part has more chunks; let other tasks run in between.
                await asyncio.sleep(0)
    if decompressor is not None:
        decompressor.finish()
    return b"".join(parts)


def parse_keep_alive(header: str) -> float:
    """Return for how many seconds a server keeps an idle connection, less a margin; infinity if it does not say."""
    for part in header.split(","):
        name, _, value = part.partition("=")
        if name.strip().lower() == "timeout" and value.strip().isdecimal():
            return float(value) - _KEEP_ALIVE_MARGIN
    return math.inf
