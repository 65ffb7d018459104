"""R5: the password and the tokens are sent, and shown nowhere else, whatever goes wrong and is logged."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import pickle
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from bms_async import BmsClient, BmsError, HttpxTransport, Limits
from tests.auth.keystone import PASSWORD, FakeCloud, auth_of, opened
from tests.support.mocked import virtually
from tests.transport.test_secrets import Everything, everything_about, log

__all__ = ["log"]

SPELLED = (PASSWORD, json.dumps(PASSWORD)[1:-1], json.dumps(PASSWORD, ensure_ascii=False)[1:-1], quote(PASSWORD))


def echoes(status: int, body: Callable[[str], Any], **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        content = body(json.loads(request.content)["auth"]["identity"]["password"]["user"]["password"])
        if isinstance(content, str):
            return httpx.Response(status, text=content, headers=headers)
        return httpx.Response(status, json=content, headers=headers)

    return answer


ANSWERS: dict[str, Any] = {
    "a token": None,
    "401": echoes(401, lambda text: {"error": {"code": 401, "message": f"wrong password {text}"}}),
    "400 of the gateway": echoes(400, lambda text: {"error_code": text, "error_msg": text, "request_id": text}),
    "500": echoes(500, lambda text: {"error": text}),
    "502 of HTML": echoes(502, lambda text: f"<html>{text}</html>"),
    "201 without a token": echoes(201, lambda text: {"token": {"project": {"id": text}}}),
    "201 of another kind": echoes(201, lambda text: {"token": text}, **{"X-Subject-Token": "MIIYXQtoken-of-no-use"}),
    "a token for no header": echoes(201, lambda _: {"token": {}}, **{"X-Subject-Token": "MIIYXQtoken of no use"}),
    "401 with a token": echoes(401, lambda _: {"error": "MIIYXQstray"}, **{"X-Subject-Token": "MIIYXQstray"}),
    "a redirect": echoes(307, lambda text: text, Location="https://evil.example.com"),
    "no answer": httpx.ConnectError("refused"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_r5_neither_password_nor_token_in_any_log_repr_or_error(answer: Any, log: Everything) -> None:
    shown: list[str] = []
    secrets: list[str] = [*SPELLED, "MIIYXQ"]

    @virtually
    async def use() -> None:
        cloud = FakeCloud()
        auth = auth_of()
        cloud.always = answer
        async with opened(cloud, auth) as bms:
            for call in (bms.servers.get("s-1"), bms.jobs.get("j-1")):
                try:
                    await call
                except BmsError as error:
                    shown.extend(everything_about(error))
                    shown.extend(everything_about(copy.copy(error)))
                    shown.append(repr(pickle.dumps(error)))
            cloud.revoke()
            cloud.always = ANSWERS["401"]
            try:
                await bms.servers.get("s-1")
            except BmsError as error:
                shown.extend(everything_about(error))
            shown.extend([repr(bms), str(auth), repr(auth), f"{auth}", repr(bms.statistics())])
            shown.extend(cloud.urls)
            assert cloud.asked

    use()
    gc.collect()
    assert "bms_async" in log.names
    assert [text for text in (*shown, *log.shown) if any(secret in text for secret in secrets)] == []


@virtually
async def test_r5_every_token_that_was_issued_is_taken_out_of_what_the_cloud_says() -> None:
    cloud = FakeCloud()
    auth = auth_of()
    async with opened(cloud, auth) as bms:
        for _ in range(5):
            await bms.servers.get("s-1")
            cloud.revoke()
            # Younger, it would be its user's refusal.
            await asyncio.sleep(61.0)
    text = " ".join((*cloud.issued, *SPELLED))

    assert len(cloud.issued) == 5
    assert auth.redact(text) == " ".join(["***"] * (5 + len(SPELLED)))
    assert auth.redact("nothing to hide") == "nothing to hide"


async def test_r5_not_in_the_log_of_the_http_library_either(log: Everything) -> None:
    """Over a real socket, for a mocked transport logs less than httpcore does."""
    token = "MIIYXQovertherealwire"
    body = b'{"token": {"expires_at": "2041-01-02T00:00:00Z", "issued_at": "2041-01-01T00:00:00Z"}}'
    head = f"HTTP/1.1 201 Created\r\nX-Subject-Token: {token}\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = HttpxTransport(httpx.AsyncClient(trust_env=False))
    auth = auth_of(auth_url=f"http://127.0.0.1:{port}")
    async with (
        server,
        BmsClient(endpoint="https://bms.example.com", project_id="p", auth=auth, transport=transport, limits=Limits()),
    ):
        assert logging.getLogger("httpcore").isEnabledFor(logging.DEBUG)
        headers = await auth.headers(auth._client.build_request())
    assert headers == {"X-Auth-Token": token}
    assert "httpcore" in log.names
    assert [text for text in log.shown if token in text or PASSWORD in text] == []
