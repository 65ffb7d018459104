"""The least that can answer: a protocol on a socket, in a process of its own, so that what is measured is the client.

    python -m benchmarks._bare_server BODY_FILE [DELAY]

It answers every request with the bytes of a file, after so many seconds, and prints its port.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast


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


async def serve(body: bytes, delay: float) -> None:
    """Serve on a free port until the process ends."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = head.encode() + body
    server = await asyncio.get_running_loop().create_server(
        lambda: _Answering(answer, delay), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def serving(body: Path, *, delay: float = 0.0) -> Iterator[str]:
    """Run it, and yield its address."""
    command = [sys.executable, "-m", "benchmarks._bare_server", str(body), str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]).read_bytes(), float(sys.argv[2])))
