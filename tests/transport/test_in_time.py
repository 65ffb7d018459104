"""A request ends in its time, however slowly a peer goes on, and in the time of its own and of no other request."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from types import ModuleType
from typing import NamedTuple

import aiohttp
import httptools
import pytest

from bms_async import (
    CallTimeoutError,
    ClientClosedError,
    HttpRequest,
    HttpResponse,
    ResponseTooLargeError,
    TransportError,
)
from tests.transport._transports import make_transport
from tests.transport._trials import BOUND, OWN_SHOWN, Ending, attempt, outcome_of, shown
from tests.transport.loopback import Behaviour, Talk, answer, server_context
from tests.transport.memory import MemoryServer, MemoryTalk, run_in_memory
from tests.transport.test_any_split import chunked
from tests.transport.test_tls import flight_of_server

TIMEOUT = 5.0
PAUSE = 0.4
"""Seconds between two bytes of a peer that drips: each alone comes in time, and all together never do."""
HEAD = b"HTTP/1.1 200 OK\r\n"
LARGE = b"x" * 500_000


def request(url: str, timeout: float = TIMEOUT, body: bytes = b"") -> HttpRequest:
    return HttpRequest(
        operation="servers.reboot", method="POST", url=f"{url}/action", headers={}, body=body, timeout=timeout
    )


async def drip(talk: Talk, text: bytes, size: int = 1) -> None:
    for at in range(0, len(text), size):
        await talk.say(text[at : at + size])
        await asyncio.sleep(PAUSE)


def drips(text: bytes, at_once: bytes = b"", size: int = 1) -> Behaviour:
    async def behave(talk: Talk) -> None:
        await talk.hear()
        await talk.say(at_once)
        await drip(talk, text, size)

    return behave


async def drips_a_handshake(talk: Talk) -> None:
    await drip(talk, flight_of_server(await talk._reader.read(65536), server_context()))


async def reads_bit_by_bit(talk: Talk) -> None:
    assert isinstance(talk, MemoryTalk)
    for _ in range(len(2 * LARGE) // 1000):
        await talk.hear_bytes(1000)
        await asyncio.sleep(PAUSE)


class Slow(NamedTuple):
    """A peer that is slow at something, and whether the request may have been delivered by then."""

    behaviour: Behaviour
    delivered: bool = True
    secure: bool = False
    proxied: bool = False
    body: bytes = b""


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SLOW = {
    "a head": Slow(drips(HEAD + b"x-padding: y\r\n" * 10)),
    "a body": Slow(drips(b"x" * 100, HEAD + b"Content-Length: 100\r\n\r\n")),
    "chunks": Slow(drips(b"1\r\nx\r\n" * 30, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", size=6)),
    "a body that ends with its connection": Slow(drips(b"x" * 100, HEAD + b"\r\n")),
    "trailers": Slow(drips(b"x: y\r\n" * 30, HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", size=6)),
    "informational responses": Slow(drips(CONTINUE * 30, size=len(CONTINUE))),
    "reading": Slow(reads_bit_by_bit, body=2 * LARGE),
    "a handshake": Slow(drips_a_handshake, delivered=False, secure=True),
    "opening a tunnel": Slow(drips(HEAD + b"x-padding: y\r\n" * 10), delivered=False, secure=True, proxied=True),
}


@pytest.mark.parametrize("slow", SLOW.values(), ids=SLOW)
def test_a_peer_that_goes_on_slowly_is_given_up_in_time(
    library: ModuleType, trusting: ssl.SSLContext, slow: Slow
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with MemoryServer(slow.behaviour) as server:
            proxy = server.url if slow.proxied else None
            async with make_transport(library, trusting, 1, proxy=proxy) as transport:
                url = "https://bms.example.com" if slow.proxied else server.secure_url if slow.secure else server.url
                began = loop.time()
                error = await outcome_of(transport.send(request(url, body=slow.body)))
                assert isinstance(error, CallTimeoutError)
                assert error.maybe_delivered == slow.delivered
                took = loop.time() - began
                if slow.proxied and library not in (aiohttp, httptools):
                    # httpx bounds each step of connecting, and cannot be interrupted in one.
                    assert TIMEOUT <= took <= 4 * TIMEOUT + 0.1
                else:
                    assert took == pytest.approx(TIMEOUT, abs=0.1)
                await asyncio.sleep(0)
                # A session of aiohttp lets a connection write what it has begun to write.
                assert library is aiohttp or all(end.closed for end in server.ends)

    run_in_memory(main)


async def reads_nothing(talk: Talk) -> None:
    assert isinstance(talk, MemoryTalk)
    talk.stop_reading()
    await asyncio.sleep(10 * TIMEOUT)


def test_r4_a_connection_to_a_server_that_reads_nothing_is_closed_with_its_request_and_with_the_transport(
    strict_library: ModuleType, trusting: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with MemoryServer(reads_nothing) as server:
            async with make_transport(strict_library, trusting, 1) as transport:
                error = await outcome_of(transport.send(request(server.url, body=LARGE)))
                assert isinstance(error, CallTimeoutError)
                assert error.maybe_delivered
                await asyncio.sleep(0)
                assert [end.closed for end in server.ends] == [True]
                caller = asyncio.ensure_future(transport.send(request(server.url, body=LARGE)))
                await asyncio.sleep(1)
            with pytest.raises(ClientClosedError):
                await caller
            await asyncio.sleep(0)
            assert [end.closed for end in server.ends] == [True, True]

    run_in_memory(main)


@pytest.mark.parametrize(("before", "timeout"), [(100.0, 1.0), (1.0, 100.0), (5.0, 5.0)])
@pytest.mark.parametrize("idle", [0.0, 0.7])
def test_a_request_on_a_kept_connection_has_the_time_of_its_own(
    library: ModuleType, trusting: ssl.SSLContext, before: float, timeout: float, idle: float
) -> None:
    async def answers_once(talk: Talk) -> None:
        await talk.hear()
        await talk.say(answer())
        await talk.hear()
        await talk.until_gone()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with MemoryServer(answers_once) as server, make_transport(library, trusting, 1) as transport:
            assert (await transport.send(request(server.url, before))).status == 200
            await asyncio.sleep(idle)
            began = loop.time()
            error = await outcome_of(transport.send(request(server.url, timeout)))
            assert isinstance(error, CallTimeoutError)
            assert server.accepted == 1
            assert loop.time() - began == pytest.approx(timeout, abs=0.01)

    run_in_memory(main)


@pytest.mark.parametrize("ending", ["stays", "closes", "resets"])
@pytest.mark.parametrize("closing", [b"", b"Connection: close\r\n"])
def test_a_response_before_the_request_is_read_is_a_response_or_an_error(
    library: ModuleType, trusting: ssl.SSLContext, ending: Ending, closing: bytes
) -> None:
    refused: list[Talk] = []

    async def refuses(talk: Talk) -> None:
        if refused:
            await talk.hear()
            return await talk.say(answer(body=b'"next"'))
        refused.append(talk)
        await talk._reader.readuntil(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 413 Too Large\r\n" + closing + b"Content-Length: 2\r\n\r\n{}")
        if ending == "resets":
            talk.reset()
        if ending == "stays" and not closing:
            await talk._reader.readexactly(len(LARGE))
            while await talk.hear() is not None:
                await talk.say(answer(body=b'"next"'))
        return None

    async def main() -> None:
        async with MemoryServer(refuses) as server, make_transport(library, trusting, 1) as transport:
            first = await outcome_of(transport.send(request(server.url, body=LARGE)))
            if isinstance(first, HttpResponse):
                assert (first.status, first.body) == (413, b"{}")
            else:
                assert isinstance(first, TransportError)
                assert first.maybe_delivered
            # What the server does behind it has arrived by then.
            await asyncio.sleep(0.1)
            assert (await transport.send(request(server.url))).body == b'"next"'
            assert len(server.ends) == 2 or (ending == "stays" and not closing)

    run_in_memory(main)


def of_size(framing: str, size: int) -> tuple[bytes, Ending]:
    body = b"x" * size
    if framing == "length":
        return answer(body=body), "stays"
    if framing == "chunks":
        return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body[:10], body[10:]), "stays"
    if framing == "gzip":
        return answer(body=gzip.compress(body), content_encoding="gzip"), "stays"
    return HEAD + b"\r\n" + body, "closes"


@pytest.mark.parametrize("framing", ["length", "chunks", "gzip", "connection"])
@pytest.mark.parametrize("piece", [1000, 1_000_000])
def test_a_body_may_have_the_bound_and_not_one_byte_more(
    library: ModuleType, trusting: ssl.SSLContext, framing: str, piece: int
) -> None:
    for size in (BOUND - 1, BOUND, BOUND + 1):
        raw, ending = of_size(framing, size)
        pieces = [raw[at : at + piece] for at in range(0, len(raw), piece)]
        trial = attempt(library, trusting, pieces, ending, idle=0.5)
        if size <= BOUND:
            assert isinstance(trial.first, HttpResponse)
            assert len(trial.first.body) == size
        else:
            assert isinstance(trial.first, ResponseTooLargeError)
            assert trial.first.limit == BOUND
        assert shown(trial.second) == OWN_SHOWN
