"""A network in memory on the virtual clock: what a server writes at once arrives at once, and every run is the same.

A transport connects as ever, with the loop's `create_connection` or with a socket that it has connected itself, and
gets an end of a pipe. So every transport runs on it, thousands of connections take no descriptor, and a test may count
the passes of the loop. What it cannot show is the kernel's part; the tests on real sockets do.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.support.virtual_clock import VirtualClockLoop
from tests.transport.loopback import Behaviour, Loopback, Talk

T = TypeVar("T")

IN_THE_KERNEL = 65536
"""How many bytes a writer is rid of before anybody has read them."""
_HIGH_WATER = 65536


class MemoryTalk(Talk):
    """One connection, as the server in memory sees it."""

    async def begin_tls(self, context: ssl.SSLContext) -> None:
        try:
            await super().begin_tls(context)
        except AttributeError:
            # asyncio stumbles over a connection that is lost in the handshake.
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None

    async def hear_bytes(self, number: int) -> bytes:
        """Read so many bytes of a request; fewer if the client hangs up."""
        try:
            return await self._reader.readexactly(number)
        except asyncio.IncompleteReadError as error:
            return error.partial

    async def say_in_pieces(self, *pieces: bytes) -> None:
        """Write pieces that arrive one by one."""
        for piece in pieces:
            await self.say(piece)

    def stop_reading(self) -> None:
        """Leave what arrives from now on where it is, so that the client cannot write any more."""
        end = self._writer.transport
        assert isinstance(end, End)
        end.pause_reading()

    async def turn(self, number: int = 1) -> None:
        """Let the loop make so many passes."""
        for _ in range(number):
            await asyncio.sleep(0)

    def reset(self) -> None:
        self._writer.transport.get_extra_info("end").reset()


class MemoryServer(Loopback):
    """Serves every connection to it with one behaviour, like `Loopback`; its ends outlive it.

    Attributes:
        ends: The client's end of each connection there ever was.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(behaviour)
        self.ends: list[End] = []

    async def __aenter__(self) -> Self:
        self._loop = _running()
        self.port = self._loop.listen(self._accept)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.listeners.pop(self.port)
        serving = [task for task in self.tasks if not task.done()]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        for client in self.ends:
            client.other.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end: object = writer.transport
        self.accepted += 1
        self.news.set()
        try:
            await self._behaviour(MemoryTalk(self, reader, writer))
        except (asyncio.CancelledError, ConnectionError, ssl.SSLError):
            # The test is over, or the client has hung up.
            pass
        finally:
            if not hasattr(writer.transport, "close"):
                # asyncio leaves None where the connection is lost in the handshake, and stumbles over it later.
                vars(writer)["_transport"] = end
            writer.close()
            self.news.set()

    def _accept(self, client: End) -> None:
        self.ends.append(client)
        reader = asyncio.StreamReader(loop=self._loop)
        end = End(self._loop, asyncio.StreamReaderProtocol(reader, self._begin, loop=self._loop))
        end.join(client)
        end.begin()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Known as the server's before it has begun, so that a test may tell it from the client's.
        self.tasks.add(self._loop.create_task(self._serve(reader, writer)))


