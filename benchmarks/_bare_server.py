"""The least that can answer: a protocol on a socket, in a process of its own.

    python -m benchmarks._bare_server BODY_FILE [DELAY]

It answers every request with the bytes of a file, after so many seconds, and prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

from benchmarks._serving import serve


class _Answering(asyncio.Protocol):
    def __init__(self, answer: bytes, delay: float) -> None:
        self._answer = answer
        self._delay = delay
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while (end := self._heard.find(b"\r\n\r\n")) >= 0:
            self._heard = self._heard[end + 4 :]
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._transport.write, self._answer)
            else:
                self._transport.write(self._answer)


def answer_of(body: bytes) -> bytes:
    """Return the whole answer that holds these bytes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


if __name__ == "__main__":
    answer, delay = answer_of(Path(sys.argv[1]).read_bytes()), float(sys.argv[2])
    asyncio.run(serve(lambda: _Answering(answer, delay)))
