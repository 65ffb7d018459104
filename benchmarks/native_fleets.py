"""Reboots of many servers of a plain OpenStack cloud: ``bms.nova.fleet`` beside a GET a server every five seconds.

    python -m benchmarks.native_fleets [--servers 5000] [--quick]

The cloud is the simulator, over HTTP in the same process and on the virtual clock, and has no limits. One per cent of
the servers come to grief: they break, vanish, or take ten times as long. Beside the fleet stands what is written
without it, with the same client: a task a server, a hundred of which get past a semaphore for the call; each then asks
for its server every five seconds until it is ACTIVE, in ERROR or gone, as openstacksdk's ``wait_for_server`` does. Each
has a cloud of its own from the same seed. Requests are counted where they leave the client; there a page may
wait for a connection, so that two may be less than a second apart though they are asked for a second apart.

The CPU is the client's own: the simulator's steps are timed apart. When all ends are known is up to the few that are
slow; when 99 % are known, to all others. Servers that took longer than any ordinary one are found in the simulator's
books; only they may cost the fleet a GET. ``--quick`` reboots a fifth of the servers.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from benchmarks._collector import Collector, set_aside
from benchmarks._report import judge, report
from benchmarks._samples import TOKEN
from benchmarks.fleet import App, Metered
from bms_async import BmsClient, HttpxTransport, NotFoundError, StaticToken
from bms_async.simulator import Cloud, CloudSettings, create_app
from tests.support.virtual_clock import run_virtually

AT_ONCE = 100
POLL_SECONDS = 5.0
ENDED = frozenset({"ACTIVE", "ERROR", "gone"})
ORDINARY_SECONDS = 90.0
ADDRESS = "http://localhost"
A_MOMENT = 1e-6
MAX_CALLS, MAX_CPU, MAX_TIME = 0.12, 0.2, 1.05
"""Of those of the polls; the last is the time until all ends are known."""

FLEET, POLLS = "nova.fleet.reboot", f"a GET a server every {POLL_SECONDS:g} s"
OnEnd = Callable[[bool], None]
"""Called with each server's end: whether it is ACTIVE."""

Way = Callable[[BmsClient, Sequence[str], OnEnd], Awaitable[None]]


