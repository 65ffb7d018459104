"""The way to a server: its address, its proxy, and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bms_async import Http1Transport, TransportError
from bms_async.transport._connect import read_proxy
from bms_async.transport._connector import Connector
from tests.transport.http1._requests import SecureLoopback, request
from tests.transport.loopback import CERTIFICATE, Loopback, answer, answers, server_context


@asynccontextmanager
async def a_proxy(context: ssl.SSLContext | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Give the address of a proxy that opens tunnels, and the heads of what it was asked."""
    asked: list[bytes] = []
    tasks: set[asyncio.Task[object]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        finally:
            writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        host, _, port = asked[-1].split()[1].decode().rpartition(":")
        there, away = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")
        tasks.update({asyncio.create_task(copy(reader, away)), asyncio.create_task(copy(there, writer))})

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        scheme = "http" if context is None else "https"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS in TLS"])
async def test_a_server_is_reached_through_a_tunnel_that_is_asked_for_once(secure: bool) -> None:
    async with (
        SecureLoopback(answers(answer(body=b'"cloud"'))) as server,
        a_proxy(server_context() if secure else None) as (address, asked),
        Http1Transport(ca_bundle=CERTIFICATE) as transport,
    ):
        through = read_proxy(address.replace("://", "://me:open-sesame@"))
        transport._connector._find_proxy = lambda *_: through
        for _ in range(3):
            sent = request(server.secure_url, headers={"X-Auth-Token": "secret"})
            assert (await transport.send(sent)).body == b'"cloud"'
        assert len(asked) == server.accepted == 1
        lines = asked[0].split(b"\r\n")
        assert lines[0] == b"CONNECT 127.0.0.1:%d HTTP/1.1" % server.port
        assert b"Proxy-Authorization: Basic bWU6b3Blbi1zZXNhbWU=" in lines
        assert b"secret" not in asked[0]
        assert not any(b"Proxy-Authorization" in heard for heard in server.heard)


async def test_a_proxy_over_tls_reads_plain_requests() -> None:
    async with (
        SecureLoopback(answers(answer(body=b'"proxy"'))) as proxy,
        Http1Transport(ca_bundle=CERTIFICATE) as transport,
    ):
        transport._connector._find_proxy = lambda *_: read_proxy(f"https://127.0.0.1:{proxy.port}")
        assert (await transport.send(request("http://cloud.invalid:8080/x"))).body == b'"proxy"'
        assert proxy.heard[0].startswith(b"GET http://cloud.invalid:8080/x HTTP/1.1\r\nHost: cloud.invalid:8080\r\n")


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\n\r\nmore",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"nothing of the kind\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
    ],
    ids=["data of its own", "another protocol", "no HTTP", "no end"],
)
async def test_a_proxy_that_answers_oddly_has_not_opened_a_tunnel(reply: bytes) -> None:
    async with Loopback(answers(reply)) as proxy, Http1Transport() as transport:
        transport._connector._find_proxy = lambda *_: read_proxy(proxy.url)
        with pytest.raises(TransportError, match=f"the proxy 127.0.0.1:{proxy.port} .* CONNECT") as caught:
            await transport.send(request("https://cloud.invalid"))
        assert not caught.value.maybe_delivered
        await proxy.until(lambda it: it.open == 0)


@pytest.mark.parametrize(
    ("url", "host", "port", "shown"),
    [
        ("http://bms.example.com/x", "bms.example.com", 80, "bms.example.com"),
        ("https://BMS.example.com:443/x", "bms.example.com", 443, "bms.example.com"),
        ("https://bms.example.com:8443", "bms.example.com", 8443, "bms.example.com:8443"),
        ("http://[FD00::1]:80/", "fd00::1", 80, "[fd00::1]"),
        ("http://[fe80::1%eth0]:81/", "fe80::1%eth0", 81, "[fe80::1]:81"),
        ("http://bücher.example/", "xn--bcher-kva.example", 80, "xn--bcher-kva.example"),
        ("http://my_host/", "my_host", 80, "my_host"),
    ],
)
async def test_an_address_is_read_from_its_url(url: str, host: str, port: int, shown: str) -> None:
    scheme, _, rest = url.partition("://")
    connector = Connector(None)
    connector._find_proxy = lambda *_: None
    route = await connector.route_to(request(url), scheme, rest.partition("/")[0])
    assert (route.host, route.port, route.is_secure) == (host, port, scheme == "https")
    assert route.writer.write(request(url), "/")[0].count(f"\r\nHost: {shown}\r\n".encode()) == 1


@pytest.mark.parametrize(
    "netloc",
    [
        *("", ":80", "a b", "a\r\nX-Y: z", "a:b", "a:-1", "[::1", "a" * 64 + ".example", "é" * 70, "a@b"),
        *("a:0", "a:00", "a:65536", "a\n", "\ta", "a.\r\nexample", "127.0.0.1\n:80"),
    ],
)
async def test_r3_an_address_that_is_none_is_refused_and_not_shown(netloc: str) -> None:
    with pytest.raises(TransportError, match="InvalidURL: ") as caught:
        await Connector(None).route_to(request("http://x"), "http", netloc)
    assert not caught.value.maybe_delivered
    assert not netloc or netloc not in str(caught.value)
