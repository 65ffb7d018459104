"""A process between client and cloud that resets, closes, tears and holds back; and books of what really went through.

python -m tests.soak.proxy http://127.0.0.1:8000 --seed 7 --share 0.05 --patience 1.5
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import struct
import sys
from collections import Counter

import msgspec

from tests.soak.faults import Mishap, draw_mishap
from tests.soak.messages import Message, make_answer, read_message

_KEPT = 2.0
"""Seconds that a connection to the cloud is kept, which closes it after five."""

_ACTIONS = {"os-start": "servers.start", "os-stop": "servers.stop", "reboot": "servers.reboot"}
_PAGE = b"<html><body><h1>The other side does not answer</h1></body></html>"
_INSTEAD = {
    "bad gateway": make_answer(502, _PAGE, "text/html"),
    "bad gateway after": make_answer(502, _PAGE, "text/html"),
    "busy": make_answer(503, b'{"error":{"code":"BMS.9999","message":"busy"}}'),
    "error after": make_answer(500, b""),
    "no HTTP": b"\x16\x03\x01 not a word of it\r\n\r\n",
}
_HELD_BACK = ("slow back", "too slow")
_CUT = ("reset before", "reset after", "closed before", "closed after", "half a head", "half a body")
_CONNECTIONS_RESET = 60


class ProxyBooks(msgspec.Struct, kw_only=True):
    """What went through.

    Attributes:
        delivered: Requests that the cloud was given, by operation.
        jobs: How often it said yes to a batch.
        refused: Answers of the cloud's with 429.
        mishaps: What went wrong, by what and how often.
        open: Exchanges that are not over.
        busy: The servers that open exchanges are about.
        failures: What the proxy itself could not do.
    """

    delivered: Counter[str] = msgspec.field(default_factory=Counter)
    jobs: int = 0
    refused: int = 0
    connections: int = 0
    mishaps: Counter[str] = msgspec.field(default_factory=Counter)
    open: int = 0
    busy: list[str] = msgspec.field(default_factory=list)
    failures: list[str] = msgspec.field(default_factory=list)


class Proxy:
    """Takes connections, and carries each request to the cloud over one of its own."""

    def __init__(self, cloud: str, *, seed: int, share: float, patience: float) -> None:
        host, _, port = cloud.removeprefix("http://").partition(":")
        self._cloud = (host, int(port))
        self._seed, self._share, self._patience = seed, share, patience
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []
        self._counts: Counter[str] = Counter()
        self._books = ProxyBooks()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._taken = 0

    async def listen(self) -> str:
        """Take connections, on the same port each time."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self._port, backlog=1024)
        self._port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{self._port}"

    async def tell(self) -> str:
        """Listen on a port of its own for who wants to see the books, which nothing goes wrong with."""
        server = await asyncio.start_server(self._tell, "127.0.0.1", 0)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        books = self._books
        books.connections += 1
        self._taken += 1
        try:
            if self._share and books.connections % _CONNECTIONS_RESET == 0:
                books.mishaps["reset on connecting"] += 1
                _reset(writer)
                return
            while (request := await read_message(reader)) is not None:
                if not await self._carry(request, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            # The client has hung up, which is its right.
            return
        finally:
            self._taken -= 1
            writer.close()

    async def rest(self) -> None:
        """Wait for what is held back and has nobody left to go to."""
        while self._taken:  # noqa: ASYNC110 - it is the last thing that this process does
            await asyncio.sleep(0.05)

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_message(reader)
        if request is not None and request.first_line[1].startswith("/outage/") and self._server is not None:
            self._server.close()
            self._books.mishaps["nobody listens"] += 1
            await asyncio.sleep(float(request.first_line[1].rpartition("/")[2]))
            await self.listen()
        writer.write(make_answer(200, msgspec.json.encode(self._books)))
        await writer.drain()
        writer.close()

    async def _carry(self, request: Message, writer: asyncio.StreamWriter) -> bool:
        """Carry one request there and back; returns whether the connection may have another."""
        operation, servers = _sort(request)
        self._counts[operation] += 1
        mishap, much = draw_mishap(self._seed, operation, self._counts[operation], self._share)
        books = self._books
        if mishap is not None:
            books.mishaps[mishap] += 1
        books.open += 1
        books.busy += servers
        try:
            answer = None
            if mishap in ("slow there", "too late"):
                await asyncio.sleep(0.3 * much if mishap == "slow there" else self._patience + 0.3)
            if mishap not in ("reset before", "closed before", "bad gateway", "busy"):
                answer = await self._deliver(request, operation, servers)
        finally:
            books.open -= 1
            for server in servers:
                books.busy.remove(server)
        return await self._answer(answer, mishap, much, writer)

    async def _deliver(self, request: Message, operation: str, servers: list[str]) -> Message:
        """Have the cloud do what is asked, whatever the client has been told by then."""
        books = self._books
        books.delivered[operation] += 1
        try:
            reader, writer = await self._connect()
            writer.write(request.whole)
            answer = await read_message(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            answer = None
            books.failures.append(f"{operation}: {error!r}")
        if answer is None:
            books.failures.append(f"{operation}: the cloud has hung up")
            raise ConnectionError
        if answer.keeps:
            self._idle.append((reader, writer, asyncio.get_running_loop().time()))
        else:
            writer.close()
        books.jobs += bool(servers) and answer.status == 200
        books.refused += answer.status == 429
        return answer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer, since = self._idle.pop()
            if asyncio.get_running_loop().time() - since < _KEPT:
                return reader, writer
            writer.close()
        return await asyncio.open_connection(*self._cloud)

    async def _answer(
        self, answer: Message | None, mishap: Mishap | None, much: float, writer: asyncio.StreamWriter
    ) -> bool:
        whole = _INSTEAD.get(mishap or "", b"" if answer is None else answer.whole)
        if mishap in _HELD_BACK:
            await asyncio.sleep(0.3 * much if mishap == "slow back" else self._patience + 0.3)
        elif mishap in _CUT:
            if mishap.startswith("reset"):
                _reset(writer)
            elif answer is not None and mishap.startswith("half"):
                writer.write(_tear(answer, mishap, much))
            return False
        elif mishap == "one too many":
            whole *= 2
        for piece in _split(whole) if mishap == "in pieces" else (whole,):
            if writer.is_closing():
                return False
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01 if mishap == "in pieces" else 0)
        if mishap in ("closed when idle", "reset when idle"):
            await asyncio.sleep(0.03 * much)
            if mishap == "reset when idle":
                _reset(writer)
            return False
        return mishap != "no HTTP" and (answer is None or answer.keeps)


def _tear(answer: Message, mishap: Mishap, much: float) -> bytes:
    """Return the first part of an answer; one without a body has its head torn."""
    if mishap == "half a head" or not answer.body:
        return answer.head[: int((len(answer.head) - 1) * much)]
    return answer.head + answer.body[: int(len(answer.body) * much)]


def _split(whole: bytes) -> list[bytes]:
    step = max(1, len(whole) // 7)
    return [whole[start : start + step] for start in range(0, len(whole), step)]


def _reset(writer: asyncio.StreamWriter) -> None:
    """Hang up the hard way: the other side gets an error for it, and not an end."""
    if not writer.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def _sort(request: Message) -> tuple[str, list[str]]:
    """Return the operation of a request, and the servers that it has power over."""
    method, path, _ = request.first_line
    path = path.partition("?")[0]
    parts = path.strip("/").split("/")
    if path.endswith("/baremetalservers/action"):
        [(action, wish)] = msgspec.json.decode(request.body).items()
        return _ACTIONS[action], [each["id"] for each in wish["servers"]]
    if method == "POST" and path.endswith("/auth/tokens"):
        return "identity.create_token", []
    if len(parts) == 4 and parts[2] == "jobs":
        return "jobs.get", []
    if len(parts) == 4 and parts[2] == "baremetalservers":
        return ("servers.list" if parts[3] == "detail" else "servers.get"), []
    if path.endswith("/os-interface"):
        return "servers.list_interfaces", []
    return f"{method} {path}", []


async def _main(options: argparse.Namespace) -> None:
    ended = asyncio.Event()
    # Exchanges that are cut have no end, and the loop says so; what counts is in the books.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, ended.set)
    proxy = Proxy(options.cloud, seed=options.seed, share=options.share, patience=options.patience)
    addresses = {"address": await proxy.listen(), "control": await proxy.tell()}
    sys.stdout.write(msgspec.json.encode(addresses).decode() + "\n")
    sys.stdout.flush()
    await ended.wait()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(proxy.rest(), 3 * options.patience)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak.proxy")
    parser.add_argument("cloud", help="its address")
    parser.add_argument("--seed", type=int, default=0, help="what mishaps are drawn from")
    parser.add_argument("--share", type=float, default=0.05, help="of the requests something goes wrong with")
    parser.add_argument("--patience", type=float, default=1.5, help="seconds that the client gives an answer")
    asyncio.run(_main(parser.parse_args()))
