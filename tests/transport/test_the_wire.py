"""What leaves and what arrives, byte for byte, is the same whatever library carries it."""

from __future__ import annotations

import gzip
import ssl
import zlib
from collections import Counter
from types import ModuleType
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest

from bms_async import HttpRequest, TransportError
from tests.transport._transports import POOLS, make_transport
from tests.transport.loopback import PATIENCE, Behaviour, Loopback, Talk, answer, answers

TEXT = b'{"servers": []}' * 1000


def request(url: str, **more: Any) -> HttpRequest:
    return HttpRequest(
        **{"operation": "servers.get", "method": "GET", "url": url, "headers": {}, "timeout": PATIENCE, **more}
    )


def lines_of(heard: bytes) -> list[str]:
    return heard.partition(b"\r\n\r\n")[0].decode().split("\r\n")


def names_of(heard: bytes) -> Counter[str]:
    return Counter(line.partition(":")[0].lower() for line in lines_of(heard)[1:])


@pytest.mark.parametrize(
    "target",
    [
        "/v1/p/%2E%2E",
        "/v1/p/%2e%2E/x",
        "/v1/a%2Fb",
        "/v1/%FF",
        "/v1/p?tags=%26&tags=a%2Bb&x=",
        "/v1/p%3Fx",
        "/",
        "/v1//p",
    ],
)
async def test_a_url_arrives_as_it_was_written(library: ModuleType, trusting: ssl.SSLContext, target: str) -> None:
    async with Loopback(answers(answer())) as server, make_transport(library, trusting) as transport:
        await transport.send(request(server.url + target))
        assert lines_of(server.heard[0])[0] == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize(("url", "target"), [("", "/"), ("?a=1", "/?a=1"), ("/x y", "/x%20y"), ("/é#part", "/%C3%A9")])
async def test_a_url_that_lacks_something_gets_it(
    library: ModuleType, trusting: ssl.SSLContext, url: str, target: str
) -> None:
    async with Loopback(answers(answer())) as server, make_transport(library, trusting) as transport:
        await transport.send(request(server.url + url))
        assert lines_of(server.heard[0])[0] == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_no_header_is_sent_twice_and_none_that_nobody_asked_for(
    library: ModuleType, trusting: ssl.SSLContext, method: str, body: bytes
) -> None:
    async with Loopback(answers(answer())) as server, make_transport(library, trusting) as transport:
        headers = {"X-Auth-Token": "t", "User-Agent": "bms-async/0", "Accept": "application/json"}
        await transport.send(request(f"{server.url}/x", method=method, headers=headers, body=body))
        names = names_of(server.heard[0])
        assert max(names.values()) == 1
        length = {"content-length"} if body or method in {"POST", "PUT", "PATCH"} else set()
        if library is aiohttp and method == "DELETE":
            # Releases differ in whether they say so of no body.
            length = set(names) & {"content-length"}
        expected = {"host", "accept", "accept-encoding", "connection", "user-agent", "x-auth-token", *length}
        assert set(names) == expected
        assert f"Host: 127.0.0.1:{server.port}" in lines_of(server.heard[0])


