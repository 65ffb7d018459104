"""One client, some callers, one figure; `benchmarks.calls` runs it in a process of its own.

python -m benchmarks._callers CLIENT ADDRESS CALLERS SECONDS
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from typing import Any

import anyio
import msgspec

from bms_async import AiohttpTransport, AkSkAuth, BmsClient, HttpxTransport, Limits, StaticToken

WINDOWS = 5
WARM_UP = 0.5
HEADERS = {"X-Auth-Token": "token", "Accept": "application/json"}
PROJECT = "bbf1946d374b44a0a2a95533562ba954"
JOB = "ff808081ad0b6a5e0190f4c37f5b00a1"


class Counter:
    """Counts calls, and measures their cost in each window."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0
        self.over = False
        self._rows: list[tuple[float, float]] = []
        self.begin()

    def begin(self) -> None:
        """Begin a window."""
        self._from = (time.process_time(), time.perf_counter(), self.calls)

    def end_window(self) -> None:
        cpu, clock, calls = self._from
        made = self.calls - calls
        if not made:
            raise RuntimeError(f"no call ended within {self.seconds} s")
        took = time.perf_counter() - clock
        self._rows.append(((time.process_time() - cpu) / made * 1e6, made / took))
        self.begin()

    def print_medians(self) -> None:
        """Print the medians of all windows, and end the process."""
        cpu, rate = zip(*self._rows, strict=True)
        print(json.dumps({"cpu": statistics.median(cpu), "rate": statistics.median(rate)}), flush=True)
        # To cancel a thousand callers one by one would take long, and nothing needs it.
        os._exit(0)


async def drive(call: Callable[[], Awaitable[object]], callers: int, counter: Counter) -> None:
    """Have so many callers make calls in a loop."""

    async def caller() -> None:
        while True:
            await call()
            counter.calls += 1

    async with anyio.create_task_group() as group:
        for _ in range(callers):
            group.start_soon(caller)
        # Connections are made before the first window.
        await anyio.sleep(WARM_UP)
        counter.begin()
        for _ in range(WINDOWS):
            await anyio.sleep(counter.seconds)
            counter.end_window()
        counter.print_medians()


