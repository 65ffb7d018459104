"""What a connection of our own makes of responses, and after which of them it is used again."""

from __future__ import annotations

import asyncio
import gzip
from itertools import pairwise

import pytest

from bms_async import ClientClosedError, Http1Transport, HttpRequest, TransportError
from bms_async.transport._decompress import CHUNK_SIZE
from bms_async.transport._parser import _MAX_INFORMATIONAL
from tests.transport.http1._requests import SecureLoopback, request
from tests.transport.loopback import CERTIFICATE, Loopback, Talk, answer, answers, eventually

NO_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
NO_LENGTH = b"HTTP/1.1 200 OK\r\nX-Request-Id: r-1\r\n\r\n"


@pytest.mark.parametrize("head", [NO_BODY, NO_LENGTH], ids=["with a length", "without a length"])
async def test_a_response_to_head_ends_with_its_head_and_its_connection_is_kept(head: bytes) -> None:
    async with Loopback(answers(head, answer(body=b"one"), head, answer(body=b"two"))) as server:
        async with Http1Transport() as transport:
            bodies = [
                (await transport.send(request(server.url, method))).body for method in ("HEAD", "GET", "HEAD", "GET")
            ]
        assert bodies == [b"", b"one", b"", b"two"]
        assert server.accepted == 1


@pytest.mark.parametrize("connection", [b"Connection: close\r\n", b"Connection: x, Close\r\n"])
async def test_a_response_to_head_that_says_close_is_the_last_one(connection: bytes) -> None:
    async with Loopback(answers(NO_BODY.replace(b"\r\n\r\n", b"\r\n" + connection + b"\r\n"))) as server:
        async with Http1Transport() as transport:
            for _ in range(2):
                await transport.send(request(server.url, "HEAD"))
        assert server.accepted == 2


async def test_a_body_that_head_gets_all_the_same_is_not_read_as_the_next_response() -> None:
    async with Loopback(answers(answer(body=answer(404)))) as server, Http1Transport() as transport:
        for _ in range(3):
            assert (await transport.send(request(server.url, "HEAD"))).status == 200
        assert server.accepted == 3


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("length", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X-Request-Id: r-1"])
async def test_a_response_of_a_kind_without_body_ends_with_its_head(status: int, length: bytes) -> None:
    head = b"HTTP/1.1 %d Whatever\r\n%b\r\n\r\n" % (status, length)
    async with Loopback(answers(head, answer(body=b"one"), head)) as server, Http1Transport() as transport:
        for expected in (b"", b"one", b""):
            assert (await transport.send(request(server.url))).body == expected
        assert server.accepted == 1


@pytest.mark.parametrize(
    "response",
    [
        answer(connection="close"),
        answer().replace(b"HTTP/1.1", b"HTTP/1.0"),
        answer(keep_alive="timeout=1"),
        answer() + b"HTTP/1.1 200 OK\r\n",
        answer() + b"x",
        answer(connection="close") + answer(),
    ],
    ids=["close", "an old version", "kept for a second", "half of another", "a byte too many", "more after a close"],
)
async def test_a_connection_that_cannot_be_kept_is_not_used_again(response: bytes) -> None:
    async with Loopback(answers(response)) as server, Http1Transport() as transport:
        for _ in range(3):
            assert (await transport.send(request(server.url))).body == b"{}"
        assert server.accepted == 3
        await server.until(lambda it: it.open == 0)


async def test_what_nobody_asked_for_closes_an_idle_connection() -> None:
    gate = asyncio.Event()

    async def says_more(talk: Talk) -> None:
        await talk.hear()
        await talk.say(answer())
        await gate.wait()
        await talk.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await talk.until_gone()

    async with Loopback(says_more) as server, Http1Transport() as transport:
        await transport.send(request(server.url))
        gate.set()
        await server.until(lambda it: it.open == 0)
        assert (await transport.send(request(server.url))).status == 200
        assert server.accepted == 2


@pytest.mark.parametrize("more", [b"", b"Upgrade: h2c\r\nConnection: upgrade\r\n"])
async def test_another_protocol_that_nobody_asked_for_is_refused(more: bytes) -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\n" + more + b"\r\nPRI * HTTP/2.0\r\n\r\n"
    async with Loopback(answers(switched)) as server, Http1Transport() as transport:
        with pytest.raises(TransportError, match="switched to another protocol") as caught:
            await transport.send(request(server.url))
    assert caught.value.maybe_delivered


async def test_informational_responses_are_passed_over_and_counted() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    few, many = early * _MAX_INFORMATIONAL, early * (_MAX_INFORMATIONAL + 1)
    async with Loopback(answers(few + answer(), many + answer())) as server, Http1Transport() as transport:
        response = await transport.send(request(server.url))
        assert (response.status, response.header("Link")) == (200, None)
        with pytest.raises(TransportError, match="more than 100 informational responses"):
            await transport.send(request(server.url))


async def test_trailers_are_no_headers() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;name=value\r\n{}\r\n0\r\nX-Checksum: 1\r\nX-Request-Id: 9\r\n\r\n"
    )
    async with Loopback(answers(chunked)) as server, Http1Transport() as transport:
        for _ in range(2):
            response = await transport.send(request(server.url))
            assert (response.body, response.header("X-Checksum", "X-Request-Id")) == (b"{}", None)
        assert server.accepted == 1


