"""R5 over real sockets, where the HTTP libraries log and quote what they see."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any
from urllib.parse import quote

import aiohttp
import httptools
import httpx
import httpx2
import pytest

from bms_async import BmsClient, BmsError, HttpxTransport, StaticToken
from tests.secrets._search import Eye, watching
from tests.secrets.calls import CALLS
from tests.secrets.canaries import PROXY, TOKEN, secrets_in
from tests.secrets.clouds import CREDENTIALS, PROJECT, look_at_client
from tests.transport._transports import LibraryTransport, make_transport
from tests.transport.loopback import PATIENCE, Behaviour, Loopback, Talk, answer, server_context

# Reading the certificates takes longer than most tests.
_TRUST = ssl.create_default_context()
CALL = CALLS["servers.reset_password"]


def says(make: Callable[[bytes], bytes]) -> Behaviour:
    async def behave(talk: Talk) -> None:
        heard = await talk.hear()
        assert heard is not None
        assert secrets_in(heard) & {"TOKEN", "SECURITYTOKEN"}
        await talk.say(make(heard))
        await talk.until_given_up()

    return behave


def _one_line(heard: bytes) -> bytes:
    return heard.replace(b"\r\n", b" ")


def _token(heard: bytes) -> str:
    found = re.search(rb"x-(?:auth|security)-token: (\S+)", heard, re.IGNORECASE)
    assert found
    return found[1].decode()


async def _resets(talk: Talk) -> None:
    await talk.hear()
    talk.reset()


BEHAVIOURS: dict[str, Behaviour] = {
    "good": says(lambda _: answer(204, b"")),
    "an echo": says(lambda heard: answer(400, heard, content_type="text/plain")),
    "headers that echo": says(
        lambda heard: answer(400, x_auth_token=_token(heard), x_request_id=_one_line(heard).decode())
    ),
    "a redirect": says(lambda heard: answer(302, location=f"https://evil.example.com/?t={quote(_token(heard))}")),
    "a cookie": says(lambda heard: answer(401, set_cookie=f"session={_token(heard)}")),
    "a status line that echoes": says(lambda heard: b"HTTP/9 " + _one_line(heard) + b"\r\n\r\n"),
    "a status text that echoes": says(
        lambda heard: b"HTTP/1.1 400 " + _one_line(heard) + b"\r\ncontent-length: 0\r\n\r\n"
    ),
    "a header line that echoes": says(lambda heard: b"HTTP/1.1 200 OK\r\n\x00" + _one_line(heard) + b"\r\n\r\n"),
    "a chunk that echoes": says(
        lambda heard: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + _one_line(heard) + b"\r\n"
    ),
    "half a body": says(lambda heard: answer(400, heard, content_length="99999")[:-3]),
    "a length that echoes": says(lambda heard: answer(200, content_length=_token(heard))),
    "an encoding that is none": says(lambda heard: answer(400, heard, content_encoding="gzip")),
    "a reset": _resets,
}


async def _fails(eye: Eye, bms: BmsClient, transport: LibraryTransport) -> None:
    async with bms:
        try:
            await CALL.make(bms)
        except BmsError as error:
            eye.look_at_error("error", error)
        look_at_client(eye, bms, bms._core.auth)
        eye.look("transport", transport)


@pytest.mark.parametrize(
    "library", [httpx, httpx2, aiohttp, httptools], ids=["httpx", "httpx2", "aiohttp", "httptools"]
)
@pytest.mark.parametrize("credentials", ["a token", "keys"])
@pytest.mark.parametrize("behaviour", BEHAVIOURS.values(), ids=BEHAVIOURS)
async def test_r5_no_secret_shows_whatever_comes_back_over_a_socket(
    library: ModuleType, behaviour: Behaviour, credentials: str
) -> None:
    with watching() as eye:
        async with Loopback(behaviour) as server:
            transport = make_transport(library, _TRUST)
            bms = BmsClient(
                endpoint=server.url,
                project_id=PROJECT,
                auth=CREDENTIALS[credentials](),
                transport=transport,
                retry=None,
                timeout=30.0,
            )
            await _fails(eye, bms, transport)
            assert server.accepted
    assert eye.found == {}
    assert {"bms_async"} <= eye.names
    assert library in {aiohttp, httptools} or eye.names & {"httpcore", "httpcore2"}


async def _greets(talk: Talk) -> None:
    await talk.begin_tls(server_context())
    await talk.hear()


async def test_r5_no_secret_shows_when_nobody_is_there_or_can_be_trusted() -> None:
    with watching() as eye, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with Loopback(_greets) as server:
            for url in (nobody, server.secure_url):
                transport = HttpxTransport()
                bms = BmsClient(
                    endpoint=url, project_id=PROJECT, auth=StaticToken(TOKEN), transport=transport, retry=None
                )
                await _fails(eye, bms, transport)
            assert not server.heard
    assert eye.found == {}


async def _refuses(talk: Talk, status: bytes) -> None:
    assert b"proxy-authorization: Basic" in (await talk.hear() or b"").replace(b"Proxy-A", b"proxy-a")
    await talk.say(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")


async def _echoes(talk: Talk) -> None:
    heard = await talk.hear() or b""
    await talk.say(answer(407, heard, x_echo=_one_line(heard).decode()))


PROXIES: Mapping[str, Callable[[Talk], Awaitable[Any]]] = {
    "wants a password": lambda talk: _refuses(talk, b"407 Proxy Authentication Required"),
    "is forbidden": lambda talk: _refuses(talk, b"403 Forbidden"),
    "hangs up": lambda talk: talk.hear(),
    "echoes": _echoes,
}


@pytest.mark.parametrize("behaviour", PROXIES.values(), ids=PROXIES)
async def test_r5_the_password_of_a_proxy_does_not_show(behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    with watching() as eye:
        async with Loopback(behaviour) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://operator:{PROXY}@127.0.0.1:{proxy.port}")
            for name in ("NO_PROXY", "no_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.delenv(name, raising=False)
            transport = HttpxTransport()
            bms = BmsClient(
                endpoint="https://bms.example.com",
                project_id=PROJECT,
                auth=StaticToken(TOKEN),
                transport=transport,
                retry=None,
                timeout=PATIENCE,
            )
            await _fails(eye, bms, transport)
            assert proxy.heard
    assert eye.found == {}