class Requests:
    """An application before which requests are written down, each with the moment at which it left the client."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.pages: list[float] = []
        self.actions: dict[str, float] = {}
        self.gets: Counter[str] = Counter()
        self.total = 0

    async def __call__(self, scope: Any, receive: object, send: object) -> None:
        """Write a request down, and hand it on."""
        parts = scope["path"].split("/servers/")[1].split("/")
        now = asyncio.get_running_loop().time()
        self.total += 1
        if parts == ["detail"]:
            self.pages.append(now)
        elif scope["method"] == "POST":
            self.actions.setdefault(parts[0], now)
        else:
            self.gets[parts[0]] += 1
        await self.app(scope, receive, send)

    def most_pages(self, seconds: float) -> int:
        """Return how many pages were requested within so many seconds at most."""
        # A moment less, since sums of the same times may differ.
        begins = (bisect_left(self.pages, at - seconds + A_MOMENT) for at in self.pages)
        return max((end - begin for end, begin in enumerate(begins, 1)), default=0)


async def by_fleet(bms: BmsClient, ids: Sequence[str], on_end: OnEnd) -> None:
    """Run a fleet."""
    await bms.nova.fleet.reboot(ids, on_outcome=lambda outcome: on_end(outcome.state.is_success))


async def by_polls(bms: BmsClient, ids: Sequence[str], on_end: OnEnd) -> None:
    """Call and ask for each server."""
    semaphore = asyncio.Semaphore(AT_ONCE)

    async def one(server_id: str) -> None:
        async with semaphore:
            await bms.nova.servers.reboot(server_id)
        status: str | None = None
        while status not in ENDED:
            try:
                status = (await bms.nova.servers.get(server_id)).status
            except NotFoundError:
                status = "gone"
            else:
                if status not in ENDED:
                    await asyncio.sleep(POLL_SECONDS)
        on_end(status == "ACTIVE")

    await asyncio.gather(*map(one, ids))


WAYS: dict[str, Way] = {FLEET: by_fleet, POLLS: by_polls}


def measure(servers: int, name: str) -> dict[str, Any]:
    """Reboot all servers of a cloud and return the figures."""

    async def main(collector: Collector) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        cloud = Cloud(_settings(servers), clock=loop.time)
        meter = Metered(create_app(cloud), collector)
        requests = Requests(meter)
        async with _client_of(cloud, requests) as bms:
            # Those that vanish are not in the cloud's own books afterwards.
            machines = dict(cloud.servers)
            ends: list[tuple[bool, float]] = []
            set_aside()
            begun, spent = loop.time(), time.thread_time()
            await WAYS[name](bms, list(machines), lambda good: ends.append((good, loop.time() - begun)))
            spent = time.thread_time() - spent - meter.spent
        slow = {
            server_id
            for server_id, machine in machines.items()
            if (machine.updated or 0.0) - requests.actions[server_id] > ORDINARY_SECONDS + 1.0
        }
        return {
            "how": name,
            "servers": servers,
            "ACTIVE": sum(good for good, _ in ends),
            "failed": sum(not good for good, _ in ends),
            "slow": len(slow),
            "calls": requests.total,
            "pages": len(requests.pages),
            "pages in 10 s": requests.most_pages(10.0),
            "GETs": requests.gets.total(),
            "GETs of ordinary ones": sum(count for each, count in requests.gets.items() if each not in slow),
            "99 % known (s)": ends[len(ends) * 99 // 100][1],
            "all known (s)": ends[-1][1],
            "CPU a server (µs)": spent / servers * 1e6,
        }

    with Collector() as collector:
        row = run_virtually(lambda: main(collector))
    gc.unfreeze()
    gc.collect()
    return row


def _settings(servers: int) -> CloudSettings:
    return CloudSettings(
        servers=servers,
        seed=7,
        token=TOKEN,
        latency=(0.02, 0.2),
        job_seconds=(20.0, ORDINARY_SECONDS),
        native_error_share=0.004,
        native_vanish_share=0.004,
        native_slow_share=0.002,
    )


def _client_of(cloud: Cloud, app: App) -> BmsClient:
    return BmsClient(
        endpoint=ADDRESS,
        compute_endpoint=ADDRESS,
        project_id=cloud.settings.project_id,
        auth=StaticToken(cloud.settings.token),
        transport=HttpxTransport(httpx.AsyncClient(transport=httpx.ASGITransport(app=app))),
    )


def main() -> int:
    """Measure both; return 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--servers", type=int, default=5000)
    parser.add_argument("--quick", action="store_true", help="a fifth of the servers")
    given = parser.parse_args()
    servers = given.servers // 5 if given.quick else given.servers
    # What is imported and made only once is not of a run.
    for name in WAYS:
        measure(100, name)
    fleet, polls = (measure(servers, name) for name in WAYS)
    rows = []
    for row in (fleet, polls):
        row["GETs a server"] = row["GETs"] / servers
        row["calls, polls = 1"] = row["calls"] / polls["calls"]
        row["CPU, polls = 1"] = row["CPU a server (µs)"] / polls["CPU a server (µs)"]
        row["time, polls = 1"] = row["all known (s)"] / polls["all known (s)"]
        rows.append(row)
    report("native_fleets", rows)
    return judge(
        {
            "both end alike": (fleet["ACTIVE"], fleet["failed"]) == (polls["ACTIVE"], polls["failed"]),
            "one page a second at most, in any ten seconds": fleet["pages in 10 s"] <= 10,
            "no GET of an ordinary server": fleet["GETs of ordinary ones"] == 0,
            f"{MAX_CALLS:g} of the calls at most": fleet["calls"] <= MAX_CALLS * polls["calls"],
            f"{MAX_CPU:g} of the CPU at most": fleet["CPU, polls = 1"] <= MAX_CPU,
            f"{MAX_TIME:g} of the time at most": fleet["time, polls = 1"] <= MAX_TIME,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
