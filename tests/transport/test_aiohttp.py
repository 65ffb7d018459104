"""What is aiohttp's own: sessions that are given, their pools, TLS and proxies, and what they would send twice."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import aiohttp
import pytest
from blockbuster import BlockBuster

from bms_async import (
    BmsClient,
    ClientClosedError,
    ConfigurationError,
    HttpRequest,
    Limits,
    StaticToken,
    Transport,
    TransportError,
)
from bms_async.transport import OwningTransport
from bms_async.transport.aiohttp import _TRACE, AiohttpTransport
from tests.support.real_clock import run_ahead, stand_still
from tests.transport.loopback import (
    PATIENCE,
    Behaviour,
    Loopback,
    Talk,
    answer,
    answers,
    answers_when,
    eventually,
    over_tls,
)
from tests.transport.test_connections import forget_proxies


def request(url: str, **more: Any) -> HttpRequest:
    return HttpRequest(
        **{"operation": "servers.get", "method": "GET", "url": url, "headers": {}, "timeout": 5.0, **more}
    )


def shown(error: BaseException) -> str:
    return " ".join(map(repr, (str(error), error, error.__cause__, error.__context__)))


def over_a_session(**options: Any) -> AiohttpTransport:
    return AiohttpTransport(aiohttp.ClientSession(**options))


def trusting_session(trust: ssl.SSLContext) -> AiohttpTransport:
    return over_a_session(connector=aiohttp.TCPConnector(ssl=trust))


async def test_it_is_a_transport_that_owns_its_sending() -> None:
    transport = AiohttpTransport(aiohttp.ClientSession(), connections=7)
    assert isinstance(transport, Transport)
    assert isinstance(transport, OwningTransport)
    assert repr(transport) == "<AiohttpTransport closed, 0 of 7 in flight>"
    assert transport.statistics().max_connections == 7
    await transport.aclose()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"connections": 0}, r"connections=0\): expected at least 1"),
        ({"connections": -1}, r"connections=-1\): expected at least 1"),
        ({"max_response_bytes": 0}, r"max_response_bytes=0\): expected a whole number"),
    ],
)
async def test_a_number_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ConfigurationError, match=message):
            AiohttpTransport(session, **given)


async def test_a_session_that_was_closed_is_refused() -> None:
    async with aiohttp.ClientSession() as session:
        pass
    with pytest.raises(ConfigurationError, match="got a closed one"):
        AiohttpTransport(session)


@pytest.mark.parametrize("given", [None, aiohttp.ClientSession, "https://bms.example.com"])
def test_what_is_no_session_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"expected an aiohttp.ClientSession, got {type(given).__name__}"):
        AiohttpTransport(given)


# aiohttp 3.14 would have it otherwise, which 3.11 did not know.
@pytest.mark.filterwarnings("ignore:.* (is deprecated|parameter is deprecated):DeprecationWarning")
async def test_r5_a_session_with_a_password_of_its_own_is_refused_without_showing_it() -> None:
    async with aiohttp.ClientSession(auth=aiohttp.BasicAuth("me", "open-sesame")) as session:
        with pytest.raises(ConfigurationError, match="expected a session without auth") as caught:
            AiohttpTransport(session)
    assert "open-sesame" not in shown(caught.value)


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
    headers = {"X-Theirs": "1", "User-Agent": "theirs", "Authorization": "Basic theirs", "X-Ours": "theirs"}
    async with Loopback(answers(answer(404, set_cookie="session=mine; Path=/"))) as server:
        session = aiohttp.ClientSession(headers=headers, cookie_jar=jar, raise_for_status=True)
        async with AiohttpTransport(session) as transport:
            for _ in range(2):
                assert (await transport.send(request(server.url, headers={"x-ours": "ours"}))).status == 404
        assert not any(b"mine" in heard or b"theirs" in heard.lower() for heard in server.heard)
        assert all(b"x-ours: ours" in heard.lower() for heard in server.heard)
        assert len(jar) == 0


async def test_the_timeout_of_a_session_is_not_used() -> None:
    gate = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=1e-9, sock_read=1e-9)
    async with Loopback(answers_when(gate, answer())) as server, over_a_session(timeout=timeout) as transport:
        call = asyncio.create_task(transport.send(request(server.url, timeout=PATIENCE)))
        await server.until(lambda it: len(it.heard) == 1)
        gate.set()
        assert (await call).status == 200


async def test_requests_of_the_application_over_the_same_session_are_left_alone() -> None:
    async with Loopback(answers(answer(set_cookie="session=theirs; Path=/"))) as server:
        session = aiohttp.ClientSession(headers={"X-Theirs": "1"}, cookie_jar=aiohttp.CookieJar(unsafe=True))
        async with AiohttpTransport(session):
            for context in (None, {"of": "theirs"}):
                async with session.get(server.url, trace_request_ctx=context) as response:
                    assert response.status == 200
            assert b"session=theirs" in server.heard[1]
            assert all(b"X-Theirs: 1" in heard for heard in server.heard)


async def test_two_transports_over_one_session_hook_into_it_once() -> None:
    theirs = aiohttp.TraceConfig()
    async with aiohttp.ClientSession(trace_configs=[theirs]) as session:
        for _ in range(2):
            AiohttpTransport(session)
        assert session.trace_configs == [theirs, _TRACE]


BREAKS = {"closes": False, "resets": True}


def breaks(*, resets: bool, answered: int) -> Behaviour:
    """Answer so many requests of a connection, and break off after the next one."""

    async def behave(talk: Talk) -> None:
        for _ in range(answered):
            await talk.hear()
            await talk.say(answer())
        await talk.hear()
        if resets:
            talk.reset()

    return behave


REPEATED_BY_AIOHTTP = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")


@pytest.mark.parametrize("resets", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("answered", [0, 1], ids=["a new connection", "a kept connection"])
@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 200_000], ids=["no body", "a body", "a body in pieces"])
@pytest.mark.parametrize("method", [*REPEATED_BY_AIOHTTP, "POST", "PATCH"])
async def test_r3_no_request_is_sent_twice_whatever_becomes_of_its_connection(
    method: str, body: bytes, answered: int, resets: bool
) -> None:
    async with Loopback(breaks(resets=resets, answered=answered)) as server, over_a_session() as transport:
        for _ in range(answered):
            await transport.send(request(server.url))
        with pytest.raises(TransportError, match=r"RemoteProtocolError|ReadError") as caught:
            await transport.send(request(server.url, method=method, body=body, timeout=PATIENCE))
        assert caught.value.maybe_delivered
        assert Counter(heard.split()[0].decode() for heard in server.heard) == Counter(["GET"] * answered + [method])


@pytest.mark.parametrize("method", REPEATED_BY_AIOHTTP)
async def test_without_our_hook_a_session_sends_a_request_twice(method: str) -> None:
    """The control of the test above: what the hook prevents is what aiohttp does."""
    async with Loopback(breaks(resets=False, answered=0)) as server, over_a_session() as transport:
        transport._session.trace_configs.remove(_TRACE)
        with pytest.raises(TransportError) as caught:
            await transport.send(request(server.url, method=method))
        # Without its events nothing is proved.
        assert caught.value.maybe_delivered
        assert len(server.heard) == 2


async def test_r3_a_post_is_sent_once_without_our_hook_too() -> None:
    async with Loopback(breaks(resets=False, answered=0)) as server, over_a_session() as transport:
        transport._session.trace_configs.remove(_TRACE)
        with pytest.raises(TransportError) as caught:
            await transport.send(request(server.url, method="POST", body=b"{}"))
        assert caught.value.maybe_delivered
        assert len(server.heard) == 1


async def test_r3_a_request_that_broke_is_not_sent_again_on_another_kept_connection_either() -> None:
    gate = asyncio.Event()

    async def breaks_at_the_second(talk: Talk) -> None:
        await talk.hear()
        if await talk.stays_until(gate):
            await talk.say(answer())
            await talk.hear()

    async with Loopback(breaks_at_the_second) as server, over_a_session() as transport:
        calls = [asyncio.create_task(transport.send(request(server.url))) for _ in range(4)]
        await server.until(lambda it: len(it.heard) == 4)
        gate.set()
        await asyncio.gather(*calls)
        with pytest.raises(TransportError, match="RemoteProtocolError"):
            await transport.send(request(server.url))
        assert (len(server.heard), server.accepted) == (5, 4)
        connector: Any = transport._session.connector
        assert len(connector._acquired) == 0


async def test_r3_the_connection_that_a_second_sending_would_need_is_not_opened() -> None:
    async with Loopback(breaks(resets=False, answered=1)) as server, over_a_session() as transport:
        await transport.send(request(server.url))
        with pytest.raises(TransportError, match="RemoteProtocolError"):
            await transport.send(request(server.url))
        assert server.accepted == 1


async def test_r3_a_reboot_over_a_connection_that_breaks_is_heard_once() -> None:
    async with Loopback(breaks(resets=True, answered=0)) as server:
        bms = BmsClient(
            endpoint=server.url,
            project_id="p",
            auth=StaticToken("t"),
            transport=over_a_session(),
            limits=Limits.unlimited(),
        )
        async with bms:
            with pytest.raises(TransportError) as caught:
                await bms.servers.reboot(["s-1"])
        assert caught.value.maybe_delivered
        assert len(server.heard) == 1


def sends_again(tries: int) -> Callable[..., Any]:
    """Write a middleware that repeats whatever fails."""

    async def middleware(sent: Any, handler: Any) -> Any:
        failure: Exception = RuntimeError()
        for _ in range(tries):
            try:
                return await handler(sent)
            except Exception as error:  # noqa: BLE001 - as an application might
                failure = error
        raise failure

    return middleware


HAS_MIDDLEWARES = hasattr(aiohttp, "ClientMiddlewareType")


@pytest.mark.parametrize("options", [{"middlewares": (sends_again(3),)} if HAS_MIDDLEWARES else {}])
async def test_r3_a_middleware_of_the_session_does_not_send_a_reboot_again(options: dict[str, Any]) -> None:
    async with Loopback(breaks(resets=False, answered=0)) as server, over_a_session(**options) as transport:
        with pytest.raises(TransportError, match="RemoteProtocolError") as caught:
            await transport.send(request(server.url, method="POST", body=b"{}"))
        assert caught.value.maybe_delivered
        assert len(server.heard) == 1


class BrokenHookError(Exception):
    pass


EVENTS = {
    "on_request_start": True,
    "on_connection_create_start": False,
    "on_connection_create_end": False,
    "on_request_headers_sent": True,
    "on_request_end": True,
}


@pytest.mark.parametrize(("event", "maybe"), EVENTS.items())
async def test_a_hook_of_the_application_that_raises_costs_the_request_and_no_other(event: str, maybe: bool) -> None:
    failures = iter([BrokenHookError("open-sesame")])

    async def broken(*_: object) -> None:
        for failure in failures:
            raise failure

    trace = aiohttp.TraceConfig()
    getattr(trace, event).append(broken)
    async with Loopback(answers(answer())) as server, over_a_session(trace_configs=[trace]) as transport:
        with pytest.raises(TransportError, match="BrokenHookError") as caught:
            await transport.send(request(server.url, method="POST"))
        # Before the first event nothing is known; and once there is a connection, any byte may have been written.
        assert caught.value.maybe_delivered == maybe
        assert maybe or server.heard == []
        assert "open-sesame" not in shown(caught.value)
        assert (await transport.send(request(server.url))).status == 200


async def test_an_unasked_answer_on_an_idle_connection_is_not_taken_for_the_next_one() -> None:
    async def says_too_much(talk: Talk) -> None:
        await talk.hear()
        await talk.say(answer(body=b'"mine"') + answer(body=b'"not mine"'))
        await talk.until_gone()

    async with Loopback(says_too_much) as server, over_a_session() as transport:
        for _ in range(2):
            assert (await transport.send(request(server.url))).body == b'"mine"'
        assert server.accepted == 2


async def test_a_redirect_is_an_answer_as_any_other() -> None:
    async with Loopback(answers(answer(302, location="/elsewhere"))) as server, over_a_session() as transport:
        assert (await transport.send(request(server.url))).status == 302
        assert len(server.heard) == 1


async def test_the_trust_of_the_session_counts(trusting: ssl.SSLContext) -> None:
    async with Loopback(over_tls(answers(answer(body=b'"over TLS"')))) as server:
        async with trusting_session(trusting) as transport:
            for _ in range(2):
                assert (await transport.send(request(server.secure_url))).body == b'"over TLS"'
            assert server.accepted == 1
        async with over_a_session() as transport:
            with pytest.raises(TransportError, match=r"ConnectError: .*CERTIFICATE_VERIFY_FAILED") as caught:
                await transport.send(request(server.secure_url))
        assert not caught.value.maybe_delivered
        assert len(server.heard) == 2


async def test_r4_closing_does_not_wait_for_the_end_of_tls(trusting: ssl.SSLContext) -> None:
    gate = asyncio.Event()
    # The server answers no farewell of TLS while it holds a request, and asyncio would wait 30 s for it.
    async with Loopback(over_tls(answers_when(gate, answer()))) as server:
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks()
        async with trusting_session(trusting) as transport, asyncio.timeout(20):
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


Through: TypeAlias = Callable[[Loopback, str], AiohttpTransport]


@pytest.fixture
def through(
    trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, nothing_blocks_the_loop: BlockBuster
) -> Iterator[Through]:
    """Make a transport whose session has a proxy of its own, or takes the one of the environment."""
    forget_proxies(monkeypatch)
    for function in nothing_blocks_the_loop.functions.values():
        # Older releases of aiohttp read it on the loop, which is theirs to mend.
        function.can_block_in("aiohttp/helpers.py", "netrc_from_env")

    def make(proxy: Loopback, how: str) -> AiohttpTransport:
        address = f"http://me:open-sesame@127.0.0.1:{proxy.port}"
        monkeypatch.setenv("HTTP_PROXY", address)
        monkeypatch.setenv("HTTPS_PROXY", address)
        options: dict[str, Any] = {"proxy": address} if how == "its own" else {"trust_env": True}
        return over_a_session(connector=aiohttp.TCPConnector(ssl=trusting), **options)

    yield make
    for function in nothing_blocks_the_loop.functions.values():
        function.can_block_functions.pop()


HOW = pytest.mark.parametrize("how", ["its own", "of the environment"])


@HOW
async def test_a_proxy_is_asked_for_a_way_and_sees_nothing_of_what_goes_through(how: str, through: Through) -> None:
    async with Loopback(tunnels(answers(answer(body=b'"cloud"')))) as proxy, through(proxy, how) as transport:
        sent = request("https://127.0.0.1:1/x", headers={"X-Auth-Token": "secret"}, timeout=PATIENCE)
        for _ in range(2):
            assert (await transport.send(sent)).body == b'"cloud"'
    asked, *passed = proxy.heard
    assert asked.startswith(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n")
    assert base64.b64encode(b"me:open-sesame") in asked
    assert b"secret" not in asked
    assert [heard.partition(b"\r\n")[0] for heard in passed] == [b"GET /x HTTP/1.1"] * 2
    assert not any(b"proxy-authorization" in heard.lower() for heard in passed)
    assert proxy.accepted == 1


@HOW
async def test_a_proxy_gets_its_password_with_a_plain_request(how: str, through: Through) -> None:
    async with Loopback(answers(answer(body=b'"proxy"'))) as proxy, through(proxy, how) as transport:
        for _ in range(2):
            sent = request("http://cloud.invalid/x?a=%26", timeout=PATIENCE)
            assert (await transport.send(sent)).body == b'"proxy"'
        assert all(heard.startswith(b"GET http://cloud.invalid/x?a=%26 HTTP/1.1\r\n") for heard in proxy.heard)
        expected = b"Proxy-Authorization: Basic " + base64.b64encode(b"me:open-sesame") + b"\r\n"
        # Older releases of aiohttp leave it out on a kept connection, where most proxies still know it.
        assert expected in proxy.heard[0]


@HOW
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_r5_a_proxy_that_is_not_there_is_told_of_without_its_password(
    scheme: str, how: str, through: Through
) -> None:
    async with Loopback(answers(answer())) as gone:
        pass
    async with through(gone, how) as transport:
        with pytest.raises(
            TransportError, match=f"ProxyError: no connection to the proxy 127.0.0.1:{gone.port}"
        ) as caught:
            await transport.send(request(f"{scheme}://cloud.invalid/x"))
    assert not caught.value.maybe_delivered
    assert "open-sesame" not in shown(caught.value)


@HOW
async def test_r5_a_proxy_that_refuses_is_told_of_without_its_password(how: str, through: Through) -> None:
    async with Loopback(answers(answer(407))) as proxy, through(proxy, how) as transport:
        with pytest.raises(TransportError, match=f"the proxy 127.0.0.1:{proxy.port} responded with 407") as caught:
            await transport.send(request("https://cloud.invalid/x"))
    assert not caught.value.maybe_delivered
    assert "open-sesame" not in shown(caught.value)


@pytest.mark.parametrize("url", ["http://me:open-sesame@127.0.0.1/x", "http:///x", "http://?x", "http://[::1/x"])
async def test_r5_a_url_that_cannot_be_sent_is_not_shown(url: str) -> None:
    async with over_a_session() as transport:
        with pytest.raises(TransportError, match="InvalidURL") as caught:
            await transport.send(request(url))
    assert not caught.value.maybe_delivered
    assert "open-sesame" not in shown(caught.value)


@pytest.mark.parametrize("method", ["GE T", "", "GET / HTTP/1.1\r\nX: y"])
async def test_a_method_that_is_no_word_is_not_sent(method: str) -> None:
    async with Loopback(answers(answer())) as server, over_a_session() as transport:
        with pytest.raises(TransportError, match="LocalProtocolError") as caught:
            await transport.send(request(server.url, method=method))
        assert not caught.value.maybe_delivered
        assert server.heard == []


async def test_r5_a_cookie_that_echoes_the_token_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    token = "a-token-that-nobody-may-see"
    echoes = [f"{token}\x01=1; Path=/", f'a="{token}', f"{token}", f"a={token}; Max-Age={token}", f"a b={token}"]
    async with over_a_session(cookie_jar=aiohttp.CookieJar(unsafe=True)) as transport:
        for echo in echoes:
            async with Loopback(answers(answer(set_cookie=echo))) as server:
                await transport.send(request(server.url, headers={"X-Auth-Token": token}))
    assert token not in caplog.text


async def test_waiting_for_a_connection_that_the_application_holds_is_connecting() -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, answer())) as server:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
        async with AiohttpTransport(session) as transport:
            theirs = asyncio.ensure_future(session.get(server.url))
            await server.until(lambda it: len(it.heard) == 1)
            call = asyncio.create_task(transport.send(request(server.url, timeout=PATIENCE)))
            await eventually(lambda: transport.statistics().in_flight == 1)
            stand_still()
            while not call.done():
                run_ahead(1.0)
                await asyncio.sleep(0)
            with pytest.raises(TransportError, match="ConnectTimeout: no connection within 10 s") as caught:
                await call
            assert not caught.value.maybe_delivered
            assert len(server.heard) == 1
            gate.set()
            (await theirs).close()
            assert (await transport.send(request(server.url))).status == 200
