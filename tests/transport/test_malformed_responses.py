"""What is no response is an error, and what may be read in two ways is never read as the answer to two requests."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Iterator
from types import ModuleType

import pytest

from bms_async import HttpResponse, TransportError
from tests.transport._transports import make_transport
from tests.transport._trials import BOUND, OWN_SHOWN, TIMEOUT, attempt, outcome_of, request, shown
from tests.transport.loopback import Loopback, Talk, answer
from tests.transport.memory import MemoryServer, run_in_memory
from tests.transport.test_any_split import VALID, chunked

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PACKED = gzip.compress(b"{}", mtime=0)


def of_length(value: str) -> bytes:
    return HEAD + f"Content-Length: {value}\r\n\r\n{{}}".encode()


def packed(body: bytes) -> bytes:
    return answer(body=body, content_encoding="gzip")


MALFORMED = {
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a length with a plus": of_length("+2"),
    "a length below zero": of_length("-2"),
    "an empty length": of_length(""),
    "a length in base 16": of_length("0x2"),
    "a length with an underscore": of_length("2_0"),
    "a length of two words": of_length("2 3"),
    "a length in other digits": of_length("\u0662"),
    "a length that no number holds": of_length("9" * 40),
    "two lengths in a list": of_length("2, 3"),
    "a NUL in a header": HEAD + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "a CR in a header": HEAD + b"X: a\rY: b\r\nContent-Length: 2\r\n\r\n{}",
    "a header without a colon": HEAD + b"nothing\r\nContent-Length: 2\r\n\r\n{}",
    "a header without a name": HEAD + b": x\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/0.9": b"<html>it works</html>",
    "a request": b"GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "a status of two digits": b"HTTP/1.1 99 Odd\r\nContent-Length: 2\r\n\r\n{}",
    "a status of four digits": b"HTTP/1.1 1000 Odd\r\nContent-Length: 2\r\n\r\n{}",
    "a status of letters": b"HTTP/1.1 two OK\r\nContent-Length: 2\r\n\r\n{}",
    "a chunk below zero": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "a chunk of no size": CHUNKED + b"\r\n{}\r\n0\r\n\r\n",
    "a chunk in base 36": CHUNKED + b"z\r\n{}\r\n0\r\n\r\n",
    "a chunk that is too short": CHUNKED + b"2\r\n{}0\r\n\r\n",
    "a chunk that is too large for any memory": CHUNKED + b"f" * 18 + b"\r\n{}\r\n0\r\n\r\n",
    "a coding called identity": HEAD + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    "an unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_response_is_an_error_and_its_connection_is_given_up(
    library: ModuleType, trusting: ssl.SSLContext, raw: bytes
) -> None:
    trial = attempt(library, trusting, [raw])
    assert isinstance(trial.first, TransportError)
    assert trial.first.maybe_delivered
    assert trial.took <= TIMEOUT + 0.1
    assert not trial.reused
    assert shown(trial.second) == OWN_SHOWN


NOT_UNPACKED = {
    "half a member of gzip": packed(PACKED[:-4]),
    "a member of gzip with a wrong sum": packed(PACKED[:-8] + bytes(8)),
    "a member of gzip behind which is something else": packed(PACKED + b"else"),
    "no gzip at all": packed(b"{}"),
}


@pytest.mark.parametrize("raw", NOT_UNPACKED.values(), ids=NOT_UNPACKED)
def test_what_is_not_packed_as_it_says_is_an_error(library: ModuleType, trusting: ssl.SSLContext, raw: bytes) -> None:
    # Its connection may be used again: the response has ended where it should.
    trial = attempt(library, trusting, [raw])
    assert isinstance(trial.first, TransportError)
    assert "DecodingError" in str(trial.first)
    assert shown(trial.second) == OWN_SHOWN


TWO_WAYS = {
    "a length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"{}"),
    "chunks and a length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n" + chunked(b"{}"),
    "a length that is too small, and chunks": HEAD
    + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunked(b"{}"),
    "one length twice": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "one length twice in a list": of_length("2, 2"),
    "a length with spaces": of_length("  2\t "),
    "a length with zeros": of_length("0002"),
    "a space before a colon": HEAD + b"Content-Length : 2\r\n\r\n{}",
    "lines that end with LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "chunks that end with LF": CHUNKED + b"2\n{}\n0\n\n",
    "a folded header": HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "a header folded before the first": HEAD + b" b\r\nContent-Length: 2\r\n\r\n{}",
    "a folded length": HEAD + b"Content-Length:\r\n 2\r\n\r\n{}",
    "empty lines before the head": b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a NUL in the status line": b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\n{}",
    "another protocol": b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "endless switching": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" * 3,
    "HTTP/1.0 that stays": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.0 that does not stay": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status 000": b"HTTP/1.1 000 Odd\r\nContent-Length: 2\r\n\r\n{}",
    "status 999": b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\n{}",
    "no reason and no space": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
    "no content of some length": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}",
    "not modified with a body": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n{}",
    "a packed coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked(PACKED),
    "chunks of chunks": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + chunked(b"{}"),
    "chunks twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"{}"),
    "a chunk with spaces": CHUNKED + b"2  \r\n{}\r\n0\r\n\r\n",
    "a chunk with zeros": CHUNKED + b"0000002\r\n{}\r\n000\r\n\r\n",
    "a length among the trailers": CHUNKED + b"2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n",
    "bytes that are not ASCII": HEAD + b"X: \xe9\xff\r\nContent-Length: 2\r\n\r\n{}",
    "packed twice": answer(body=gzip.compress(PACKED), content_encoding="gzip, gzip"),
    "an unknown packing": answer(body=b"{}", content_encoding="br"),
    "a wish to close in a list": answer(body=b"{}", connection="x, Close"),
    "a wish to close beside one to stay": answer(body=b"{}", connection="keep-alive, close"),
    "a keep-alive below zero": answer(body=b"{}", keep_alive="timeout=-5"),
    "a keep-alive without end": answer(body=b"{}", keep_alive="timeout=" + "9" * 400),
    "an upgrade that nobody asked for": answer(body=b"{}", upgrade="h2c", connection="upgrade"),
}  # fmt: skip


@pytest.mark.parametrize("raw", TWO_WAYS.values(), ids=TWO_WAYS)
def test_what_may_be_read_in_two_ways_is_a_response_or_an_error_and_the_next_one_gets_its_own(
    library: ModuleType, trusting: ssl.SSLContext, raw: bytes
) -> None:
    trial = attempt(library, trusting, [raw], idle=0.2)
    assert trial.took <= TIMEOUT + 0.1
    assert isinstance(trial.first, HttpResponse) or not trial.reused
    if isinstance(trial.first, TransportError):
        assert trial.first.maybe_delivered
    assert shown(trial.second) == OWN_SHOWN


@pytest.mark.parametrize("raw", [TWO_WAYS["HTTP/1.0 that does not stay"], answer(connection="close")])
def test_a_response_that_closes_its_connection_is_the_last_on_it(
    library: ModuleType, trusting: ssl.SSLContext, raw: bytes
) -> None:
    trial = attempt(library, trusting, [raw])
    assert isinstance(trial.first, HttpResponse)
    assert not trial.reused
    assert shown(trial.second) == OWN_SHOWN


FRAMED = ["of a length", "chunked", "chunked with extensions and trailers", "gzip", "raw deflate", "no content"]


@pytest.mark.parametrize("resets", [True, False])
@pytest.mark.parametrize("name", FRAMED)
def test_a_response_cut_off_at_any_byte_is_an_error(
    library: ModuleType, trusting: ssl.SSLContext, name: str, resets: bool
) -> None:
    response = VALID[name]
    cuts: Iterator[int] = iter(range(len(response.raw)))

    async def behave(talk: Talk) -> None:
        await talk.hear()
        await talk.say(response.raw[: next(cuts)])
        if resets:
            talk.reset()

    async def main() -> None:
        async with MemoryServer(behave) as server, make_transport(library, trusting, 1) as transport:
            for _ in range(len(response.raw)):
                error = await outcome_of(transport.send(request(server.url)))
                assert isinstance(error, TransportError)
                assert not isinstance(error, TimeoutError)
                assert error.maybe_delivered
            assert server.accepted == len(server.heard) == len(response.raw)

    run_in_memory(main)


@pytest.mark.parametrize("raw", [*list(MALFORMED.values())[::3], *list(TWO_WAYS.values())[::4]])
async def test_the_same_holds_on_real_sockets(library: ModuleType, trusting: ssl.SSLContext, raw: bytes) -> None:
    begun: list[Talk] = []

    async def behave(talk: Talk) -> None:
        begun.append(talk)
        await talk.hear()
        if len(begun) == 1:
            await talk.say(raw)
            # No answer is waited for here: what is not whole breaks off.
            return
        await talk.say(answer(body=b'"its own"'))

    async with (
        Loopback(behave) as server,
        make_transport(library, trusting, 1, max_response_bytes=BOUND) as transport,
        asyncio.timeout(60 * TIMEOUT),
    ):
        first = await outcome_of(transport.send(request(server.url)))
        assert isinstance(first, HttpResponse | TransportError)
        await server.until(lambda it: it.open == 0)
        # The server has hung up, and the client's loop has to hear of it.
        for _ in range(5):
            await asyncio.sleep(0)
        second = await outcome_of(transport.send(request(server.url, "/second")))
        assert shown(second) == OWN_SHOWN
