"""The simulator behind a real socket, in the loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import uvicorn

from bms_async.simulator import Cloud, CloudSettings, create_app


class Served(NamedTuple):
    cloud: Cloud
    url: str

    @property
    def first_id(self) -> str:
        return next(iter(self.cloud.servers))


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to pytest."""
        yield


@asynccontextmanager
async def served(settings: CloudSettings | None = None) -> AsyncIterator[Served]:
    """Serve a cloud with uvicorn until the block ends."""
    cloud = Cloud(settings or CloudSettings(servers=50, seed=1), clock=asyncio.get_running_loop().time)
    config = uvicorn.Config(
        create_app(cloud), lifespan="off", log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1
    )
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        # It listens before uvicorn runs, so that nobody has to wait for that.
        listener.listen(512)
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield Served(cloud, f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            await serving
