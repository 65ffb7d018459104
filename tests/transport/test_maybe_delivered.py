"""What `TransportError.maybe_delivered` says, held against what a server really read.

A reboot is sent again only when it is False, so False must never be said of a request that a server has. Each failure
is also one on the only connection there is, after which a good call must still get through: nothing may leak.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import aiohttp
import pytest

from bms_async import HttpRequest, HttpxTransport, TransportError
from tests.support.real_clock import run_ahead
from tests.transport._transports import LibraryTransport, make_transport
from tests.transport.loopback import PATIENCE, Behaviour, Loopback, Talk, answer, answers, server_context

BODY = b'{"reboot": {"type": "HARD"}}'


GIVES_UP_AFTER = 30.0
"""Seconds of a clock that runs ahead only once the server has come as far as it should: no connecting takes as long."""


def request(url: str, *, timeout: float = PATIENCE, body: bytes = BODY) -> HttpRequest:
    return HttpRequest(
        operation="servers.reboot", method="POST", url=f"{url}/action", headers={}, body=body, timeout=timeout
    )


async def fail(transport: LibraryTransport, sent: HttpRequest) -> TransportError:
    """Send, expect a failure in bounded time, and see that the only connection is free for the next call."""
    async with asyncio.timeout(20 * PATIENCE):
        with pytest.raises(TransportError) as caught:
            await transport.send(sent)
        async with Loopback(answers(answer(body=b'"still alive"'))) as healthy:
            assert (await transport.send(request(healthy.url))).body == b'"still alive"'
    assert caught.value.operation == "servers.reboot"
    assert str(caught.value).startswith("servers.reboot: ")
    return caught.value


def then(*steps: bytes) -> Behaviour:
    """Read a request, say something that is no whole answer, and hang up."""

    async def behave(talk: Talk) -> None:
        await talk.hear()
        for text in steps:
            await talk.say(text)

    return behave


async def resets_before_reading(talk: Talk) -> None:
    talk.reset()


async def hangs_up_before_reading(talk: Talk) -> None:
    pass


async def resets_after_reading(talk: Talk) -> None:
    await talk.hear()
    talk.reset()


async def never_answers(talk: Talk) -> None:
    await talk.hear()
    await talk.until_given_up()


async def stops_in_the_head(talk: Talk) -> None:
    await talk.hear()
    await talk.say(b"HTTP/1.1 200 OK\r\ncontent-le")
    await talk.until_given_up()


async def stops_in_the_body(talk: Talk) -> None:
    await talk.hear()
    await talk.say(answer(body=b'{"job', content_length="20"))
    await talk.until_given_up()


class Case(NamedTuple):
    behaviour: Behaviour
    heard: bool
    given_up: bool = False


AFTER_CONNECTING = {
    "reset before it was read": Case(resets_before_reading, heard=False),
    "closed before it was read": Case(hangs_up_before_reading, heard=False),
    "read and reset": Case(resets_after_reading, heard=True),
    "read and closed": Case(then(), heard=True),
    "half a status line": Case(then(b"HTTP/1."), heard=True),
    "half the headers": Case(then(b"HTTP/1.1 200 OK\r\ncontent-type: appl"), heard=True),
    "half the body": Case(then(answer(body=b'{"job', content_length="20")), heard=True),
    "bad chunking": Case(
        then(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"zz\r\n{}\r\n0\r\n\r\n"), heard=True
    ),
    "no last chunk": Case(then(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"2\r\n{}\r\n"), heard=True),
    "another protocol": Case(then(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), heard=True),
    "headers without end": Case(then(b"HTTP/1.1 200 OK\r\n" + b"x-padding: y\r\n" * 20_000), heard=True),
    "not gzip": Case(then(answer(body=b"{}", content_encoding="gzip")), heard=True),
    "no answer": Case(never_answers, heard=True, given_up=True),
    "no answer after half the headers": Case(stops_in_the_head, heard=True, given_up=True),
    "no answer after half the body": Case(stops_in_the_body, heard=True, given_up=True),
}


@pytest.mark.parametrize("case", AFTER_CONNECTING.values(), ids=AFTER_CONNECTING)
async def test_once_connected_a_request_may_have_been_delivered(
    library: ModuleType, trusting: ssl.SSLContext, case: Case
) -> None:
    async with Loopback(case.behaviour) as server, make_transport(library, trusting, 1) as transport:
        error = await fail(transport, request(server.url, timeout=GIVES_UP_AFTER))
        assert error.maybe_delivered
        assert "the cloud may have received it" in str(error)
        assert isinstance(error, TimeoutError) == case.given_up
        # Nothing is sent twice, whatever becomes of it: that is not for the transport to decide.
        assert [heard.endswith(BODY) for heard in server.heard] == [True] * case.heard


async def test_a_request_that_the_server_stops_reading_may_have_been_delivered(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    stalled = asyncio.Event()

    async def reads_nothing(talk: Talk) -> None:
        for _ in range(20 * int(GIVES_UP_AFTER)):
            run_ahead(0.1)
            await asyncio.sleep(0)
        await stalled.wait()

    async with Loopback(reads_nothing) as server, make_transport(library, trusting, 1) as transport:
        error = await fail(transport, request(server.url, timeout=GIVES_UP_AFTER, body=b"x" * 32_000_000))
        assert error.maybe_delivered
        assert "WriteTimeout" in str(error)


async def test_a_refused_connection_delivers_nothing(library: ModuleType, trusting: ssl.SSLContext) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with make_transport(library, trusting, 1) as transport:
            error = await fail(transport, request(address))
    assert not error.maybe_delivered
    assert "nothing reached the cloud" in str(error)


async def test_a_name_that_does_not_resolve_delivers_nothing(
    library: ModuleType, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def know_numbers_only(host: Any, *rest: Any, **options: Any) -> Any:
        # A real look-up would ask the network, which a test has no business with.
        if host in ("nowhere.invalid", b"nowhere.invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", know_numbers_only)
    async with make_transport(library, trusting, 1) as transport:
        error = await fail(transport, request("https://nowhere.invalid"))
    assert not error.maybe_delivered
    assert "Name or service not known" in str(error)


async def speaks_plain_http(talk: Talk) -> None:
    await talk.say(answer(400))


NO_TLS = {
    "plain HTTP": Case(speaks_plain_http, heard=False),
    "hangs up": Case(hangs_up_before_reading, heard=False),
    "resets": Case(resets_before_reading, heard=False),
    "says nothing": Case(Talk.until_given_up, heard=False, given_up=True),
}


@pytest.mark.parametrize("case", NO_TLS.values(), ids=NO_TLS)
async def test_a_server_that_does_not_speak_tls_gets_nothing(
    library: ModuleType, trusting: ssl.SSLContext, case: Case
) -> None:
    async with Loopback(case.behaviour) as server, make_transport(library, trusting, 1) as transport:
        error = await fail(transport, request(server.secure_url, timeout=GIVES_UP_AFTER))
        assert not error.maybe_delivered
        assert isinstance(error, TimeoutError) == case.given_up
        assert (server.accepted, server.heard) == (1, [])


def speaks_tls(context: ssl.SSLContext) -> Behaviour:
    async def behave(talk: Talk) -> None:
        await talk.begin_tls(context)
        while await talk.hear() is not None:
            await talk.say(answer(body=b'"over TLS"'))

    return behave


async def test_a_server_with_a_certificate_that_nobody_signed_gets_nothing(library: ModuleType) -> None:
    usual = ssl.create_default_context()
    async with Loopback(speaks_tls(server_context())) as server, make_transport(library, usual, 1) as transport:
        error = await fail(transport, request(server.secure_url))
        assert not error.maybe_delivered
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert (server.accepted, server.heard) == (1, [])


async def test_a_server_with_a_certificate_for_another_name_gets_nothing(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    async with Loopback(speaks_tls(server_context())) as server, make_transport(library, trusting, 1) as transport:
        error = await fail(transport, request(f"https://localhost:{server.port}"))
        assert not error.maybe_delivered
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert server.heard == []


async def test_a_server_with_a_trusted_certificate_answers_over_tls(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    async with Loopback(speaks_tls(server_context())) as server, make_transport(library, trusting, 1) as transport:
        assert (await transport.send(request(server.secure_url))).body == b'"over TLS"'


@contextmanager
def full_backlog() -> Iterator[str]:
    """Yield the address of a socket that listens but has no room for one more connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(listener.getsockname())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for each in waiting:
                each.close()