async def test_headers_that_the_request_has_take_the_place_of_the_usual_ones(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    # What is signed with an access key names its host itself.
    given = {"host": "bms.example.com", "Accept-Encoding": "identity", "Connection": "close", "accept": "text/plain"}
    async with Loopback(answers(answer())) as server, make_transport(library, trusting) as transport:
        await transport.send(request(f"{server.url}/x", headers=given))
        lines = lines_of(server.heard[0])
        assert max(names_of(server.heard[0]).values()) == 1
        assert {line.partition(": ")[2] for line in lines[1:]} >= set(given.values())


async def test_a_connection_that_the_request_wants_closed_is_not_used_again(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    async with Loopback(answers(answer())) as server, make_transport(library, trusting) as transport:
        for _ in range(2):
            await transport.send(request(server.url, headers={"Connection": "close"}))
        # What a session of aiohttp keeps is for it and the server to say.
        assert server.accepted == 2 or library is aiohttp


@pytest.mark.parametrize("early", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n" * 3])
async def test_a_server_that_says_go_on_is_not_taken_for_an_answer(
    library: ModuleType, trusting: ssl.SSLContext, early: bytes
) -> None:
    async with Loopback(answers(early + answer(202))) as server, make_transport(library, trusting) as transport:
        for _ in range(2):
            assert (await transport.send(request(server.url, method="POST", body=b"{}"))).status == 202
        assert (server.accepted, len(server.heard)) == (1, 2)
        assert "expect" not in names_of(server.heard[0])


def raw_deflate(text: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(text) + squeeze.flush()


PACKED = {
    "gzip": ("gzip", gzip.compress(TEXT)),
    "deflate": ("deflate", zlib.compress(TEXT)),
    "raw deflate": ("deflate", raw_deflate(TEXT)),
    "not packed": ("identity", TEXT),
}


@pytest.mark.parametrize(("encoding", "body"), PACKED.values(), ids=PACKED)
async def test_a_packed_body_arrives_unpacked(
    library: ModuleType, trusting: ssl.SSLContext, encoding: str, body: bytes
) -> None:
    async def in_two_parts(talk: Talk) -> None:
        while await talk.hear() is not None:
            whole = answer(body=body, content_encoding=encoding)
            await talk.say(whole[:-20])
            await talk.say(whole[-20:])

    async with Loopback(in_two_parts) as server, make_transport(library, trusting) as transport:
        for _ in range(2):
            assert (await transport.send(request(server.url))).body == TEXT
        assert server.accepted == 1


async def test_an_empty_body_that_claims_to_be_packed_is_empty(library: ModuleType, trusting: ssl.SSLContext) -> None:
    empty = answer(204, b"", content_encoding="gzip")
    async with Loopback(answers(empty)) as server, make_transport(library, trusting) as transport:
        assert (await transport.send(request(server.url))).body == b""


def without_length(*, breaks: bool) -> Behaviour:
    async def behave(talk: Talk) -> None:
        await talk.hear()
        await talk.say(b"HTTP/1.1 200 OK\r\n\r\n" + TEXT)
        if breaks:
            talk.reset()

    return behave


async def test_a_body_that_ends_with_its_connection_is_whole(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(without_length(breaks=False)) as server, make_transport(library, trusting) as transport:
        assert (await transport.send(request(server.url))).body == TEXT


# A session of aiohttp reports the end of a body, and not why it ended.
@pytest.mark.parametrize("library", [POOLS, httpx, httpx2], ids=["httpx by itself", "httpx", "httpx2"])
async def test_a_body_whose_connection_breaks_is_not(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(without_length(breaks=True)) as server, make_transport(library, trusting) as transport:
        with pytest.raises(TransportError, match="ReadError") as caught:
            await transport.send(request(server.url))
        assert caught.value.maybe_delivered


@pytest.mark.parametrize("length", [1, 8_000, 16_000, 60_000])
async def test_a_token_as_long_as_a_keystone_makes_them_arrives_whole(
    library: ModuleType, trusting: ssl.SSLContext, length: int
) -> None:
    token = answer(201, x_subject_token="M" * length)
    async with Loopback(answers(token)) as server, make_transport(library, trusting) as transport:
        response = await transport.send(request(server.url, headers={"X-Auth-Token": "M" * length}))
        assert response.header("X-Subject-Token") == "M" * length
        assert b"M" * length in server.heard[0]


async def test_headers_that_come_twice_arrive_twice(library: ModuleType, trusting: ssl.SSLContext) -> None:
    twice = b"HTTP/1.1 200 OK\r\nLink: <a>\r\nLink: <b>\r\nContent-Length: 2\r\n\r\n{}"
    async with Loopback(answers(twice)) as server, make_transport(library, trusting) as transport:
        response = await transport.send(request(server.url))
        assert [value for name, value in response.headers if name.lower() == "link"] == ["<a>", "<b>"]


@pytest.mark.parametrize("name", ["X Y", "", "X:Y", "X\r\nY", "é"], ids=ascii)
async def test_a_header_with_a_name_that_cannot_be_is_not_sent(
    library: ModuleType, trusting: ssl.SSLContext, name: str
) -> None:
    async with Loopback(answers(answer())) as server, make_transport(library, trusting) as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(request(server.url, headers={name: "value"}))
        assert not caught.value.maybe_delivered
        assert server.heard == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "5"},
        {"content-length": "200"},
        {"Content-Length": "22 "},
        {"Content-Length": "+22"},
        {"Transfer-Encoding": "chunked"},
        {"transfer-encoding": "identity"},
        {"Host": "a", "host": "b"},
        {"Content-Length": "22", "content-length": "22"},
    ],
    ids=str,
)
async def test_r3_no_part_of_a_request_can_be_read_as_another_request(
    library: ModuleType, trusting: ssl.SSLContext, headers: dict[str, str]
) -> None:
    body = b"GET /x HTTP/1.1\r\nX: y\r\n\r\n"[:22]
    async with Loopback(answers(answer())) as server, make_transport(library, trusting) as transport:
        usual = request(server.url, method="POST", headers={"Content-Length": "22"}, body=body)
        assert (await transport.send(usual)).status == 200
        # A second time too, for header lines are remembered.
        for _ in range(2):
            with pytest.raises(TransportError) as caught:
                await transport.send(request(server.url, method="POST", headers=headers, body=body))
            assert not caught.value.maybe_delivered
        with pytest.raises(TransportError, match="expected the length of the body, 3"):
            await transport.send(request(server.url, method="POST", headers={"Content-Length": "22"}, body=b"abc"))
        assert len(server.heard) == 1
        assert server.heard[0].endswith(b"\r\n\r\n" + body)
