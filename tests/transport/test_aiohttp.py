"""What is aiohttp's own: sessions that are given, the size of their pools, TLS and proxies."""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import Any

import aiohttp
import pytest

from bms_async import ClientClosedError, ConfigurationError, HttpRequest, Transport, TransportError
from bms_async.transport import OwningTransport
from bms_async.transport.aiohttp import AiohttpTransport
from tests.transport.loopback import (
    CERTIFICATE,
    Behaviour,
    Loopback,
    Talk,
    answer,
    answers,
    answers_when,
    server_context,
)
from tests.transport.test_connections import forget_proxies


def request(url: str, **more: Any) -> HttpRequest:
    return HttpRequest(
        **{"operation": "servers.get", "method": "GET", "url": url, "headers": {}, "timeout": 5.0, **more}
    )


def shown(error: BaseException) -> str:
    return " ".join(map(repr, (str(error), error, error.__cause__, error.__context__)))


def test_it_is_a_transport_that_owns_its_sending() -> None:
    transport = AiohttpTransport(connections=7)
    assert isinstance(transport, Transport)
    assert isinstance(transport, OwningTransport)
    assert repr(transport) == "<AiohttpTransport closed, 0 of 7 in flight>"
    assert transport.statistics().max_connections == 7
    assert AiohttpTransport().statistics().max_connections == 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"connections": 0}, r"connections=0\): expected at least 1"),
        ({"connections": -1}, r"connections=-1\): expected at least 1"),
        ({"keep_alive": "15"}, r"keep_alive='15'\): expected a number of seconds"),
        ({"keep_alive": True}, r"keep_alive=True\): expected a number of seconds"),
        ({"keep_alive": 0}, r"keep_alive=0\): expected a number of seconds"),
        ({"keep_alive": float("nan")}, r"keep_alive=nan\): expected a number of seconds"),
        ({"max_response_bytes": 0}, r"max_response_bytes=0\): expected a whole number"),
    ],
)
def test_a_number_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AiohttpTransport(**given)


async def test_a_bundle_beside_a_session_is_refused_for_that_has_its_own() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ConfigurationError, match="ssl="):
            AiohttpTransport(session, ca_bundle=CERTIFICATE)


async def test_a_session_that_was_closed_is_refused() -> None:
    async with aiohttp.ClientSession() as session:
        pass
    with pytest.raises(ConfigurationError, match="got a closed one"):
        AiohttpTransport(session)


@pytest.mark.parametrize(
    ("limits", "asked", "given"),
    [
        ({"limit": 7}, None, 7),
        ({"limit": 7}, 3, 3),
        ({"limit": 7}, 50, 7),
        ({"limit": 0}, None, 100),
        ({"limit": 0}, 200, 200),
        ({"limit": 20, "limit_per_host": 5}, None, 5),
    ],
)
async def test_the_size_of_the_pool_is_read_from_the_connector(
    limits: dict[str, Any], asked: int | None, given: int
) -> None:
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(**limits))
    async with AiohttpTransport(session, connections=asked) as transport:
        assert transport.statistics().max_connections == given


async def test_a_session_that_is_given_is_closed_with_the_transport() -> None:
    async with Loopback(answers(answer())) as server:
        session = aiohttp.ClientSession()
        async with AiohttpTransport(session) as transport:
            await transport.send(request(server.url))
        assert session.closed
        await server.until(lambda it: it.open == 0)


async def test_what_a_session_adds_and_keeps_is_not_used() -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    headers = {"X-Theirs": "1", "User-Agent": "theirs"}
    async with Loopback(answers(answer(set_cookie="session=mine; Path=/"))) as server:
        session = aiohttp.ClientSession(headers=headers, cookie_jar=jar, raise_for_status=True)
        async with AiohttpTransport(session) as transport:
            for _ in range(2):
                await transport.send(request(server.url))
        assert not any(b"mine" in heard or b"theirs" in heard.lower() for heard in server.heard)
        assert len(jar) == 0


def over_tls(behaviour: Behaviour) -> Behaviour:
    async def behave(talk: Talk) -> None:
        await talk.begin_tls(server_context())
        await behaviour(talk)

    return behave


