"""Connections: how many there are at most, how they are used again, and what becomes of ordinary answers."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from types import ModuleType
from typing import Any

import httpx
import pytest

from bms_async import BmsClient, ConfigurationError, HttpRequest, HttpxTransport, StaticToken
from bms_async.transport.aiohttp import AiohttpTransport
from bms_async.transport.http1 import Http1Transport
from tests.transport._transports import LibraryTransport, make_transport
from tests.transport.loopback import PATIENCE, Loopback, Talk, answer, answers, answers_when


def request(url: str, **more: Any) -> HttpRequest:
    return HttpRequest(
        **{"operation": "servers.get", "method": "GET", "url": url, "headers": {}, "timeout": 5.0, **more}
    )


async def test_never_more_calls_than_connections_reach_the_library(
    one_of_httpx: ModuleType, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = one_of_httpx.AsyncClient(verify=trusting, trust_env=False, limits=one_of_httpx.Limits(max_connections=5))
    send, inside, most = client.send, 0, 0

    async def counting(*args: Any, **options: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            return await send(*args, **options)
        finally:
            inside -= 1

    monkeypatch.setattr(client, "send", counting)
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, answer())) as server, HttpxTransport(client) as transport:
        calls = [asyncio.create_task(transport.send(request(server.url))) for _ in range(200)]
        await server.until(lambda it: len(it.heard) == 5)
        held = transport.statistics()
        assert (held.max_connections, held.in_flight, held.queued, held.sent) == (5, 5, 195, 5)
        assert repr(transport) == "<HttpxTransport open, 5 of 5 in flight>"
        gate.set()
        async with asyncio.timeout(PATIENCE):
            assert [each.status for each in await asyncio.gather(*calls)] == [200] * 200
        assert (server.peak, most, len(server.heard)) == (5, 5, 200)
        done = transport.statistics()
        assert (done.max_connections, done.in_flight, done.queued, done.sent) == (5, 0, 0, 200)


@pytest.mark.parametrize(("size", "connections"), [(1, 1), (7, 7), (500, 500), (None, 64)])
async def test_the_size_of_the_pool_is_read_from_the_client(
    one_of_httpx: ModuleType, trusting: ssl.SSLContext, size: int | None, connections: int
) -> None:
    client = one_of_httpx.AsyncClient(verify=trusting, limits=one_of_httpx.Limits(max_connections=size))
    async with HttpxTransport(client) as transport:
        assert transport.statistics().max_connections == connections


async def test_a_client_without_a_pool_sends_64_at_once(one_of_httpx: ModuleType) -> None:
    nowhere = one_of_httpx.MockTransport(lambda _: one_of_httpx.Response(200))
    async with HttpxTransport(one_of_httpx.AsyncClient(transport=nowhere)) as transport:
        assert transport.statistics().max_connections == 64
        assert (await transport.send(request("http://localhost"))).status == 200


@pytest.mark.parametrize(("asked", "given"), [(3, 3), (10, 10), (50, 10)])
async def test_more_connections_than_the_pool_holds_are_not_used(
    one_of_httpx: ModuleType, trusting: ssl.SSLContext, asked: int, given: int
) -> None:
    client = one_of_httpx.AsyncClient(verify=trusting, limits=one_of_httpx.Limits(max_connections=10))
    async with HttpxTransport(client, connections=asked) as transport:
        assert transport.statistics().max_connections == given


@pytest.mark.parametrize("number", [0, -1])
def test_a_transport_without_connections_is_refused(number: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"connections={number}\): expected at least 1"):
        HttpxTransport(connections=number)


async def test_connections_are_kept_for_the_next_call(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(answers(answer())) as server, make_transport(library, trusting) as transport:
        for _ in range(20):
            await transport.send(request(server.url))
        assert (server.accepted, len(server.heard)) == (1, 20)


async def test_a_kept_connection_that_the_server_has_closed_is_replaced(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    async def one_answer(talk: Talk) -> None:
        await talk.hear()
        await talk.say(answer())

    async with Loopback(one_answer) as server, make_transport(library, trusting, connections=1) as transport:
        for number in range(1, 6):
            assert (await transport.send(request(server.url))).status == 200
            # Whoever sends before the end of the connection has arrived is unlucky with every library.
            await server.until(lambda it: it.open == 0)
            await asyncio.sleep(0)
            assert server.accepted == number


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(
    library: ModuleType, trusting: ssl.SSLContext, status: int
) -> None:
    async with Loopback(answers(answer())) as elsewhere, make_transport(library, trusting) as transport:
        async with Loopback(answers(answer(status, location=elsewhere.url))) as server:
            response = await transport.send(request(server.url, headers={"X-Auth-Token": "t"}))
            assert response.status == status
            assert response.header("Location") == elsewhere.url
        assert elsewhere.accepted == 0


async def test_a_client_that_would_follow_redirects_does_not_follow_ours(
    one_of_httpx: ModuleType, trusting: ssl.SSLContext
) -> None:
    client = one_of_httpx.AsyncClient(verify=trusting, trust_env=False, follow_redirects=True)
    async with (
        Loopback(answers(answer())) as elsewhere,
        Loopback(answers(answer(307, location=elsewhere.url))) as server,
        HttpxTransport(client) as transport,
    ):
        assert (await transport.send(request(server.url))).status == 307
        assert elsewhere.accepted == 0


async def test_a_compressed_body_arrives_plain(library: ModuleType, trusting: ssl.SSLContext) -> None:
    text = b'{"servers": []}' * 1000
    packed = answer(body=gzip.compress(text), content_encoding="gzip")
    async with Loopback(answers(packed)) as server, make_transport(library, trusting) as transport:
        assert (await transport.send(request(server.url))).body == text
        assert b"gzip" in server.heard[0].lower()


async def test_a_body_in_chunks_arrives_whole(library: ModuleType, trusting: ssl.SSLContext) -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nHello\r\n7\r\n, world\r\n0\r\n\r\n"
    async with Loopback(answers(chunked)) as server, make_transport(library, trusting) as transport:
        assert (await transport.send(request(server.url))).body == b"Hello, world"


async def test_an_answer_before_the_answer_is_passed_over(library: ModuleType, trusting: ssl.SSLContext) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + answer(body=b'"at last"')
    async with Loopback(answers(early)) as server, make_transport(library, trusting) as transport:
        assert (await transport.send(request(server.url))).body == b'"at last"'


async def test_headers_of_60_kilobytes_are_read(library: ModuleType, trusting: ssl.SSLContext) -> None:
    big = answer(x_policy="y" * 60_000, x_request_id="r-1")
    async with Loopback(answers(big)) as server, make_transport(library, trusting) as transport:
        response = await transport.send(request(server.url))
        assert len(response.header("x-policy") or "") == 60_000
        assert response.header("X-Request-Id") == "r-1"


async def test_a_request_arrives_as_it_was_built(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(answers(answer())) as server, make_transport(library, trusting) as transport:
        sent = request(
            f"{server.url}/v1/p/a%2Fb?tags=x%20y&tags=%26",
            method="POST",
            headers={"X-Auth-Token": "t", "User-Agent": "bms-async/0", "Content-Type": "application/json"},
            body=b'{"a": 1}',
        )
        await transport.send(sent)
        head, _, body = server.heard[0].partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == "POST /v1/p/a%2Fb?tags=x%20y&tags=%26 HTTP/1.1"
        names = {line.partition(":")[0].lower(): line.partition(": ")[2] for line in lines[1:]}
        assert names["x-auth-token"] == "t"
        assert names["user-agent"] == "bms-async/0"
        assert names["content-type"] == "application/json"
        assert body == b'{"a": 1}'


@pytest.mark.parametrize("make", [HttpxTransport, AiohttpTransport, Http1Transport])
async def test_cookies_of_one_call_do_not_go_with_the_next(
    make: type[LibraryTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A transport may be shared by clients with other credentials, and a gateway's cookie may be a session.
    forget_proxies(monkeypatch)
    async with Loopback(answers(answer(set_cookie="session=mine; Path=/"))) as server, make() as transport:
        for _ in range(2):
            assert (await transport.send(request(server.url))).header("Set-Cookie") == "session=mine; Path=/"
        assert not any(b"session=mine" in heard for heard in server.heard)


async def test_without_a_client_the_transport_makes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)
    body = b'{"server": {"id": "s-1", "name": "bms-1"}}'
    async with Loopback(answers(answer(body=body))) as server:
        bms = BmsClient(endpoint=server.url, project_id="p", auth=StaticToken("t"))
        async with bms:
            assert (await bms.servers.get("s-1")).name == "bms-1"
        async with HttpxTransport(connections=3) as transport:
            assert transport.statistics().max_connections == 3
            assert (await transport.send(request(server.url))).status == 200


def forget_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def test_a_client_of_a_class_of_ones_own_is_taken(trusting: ssl.SSLContext) -> None:
    class Ours(httpx.AsyncClient):
        pass

    async with Loopback(answers(answer())) as server, HttpxTransport(Ours(verify=trusting, trust_env=False)) as ours:
        assert ours.statistics().max_connections == 100
        assert (await ours.send(request(server.url))).status == 200
