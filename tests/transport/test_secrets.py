"""R5: the token goes into one header of the request and nowhere else, whatever goes wrong and is logged."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
import traceback
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import aiohttp
import httptools
import pytest

from bms_async import (
    BmsClient,
    BmsError,
    HttpRequest,
    HttpResponse,
    Limits,
    RetryPolicy,
    StaticToken,
    TransportError,
)
from tests.transport._served import served
from tests.transport._transports import LibraryTransport, make_transport
from tests.transport.loopback import Behaviour, Loopback, Talk, answer, answers

TOKEN = "MIIFvgYJKoZIhvcNAQcCsecretZ7Qx"

SERVER = answer(body=b'{"server": {"id": "s-1", "name": "bms-1"}}')

EVERYTHING = ["httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "asyncio", "anyio", "bms_async"]


class Everything(logging.Handler):
    """Keeps every record as it could be shown: formatted, with its exception, and with its raw arguments."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.names: set[str] = set()
        self.shown: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.names.add(record.name.partition(".")[0])
        self.shown.append(f"{logging.Formatter().format(record)} {record.__dict__!r}")


@pytest.fixture
def log() -> Iterator[Everything]:
    keep = Everything()
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in EVERYTHING)]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)
    loggers[0].addHandler(keep)
    yield keep
    loggers[0].removeHandler(keep)
    for each, level in zip(loggers, before, strict=True):
        each.setLevel(level)


def everything_about(error: BaseException) -> Iterator[str]:
    """Yield all that can be read off an error and those that came before it."""
    seen: set[int] = set()
    line = [error]
    while line:
        each = line.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield from (str(each), repr(each), repr(each.args), repr(vars(each)))
        yield "".join(traceback.format_exception(each))
        more = (each.__cause__, each.__context__, *getattr(each, "previous", ()))
        line.extend(one for one in more if one is not None)


def bms_at(url: str, transport: LibraryTransport, project_id: str = "p", limits: Limits | None = None) -> BmsClient:
    retry = RetryPolicy(attempts=2, initial_delay=0.001, rate_limit_attempts=0)
    return BmsClient(
        endpoint=url, project_id=project_id, auth=StaticToken(TOKEN), transport=transport, limits=limits, retry=retry
    )


def echoes(status: int, text: str, content_type: str = "application/json") -> Behaviour:
    """Answer with a text that has the token of the request in it."""

    async def behave(talk: Talk) -> None:
        while (heard := await talk.hear()) is not None:
            assert TOKEN.encode() in heard
            await talk.say(answer(status, text.replace("<token>", TOKEN).encode(), content_type=content_type))

    return behave


async def hangs_up(talk: Talk) -> None:
    await talk.hear()


async def says_half(talk: Talk) -> None:
    await talk.hear()
    await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")


GATEWAY = '{"error_code": "APIGW.0301", "error_msg": "Incorrect IAM token <token>", "request_id": "r-1"}'

ANSWERS: dict[str, Behaviour] = {
    "good": answers(SERVER),
    "401": echoes(401, GATEWAY),
    "403": echoes(403, '{"error": {"code": "BMS.0001", "message": "X-Auth-Token: <token>"}}'),
    "404": echoes(404, '{"itemNotFound": {"code": 404, "message": "<token>"}}'),
    "429": echoes(429, '{"error_code": "<token>", "error_msg": "<token>"}'),
    "500": echoes(500, '{"error": "<token>"}'),
    "502": echoes(502, "<html>your request: X-Auth-Token: <token></html>", "text/html"),
    "200 of HTML": echoes(200, "<html>X-Auth-Token: <token></html>", "text/html"),
    "200 of another kind": echoes(200, '{"server": "<token>"}'),
    "a redirect": echoes(307, "<token>", "text/plain"),
    "hung up": hangs_up,
    "half an answer": says_half,
}


@pytest.mark.parametrize("behaviour", ANSWERS.values(), ids=ANSWERS)
async def test_r5_no_token_in_any_log_repr_or_error(
    library: ModuleType, trusting: ssl.SSLContext, log: Everything, behaviour: Behaviour
) -> None:
    shown: list[str] = []
    limits = Limits()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with Loopback(behaviour) as server:
            transport = make_transport(library, trusting)
            bms = bms_at(server.url, transport, limits=limits)
            async with bms:
                for call in (bms.servers.get("s-1"), bms.servers.reboot(["s-1"]), bms.jobs.get("j-1")):
                    try:
                        shown.append(repr(await call))
                    except BmsError as error:
                        shown.extend(everything_about(error))
                shown += [repr(bms), repr(transport), repr(limits["servers.get"]), repr(limits)]
                shown += [repr(bms.statistics()), repr(transport.statistics()), repr(bms.jobs), repr(bms.servers)]
            assert server.heard
            lines = [heard.split(b"\r\n") for heard in server.heard]
            assert not any(TOKEN.encode() in line[0] for line in lines)
            assert all(sum(TOKEN.encode() in each for each in line) == 1 for line in lines)
        gc.collect()
    shown += [str(each.message) for each in warned]
    # httptools logs nothing, and nor does aiohttp here.
    silent = library in {aiohttp, httptools}
    assert log.names >= {"bms_async"} | (set() if silent else {library.__name__.replace("httpx", "httpcore")})
    assert [text for text in (*shown, *log.shown) if TOKEN in text] == []


