"""The smallest server that sends responses: a protocol on a socket, in a process of its own.

    python -m benchmarks._bare_server BODY_FILE [DELAY]

It answers every request with the bytes of a file, after DELAY seconds, and prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

from benchmarks._serving import serve


class _Responder(asyncio.Protocol):
    def __init__(self, response: bytes, delay: float) -> None:
        self._response = response
        self._delay = delay
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            self._received = self._received[end + 4 :]
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._transport.write, self._response)
            else:
                self._transport.write(self._response)


def response_of(body: bytes) -> bytes:
    """Return the whole response with these bytes as its body."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


if __name__ == "__main__":
    response, delay = response_of(Path(sys.argv[1]).read_bytes()), float(sys.argv[2])
    asyncio.run(serve(lambda: _Responder(response, delay)))
