"""A tiny HTTP server for whoever sits at this machine.

What it guarantees: it listens on 127.0.0.1 alone, answers GET and HEAD, and reads no file. A site in the same browser
cannot read it: a request whose Host is not this address is refused (DNS rebinding), and no header lets another origin
in. It has a bounded number of connections, each with a bounded request and a bounded time, so that nobody who is slow
holds anything else than that one connection. Nothing that goes wrong here ends the command: where no connection can be
accepted, as with no descriptor left, it is tried again, and a page that cannot be drawn is answered with a 500.

Rejected: http.server, which has a thread for each connection and no bound on them; and the simulator's uvicorn, which
is an extra of its own, and takes over signals.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.stapled import MultiListener

from bms_async.cli.terminal.exit import UsageError, print_error
from bms_async.cli.terminal.texts import strip_control_chars

__all__ = ["HOST", "Answer", "Listener", "listen", "port_of", "serve"]

HOST: Final = "127.0.0.1"
MAX_CONNECTIONS: Final = 16
MAX_REQUEST: Final = 8192
PATIENCE: Final = 30.0
"""Seconds that a connection has for its request and its answer together."""
_PIECE: Final = 1 << 16
_ACCEPT_AGAIN: Final = 1.0

Listener = MultiListener[SocketStream]

_REASONS: Final[Mapping[int, str]] = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
}
_HEADERS: Final = (
    "Cache-Control: no-store",
    "Content-Security-Policy: frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy: same-origin",
    "Referrer-Policy: no-referrer",
    "X-Content-Type-Options: nosniff",
    "X-Frame-Options: DENY",
    "Connection: close",
)
_GONE: Final = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, anyio.IncompleteRead)


class Answer(NamedTuple):
    """What is answered to a request that is allowed.

    Attributes:
        kind: Its media type.
        body: What is sent.
        on_sent: Called once all of it was sent.
    """

    kind: str
    body: bytes
    on_sent: Callable[[], None] | None = None


class _Refusal(Exception):  # noqa: N818 - an answer, and not an error of this program
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def listen(port: int) -> Listener:
    """Listen on a port of this machine, for connections from this machine alone.

    Args:
        port: The port; 0 for any that is free.

    Raises:
        UsageError: The port cannot be had.
    """
    try:
        return await anyio.create_tcp_listener(local_host=HOST, local_port=port)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "the port is in use" if taken else f"this port cannot be had ({error})"
        raise UsageError(f"--serve {port}: {why}; name another one, or 0 for any that is free") from error


def port_of(listener: Listener) -> int:
    """Return the port that is listened on."""
    return int(listener.extra(SocketAttribute.local_port))  # noqa: S610 - of anyio, and no database


async def serve(listener: Listener, answer: Callable[[str, str], Awaitable[Answer | None]]) -> None:
    """Answer requests until it is cancelled.

    Args:
        listener: What `listen` has returned; it is closed at the end.
        answer: Returns the answer to the path and the query of a request; None for an unknown path.
    """
    server = _Server(port_of(listener), answer)
    async with listener, anyio.create_task_group() as tasks:
        while True:
            try:
                await listener.serve(server.handle, tasks)
            except* (OSError, anyio.BrokenResourceError):
                # Whoever connected has gone, or the process has no descriptor left.
                await anyio.sleep(_ACCEPT_AGAIN)


class _Server:
    def __init__(self, port: int, answer: Callable[[str, str], Awaitable[Answer | None]]) -> None:
        self._hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        self._answer = answer
        self._connections = 0
        self._has_failed = False

    async def handle(self, stream: SocketStream) -> None:
        """Answer the one request of a connection."""
        self._connections += 1
        try:
            async with stream:
                # One that is too many is closed without a word: to answer would take as long as for the others.
                if self._connections <= MAX_CONNECTIONS:
                    with anyio.move_on_after(PATIENCE):
                        await self._respond(stream)
        except _GONE:
            # Whoever asked has gone: nobody is left who could be answered.
            return
        finally:
            self._connections -= 1

    async def _respond(self, stream: SocketStream) -> None:
        is_head = False
        try:
            is_head, path, query = self._read(await _receive_head(stream))
            found = await self._answer(path, query)
            status, answer = (200, found) if found is not None else (404, _plain(404))
        except _Refusal as refusal:
            status, answer = refusal.status, _plain(refusal.status)
        except _GONE:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a page fails with, the run that it is about goes on
            status, answer = 500, _plain(500)
            if not self._has_failed:
                self._has_failed = True
                print_error(f"the page of the run cannot be shown: {strip_control_chars(str(error))}; the run goes on")
        lines = (
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {answer.kind}",
            f"Content-Length: {len(answer.body)}",
            *_HEADERS,
            *(("Allow: GET, HEAD",) if status == 405 else ()),  # noqa: PLR2004 - as HTTP has it
            "\r\n",
        )
        await stream.send("\r\n".join(lines).encode())
        body = b"" if is_head else answer.body
        for begin in range(0, len(body), _PIECE):
            await stream.send(body[begin : begin + _PIECE])
        await stream.send_eof()
        if answer.on_sent is not None:
            answer.on_sent()

    def _read(self, head: bytes) -> tuple[bool, str, str]:
        """Return whether the answer has no body, the path and the query.

        Raises:
            _Refusal: The request is not one of those that are answered.
        """
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = first.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):  # noqa: PLR2004 - method, target, version
            raise _Refusal(400)
        fields = [(name.lower(), value.strip().lower()) for name, _, value in (line.partition(":") for line in lines)]
        hosts = [value for name, value in fields if name == "host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            raise _Refusal(403)
        if parts[0] not in {"GET", "HEAD"}:
            raise _Refusal(405)
        path, _, query = parts[1].partition("?")
        return parts[0] == "HEAD", path, query


def _plain(status: int) -> Answer:
    return Answer("text/plain; charset=utf-8", f"{_REASONS[status]}\n".encode())


async def _receive_head(stream: SocketStream) -> bytes:
    try:
        return await BufferedByteReceiveStream(stream).receive_until(b"\r\n\r\n", MAX_REQUEST)
    except anyio.DelimiterNotFound:
        raise _Refusal(400) from None