async def test_a_private_authority_is_trusted_with_its_bundle_and_no_other_is() -> None:
    async with Loopback(over_tls(answers(answer(body=b'"over TLS"')))) as server:
        async with AiohttpTransport(ca_bundle=CERTIFICATE) as transport:
            for _ in range(2):
                assert (await transport.send(request(server.secure_url))).body == b'"over TLS"'
            assert server.accepted == 1
        async with AiohttpTransport() as transport:
            with pytest.raises(TransportError, match=r"ConnectError: .*CERTIFICATE_VERIFY_FAILED") as caught:
                await transport.send(request(server.secure_url))
        assert not caught.value.maybe_delivered
        assert len(server.heard) == 2


async def test_a_bundle_of_the_environment_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with Loopback(over_tls(answers(answer()))) as server, AiohttpTransport() as transport:
        assert (await transport.send(request(server.secure_url))).status == 200


async def test_a_bundle_that_is_not_there_is_told_of_when_it_is_opened() -> None:
    transport = AiohttpTransport(ca_bundle="/nowhere/ca.pem")
    with pytest.raises(ConfigurationError, match="ca_bundle="):
        await transport.open()
    await transport.aclose()


async def test_r4_closing_does_not_wait_for_the_end_of_tls() -> None:
    gate = asyncio.Event()
    # The server answers no farewell of TLS while it holds a request, and asyncio would wait 30 s for it.
    async with Loopback(over_tls(answers_when(gate, answer()))) as server:
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks()
        async with AiohttpTransport(ca_bundle=CERTIFICATE) as transport, asyncio.timeout(20):
            idle = asyncio.create_task(transport.send(request(server.secure_url)))
            await server.until(lambda it: len(it.heard) == 1)
            gate.set()
            await idle
            gate.clear()
            held = [asyncio.create_task(transport.send(request(server.secure_url))) for _ in range(2)]
            await server.until(lambda it: len(it.heard) == 3)
        ended = await asyncio.gather(*held, return_exceptions=True)
        assert [type(each) for each in ended] == [ClientClosedError] * 2
        assert asyncio.all_tasks() - server.tasks == tasks
        async with asyncio.timeout(20):
            await server.until(lambda it: it.open == 0)


def tunnels(behaviour: Behaviour) -> Behaviour:
    """Be a proxy that opens a way, and then the server at its end."""

    async def behave(talk: Talk) -> None:
        if await talk.hear() is not None:
            await talk.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await over_tls(behaviour)(talk)

    return behave


async def test_a_proxy_is_asked_for_a_way_and_sees_nothing_of_what_goes_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forget_proxies(monkeypatch)
    async with Loopback(tunnels(answers(answer(body=b'"cloud"')))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:open-sesame@127.0.0.1:{proxy.port}")
        trust = ssl.create_default_context(cafile=str(CERTIFICATE))
        trust.check_hostname = False
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust), trust_env=True)
        async with AiohttpTransport(session) as transport:
            sent = request("https://cloud.invalid/x", headers={"X-Auth-Token": "secret"})
            for _ in range(2):
                assert (await transport.send(sent)).body == b'"cloud"'
    asked, *through = proxy.heard
    assert asked.startswith(b"CONNECT cloud.invalid:443 HTTP/1.1\r\n")
    assert base64.b64encode(b"me:open-sesame") in asked
    assert b"secret" not in asked
    assert [heard.partition(b"\r\n")[0] for heard in through] == [b"GET /x HTTP/1.1"] * 2
    assert not any(b"proxy-authorization" in heard.lower() for heard in through)
    assert proxy.accepted == 1


