"""The transports that the tests of this folder run on: over httpx, over httpx2, and over aiohttp."""

from __future__ import annotations

import ssl
from types import ModuleType
from typing import TypeAlias

import aiohttp

from bms_async import HttpxTransport
from bms_async.transport.aiohttp import AiohttpTransport

Carrier: TypeAlias = HttpxTransport | AiohttpTransport


def carrier(
    library: ModuleType,
    trust: ssl.SSLContext,
    connections: int = 10,
    *,
    proxy: str | None = None,
    max_response_bytes: int = 64 * 2**20,
) -> Carrier:
    """Make a transport over a library, which knows this trust and this proxy and nothing of the environment."""
    if library is aiohttp:
        connector = aiohttp.TCPConnector(limit=connections, ssl=trust)
        session = aiohttp.ClientSession(connector=connector, proxy=proxy)
        return AiohttpTransport(session, max_response_bytes=max_response_bytes)
    limits = library.Limits(max_connections=connections, max_keepalive_connections=connections)
    client = library.AsyncClient(verify=trust, trust_env=False, limits=limits, proxy=proxy)
    return HttpxTransport(client, max_response_bytes=max_response_bytes)
