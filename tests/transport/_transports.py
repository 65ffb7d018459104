"""The transports that the tests of this folder run on: over httpx, httpx2 and aiohttp, and our own with httptools."""

from __future__ import annotations

import ssl
from collections.abc import Hashable
from types import ModuleType
from typing import TypeAlias

import aiohttp
import httptools

from bms_async import HttpxTransport
from bms_async.transport._connect import Proxy, read_proxy
from bms_async.transport.aiohttp import AiohttpTransport
from bms_async.transport.http1 import Http1Transport

POOLS = ModuleType("httpx")
"""httpx as `HttpxTransport` uses it when it is given no client."""


class _Through(dict[Hashable, Proxy | None]):
    """Has one proxy for all addresses, or none for any."""

    def __init__(self, proxy: str | None) -> None:
        super().__init__()
        self._proxy = None if proxy is None else read_proxy(proxy)

    def __contains__(self, route: object) -> bool:
        return True

    def __missing__(self, route: Hashable) -> Proxy | None:
        return self._proxy


LibraryTransport: TypeAlias = HttpxTransport | AiohttpTransport | Http1Transport


def make_transport(
    library: ModuleType,
    trust: ssl.SSLContext,
    connections: int = 10,
    *,
    proxy: str | None = None,
    max_response_bytes: int = 64 * 2**20,
) -> LibraryTransport:
    """Make a transport over a library, which knows this trust and this proxy and nothing of the environment."""
    if library is aiohttp:
        connector = aiohttp.TCPConnector(limit=connections, ssl=trust)
        session = aiohttp.ClientSession(connector=connector, proxy=proxy)
        return AiohttpTransport(session, max_response_bytes=max_response_bytes)
    if library is httptools:
        own = Http1Transport(connections=connections, max_response_bytes=max_response_bytes)
        own._connector._ssl_context = trust
        own._connector._find_proxy = lambda *_: None if proxy is None else read_proxy(proxy)
        return own
    if library is POOLS:
        transport = HttpxTransport(connections=connections, max_response_bytes=max_response_bytes)
        transport._ssl_context, transport._proxies = trust, _Through(proxy)
        return transport
    limits = library.Limits(max_connections=connections, max_keepalive_connections=connections)
    client = library.AsyncClient(verify=trust, trust_env=False, limits=limits, proxy=proxy)
    return HttpxTransport(client, max_response_bytes=max_response_bytes)