def drive_threads(call: Callable[[], object], callers: int, counter: Counter) -> None:
    """Do the same with a blocking client, in a thread for each caller."""
    lock = threading.Lock()

    def caller() -> None:
        while True:
            call()
            with lock:
                counter.calls += 1

    threads = [threading.Thread(target=caller, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP)
    counter.begin()
    for _ in range(WINDOWS):
        time.sleep(counter.seconds)
        counter.end_window()
    # An error would end one thread and nothing else, and the figure would be that of the others.
    if not all(thread.is_alive() for thread in threads):
        raise RuntimeError("some callers ended before the last window")
    counter.print_medians()


async def raw_httpx(address: str, callers: int, counter: Counter, *, library: str = "httpx") -> None:
    """An httpx client with its defaults; JSON is decoded by msgspec."""
    client = import_module(library).AsyncClient(timeout=120)

    async def call() -> object:
        response = await client.get(f"{address}/v1/{PROJECT}/jobs/{JOB}", headers=HEADERS)
        return msgspec.json.decode(response.content)

    await drive(call, callers, counter)


async def raw_aiohttp(address: str, callers: int, counter: Counter) -> None:
    """An aiohttp session with its defaults; JSON is decoded by msgspec."""
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def call() -> object:
            async with session.get(f"{address}/v1/{PROJECT}/jobs/{JOB}", headers=HEADERS) as response:
                return msgspec.json.decode(await response.read())

        await drive(call, callers, counter)


async def ours(address: str, callers: int, counter: Counter, *, on: str, signed: bool = False) -> None:
    """This package: limited, logged, retried, decoded into a typed job; with `signed` as the vendor's clients sign."""
    if on == "httpx2":
        import httpx2

        one, trust = httpx2.Limits(max_connections=1), httpx2.create_ssl_context()
        transport: Any = HttpxTransport(partial(httpx2.AsyncClient, limits=one, verify=trust))
    elif on == "aiohttp":
        import aiohttp

        transport = AiohttpTransport(aiohttp.ClientSession())
    else:
        transport = HttpxTransport()
    async with BmsClient(
        endpoint=address,
        project_id=PROJECT,
        auth=AkSkAuth("ak", "sk") if signed else StaticToken("token"),
        transport=transport,
        # The only change of a default: 2,000 calls a minute would be used up in a second.
        limits=Limits({"jobs.get": 1_000_000_000}),
    ) as bms:
        await drive(lambda: bms.jobs.get(JOB), callers, counter)


def _vendor(kind: str, address: str) -> tuple[Any, Any]:
    from huaweicloudsdkbms import v1
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.http.http_config import HttpConfig

    builder = getattr(v1, kind).new_builder().with_http_config(HttpConfig(timeout=120))
    client = builder.with_credentials(BasicCredentials("ak", "sk", PROJECT)).with_endpoint(address).build()
    return client, v1.ShowJobInfosRequest(job_id=JOB)


def vendor_threads(address: str, callers: int, counter: Counter) -> None:
    """The vendor's blocking client."""
    client, request = _vendor("BmsClient", address)
    drive_threads(lambda: client.show_job_infos(request), callers, counter)


async def vendor_async(address: str, callers: int, counter: Counter) -> None:
    """The vendor's client that returns futures of its own threads."""
    client, request = _vendor("BmsAsyncClient", address)

    async def call() -> object:
        # Its own `result` blocks; awaiting the futures inside costs it less than a thread for each caller.
        sending = client.show_job_infos_async(request)._future  # noqa: SLF001
        response: Any = await asyncio.wrap_future(await asyncio.wrap_future(sending))
        return response.data

    await drive(call, callers, counter)


def openstacksdk(address: str, callers: int, counter: Counter) -> None:
    """A blocking proxy of openstacksdk, which has no call for jobs; its response is decoded as JSON."""
    import openstack
    from keystoneauth1 import session, token_endpoint
    from openstack.proxy import Proxy

    endpoint = f"{address}/v1/{PROJECT}"
    given = session.Session(auth=token_endpoint.Token(endpoint, "token"))
    # A proxy finds its connection by the session, which holds no reference to it.
    connection = openstack.connection.Connection(session=given)
    given._sdk_connection = connection  # type: ignore[attr-defined]  # noqa: SLF001
    proxy: Any = Proxy(session=given, service_type="compute", endpoint_override=endpoint)
    drive_threads(lambda: proxy.get(f"/jobs/{JOB}").json(), callers, counter)


def on_uvloop(address: str, callers: int, counter: Counter) -> None:
    """This package with everything that the extra `speedups` installs."""
    import uvloop

    uvloop.run(ours(address, callers, counter, on="aiohttp"))


CLIENTS: dict[str, Callable[[str, int, Counter], Any]] = {
    "bms_async on aiohttp, uvloop": on_uvloop,
    "bms_async on aiohttp": lambda *given: asyncio.run(ours(*given, on="aiohttp")),
    "bms_async on aiohttp, signed": lambda *given: asyncio.run(ours(*given, on="aiohttp", signed=True)),
    "bms_async on httpx2": lambda *given: asyncio.run(ours(*given, on="httpx2")),
    "bms_async on httpx": lambda *given: asyncio.run(ours(*given, on="httpx")),
    "aiohttp": lambda *given: asyncio.run(raw_aiohttp(*given)),
    "httpx2": lambda *given: asyncio.run(raw_httpx(*given, library="httpx2")),
    "httpx": lambda *given: asyncio.run(raw_httpx(*given)),
    "vendor's BmsClient in threads": vendor_threads,
    "vendor's BmsAsyncClient": lambda *given: asyncio.run(vendor_async(*given)),
    "openstacksdk in threads": openstacksdk,
}


if __name__ == "__main__":
    client, address, callers, seconds = sys.argv[1:]
    CLIENTS[client](address, int(callers), Counter(float(seconds)))