async def test_r5_no_token_where_nothing_can_be_reached(
    library: ModuleType, trusting: ssl.SSLContext, log: Everything
) -> None:
    async with Loopback(hangs_up) as gone:
        address = gone.url
    async with bms_at(address, make_transport(library, trusting)) as bms:
        with pytest.raises(TransportError) as caught:
            await bms.servers.get("s-1")
    assert len(caught.value.previous) == 1
    assert [text for text in (*everything_about(caught.value), *log.shown) if TOKEN in text] == []


async def test_r5_no_token_when_the_cloud_does_not_take_it(
    library: ModuleType, trusting: ssl.SSLContext, log: Everything
) -> None:
    async with served() as there:
        bms = bms_at(there.url, make_transport(library, trusting), there.cloud.settings.project_id)
        async with bms:
            with pytest.raises(BmsError) as caught:
                await bms.servers.get(there.first_id)
            with pytest.raises(BmsError):
                await bms.servers.reboot([there.first_id])
    assert [text for text in (*everything_about(caught.value), *log.shown) if TOKEN in text] == []


STRANGE = {
    "status line": b"<token>\r\n\r\n",
    "header": b"HTTP/1.1 200 OK\r\n: <token>\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n<token>\r\n\r\n",
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
async def test_r5_no_token_in_the_error_of_a_server_that_does_not_speak_http_and_echoes(
    library: ModuleType, trusting: ssl.SSLContext, text: bytes
) -> None:
    # The libraries quote what they cannot read.
    async def echo(talk: Talk) -> None:
        await talk.hear()
        await talk.say(text.replace(b"<token>", TOKEN.encode()))

    async with Loopback(echo) as server, bms_at(server.url, make_transport(library, trusting)) as bms:
        with pytest.raises(TransportError, match="RemoteProtocolError") as caught:
            await bms.servers.get("s-1")
    assert [shown for shown in everything_about(caught.value) if TOKEN in shown] == []


@pytest.mark.parametrize("secret", [f"{TOKEN}\nX: y", f"{TOKEN}\u00e9", f" {TOKEN}", f"{TOKEN}\x00"], ids=ascii)
async def test_r5_a_header_that_cannot_be_sent_is_named_but_not_shown(
    library: ModuleType, trusting: ssl.SSLContext, log: Everything, secret: str
) -> None:
    # h11 and httpx quote the value of a bad header in the errors that they raise. A token of somebody else's Auth,
    # read from a file with its line's end, is all it takes.
    request = HttpRequest(
        operation="servers.get", method="GET", url="http://127.0.0.1:1", headers={"X-Auth-Token": secret}
    )
    async with make_transport(library, trusting) as transport:
        with pytest.raises(
            TransportError, match="header X-Auth-Token has characters that are invalid in a header"
        ) as caught:
            await transport.send(request)
    assert not caught.value.maybe_delivered
    assert [text for text in (*everything_about(caught.value), *log.shown) if TOKEN in text] == []


async def test_r5_a_task_that_is_shown_while_it_sends_shows_no_token(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    held = asyncio.Event()

    async def holds(talk: Talk) -> None:
        await talk.hear()
        await talk.stays_until(held)

    async with Loopback(holds) as server, bms_at(server.url, make_transport(library, trusting)) as bms:
        call = asyncio.create_task(bms.servers.get("s-1"))
        await server.until(lambda it: bool(it.heard))
        shown = [repr(task) for task in asyncio.all_tasks()] + [repr(task.get_stack()) for task in asyncio.all_tasks()]
        # Of our own transport, no task is left that sends, but for the caller's.
        assert any(("wait" if library is httptools else "bms_async send") in text for text in shown)
        assert not any(TOKEN in text for text in shown)
        call.cancel()
        await asyncio.wait({call})


def test_r5_requests_answers_and_credentials_do_not_show_what_they_hold() -> None:
    request = HttpRequest(
        operation="servers.get",
        method="GET",
        url=f"https://bms.example.com/v1/p?token={TOKEN}",
        headers={"X-Auth-Token": TOKEN},
        body=TOKEN.encode(),
    )
    response = HttpResponse(status=200, headers=(("X-Subject-Token", TOKEN),), body=TOKEN.encode())
    shown: list[Any] = [request, response, StaticToken(TOKEN), [request], {"auth": StaticToken(TOKEN)}]
    assert not any(TOKEN in text for each in shown for text in (repr(each), str(each), f"{each}"))
