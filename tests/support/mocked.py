"""A real client and a cloud of respx: what is sent is looked at, and what is answered is written down in the test."""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec

import httpx
import respx

from bms_async import BareMetal, BmsClient, HttpxTransport, Limits, RetryPolicy, StaticToken
from bms_async.wire import DEFAULT_RETRY
from tests.reference.examples import ACTION_ANSWER, JOB_ANSWER, repair
from tests.support.virtual_clock import run_virtually

P = ParamSpec("P")

ENDPOINT = "https://bms.example.com"
PROJECT = "bbf1946d374b44a0a2a95533562ba954"
TOKEN = "MIIYXQYJKoZIhvcNAQcCoIIYTjCC+=/-"
BASE = f"{ENDPOINT}/v1/{PROJECT}"
ACTION = f"{BASE}/baremetalservers/action"
DETAIL = f"{BASE}/baremetalservers/detail"
IDS = ("616fb98f-46ca-475e-917e-2563e5a8cd19", "726fb98f-46ca-475e-917e-2563e5a8cd20")
SERVER_ID = "53206ed0-56de-4d6b-b7ee-ffc62ca26f43"
SERVER = f"{BASE}/baremetalservers/{SERVER_ID}"

ACCEPTED: dict[str, Any] = json.loads(repair(ACTION_ANSWER))
JOB: dict[str, Any] = json.loads(repair(JOB_ANSWER))

# Reading the certificates takes longer than most tests.
_TLS = ssl.create_default_context()


def virtually(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on the virtual clock."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtually(lambda: test(*args, **kwargs))

    return run


def client_of(
    *,
    retry: RetryPolicy | None = DEFAULT_RETRY,
    limits: Limits | None = None,
    check: bool = True,
    endpoint: str = ENDPOINT,
    project_id: str = PROJECT,
    bare_metal: BareMetal | None = None,
) -> BmsClient:
    return BmsClient(
        endpoint=endpoint,
        project_id=project_id,
        auth=StaticToken(TOKEN),
        transport=HttpxTransport(httpx.AsyncClient(verify=_TLS)),
        retry=retry,
        limits=limits,
        check=check,
        bare_metal=bare_metal,
    )


@asynccontextmanager
async def mocked(
    *,
    retry: RetryPolicy | None = DEFAULT_RETRY,
    limits: Limits | None = None,
    check: bool = True,
    endpoint: str = ENDPOINT,
    bare_metal: BareMetal | None = None,
) -> AsyncIterator[tuple[BmsClient, respx.MockRouter]]:
    """Yield an open client and the router that answers it; no task may be left when the client is closed."""
    before = asyncio.all_tasks()
    with respx.mock(assert_all_called=False) as cloud:
        client = client_of(retry=retry, limits=limits, check=check, endpoint=endpoint, bare_metal=bare_metal)
        async with client as bms:
            yield bms, cloud
    # A task that was cancelled needs one more turn of the loop to end.
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def sent(cloud: respx.MockRouter, *, to: str | None = None) -> list[httpx.Request]:
    """Tell which requests were sent, all or those to one address."""
    requests = [call.request for call in cloud.calls]
    return [request for request in requests if to is None or str(request.url).partition("?")[0] == to]


def error(code: str, message: str = "no") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