async def test_a_large_body_over_tls_arrives_whole_and_its_connection_is_kept() -> None:
    large = bytes(range(256)) * 20_000
    async with (
        SecureLoopback(answers(answer(body=large))) as server,
        Http1Transport(ca_bundle=CERTIFICATE) as transport,
    ):
        for _ in range(2):
            assert (await transport.send(request(server.secure_url))).body == large
        assert server.accepted == 1


async def test_a_large_request_is_heard_whole() -> None:
    async with SecureLoopback(answers(answer())) as server, Http1Transport(ca_bundle=CERTIFICATE) as transport:
        await transport.send(request(server.secure_url, "POST", body=b"x" * 3_000_000))
        assert server.heard[0].endswith(b"\r\n\r\n" + b"x" * 3_000_000)


@pytest.mark.parametrize("serve", [Loopback, SecureLoopback], ids=["plain", "TLS"])
async def test_an_answer_before_the_request_was_read_ends_the_connection(serve: type[Loopback]) -> None:
    async def answers_early(talk: Talk) -> None:
        await talk._reader.readexactly(100)
        await talk.say(answer(413))
        await talk.until_gone()

    async with serve(answers_early) as server, Http1Transport(ca_bundle=CERTIFICATE) as transport:
        url = server.url if serve is Loopback else server.secure_url
        response = await transport.send(request(url, "POST", body=b"x" * 30_000_000))
        assert response.status == 413
        # The rest of the body would have been read as another request.
        await server.until(lambda it: it.open == 0)
        assert transport.statistics().in_flight == transport._queue._idle.count == 0


@pytest.mark.parametrize("serve", [Loopback, SecureLoopback], ids=["plain", "TLS"])
async def test_r9_a_large_request_is_written_in_many_turns_as_fast_as_its_server_reads(serve: type[Loopback]) -> None:
    gate = asyncio.Event()

    async def reads_late(talk: Talk) -> None:
        await gate.wait()
        await answers(answer())(talk)

    async with serve(reads_late) as server, Http1Transport(ca_bundle=CERTIFICATE) as transport:
        url = server.url if serve is Loopback else server.secure_url
        pending = transport.submit(request(url, "POST", body=b"x" * 30_000_000))
        await eventually(lambda: pending.sent)
        (connection,) = transport._queue._open_connections
        left = [len(connection._unwritten)]
        while not connection._is_full:
            await asyncio.sleep(0)
            left.append(len(connection._unwritten))
        assert max(before - after for before, after in pairwise([30_000_000, *left])) < 3_000_000
        # What is held back is in memory once, and not encrypted too.
        assert left[-1] > 10_000_000
        gate.set()
        assert (await pending.wait()).status == 200
        assert server.heard[0].endswith(b"\r\n\r\n" + b"x" * 30_000_000)
        assert (await transport.send(request(url))).status == 200
        assert server.accepted == 1


async def test_r4_a_body_that_is_still_decompressed_when_its_connection_is_gone_is_given_up_by_closing() -> None:
    packed = gzip.compress(b"\0" * 40 * CHUNK_SIZE)

    async def answers_and_goes(talk: Talk) -> None:
        await talk.hear()
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + packed)

    async with Loopback(answers_and_goes) as server:
        async with Http1Transport() as transport:
            assert (await transport.send(request(server.url))).body == b"\0" * 40 * CHUNK_SIZE
            pending = transport.submit(request(server.url))
            await server.until(lambda it: len(it.heard) == 2)
            await eventually(lambda: any(each._is_unpacking for each in transport._queue._open_connections))
        assert pending.ended
        with pytest.raises(ClientClosedError):
            await pending.wait()


async def test_r5_an_idle_connection_holds_nothing_of_the_last_response() -> None:
    behaviour = answers(answer(body=b"secret", x_subject_token="secret"))
    async with Loopback(behaviour) as server, Http1Transport() as transport:
        await transport.send(request(server.url))
        (connection,) = transport._queue._open_connections
        parser = connection._parser
        assert (parser.headers, parser.content, parser.packed) == ([], b"", None)
        assert bytes(transport._queue._buffer).count(b"secret")
    assert not bytes(transport._queue._buffer).count(b"secret")


async def test_a_timeout_does_not_wait_for_the_longer_one_of_the_request_before() -> None:
    async def answers_once(talk: Talk) -> None:
        await talk.hear()
        await talk.say(answer())
        await talk.until_gone()

    async with Loopback(answers_once) as server, Http1Transport() as transport:
        await transport.send(request(server.url, timeout=600.0))
        (connection,) = transport._queue._open_connections
        late = connection._timer_at
        with pytest.raises(TransportError, match=r"ReadTimeout: no complete response within 0\.01 s"):
            await transport.send(request(server.url, timeout=0.01))
        assert late - connection._timer_at > 500
        await eventually(lambda: not transport._queue._open_connections)


async def test_the_timer_of_an_earlier_request_is_set_to_a_later_one() -> None:
    async def answers_once(talk: Talk) -> None:
        await talk.hear()
        await talk.say(answer())
        await talk.hear()
        await talk.say(answer(202))
        await talk.until_gone()

    async with Loopback(answers_once) as server, Http1Transport() as transport:
        await transport.send(request(server.url, timeout=30.0))
        (connection,) = transport._queue._open_connections
        early = connection._timer_at
        sent: HttpRequest = request(server.url, timeout=60.0)
        pending = transport.submit(sent)
        assert connection._timer_at == early
        connection._on_timer()
        assert connection._timer_at == pytest.approx(early + 30.0, abs=10.0)
        assert (await pending.wait()).status == 202
