"""Clients that reach a simulated cloud without a socket."""

from __future__ import annotations

from random import Random
from typing import Unpack

from bms_async import Auth, BmsClient, ClientOptions, StaticToken, Transport
from bms_async.simulator import Cloud, create_app
from bms_async.transport import MAX_RESPONSE_BYTES
from bms_async.transport.base import check_max_response_bytes

from ._app_transport import AppTransport

__all__ = ["ADDRESS", "client_of", "transport_to"]

ADDRESS = "http://localhost"
"""The address in requests; nothing listens there."""


def transport_to(cloud: Cloud, max_response_bytes: int | None = None) -> Transport:
    """Make a transport that sends requests to a cloud, whatever their address."""
    bound = MAX_RESPONSE_BYTES if max_response_bytes is None else max_response_bytes
    return AppTransport(create_app(cloud), max_response_bytes=check_max_response_bytes("SimulatedCloud", bound))


def client_of(
    cloud: Cloud, auth: Auth | None = None, random: Random | None = None, **options: Unpack[ClientOptions]
) -> BmsClient:
    """Make a client, not opened yet, that reaches a cloud without a socket; see `SimulatedCloud.client`."""
    if options.get("transport") is None:
        options["transport"] = transport_to(cloud, options.pop("max_response_bytes", None))
    client = BmsClient(
        endpoint=ADDRESS,
        project_id=cloud.settings.project_id,
        auth=auth or StaticToken(cloud.settings.token),
        **options,
    )
    # Seeded, so that the delays between attempts are the same in each run.
    client._core.random = random or Random(cloud.settings.seed)  # noqa: SLF001 - not a public option
    return client
