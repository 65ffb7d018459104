"""One connection of aiohttp, and what is said on it.

It is handed its connection, and so need not know the library: what it uses of it is named here and nowhere else.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
from typing import Any

from bms_async.errors import ResponseTooLargeError
from bms_async.redaction import SecretBytes
from bms_async.wire import HttpRequest, HttpResponse

from ._decompress import CHUNK_SIZE, Decompressor, make_decompressor

# A Keystone token alone may pass aiohttp's usual 8 KB.
_MAX_HEADER = 64 * 1024
_INFORMATIONAL = range(100, 200)
_SWITCHING = 101
# Servers announce when they close, and a request needs time to get there.
_MARGIN = 1.0
_TRIAL_BODY = b"{}"


class Connection:
    """One connection, and one request after another on it.

    Args:
        connection: As aiohttp's connector makes it.
        keep_alive: Seconds that it may be idle, unless the server says less.

    Attributes:
        idle_since: When it became idle, by the loop's clock.
        wrote: Whether anything of the last request was handed to the socket.
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
        """Whether it is still there, with nothing on it that nobody asked for."""
        return self._protocol.is_connected() and not self._protocol.should_close

    @property
    def sending(self) -> bool:
        """Whether some of a request has not left yet."""
        transport = self._protocol.transport
        return transport is not None and transport.get_write_buffer_size() > 0

    def close(self) -> None:
        """Close it at once."""
        transport = self._protocol.transport
        if transport is not None:
            # What has not left must not leave later, and nobody waits for a polite end of TLS.
            transport.abort()
        self._connection.close()

    async def exchange(self, request: HttpRequest, text: SecretBytes, bound: int) -> HttpResponse:
        """Write a request and read its answer.

        Args:
            request: For its method and for errors.
            text: All of it.
            bound: How many bytes the unpacked body may have.

        Raises:
            ResponseTooLargeError: It has more.
            Exception: What broke, in aiohttp's words or a socket's.
        """
        self.wrote = False
        protocol = self._protocol
        transport = protocol.transport
        if transport is None:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        bodiless = request.method == "HEAD"
        if bodiless is not self._skip_body:
            # The parser reads one answer after another, and is told only what changes.
            self._skip_body = bodiless
            protocol.set_response_params(
                skip_payload=bodiless,
                read_until_eof=True,
                auto_decompress=False,
                max_line_size=_MAX_HEADER,
                max_field_size=_MAX_HEADER,
            )
        self.wrote = True
        transport.write(text)
        message, payload = await protocol.read()
        while message.code in _INFORMATIONAL and message.code != _SWITCHING:
            message, payload = await protocol.read()
        headers = message.headers
        length = headers.get("Content-Length", "")
        unpack = make_decompressor(headers.get("Content-Encoding"))
        if length.isdecimal() and int(length) > bound and not bodiless:
            body = None
        elif unpack is None and payload.is_eof():
            body = payload.read_nowait()
        else:
            body = await _read(payload, unpack, bound)
        if body is None or len(body) > bound:
            raise ResponseTooLargeError(limit=bound, status=message.code, operation=request.operation)
        if not length and not message.chunked and isinstance(broken := protocol.exception(), OSError):
            # A body that ends with its connection is whole only if that was closed, and did not break.
            raise broken
        if (told := headers.get("Keep-Alive")) is not None:
            self.idle_limit = min(self._keep_alive, parse_keep_alive(told))
        return HttpResponse(status=message.code, headers=tuple(headers.items()), body=body)


async def try_parser(protocol: Any, request: HttpRequest) -> None:
    """Have a protocol of aiohttp read an answer that nobody sent.

    Args:
        protocol: A new one, without a connection.
        request: For its method.

    Raises:
        Exception: It is another protocol than the one that is known here.
    """
    line = Connection(_Trial(protocol), math.inf)
    response = await line.exchange(request, SecretBytes(), len(_TRIAL_BODY))
    if (response.status, response.body, line.usable) != (200, _TRIAL_BODY, True):
        raise ValueError("the answer was read as another one")
    line.close()


class _Trial(asyncio.Transport):
    """A connection to nobody, whose answer comes when something is written."""

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


async def _read(payload: Any, unpack: Decompressor | None, bound: int) -> bytes | None:
    """Return a whole body; None when there is more of it than that."""
    parts: list[bytes] = []
    size = 0
    while part := await payload.readany():
        for piece in (part,) if unpack is None else unpack.feed(part):
            size += len(piece)
            if size > bound:
                return None
            parts.append(piece)
            if len(piece) == CHUNK_SIZE:
                # There is more in this part than one turn of the loop should take.
                await asyncio.sleep(0)
    if unpack is not None:
        unpack.finish()
    return b"".join(parts)


def parse_keep_alive(keep_alive: str) -> float:
    """Return how long a server says that it keeps an idle connection, less what its word may take to get here."""
    for part in keep_alive.split(","):
        name, _, value = part.partition("=")
        if name.strip().lower() == "timeout" and value.strip().isdecimal():
            return float(value) - _MARGIN
    return math.inf
