"""`HttpRequest.timeout` is for the whole of one attempt, counted from the connection, however the server dawdles."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Iterator
from types import ModuleType

import pytest

from bms_async import CallTimeoutError, HttpRequest
from tests.support.real_clock import run_ahead, stand_still
from tests.transport._transports import make_transport
from tests.transport.loopback import Behaviour, Loopback, Talk, over_tls

TIMEOUT = 30.0
# Of a clock that stands still otherwise; no gap between two bytes comes near the timeout.
SECONDS_A_BYTE = 0.5

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


def in_the_head() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX-Padding: "
    yield from itertools.repeat(b"x")


def in_the_body() -> Iterator[bytes]:
    yield HEAD
    yield from itertools.repeat(b"x")


def in_both() -> Iterator[bytes]:
    for byte in HEAD + b"x" * 1000:
        yield bytes([byte])


def in_chunks() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield from itertools.repeat(b"1\r\nx\r\n")


def before_the_answer() -> Iterator[bytes]:
    yield from itertools.repeat(b"HTTP/1.1 102 Processing\r\n\r\n")


def dripping(parts: Iterator[bytes]) -> Behaviour:
    async def behave(talk: Talk) -> None:
        await talk.hear()
        goes = asyncio.ensure_future(talk.until_gone())
        talk.server.tasks.add(goes)
        try:
            while not goes.done():
                run_ahead(SECONDS_A_BYTE)
                await talk.say(next(parts))
                # The client has its turn to read the byte, and to look at the clock.
                for _ in range(5):
                    await asyncio.sleep(0)
        finally:
            goes.cancel()
            await asyncio.wait({goes})

    return behave


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "over TLS"])
@pytest.mark.parametrize("parts", [in_the_head, in_the_body, in_both, in_chunks, before_the_answer])
async def test_an_answer_that_drips_in_is_given_up_to_the_second(
    library: ModuleType, trusting: ssl.SSLContext, parts: type[Iterator[bytes]], secure: bool
) -> None:
    behaviour = dripping(parts())
    if secure:
        behaviour = over_tls(behaviour)
    async with Loopback(behaviour) as server, make_transport(library, trusting, 1) as transport:
        stand_still()
        begun = asyncio.get_running_loop().time()
        url = server.secure_url if secure else server.url
        with pytest.raises(CallTimeoutError, match="ReadTimeout: no complete response within 30 s") as caught:
            await transport.send(
                HttpRequest(operation="servers.get", method="GET", url=url, headers={}, timeout=TIMEOUT)
            )
        took = asyncio.get_running_loop().time() - begun
        assert caught.value.maybe_delivered
        assert took == pytest.approx(TIMEOUT, abs=2 * SECONDS_A_BYTE)
        assert len(server.heard) == 1
