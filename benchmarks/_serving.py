"""Servers in processes of their own, so that the figures are those of the client."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvloop


@contextmanager
def serving(module: str, *arguments: object, scheme: str = "http") -> Iterator[str]:
    """Run a server of this folder, and yield its address."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"{scheme}://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def serve(make: Callable[[], asyncio.Protocol], *, context: ssl.SSLContext | None = None) -> None:
    """Serve on a free port, which is printed, until the process ends."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(make, "127.0.0.1", 0, backlog=4096, ssl=context)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    # The quicker the server, the more of the machine is left to the client that is measured.
    uvloop.run(main())
