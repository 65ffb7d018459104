"""R5: the frames of an error are whole, the loggers are the application's, and no secret is in either."""

from __future__ import annotations

import asyncio
import logging
import ssl
import traceback
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any

import httptools
import msgspec
import pytest

from bms_async import HttpRequest, HttpResponse, HttpxTransport, ResponseTooLargeError, TransportError
from bms_async.redaction import SecretBytes, SecretStr
from bms_async.transport._connect import read_proxy
from bms_async.transport.aiohttp import AiohttpTransport
from bms_async.transport.http1 import Http1Transport
from tests.transport._transports import LibraryTransport, make_transport
from tests.transport.loopback import Behaviour, Loopback, Talk, answer, answers, answers_when

TOKEN = "MIIFvgYJKoZIhvcNAQcCsecretZ7Qx"
PASSWORD = "open-sesame-3000"
LOGGERS = [f"{library}{part}" for library in ("httpx", "httpcore") for part in ("", "2")]
PARTS = ["", ".connection", ".http11", ".http2", ".proxy", ".socks"]


def request(url: str, *, timeout: float = 5.0) -> HttpRequest:
    return HttpRequest(
        operation="servers.reset_password",
        method="POST",
        url=f"{url}/x",
        headers={"X-Auth-Token": SecretStr(TOKEN)},
        body=SecretBytes(b'{"adminPass":"%s"}' % PASSWORD.encode()),
        timeout=timeout,
    )


