"""What the tests of this folder send, and a server that begins with a handshake of TLS."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from bms_async import HttpRequest
from tests.transport.loopback import PATIENCE, Loopback, server_context


def request(url: str, method: str = "GET", **more: Any) -> HttpRequest:
    return HttpRequest(
        **{"operation": "servers.get", "method": method, "url": url, "headers": {}, "timeout": PATIENCE, **more}
    )


class SecureLoopback(Loopback):
    """Shakes hands before it reads, for on uvloop a handshake that begins later finds nothing left to read."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512, ssl=server_context())
        self.port = self._server.sockets[0].getsockname()[1]
        return self