async def test_a_server_that_accepts_no_more_connections_gets_nothing(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    with full_backlog() as address:
        async with make_transport(library, trusting, 1) as transport:
            error = await fail(transport, request(address, timeout=0.5))
    assert not error.maybe_delivered
    assert "ConnectTimeout" in str(error)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_not_there_passes_nothing_on(
    library: ModuleType, trusting: ssl.SSLContext, scheme: str
) -> None:
    async with Loopback(answers(answer())) as gone:
        address = gone.url
    async with make_transport(library, trusting, 1, proxy=address) as transport, asyncio.timeout(20 * PATIENCE):
        with pytest.raises(TransportError) as caught:
            await transport.send(request(f"{scheme}://bms.example.com"))
        assert not caught.value.maybe_delivered


async def test_a_proxy_that_says_nothing_passes_nothing_on(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(never_answers) as proxy, make_transport(library, trusting, 1, proxy=proxy.url) as transport:
        async with asyncio.timeout(20 * PATIENCE):
            with pytest.raises(TransportError) as caught:
                await transport.send(request("https://bms.example.com", timeout=GIVES_UP_AFTER))
        assert [heard.partition(b" ")[0] for heard in proxy.heard] == [b"CONNECT"]
        assert not caught.value.maybe_delivered
        assert "ConnectTimeout" in str(caught.value)
        # Nothing that is public says which proxy a session of aiohttp has.
        assert library is aiohttp or f"through the proxy 127.0.0.1:{proxy.port}" in str(caught.value)


async def test_a_proxy_that_refuses_to_connect_passes_nothing_on(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with (
        Loopback(answers(answer(407))) as proxy,
        make_transport(library, trusting, 1, proxy=proxy.url) as transport,
    ):
        async with asyncio.timeout(20 * PATIENCE):
            with pytest.raises(TransportError) as caught:
                await transport.send(request("https://bms.example.com"))
        assert not caught.value.maybe_delivered
        assert [heard.partition(b" ")[0] for heard in proxy.heard] == [b"CONNECT"]


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("ftp://127.0.0.1", {}),
        ("127.0.0.1", {}),
        ("http://127.0.0.1:port", {}),
        ("http://" + "a" * 64 + ".example.com", {}),
        ("http://127.0.0.1", {"X-Auth-Token": "two\r\nlines"}),
        ("http://127.0.0.1", {"X-Auth-Token": "nöt ascii"}),
    ],
    ids=["scheme", "no scheme", "port", "name", "header with a line break", "header not in ASCII"],
)
async def test_a_request_that_cannot_be_sent_is_not_sent(
    library: ModuleType, trusting: ssl.SSLContext, url: str, headers: dict[str, str]
) -> None:
    async with Loopback(answers(answer())) as server, make_transport(library, trusting, 1) as transport:
        if url == "http://127.0.0.1":
            url = server.url
        sent = HttpRequest(operation="servers.reboot", method="POST", url=url, headers=headers, body=BODY)
        error = await fail(transport, sent)
        assert not error.maybe_delivered
        assert server.heard == []


class OtherError(Exception):
    pass


@pytest.mark.parametrize(
    "raised", [OtherError("boom"), ValueError("boom"), OSError("boom"), asyncio.CancelledError("boom")]
)
async def test_a_failure_that_nobody_knows_may_have_delivered(
    one_of_httpx: ModuleType, trusting: ssl.SSLContext, raised: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = one_of_httpx.AsyncClient(verify=trusting, trust_env=False)
    send: Callable[..., Awaitable[Any]] = client.send
    failures = iter([raised])

    async def broken(*args: Any, **options: Any) -> Any:
        for failure in failures:
            raise failure
        return await send(*args, **options)

    monkeypatch.setattr(client, "send", broken)
    async with HttpxTransport(client) as transport:
        error = await fail(transport, request("http://127.0.0.1"))
    assert error.maybe_delivered
    assert type(raised).__name__ in str(error)