class MemoryLoop(VirtualClockLoop):
    """A virtual clock's loop that connects to servers in memory and to nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: dict[int, Callable[[End], None]] = {}
        self._ports = itertools.count(40_000)
        self._connected: dict[socket.socket, int] = {}
        self._silent, self._other = socket.socketpair()
        self._noisy, self._speaker = socket.socketpair()
        self._speaker.send(b"x")

    def listen(self, accept: Callable[[End], None]) -> int:
        port = next(self._ports)
        self.listeners[port] = accept
        return port

    def close(self) -> None:
        super().close()
        for each in (self._silent, self._other, self._noisy, self._speaker):
            each.close()

    def fileno(self, *, readable: bool) -> int:
        """Return a descriptor that may be read from, or one that never may: libraries ask before they reuse."""
        return (self._noisy if readable else self._silent).fileno()

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        self._connected[sock] = address[1]

    async def create_connection(  # type: ignore[override]
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        *,
        sock: socket.socket | None = None,
        ssl: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        **_: Any,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        if sock is not None:
            port = self._connected.pop(sock)
            sock.close()
        await asyncio.sleep(0)
        if port not in self.listeners:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        protocol = factory()
        end = End(self, protocol if ssl is None else asyncio.Protocol())
        self.listeners[port](end)
        try:
            if ssl is None:
                end.begin()
                await asyncio.sleep(0)
                return end, protocol
            secure = await self.start_tls(end, protocol, ssl, server_hostname=server_hostname or host)
        except BaseException:
            end.abort()
            raise
        if secure is None:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        protocol.connection_made(secure)
        return secure, protocol


class _Socket:
    """What libraries ask of the socket below a connection."""

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP

    def __init__(self, end: End) -> None:
        self._end = end

    def fileno(self) -> int:
        return self._end.loop.fileno(readable=self._end.has_news)

    def getpeername(self) -> tuple[str, int]:
        return ("127.0.0.1", 40_000)

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 50_000)

    def setsockopt(self, *_: Any) -> None:
        pass


class End(asyncio.Transport):
    """One end of a connection.

    Attributes:
        received: How many bytes its protocol was given.
        closed: Whether it is closed for good.
    """

    _start_tls_compatible = True

    def __init__(self, loop: MemoryLoop, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.loop = loop
        self.received = 0
        self.closed = False
        self._protocol: Any = protocol
        self._extra = {"socket": _Socket(self), "end": self, "peername": ("127.0.0.1", 40_000)}
        self._inbound: deque[bytes] = deque()
        self._size = 0
        self._ending: type[ConnectionResetError] | bool | None = None
        self._paused = self._closing = self._pauses_writer = self._pumping = False

    def join(self, other: End) -> None:
        self.other, other.other = other, self

    def begin(self) -> None:
        self.loop.call_soon(self._protocol.connection_made, self)

    @property
    def has_news(self) -> bool:
        """Whether there is something to read, if only the end."""
        return bool(self._inbound) or self._ending is not None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._extra.get(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol  # type: ignore[no-any-return]

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._schedule()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del low
        self._high = _HIGH_WATER if high is None else high

    _high = _HIGH_WATER

    def get_write_buffer_size(self) -> int:
        return 0 if self.closed else max(0, self.other._size - IN_THE_KERNEL)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (self._high // 4, self._high)

    def write(self, data: Any) -> None:
        if self._closing or not data or self.other.closed:
            return
        self.other._take(bytes(data))
        if not self._pauses_writer and self.get_write_buffer_size() > self._high:
            self._pauses_writer = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._finish()

    def abort(self) -> None:
        self._close(None)

    def _force_close(self, error: Exception | None) -> None:
        # What asyncio calls when TLS fails.
        self._close(error)

    def reset(self) -> None:
        """Break off, so that the other side sees a reset behind what was written before."""
        self.other._end(ConnectionResetError)
        self._close(None)

    def _finish(self) -> None:
        """Close, unless there is something that the other side has no room for yet."""
        if self.get_write_buffer_size() == 0:
            self._close(None)

    def _take(self, data: bytes) -> None:
        # No socket hands over more at once.
        self._inbound.extend(data[at : at + IN_THE_KERNEL] for at in range(0, len(data), IN_THE_KERNEL))
        self._size += len(data)
        self._schedule()

    def _end(self, how: type[ConnectionResetError] | bool) -> None:
        if self._ending is None:
            self._ending = how
            self._schedule()

    def _schedule(self) -> None:
        if not self._pumping and not self._paused and not self.closed and self.has_news:
            self._pumping = True
            self.loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Hand one piece to the protocol, or the end."""
        self._pumping = False
        if self._paused or self._closing:
            return
        if self._inbound:
            piece = self._inbound.popleft()
            self._size -= len(piece)
            self.received += len(piece)
            self._hand_over(piece)
            self.other._have_room()
        elif self._ending is ConnectionResetError:
            self._close(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
        elif self._ending is True:
            self._ending = False
            if not self._protocol.eof_received():
                self.close()
        if self._inbound or self._ending:
            self._schedule()

    def _hand_over(self, piece: bytes) -> None:
        if not isinstance(self._protocol, asyncio.BufferedProtocol):
            self._protocol.data_received(piece)
            return
        while piece:
            room: Any = self._protocol.get_buffer(len(piece))
            part = piece[: len(room)]
            room[: len(part)] = part
            self._protocol.buffer_updated(len(part))
            piece = piece[len(part) :]

    def _have_room(self) -> None:
        if self._pauses_writer and self.get_write_buffer_size() <= self._high // 4:
            self._pauses_writer = False
            self._protocol.resume_writing()
        if self._closing and not self.closed:
            self._finish()

    def _close(self, error: Exception | None) -> None:
        if not self.closed:
            self.closed = self._closing = True
            self._inbound.clear()
            self._size = 0
            self.other._end(True)
            self.other._have_room()
            self.loop.call_soon(self._protocol.connection_lost, error)


def run_in_memory(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end on a loop whose network is in memory."""
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        return runner.run(main())


def _running() -> MemoryLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MemoryLoop)
    return loop
