"""The figures of one client that reads one list; `benchmarks.listing` runs it in a process of its own.

python -m benchmarks._listing CLIENT ADDRESS SERVERS
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks._samples import ACCESS_KEY, PROJECT, REQUEST_HEADERS, SECRET_KEY, TOKEN
from bms_async import BmsClient, Http1Transport, HttpxTransport, StaticToken

PAGE = 1000
_PROBE = 0.001
_PROBE_ALONE = 0.5


def _kilobytes(name: str) -> int:
    """Return what Linux reports of this process: VmRSS, or VmHWM for its peak."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))


class Figures:
    """The cost of a list, counted from when this object is made: the client is open by then, and idle."""

    def __init__(self) -> None:
        # Garbage of the imports is collected, as in any process that has run for a while, and the peak is reset.
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        self._idle = _kilobytes("VmRSS")
        self._from = (time.process_time(), time.perf_counter())

    def print_as_json(self, servers: int, **more: float) -> None:
        """Print the figures."""
        cpu, clock = self._from
        found = {
            "servers": servers,
            "cpu": time.process_time() - cpu,
            "wall": time.perf_counter() - clock,
            "peak": (_kilobytes("VmHWM") - self._idle) / 1024,
            **more,
        }
        print(json.dumps(found), flush=True)


class Probe:
    """Sleeps for a millisecond again and again, and records the longest delay of its wake-up, in milliseconds.

    Attributes:
        latest: By the clock. On a busy machine most of it is due to other processes.
        held: As much of it as this thread was at work: how long the client held the loop.
    """

    def __init__(self) -> None:
        self.latest = self.held = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            begun, work = time.perf_counter(), time.thread_time()
            await asyncio.sleep(_PROBE)
            late = 1000 * (time.perf_counter() - begun - _PROBE)
            self.latest = max(self.latest, late)
            self.held = max(self.held, min(late, 1000 * (time.thread_time() - work)))


async def measure(read: Callable[[], Awaitable[int]]) -> None:
    """Read a list to its end while the loop is probed; before that, probe an idle loop."""
    async with asyncio.TaskGroup() as group:
        alone, beside = Probe(), Probe()
        watching = group.create_task(alone.run())
        await asyncio.sleep(_PROBE_ALONE)
        watching.cancel()
        watching = group.create_task(beside.run())
        figures = Figures()
        servers = await read()
        await asyncio.sleep(2 * _PROBE)
        figures.print_as_json(servers, held=beside.held, late=beside.latest, noise=alone.latest)
        watching.cancel()


async def ours(address: str, _servers: int, *, on: str) -> None:
    """This package: limited, logged, retried, with prefetched pages, every server typed and listed once."""
    transport, auth = Http1Transport() if on == "http1" else HttpxTransport(), StaticToken(TOKEN)
    async with BmsClient(endpoint=address, project_id=PROJECT, auth=auth, transport=transport) as bms:

        async def read() -> int:
            number = 0
            async for _ in bms.servers.list():
                number += 1
            return number

        await measure(read)


def _page(address: str, number: int) -> str:
    return f"{address}/v1/{PROJECT}/baremetalservers/detail?limit={PAGE}&offset={number}"


async def raw_httpx(address: str, servers: int) -> None:
    """An httpx client with its defaults; JSON is decoded by msgspec into dicts."""
    import httpx

    async with httpx.AsyncClient(timeout=120) as client:

        async def read() -> int:
            number = 0
            for page in range(servers // PAGE):
                response = await client.get(_page(address, page + 1), headers=REQUEST_HEADERS)
                for _ in msgspec.json.decode(response.content)["servers"]:
                    number += 1
            return number

        await measure(read)


async def raw_aiohttp(address: str, servers: int) -> None:
    """An aiohttp session with its defaults; JSON is decoded by msgspec into dicts."""
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def read() -> int:
            number = 0
            for page in range(servers // PAGE):
                async with session.get(_page(address, page + 1), headers=REQUEST_HEADERS) as response:
                    for _ in msgspec.json.decode(await response.read())["servers"]:
                        number += 1
            return number

        await measure(read)


def vendor(address: str, servers: int) -> None:
    """The vendor's blocking client, one page after the other."""
    from huaweicloudsdkbms import v1
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.http.http_config import HttpConfig

    builder: Any = v1.BmsClient.new_builder().with_http_config(HttpConfig(timeout=120))
    credentials = BasicCredentials(ACCESS_KEY, SECRET_KEY, PROJECT)
    client = builder.with_credentials(credentials).with_endpoint(address).build()
    figures = Figures()
    number = 0
    for page in range(servers // PAGE):
        response = client.list_bare_metal_servers(v1.ListBareMetalServersRequest(limit=PAGE, offset=page + 1))
        for _ in response.servers:
            number += 1
    figures.print_as_json(number)


def openstacksdk(address: str, _servers: int) -> None:
    """A blocking connection of openstacksdk, which pages through the native list by itself."""
    import openstack
    from keystoneauth1 import session, token_endpoint

    endpoint = f"{address}/v2.1/{PROJECT}"
    given = session.Session(auth=token_endpoint.Token(endpoint, TOKEN))
    connection = openstack.connection.Connection(session=given, compute_endpoint_override=endpoint)
    compute: Any = connection.compute
    figures = Figures()
    number = 0
    for _ in compute.servers(details=True, limit=PAGE):
        number += 1
    figures.print_as_json(number)


CLIENTS: dict[str, Callable[[str, int], Any]] = {
    "bms_async on http1": lambda *given: asyncio.run(ours(*given, on="http1")),
    "bms_async on httpx": lambda *given: asyncio.run(ours(*given, on="httpx")),
    "aiohttp": lambda *given: asyncio.run(raw_aiohttp(*given)),
    "httpx": lambda *given: asyncio.run(raw_httpx(*given)),
    "vendor's BmsClient": vendor,
    "openstacksdk": openstacksdk,
}


if __name__ == "__main__":
    which, where, many = sys.argv[1:]
    CLIENTS[which](where, int(many))
