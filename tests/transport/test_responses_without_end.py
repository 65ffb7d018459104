"""A response without end is an error in its time, and no more of it is held than the bounds allow."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import ssl
import tracemalloc
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import pytest

from bms_async import HttpResponse
from tests.transport._transports import make_transport
from tests.transport._trials import TIMEOUT, outcome_of, request
from tests.transport.loopback import Behaviour, Talk
from tests.transport.memory import MemoryServer, run_in_memory

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
BOUND = 40_000
"""How many bytes a response may have."""
PIECE = 2**14
PIECES = 240
MAY_HOLD = 25
"""Bytes that all parts together may hold for each byte of the bound; in the time of a request come 2 MB."""


class Endless(NamedTuple):
    """A beginning, and what follows it again and again in pieces, until so many bytes of a body have come."""

    head: bytes
    unit: bytes
    bound: int = BOUND
    piece: int = PIECE
    pieces: int = PIECES


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def beginning_of_gzip(name: bytes = b"") -> bytes:
    """Write the header of a member, with a name that has not ended."""
    return b"\x1f\x8b\x08" + (b"\x08" if name else b"\0") + b"\0" * 6 + name


EMPTY_BLOCK = b"\0\0\0\xff\xff"
ENDLESS = {
    "a status line": Endless(b"HTTP/1.1 200 ", b"y"),
    "empty lines before the head": Endless(b"", b"\r\n"),
    "a header's name": Endless(HEAD + b"x", b"x"),
    "a header's value": Endless(HEAD + b"x: ", b"y"),
    "a folded header": Endless(HEAD + b"x: y\r\n", b" z\r\n"),
    "informational responses": Endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: " + b"y" * 8000 + b"\r\n\r\n"),
    "headers": Endless(HEAD, b"x-padding: y\r\n"),
    # aiohttp bounds the number of headers and the size of each, and so holds 2 MB of them.
    "large headers": Endless(HEAD, b"x-padding: " + b"y" * 8000 + b"\r\n", 100_000, pieces=500),
    "a body of a length": Endless(HEAD + b"Content-Length: 99999999999\r\n\r\n", b"z"),
    "a body that ends with its connection": Endless(HEAD + b"\r\n", b"z"),
    "chunks": Endless(CHUNKED + b"\r\n", chunk(b"z" * 1000)),
    # Each chunk costs h11 a tenth of a millisecond.
    "chunks of a byte": Endless(CHUNKED + b"\r\n", chunk(b"z"), BOUND // 2),
    "one chunk": Endless(CHUNKED + b"\r\nfffffffff\r\n", b"z"),
    "the size of a chunk": Endless(CHUNKED + b"\r\n", b"0"),
    "the extension of a chunk": Endless(CHUNKED + b"\r\n1;", b"y"),
    "a trailer's value": Endless(CHUNKED + b"\r\n0\r\nx: ", b"y"),
    "trailers": Endless(CHUNKED + b"\r\n0\r\n", b"x-padding: y\r\n"),
    "a gzip bomb": Endless(
        CHUNKED + b"Content-Encoding: gzip\r\n\r\n", chunk(gzip.compress(b"\0" * 1_000_000)[:900])
    ),
    # Some 25,000 come in the time of a request: were each to leave 100 bytes behind, it would be seen.
    "members of gzip that hold nothing": Endless(
        CHUNKED + b"Content-Encoding: gzip\r\n\r\n", chunk(gzip.compress(b"", mtime=0) * 50), piece=PIECE // 8
    ),
    "zeros behind gzip": Endless(
        CHUNKED + b"Content-Encoding: gzip\r\n\r\n" + chunk(gzip.compress(b"")), chunk(b"\0" * 1000)
    ),
    "the name in the header of gzip": Endless(
        CHUNKED + b"Content-Encoding: gzip\r\n\r\n" + chunk(beginning_of_gzip(b"x")), chunk(b"x" * 1000)
    ),
    "blocks of deflate that hold nothing": Endless(
        CHUNKED + b"Content-Encoding: deflate\r\n\r\n" + chunk(b"\x78\x9c"), chunk(EMPTY_BLOCK * 200)
    ),
}  # fmt: skip


@contextlib.contextmanager
def memory_held() -> Iterator[list[int]]:
    """Yield a list that is given the most bytes held at once during the block, beyond those held before."""
    held: list[int] = []
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield held
        held.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


def without_end(endless: Endless) -> Behaviour:
    piece = bytearray(endless.unit * max(1, endless.piece // len(endless.unit)))

    async def behave(talk: Talk) -> None:
        await talk.hear()
        await talk.say(endless.head)
        for _ in range(endless.pieces):
            # A copy, so that who holds two pieces holds twice the memory.
            await talk.say(bytes(piece))
            await asyncio.sleep(2 * TIMEOUT / endless.pieces)

    return behave


@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
def test_a_response_without_end_is_an_error_in_time_and_in_memory(
    library: ModuleType, trusting: ssl.SSLContext, endless: Endless
) -> None:
    async def main() -> None:
        async with (
            MemoryServer(without_end(endless)) as server,
            make_transport(library, trusting, 1, max_response_bytes=endless.bound) as transport,
        ):
            began = asyncio.get_running_loop().time()
            with memory_held() as held:
                outcome = await outcome_of(transport.send(request(server.url)))
            took = asyncio.get_running_loop().time() - began
            assert not isinstance(outcome, HttpResponse)
            assert took <= TIMEOUT + 0.1
            assert held[0] < MAY_HOLD * endless.bound
            await asyncio.sleep(0)
            assert all(end.closed for end in server.ends)

    run_in_memory(main)


def test_a_reader_without_bounds_holds_more_than_that() -> None:
    # Without this one the measure might miss what is held, and the tests above would prove nothing.
    async def main() -> int:
        async with MemoryServer(without_end(ENDLESS["chunks"])) as server:
            with memory_held() as held, contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TIMEOUT):
                    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                    writer.write(b"GET / HTTP/1.1\r\n\r\n")
                    await reader.read()
            writer.close()
        return held[0]

    assert run_in_memory(main) > MAY_HOLD * BOUND