async def test_a_proxy_gets_its_password_with_every_plain_request(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)
    async with Loopback(answers(answer(body=b'"proxy"'))) as proxy, AiohttpTransport() as transport:
        monkeypatch.setenv("ALL_PROXY", f"me:open-sesame@127.0.0.1:{proxy.port}")
        for _ in range(2):
            assert (await transport.send(request("http://cloud.invalid/x?a=1"))).body == b'"proxy"'
        assert all(heard.startswith(b"GET http://cloud.invalid/x?a=1 HTTP/1.1\r\n") for heard in proxy.heard)
        expected = b"Proxy-Authorization: Basic " + base64.b64encode(b"me:open-sesame") + b"\r\n"
        assert all(expected in heard for heard in proxy.heard)
        assert proxy.accepted == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_r5_a_proxy_that_is_not_there_is_told_of_without_its_password(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_proxies(monkeypatch)
    async with Loopback(answers(answer())) as gone:
        port = gone.port
    monkeypatch.setenv("ALL_PROXY", f"http://me:open-sesame@127.0.0.1:{port}")
    async with AiohttpTransport() as transport:
        with pytest.raises(TransportError, match="ProxyError") as caught:
            await transport.send(request(f"{scheme}://cloud.invalid/x"))
    assert not caught.value.maybe_delivered
    assert "open-sesame" not in shown(caught.value)


@pytest.mark.parametrize("proxy", ["socks5://me:open-sesame@127.0.0.1:1", "http://", "http://me:open-sesame@:x"])
async def test_r5_a_proxy_that_cannot_be_used_is_told_of_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_proxies(monkeypatch)
    monkeypatch.setenv("ALL_PROXY", proxy)
    async with AiohttpTransport() as transport:
        with pytest.raises(TransportError, match=r"ProxyError: the proxy to .* cannot be used: ") as caught:
            await transport.send(request("http://cloud.invalid/x"))
    assert not caught.value.maybe_delivered
    assert "open-sesame" not in shown(caught.value)


@pytest.mark.parametrize("url", ["http://me:open-sesame@127.0.0.1/x", "http:///x", "http://?x", "http://[::1/x"])
async def test_r5_a_url_that_cannot_be_sent_is_not_shown(url: str) -> None:
    async with AiohttpTransport() as transport:
        with pytest.raises(TransportError, match="InvalidURL") as caught:
            await transport.send(request(url))
    assert not caught.value.maybe_delivered
    assert "open-sesame" not in shown(caught.value)


@pytest.mark.parametrize("method", ["GE T", "", "GET / HTTP/1.1\r\nX: y"])
async def test_a_method_that_is_no_word_is_not_sent(method: str) -> None:
    async with Loopback(answers(answer())) as server, AiohttpTransport() as transport:
        with pytest.raises(TransportError, match="LocalProtocolError") as caught:
            await transport.send(request(server.url, method=method))
        assert not caught.value.maybe_delivered
        assert server.heard == []


async def test_r3_on_a_connection_that_broke_before_anything_was_written_nothing_was_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Loopback(answers(answer())) as server, AiohttpTransport() as transport:
        connect = transport._connect

        async def connects_and_loses_it(*arguments: Any) -> Any:
            line = await connect(*arguments)
            line._protocol.transport.abort()
            await asyncio.sleep(0)
            return line

        monkeypatch.setattr(transport, "_connect", connects_and_loses_it)
        with pytest.raises(TransportError, match="ReadError") as caught:
            await transport.send(request(server.url, method="POST"))
        assert not caught.value.maybe_delivered
        assert server.heard == []


# aiohttp 3.14 would have it otherwise, which 3.11 did not know.
@pytest.mark.filterwarnings("ignore:.* (is deprecated|parameter is deprecated):DeprecationWarning")
async def test_r5_the_proxy_password_of_a_session_goes_as_utf_8_and_shows_nowhere() -> None:
    async with Loopback(answers(answer(407))) as proxy:
        auth = aiohttp.BasicAuth("üser", "пароль-密码-100")
        session = aiohttp.ClientSession(proxy=proxy.url, proxy_auth=auth)
        async with AiohttpTransport(session) as transport:
            with pytest.raises(TransportError, match="responded with 407 to CONNECT") as caught:
                await transport.send(request("https://cloud.invalid/x"))
            ways = [
                (route.connect_request, route.connect_request.connection_key, route.connect_request.proxy_headers)
                for route in transport._routes.values()
            ]
        expected = base64.b64encode("üser:пароль-密码-100".encode())
        assert b"Proxy-Authorization: Basic " + expected in proxy.heard[0]
    assert len(ways) == 1
    assert "пароль" not in shown(caught.value) + repr(ways)
    assert expected.decode() not in shown(caught.value) + repr(ways)
