"""A client with canaries for credentials, and a cloud that gives tokens well and answers calls badly."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx

from bms_async import (
    AkSkAuth,
    Auth,
    BmsClient,
    HttpRequest,
    HttpResponse,
    HttpxTransport,
    PasswordAuth,
    RetryPolicy,
    StaticToken,
)
from bms_async.transport import PendingRequest
from tests.secrets._search import Eye
from tests.secrets.canaries import ISSUED, PASSWORD, SECRET_KEY, SECURITY_TOKEN, TOKEN, secrets_in
from tests.secrets.failures import Behaviour

ENDPOINT = "https://bms.example.com"
AUTH_URL = "https://iam.example.com/v3"
PROJECT = "bbf1946d374b44a0a2a95533562ba954"

_TLS = ssl.create_default_context()
_CARRIERS = {"x-auth-token": {"TOKEN", "ISSUED", "CACHED"}, "x-security-token": {"SECURITYTOKEN"}}


async def _provide() -> tuple[str, str, str | None]:
    return "AKIDEXAMPLE", SECRET_KEY, SECURITY_TOKEN


def password_auth(cache_file: Path | None = None) -> PasswordAuth:
    return PasswordAuth(
        auth_url=AUTH_URL,
        username="operator",
        password=PASSWORD,
        user_domain_name="account",
        project_id=PROJECT,
        cache_file=cache_file,
        random=Random(7),
    )


CREDENTIALS: Mapping[str, Callable[[], Auth]] = {
    "a token": lambda: StaticToken(TOKEN),
    "a password": password_auth,
    "keys": lambda: AkSkAuth("AKIDEXAMPLE", SECRET_KEY, SECURITY_TOKEN),
    "a provider of keys": lambda: AkSkAuth(provider=_provide),
}


async def grant(request: httpx.Request) -> httpx.Response:
    """Answer a request for a token."""
    granted = {"expires_at": "2041-05-07T07:08:09Z", "issued_at": "2041-05-06T07:08:09Z", "project": {"id": PROJECT}}
    return httpx.Response(201, headers={"X-Subject-Token": ISSUED}, json={"token": granted})


class Cloud:
    """Answers as it is set up to, and looks at what it is sent: a secret may only be where it has to be.

    Attributes:
        calls: What it answers calls with.
        tokens: What it answers requests for a token with.
        carries: The marks of the secrets that the body of a call may have.
        asked: How many requests came.
    """

    def __init__(self, eye: Eye, calls: Behaviour, tokens: Behaviour = grant) -> None:
        self.calls, self.tokens = calls, tokens
        self.carries: tuple[str, ...] = ()
        self.asked = 0
        self._eye = eye

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        identity = request.url.path.endswith("/auth/tokens")
        self._eye.search("the address of a request", str(request.url))
        for name, value in request.headers.items():
            if not (secrets_in(value) and secrets_in(value) <= _CARRIERS.get(name, set())):
                self._eye.search(f"header {name} of a request", value)
        for secret in secrets_in(request.content) - {"PASSWORD" if identity else None, *self.carries}:
            self._eye.search("the body of a request", f"Zq7x{secret}")
        return await (self.tokens if identity else self.calls)(request)


class Spy(HttpxTransport):
    """Keeps what goes through, for its reprs."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        super().__init__(client)
        self.seen: list[HttpRequest | HttpResponse] = []

    def submit(self, request: HttpRequest) -> PendingRequest:
        flight = super().submit(request)
        self.seen.append(request)
        flight.response.add_done_callback(
            lambda done: None if done.cancelled() or done.exception() else self.seen.append(done.result())
        )
        return flight


@asynccontextmanager
async def client_of(eye: Eye, cloud: Cloud, auth: Auth, **arguments: Any) -> AsyncIterator[BmsClient]:
    """Yield an open client of a cloud; at the end everything that it is made of is looked at."""
    transport = Spy(httpx.AsyncClient(transport=httpx.MockTransport(cloud), verify=_TLS))
    retry = RetryPolicy(attempts=2, rate_limit_attempts=1)
    given = {"endpoint": ENDPOINT, "project_id": PROJECT, "retry": retry, "timeout": 10.0, **arguments}
    async with BmsClient(auth=auth, transport=transport, **given) as bms:
        yield bms
        look_at_client(eye, bms, auth)
    for thing in (bms, auth, transport, transport.statistics(), *transport.seen):
        eye.look(type(thing).__name__, thing)


def look_at_client(eye: Eye, bms: BmsClient, auth: Auth) -> None:
    """Look at a client and at all its parts."""
    parts = (bms, auth, bms.statistics(), bms.limits, bms.limits["servers.start"], *vars(bms).values())
    for thing in (*parts, *vars(bms._core).values(), *vars(bms._watcher).values()):
        eye.look(f"part {type(thing).__name__}", thing)
