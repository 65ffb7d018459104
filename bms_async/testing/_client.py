"""Clients that reach a simulated cloud without a socket."""

from __future__ import annotations

import anyio
import httpx

from bms_async import Auth, BmsClient, HttpxTransport, Limits, RetryPolicy, StaticToken, Transport
from bms_async.simulator import Cloud, create_app
from bms_async.wire import DEFAULT_RETRY

__all__ = ["ADDRESS", "client_of", "transport_to"]

ADDRESS = "http://localhost"
"""What clients call it; nobody listens there."""


def transport_to(cloud: Cloud) -> Transport:
    """Make a transport that carries requests to a cloud, whatever their address."""
    return HttpxTransport(httpx.AsyncClient(transport=_Timely(app=create_app(cloud))))


class _Timely(httpx.ASGITransport):
    """Gives up when a socket would have: httpx leaves timeouts to what it reads from, and an application has none."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        longest = request.extensions.get("timeout", {}).get("read")
        try:
            with anyio.fail_after(longest):
                return await super().handle_async_request(request)
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no answer within {longest:g} s", request=request) from error


def client_of(
    cloud: Cloud,
    *,
    auth: Auth | None = None,
    limits: Limits | None = None,
    timeout: float = 60.0,
    deadline: float | None = None,
    max_wait: float | None = None,
    retry: RetryPolicy | None = DEFAULT_RETRY,
    check: bool = True,
) -> BmsClient:
    """Make a client, not opened yet, that talks to a cloud without a socket; see `SimulatedCloud.client`."""
    return BmsClient(
        endpoint=ADDRESS,
        project_id=cloud.settings.project_id,
        auth=auth or StaticToken(cloud.settings.token),
        transport=transport_to(cloud),
        limits=limits,
        timeout=timeout,
        deadline=deadline,
        max_wait=max_wait,
        retry=retry,
        check=check,
    )
