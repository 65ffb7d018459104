"""A small cloud of one process: an identity service that hands out tokens, and a BMS service that looks at them."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any

import anyio
import httpx

from bms_async import BmsClient, HttpxTransport, Limits, PasswordAuth, RetryPolicy

ENDPOINT = "https://bms.example.com"
AUTH_URL = "https://iam.example.com/v3"
PASSWORD = 'Pa55-Wörd"\\?'
PROJECT = "bbf1946d374b44a0a2a95533562ba954"
DAY = 86400.0

_open: list[BmsClient] = []
_TLS = ssl.create_default_context()

Answer = Callable[[httpx.Request], httpx.Response]


class FakeCloud:
    """Answers a client.

    Attributes:
        now: What the cloud's clock showed when this began; it goes on with the loop's. Not ours, on purpose.
        asked: The bodies of the requests for a token.
        calls: How many other calls came.
        good: The tokens that the BMS service takes.
        next_answers: What the identity service answers next, instead of a token.
        always: What it answers once those are used up, None for tokens.
        delay: Seconds that it thinks.
        broken: What the BMS service answers instead, if anything.
    """

    def __init__(self, *, lifetime: float = DAY, delay: float = 1.0) -> None:
        self.now = datetime(2041, 5, 6, 7, 8, 9, tzinfo=UTC)
        self.lifetime = lifetime
        self.delay = delay
        self.asked: list[dict[str, Any]] = []
        self.asked_at: list[float] = []
        self.urls: list[str] = []
        self.issued: list[str] = []
        self.good: set[str] = set()
        self.calls = 0
        self.next_answers: list[Answer | Exception] = []
        self.always: Answer | Exception | None = None
        self.broken: int | None = None
        self.date = True

    def revoke(self) -> None:
        self.good.clear()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/auth/tokens"):
            return await self._identify(request)
        self.calls += 1
        if self.broken is not None:
            return httpx.Response(self.broken, json={"error": {"code": "BMS.0001", "message": "no"}})
        if request.headers.get("X-Auth-Token") not in self.good:
            text = f"Incorrect IAM token {request.headers.get('X-Auth-Token')}"
            return httpx.Response(401, json={"error_code": "APIGW.0301", "error_msg": text})
        if request.url.path.endswith("/projects"):
            return httpx.Response(200, json={"projects": []})
        return httpx.Response(200, json={"server": {"id": request.url.path.rpartition("/")[2], "name": "bms"}})

    async def _identify(self, request: httpx.Request) -> httpx.Response:
        loop = asyncio.get_running_loop()
        self.asked.append(json.loads(request.content))
        self.asked_at.append(loop.time())
        self.urls.append(str(request.url))
        answer = self.next_answers.pop(0) if self.next_answers else self.always
        await anyio.sleep(self.delay)
        if isinstance(answer, Exception):
            raise answer
        return self.grant() if answer is None else answer(request)

    def grant(self) -> httpx.Response:
        token = f"MIIYXQYJKoZIhvcNAQcCoIIYTjCC+{len(self.issued)}/-"
        self.issued.append(token)
        self.good.add(token)
        now = self.now + timedelta(seconds=asyncio.get_running_loop().time())
        headers = {"X-Subject-Token": token, "Date": format_datetime(now, usegmt=True)}
        if not self.date:
            del headers["Date"]
        end = now + timedelta(seconds=self.lifetime)
        granted = {
            "expires_at": end.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "issued_at": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "methods": ["password"],
            "project": {"id": PROJECT, "name": "ae-ad-1"},
            "catalog": [],
        }
        return httpx.Response(201, headers=headers, json={"token": granted})


def refuses(status: int, **headers: str) -> Answer:
    body = {"error": {"code": status, "message": "The request you have made requires authentication.", "title": "No"}}
    return lambda _: httpx.Response(status, json=body, headers=headers)


def auth_of(**arguments: Any) -> PasswordAuth:
    given: dict[str, Any] = {
        "auth_url": AUTH_URL,
        "username": "operator",
        "password": PASSWORD,
        "user_domain_name": "account",
        "project_name": "ae-ad-1",
        "random": Random(7),
    }
    return PasswordAuth(**{**given, **arguments})


@asynccontextmanager
async def opened(
    cloud: FakeCloud, auth: PasswordAuth, *, retry: RetryPolicy | None = None, project_id: str | None = PROJECT
) -> AsyncIterator[BmsClient]:
    """Yield an open client; no task may be left when the last one is closed."""
    transport = HttpxTransport(httpx.AsyncClient(transport=httpx.MockTransport(cloud), verify=_TLS))
    client = BmsClient(
        endpoint=ENDPOINT,
        project_id=project_id,
        auth=auth,
        transport=transport,
        limits=Limits.unlimited(),
        retry=retry,
    )
    _open.append(client)
    try:
        async with client:
            yield client
    finally:
        _open.remove(client)
    await asyncio.sleep(0)
    if not _open:
        assert [task.get_name() for task in asyncio.all_tasks() if "bms_async" in task.get_name()] == []
