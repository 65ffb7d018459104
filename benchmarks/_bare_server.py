"""The smallest server that sends responses: a protocol on a socket, in a process of its own.

    python -m benchmarks._bare_server BODY_FILE DELAY [CERTIFICATE_FILE]

It answers every request with the bytes of a file, after DELAY seconds, and prints its port. With a certificate it
speaks TLS.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

from benchmarks._authority import server_context
from benchmarks._samples import http_response
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


if __name__ == "__main__":
    response, delay = http_response(Path(sys.argv[1]).read_bytes()), float(sys.argv[2])
    serve(lambda: _Responder(response, delay), context=server_context(sys.argv[3]) if sys.argv[3:] else None)
