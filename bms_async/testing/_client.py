"""Clients that reach a simulated cloud without a socket."""

from __future__ import annotations

from random import Random
from typing import Unpack

import anyio
import httpx

from bms_async import Auth, BmsClient, ClientOptions, HttpxTransport, StaticToken, Transport
from bms_async.simulator import Cloud, create_app
from bms_async.transport import MAX_RESPONSE_BYTES

__all__ = ["ADDRESS", "client_of", "transport_to"]

ADDRESS = "http://localhost"
"""What clients call it; nobody listens there."""


def transport_to(cloud: Cloud, max_response_bytes: int | None = None) -> Transport:
    """Make a transport that carries requests to a cloud, whatever their address."""
    library = httpx.AsyncClient(transport=_Timely(app=create_app(cloud)))
    bound = MAX_RESPONSE_BYTES if max_response_bytes is None else max_response_bytes
    return HttpxTransport(library, max_response_bytes=bound)


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
    cloud: Cloud, auth: Auth | None = None, random: Random | None = None, **options: Unpack[ClientOptions]
) -> BmsClient:
    """Make a client, not opened yet, that talks to a cloud without a socket; see `SimulatedCloud.client`."""
    if options.get("transport") is None:
        options["transport"] = transport_to(cloud, options.pop("max_response_bytes", None))
    client = BmsClient(
        endpoint=ADDRESS,
        project_id=cloud.settings.project_id,
        auth=auth or StaticToken(cloud.settings.token),
        **options,
    )
    # Else its waits between tries would be others in each run.
    client._core.random = random or Random(cloud.settings.seed)  # noqa: SLF001 - jitter; no user sets it
    return client
