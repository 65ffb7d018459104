"""R3: what `maybe_delivered` says follows how far a request got, and not what an exception is called."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from types import ModuleType
from typing import Any

import aiohttp
import h2.config
import h2.connection
import h2.events
import httpcore
import httpx
import pytest

from bms_async import BmsClient, BmsError, HttpRequest, HttpxTransport, Limits, StaticToken, TransportError
from tests.support.virtual_clock import run_virtually
from tests.transport._transports import make_transport
from tests.transport.loopback import PATIENCE, Loopback, Talk, answer, answers, server_context

BEFORE_SENDING = {
    "ConnectError",
    "ConnectTimeout",
    "InvalidURL",
    "PoolTimeout",
    "ProxyError",
    "UnsupportedProtocol",
}


def request(url: str, **headers: str) -> HttpRequest:
    return HttpRequest(
        operation="servers.reboot", method="POST", url=f"{url}/x", headers=headers, body=b"{}", timeout=PATIENCE
    )


def bms_over(transport: HttpxTransport, url: str = "http://127.0.0.1:1") -> BmsClient:
    return BmsClient(
        endpoint=url, project_id="p", auth=StaticToken("t"), transport=transport, limits=Limits.unlimited()
    )


def every_error(library: ModuleType) -> list[type[Exception]]:
    named = (getattr(library, name) for name in library.__all__)
    return [each for each in named if isinstance(each, type) and issubclass(each, Exception)]


def made(kind: type[Exception]) -> Exception:
    for arguments in (("boom",), ("boom", b"", 0, 1, "")[:5], ()):
        with contextlib.suppress(TypeError):
            return kind(*arguments)
    error = kind.__new__(kind)
    error.args = ("boom",)
    return error


async def test_r3_whatever_is_raised_after_a_reboot_was_read_it_is_read_once(one_of_httpx: ModuleType) -> None:
    kinds = every_error(one_of_httpx)
    assert len(kinds) > 20
    for kind in kinds:
        read: list[bytes] = []

        class Reads(one_of_httpx.AsyncBaseTransport):  # type: ignore[misc, name-defined]
            async def handle_async_request(self, request: Any, kind: type[Exception] = kind) -> Any:
                read.append(await request.aread())  # noqa: B023
                raise made(kind)

        async with bms_over(HttpxTransport(one_of_httpx.AsyncClient(transport=Reads()))) as bms:
            with pytest.raises(TransportError) as caught:
                await bms.with_options(retry=None).servers.reboot(["s-1"])
        assert len(read) == 1
        assert caught.value.maybe_delivered == (kind.__name__ not in BEFORE_SENDING), kind


async def answers_with_a_wrong_length(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[str]
) -> None:
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.initiate_connection()
    writer.write(server.data_to_send())
    with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError):
        while data := await reader.read(65536):
            for event in server.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    seen.append(dict(event.headers)[b":path"].decode())
                if isinstance(event, h2.events.StreamEnded) and event.stream_id is not None:
                    server.send_headers(event.stream_id, [(":status", "200"), ("content-length", "20")])
                    server.send_data(event.stream_id, b'{"job_id":"j"}', end_stream=True)
            writer.write(server.data_to_send())
    writer.close()


@pytest.mark.parametrize("shared", [True, False], ids=["one pool", "a pool for each connection"])
async def test_r3_an_answer_that_breaks_http2_does_not_have_the_reboot_sent_again(
    one_of_httpx: ModuleType, shared: bool
) -> None:
    seen: list[str] = []
    server = await asyncio.start_server(
        lambda reader, writer: answers_with_a_wrong_length(reader, writer, seen), "127.0.0.1", 0
    )

    def make() -> Any:
        limits = one_of_httpx.Limits(max_connections=1)
        return one_of_httpx.AsyncClient(http1=False, http2=True, limits=limits, trust_env=False)

    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, bms_over(HttpxTransport(make() if shared else make), address) as bms:
        with pytest.raises(BmsError) as caught:
            await bms.servers.reboot(["s-1"])
    assert len(seen) == 1
    assert isinstance(caught.value, TransportError)
    assert caught.value.maybe_delivered


async def test_r3_what_the_library_itself_stumbles_over_in_the_middle_of_a_request_may_have_been_delivered(
    one_of_httpx: ModuleType, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # httpx finds out that the length is wrong when it has written all there is: a LocalProtocolError. So that it gets
    # there, we do not find out before.
    monkeypatch.setattr("bms_async.transport._http1.check_length", lambda _: None)
    async with Loopback(Talk.until_gone) as server, make_transport(one_of_httpx, trusting, 1) as transport:
        with pytest.raises(TransportError, match="LocalProtocolError") as caught:
            await transport.send(request(server.url, **{"Content-Length": "99"}))
    assert caught.value.maybe_delivered


async def closes_the_tunnel(talk: Talk) -> None:
    await talk.hear()


async def resets_the_tunnel(talk: Talk) -> None:
    await talk.hear()
    talk.reset()


async def opens_a_tunnel_to_nowhere(talk: Talk) -> None:
    await talk.hear()
    await talk.say(b"HTTP/1.1 200 Connection established\r\n\r\n")


TUNNELS = {
    "hangs up": (closes_the_tunnel, "closed the connection on CONNECT"),
    "resets": (resets_the_tunnel, "closed the connection on CONNECT"),
    "answers 502": (answers(answer(502)), "responded with 502 to CONNECT"),
    "answers 407": (answers(answer(407)), r"responded with 407 to CONNECT.*it requires a name and a password"),
    "answers 403": (answers(answer(403)), "responded with 403 to CONNECT"),
    "leads nowhere": (opens_a_tunnel_to_nowhere, "ConnectError"),
}


def name_of_the_proxy(library: ModuleType, proxy: Loopback, message: str) -> str:
    """Return how an error names the proxy; nothing that is public says which one a session of aiohttp has."""
    if library is not aiohttp or "responded with" in message:
        return f"the proxy 127.0.0.1:{proxy.port}"
    return "the proxy of the session" if "CONNECT" in message else "no connection to https://bms.example.com"


@pytest.mark.parametrize(("behaviour", "message"), TUNNELS.values(), ids=TUNNELS)
async def test_r3_a_request_that_got_no_further_than_the_proxy_reached_nobody_and_the_error_names_the_proxy(
    library: ModuleType, trusting: ssl.SSLContext, behaviour: Any, message: str
) -> None:
    async with Loopback(behaviour) as proxy, make_transport(library, trusting, 1, proxy=proxy.url) as transport:
        with pytest.raises(TransportError, match=message) as caught:
            await transport.send(request("https://bms.example.com"))
        assert [heard.partition(b" ")[0] for heard in proxy.heard] == [b"CONNECT"]
    assert not caught.value.maybe_delivered
    assert name_of_the_proxy(library, proxy, message) in str(caught.value)
    assert "https://bms.example.com" in str(caught.value)


async def test_r3_a_proxy_that_is_not_there_is_named_and_not_the_server_alone(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    async with Loopback(answers(answer())) as gone:
        port = gone.port
    for scheme in ("http", "https"):
        async with make_transport(library, trusting, 1, proxy=f"http://me:open-sesame@127.0.0.1:{port}") as transport:
            with pytest.raises(
                TransportError, match=f"ProxyError: no connection to the proxy 127.0.0.1:{port}"
            ) as caught:
                await transport.send(request(f"{scheme}://bms.example.com"))
        assert not caught.value.maybe_delivered
        assert "open-sesame" not in str(caught.value)


async def test_r3_what_a_proxy_has_read_whole_may_have_been_passed_on(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    # Without TLS the proxy gets the request itself, and no tunnel is asked for.
    async with Loopback(closes_the_tunnel) as proxy, make_transport(library, trusting, 1, proxy=proxy.url) as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(request("http://bms.example.com"))
        assert proxy.heard[0].startswith(b"POST http://bms.example.com/x HTTP/1.1\r\n")
    assert caught.value.maybe_delivered


async def test_r3_what_breaks_beyond_an_open_tunnel_may_have_been_delivered(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    async def leads_to_a_server_that_hangs_up(talk: Talk) -> None:
        await opens_a_tunnel_to_nowhere(talk)
        await talk.begin_tls(server_context())
        await talk.hear()

    behaviour = leads_to_a_server_that_hangs_up
    async with Loopback(behaviour) as proxy, make_transport(library, trusting, 1, proxy=proxy.url) as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(request("https://127.0.0.1:1"))
        assert [heard.partition(b" ")[0] for heard in proxy.heard] == [b"CONNECT", b"POST"]
    assert caught.value.maybe_delivered


class _Drip(httpcore.AsyncNetworkStream):
    """A server that answers a byte a second, for ever."""

    def __init__(self) -> None:
        self.closed = False
        self._said = iter([b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await asyncio.sleep(1)
        return next(self._said, b"x")

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        pass

    async def aclose(self) -> None:
        self.closed = True

    def get_extra_info(self, info: str) -> Any:
        return None


class _Far(httpcore.AsyncNetworkBackend):
    """A network on which connecting takes 8 s."""

    def __init__(self) -> None:
        self.streams: list[_Drip] = []

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        await asyncio.sleep(8)
        self.streams.append(_Drip())
        return self.streams[-1]


def test_an_answer_that_drips_in_is_given_up_when_its_time_is_over_counted_from_the_connection() -> None:
    async def scenario() -> list[float]:
        network, took = _Far(), []
        carrying = httpx.AsyncHTTPTransport()
        carrying._pool = httpcore.AsyncConnectionPool(network_backend=network, max_connections=1)
        async with HttpxTransport(httpx.AsyncClient(transport=carrying)) as transport:
            for _ in range(2):
                begun = asyncio.get_running_loop().time()
                sent = HttpRequest(
                    operation="servers.get", method="GET", url="http://a.test/x", headers={}, timeout=30.0
                )
                with pytest.raises(TimeoutError, match="ReadTimeout: no complete response within 30 s") as caught:
                    await transport.send(sent)
                assert getattr(caught.value, "maybe_delivered", None) is True
                took.append(asyncio.get_running_loop().time() - begun)
                # The pool of the one connection has its place again, or the second could not be sent.
                assert carrying._pool.connections == []
        assert all(stream.closed for stream in network.streams)
        return took

    assert run_virtually(scenario) == pytest.approx([38.0, 38.0], abs=0.01)
