"""A client of a simulated cloud, in one process and on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx

from bms_async import BmsClient, HttpxTransport, Limits, RetryPolicy, StaticToken
from bms_async.simulator import Cloud, CloudSettings, create_app
from bms_async.wire import DEFAULT_RETRY


class Simulated(NamedTuple):
    bms: BmsClient
    cloud: Cloud

    @property
    def ids(self) -> list[str]:
        return list(self.cloud.servers)

    def arrived(self, operation: str) -> int:
        """How many calls of an operation the cloud has counted."""
        book = self.cloud.books().operations.get(operation)
        return book.arrived if book else 0


@asynccontextmanager
async def simulated(
    *, limits: Limits | None = None, retry: RetryPolicy | None = DEFAULT_RETRY, timeout: float = 60.0, **settings: Any
) -> AsyncIterator[Simulated]:
    """Yield a client and the cloud that it talks to; both live on the running loop's clock."""
    cloud = Cloud(CloudSettings(**settings), clock=asyncio.get_running_loop().time)
    async with client_of(cloud, limits=limits, retry=retry, timeout=timeout) as bms:
        yield Simulated(bms, cloud)


def client_of(
    cloud: Cloud,
    *,
    limits: Limits | None = None,
    retry: RetryPolicy | None = DEFAULT_RETRY,
    timeout: float = 60.0,
) -> BmsClient:
    """Return a client, not yet opened, that talks to this cloud without a socket."""
    carrier = httpx.AsyncClient(transport=httpx.ASGITransport(app=create_app(cloud)))
    return BmsClient(
        endpoint="http://localhost",
        project_id=cloud.settings.project_id,
        auth=StaticToken(cloud.settings.token),
        transport=HttpxTransport(carrier),
        limits=limits,
        retry=retry,
        timeout=timeout,
    )
