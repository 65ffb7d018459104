"""A server on the loopback interface that misbehaves as a test asks, and records what it really read.

It is written by hand on asyncio's streams: no HTTP library that could be wrong in the same way as the one under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from tests.support.machine import patience
from tests.support.real_clock import run_ahead

PATIENCE = patience(60.0)
CERTIFICATE = Path(__file__).with_name("self_signed.pem")
"""A certificate for 127.0.0.1 until 2120 with its key, signed by itself; it protects nothing."""


class Talk:
    """One connection, as the server sees it."""

    def __init__(self, server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self._reader = reader
        self._writer = writer

    async def hear(self) -> bytes | None:
        """Read a whole request and note it; None when the client has gone."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            body = await self._reader.readexactly(_length(head))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        self.server.heard.append(head + body)
        self.server.news.set()
        return head + body

    async def say(self, text: bytes) -> None:
        self._writer.write(text)
        await self._writer.drain()

    async def until_gone(self) -> None:
        """Read and forget until the client hangs up."""
        while await self._reader.read(65536):
            pass

    async def until_given_up(self) -> None:
        """Say nothing more while the clock runs ahead pass by pass, until the client's patience ends."""
        goes = asyncio.ensure_future(self.until_gone())
        self.server.tasks.add(goes)
        try:
            while not goes.done():
                run_ahead(0.1)
                await asyncio.sleep(0)
        finally:
            goes.cancel()
            await asyncio.wait({goes})

    async def stays_until(self, gate: asyncio.Event) -> bool:
        """Wait for a gate to open; False when the client hangs up before that."""
        opens, goes = (asyncio.ensure_future(each) for each in (gate.wait(), self.until_gone()))
        self.server.tasks |= {opens, goes}
        try:
            await asyncio.wait({opens, goes}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (opens, goes):
                each.cancel()
            await asyncio.wait({opens, goes})
        return gate.is_set()

    async def begin_tls(self, context: ssl.SSLContext) -> None:
        await self._writer.start_tls(context)

    def reset(self) -> None:
        """Break the connection off, so that the client sees a reset and not an end."""
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Behaviour: TypeAlias = Callable[[Talk], Awaitable[None]]


class Loopback:
    """Serves every connection with one behaviour; when that returns, the server hangs up.

    Attributes:
        heard: The requests that it read to their last byte.
        accepted: How many connections there were.
        peak: How many there were at once at most.
        tasks: Its own tasks, to distinguish them from those of the client.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.heard: list[bytes] = []
        self.accepted = 0
        self.peak = 0
        self.news = asyncio.Event()
        self.tasks: set[asyncio.Task[Any]] = set()
        self._behaviour = behaviour
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def secure_url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._open)

    async def until(self, condition: Callable[[Loopback], bool]) -> None:
        """Wait until something is so, but not for ever."""
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                self.news.clear()
                await self.news.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self._open[task] = writer
        self.accepted += 1
        self.peak = max(self.peak, len(self._open))
        self.news.set()
        try:
            await self._behaviour(Talk(self, reader, writer))
        except (asyncio.CancelledError, ConnectionError, ssl.SSLError):
            # The test is over, or the client has hung up; asyncio would report either as a fault of the server.
            pass
        finally:
            writer.transport.abort() if task.cancelling() else writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            self._open.pop(task)
            self.news.set()


async def eventually(condition: Callable[[], bool]) -> None:
    """Let the loop run until a condition holds that no event reports, but not for ever."""
    async with asyncio.timeout(PATIENCE):
        for _ in itertools.count():
            if condition():
                return
            await asyncio.sleep(0)


# Made once, for to read the key takes longer than a handshake.
@cache
def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def over_tls(behaviour: Behaviour) -> Behaviour:
    """Behave so behind a handshake."""

    async def behave(talk: Talk) -> None:
        await talk.begin_tls(server_context())
        await behaviour(talk)

    return behave


def answer(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    """Write a whole answer; ``content_type="x"`` is the header ``content-type: x``."""
    given = {"content_type": "application/json", "content_length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + body


def answers(*whole: bytes) -> Behaviour:
    """Answer the requests of a connection one after another, the last answer again and again."""

    async def behave(talk: Talk) -> None:
        for text in whole:
            if await talk.hear() is None:
                return
            await talk.say(text)
        while await talk.hear() is not None:
            await talk.say(whole[-1])

    return behave


def answers_when(gate: asyncio.Event, text: bytes) -> Behaviour:
    """Answer every request, but not before a gate opens."""

    async def behave(talk: Talk) -> None:
        while await talk.hear() is not None and await talk.stays_until(gate):
            await talk.say(text)

    return behave


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
