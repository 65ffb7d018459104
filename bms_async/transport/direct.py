"""The transport to servers themselves, and not to the cloud: directly, and with a connection for each request.

It is what readiness checks ask over. A proxy of the environment's leads to the cloud: its 503 would be taken for the
server's. A kept connection would prove that the server was well before it was rebooted, and hold a socket a server.
"""

from __future__ import annotations

import ssl
from collections.abc import Hashable
from typing import Any

import httpx

from bms_async.wire import HttpRequest

from ._http1 import split_url
from .httpx import HttpxTransport

_MAX_RESPONSE_BYTES = 64 * 1024
_ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=0)


class DirectTransport(HttpxTransport):
    """Sends each request over a connection of its own, and never through a proxy.

    The name in a request's ``Host``, if it has one, is the name that the server's certificate must have.

    Args:
        verify: Whether certificates are verified.
        connections: The maximum number of requests in flight.
    """

    def __init__(self, *, verify: bool, connections: int) -> None:
        super().__init__(connections=connections, max_response_bytes=_MAX_RESPONSE_BYTES)
        self._verify = verify

    def _load_ssl_context(self) -> ssl.SSLContext:
        context = super()._load_ssl_context()
        if not self._verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def _make_pool(self, route: Hashable) -> httpx.AsyncHTTPTransport:
        del route
        return httpx.AsyncHTTPTransport(verify=self._ssl_context or True, trust_env=False, limits=_ONE_CONNECTION)

    async def _route_to(self, request: HttpRequest) -> Hashable:
        return "://".join(split_url(request)[:2])

    def _build_request(self, client: Any, request: HttpRequest, extensions: dict[str, Any]) -> httpx.Request:
        host = request.headers.get("Host")
        # Without one, the certificate must have the address.
        named = extensions if host is None else {**extensions, "sni_hostname": host.partition(":")[0]}
        return super()._build_request(client, request, named)