def everything_held(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield what an error reporter collects: every variable of every frame, also of the libraries, and its parts."""
    line, seen = [error], set[int]()
    while line:
        each = line.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        line += [other for other in (each.__cause__, each.__context__) if other is not None]
        yield type(each).__name__, f"{each!r} {each} {vars(each)!r} {each.args!r}"
        for frame, _ in traceback.walk_tb(each.__traceback__):
            # The test's own have the server, which heard it all.
            depth = 0 if frame.f_code.co_filename == __file__ else 3
            for name, value in frame.f_locals.items():
                for part, each_part in parts_of(value, depth):
                    yield f"{name}{part} in {frame.f_code.co_qualname}", repr(each_part)


def parts_of(value: object, depth: int) -> Iterator[tuple[str, object]]:
    """Yield a value and what it is made of, each with the way to it."""
    yield "", value
    if not depth or isinstance(value, type | ModuleType | asyncio.AbstractEventLoop):
        return
    parts = {f"[{key!r}]": each for key, each in value.items()} if isinstance(value, dict) else {}
    if isinstance(value, list | tuple):
        parts = {f"[{number}]": each for number, each in enumerate(value)}
    parts |= {f".{name}": each for name, each in getattr(value, "__dict__", {}).items()}
    for name, each in parts.items():
        for way, part in parts_of(each, depth - 1):
            yield f"{name}{way}", part


def suspended(coroutine: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine that waits, down to what it waits for."""
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        yield frame
        coroutine = coroutine.cr_await


def says(text: bytes) -> Behaviour:
    """Read a request, and say something that repeats it."""

    async def behave(talk: Talk) -> None:
        heard = (await talk.hear() or b"").replace(b"\r\n", b" ")
        await talk.say(text.replace(b"<echo>", heard))

    return behave


async def resets(talk: Talk) -> None:
    await talk.hear()
    talk.reset()


async def says_half_and_waits(talk: Talk) -> None:
    await says(b"HTTP/1.1 200 <echo>\r\nX-Subject-Token: <echo>\r\nContent-Length: 9999\r\n\r\n<echo>")(talk)
    await talk.until_given_up()


BEHAVIOURS: dict[str, Behaviour] = {
    "resets": resets,
    "hangs up": says(b""),
    "half a body": says(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n<echo>"),
    "half a body, and waits": says_half_and_waits,
    "no HTTP": says(b"<echo>\r\n\r\n"),
    "a bad header": says(b"HTTP/1.1 200 OK\r\n: <echo>\r\n\r\n"),
    "too large": says(
        b"HTTP/1.1 200 OK\r\nX-Subject-Token: <echo>\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\n<echo>"
    ),
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS.values(), ids=BEHAVIOURS)
async def test_r5_no_frame_of_an_error_holds_what_was_sent(
    library: ModuleType, trusting: ssl.SSLContext, behaviour: Behaviour
) -> None:
    too_large = behaviour is BEHAVIOURS["too large"]
    limit = 64 if too_large else 2**20
    async with (
        Loopback(behaviour) as server,
        make_transport(library, trusting, 1, max_response_bytes=limit) as transport,
    ):
        with pytest.raises(ResponseTooLargeError if too_large else TransportError) as caught:
            await transport.send(request(server.url, timeout=30.0))
        assert server.heard
        # What was sent did hold them, or nothing could be found.
        assert TOKEN.encode() in server.heard[0]
        assert PASSWORD.encode() in server.heard[0]
    held = list(everything_held(caught.value))
    # Our own transport makes its errors where the response arrives, and only their waiter is in their traceback.
    assert any(("wait" if library is httptools else "_exchange") in where for where, _ in held)
    assert [where for where, text in held if TOKEN in text or PASSWORD in text] == []


@pytest.mark.parametrize("name", ["no HTTP", "a bad header", "half a body"])
async def test_r5_a_short_secret_that_is_sent_back_is_not_quoted(
    library: ModuleType, trusting: ssl.SSLContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    short = HttpRequest(
        operation="request", method="POST", url="", headers={}, timeout=1.0, body=SecretBytes(b'{"p":"%s"}' % b"Hun7er")
    )
    caplog.set_level(logging.DEBUG)
    async with Loopback(BEHAVIOURS[name]) as server, make_transport(library, trusting, 1) as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(msgspec.structs.replace(short, url=f"{server.url}/x"))
        assert b"Hun7er" in server.heard[0]
    shown = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value.__cause__)
    assert "Hun7er" not in shown + caplog.text


async def test_r5_no_frame_holds_a_request_that_is_being_sent(library: ModuleType, trusting: ssl.SSLContext) -> None:
    gate = asyncio.Event()
    async with Loopback(answers_when(gate, answer())) as server, make_transport(library, trusting, 1) as transport:
        call = asyncio.create_task(transport.send(request(server.url)))
        await server.until(lambda it: bool(it.heard))
        sending = [task.get_coro() for task in asyncio.all_tasks() if task.get_name() == "bms_async send"]
        if library is httptools:
            # It sends in no task, so what there is to see is the caller and the connection.
            assert not sending
            sending = [call.get_coro()]
        shown = [repr(frame.f_locals) for each in sending for frame in suspended(each)]
        gate.set()
        await call
    assert len(shown) > (1 if library is httptools else 3)
    assert [text for text in shown if TOKEN in text or PASSWORD in text] == []


async def test_no_logger_of_the_libraries_has_a_filter_of_ours(library: ModuleType, trusting: ssl.SSLContext) -> None:
    async with Loopback(answers(answer())) as server, make_transport(library, trusting) as transport:
        assert (await transport.send(request(server.url))).status == 200
    assert [name for name in LOGGERS for part in PARTS if logging.getLogger(f"{name}{part}").filters] == []


async def test_r5_what_httpcore_logs_of_an_answer_has_no_token_and_the_answer_has_it(
    library: ModuleType, trusting: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fresh = "fresh-token-of-keystone"
    reply = answer(201, x_subject_token=fresh, x_echo=TOKEN, x_plain="nothing secret")
    async with Loopback(answers(reply)) as server, make_transport(library, trusting) as transport:
        response = await transport.send(request(server.url))
    assert response.header("X-Subject-Token") == fresh
    assert response.header("X-Echo") == TOKEN
    assert fresh not in caplog.text
    assert TOKEN not in caplog.text
    # The rest of the line is there as ever.
    assert isinstance(transport, AiohttpTransport | Http1Transport) or "nothing secret" in caplog.text


@pytest.mark.parametrize("shared", [True, False], ids=["one client", "a client for each connection"])
async def test_r5_what_httpx_logs_of_a_status_text_that_repeats_a_token_does_not_show_it(
    one_of_httpx: ModuleType, shared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def make() -> Any:
        return one_of_httpx.AsyncClient(trust_env=False)

    text = b"HTTP/1.1 400 I got <echo>\r\nContent-Length: 2\r\n\r\n{}"
    async with Loopback(says(text)) as server, HttpxTransport(make() if shared else make) as transport:
        response: HttpResponse = await transport.send(request(server.url))
    assert response.status == 400
    assert "HTTP/1.1 400 I got POST" in caplog.text
    assert TOKEN not in caplog.text


async def test_r5_the_password_of_a_proxy_is_in_no_repr_and_in_no_frame(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    async with Loopback(resets) as proxy:
        through = SecretStr(f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}")
        async with make_transport(library, trusting, 1, proxy=through) as transport:
            with pytest.raises(TransportError) as caught:
                await transport.send(request("https://bms.example.com"))
            assert b"Proxy-Authorization: Basic " in proxy.heard[0]
            assert PASSWORD not in _shown(transport)
    secrets = [SecretStr(PASSWORD), _basic(through)]
    held = list(everything_held(caught.value))
    assert [where for where, text in held for secret in secrets if secret in text] == []


def _shown(transport: LibraryTransport) -> str:
    ways = getattr(transport, "_ways", {})
    keys = [(way, way.asks, way.asks.connection_key, way.asks.proxy_headers) for way in ways.values()]
    return repr([transport, vars(transport), keys])


def _basic(address: str) -> SecretStr:
    authorization = read_proxy(address).authorization
    assert authorization is not None
    return SecretStr(authorization.partition(" ")[2])
