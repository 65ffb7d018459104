"""A reconciler over 100,000 servers, of which 1 % a minute drift, for a day on the virtual clock.

    python -m benchmarks.reconcile [--servers 100000] [--hours 24] [--resync 300]

The cloud is one function in the same process, whose CPU is counted apart. The fewest calls are a page a thousand
servers for each resync, and a call a thousand servers that have drifted between two of them; polls of jobs stand apart.
The longest hold is the longest callback of the event loop; the memory is that of the process, after two hours and at
the end. Beside it stands what an author without it would write: a loop that lists all servers every `resync` seconds,
and awaits a fleet run for those that are off.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks._batch_cloud import PAGE, id_of
from benchmarks._collector import Collector, set_aside
from benchmarks._drifting_cloud import DriftingCloud
from benchmarks._report import judge, report
from benchmarks.holding import MAX_HOLD, PAGE_BYTES, Watch
from bms_async import BmsClient, ServerStatus, StaticToken
from tests.support.virtual_clock import run_virtually

MAX_CALLS, MAX_GROWTH = 1.05, 1.05
SHARE_A_MINUTE = 0.01
HOUR = 3600.0

Way = Callable[[BmsClient, list[str], float], Awaitable[None]]


async def by_reconciler(bms: BmsClient, ids: list[str], resync: float) -> None:
    """Keep the servers on for ever."""
    async with bms.reconciler(resync=resync, wave_size=PAGE) as power:
        power.want(ServerStatus.ACTIVE, ids)
        await asyncio.Event().wait()


async def by_hand(bms: BmsClient, ids: list[str], resync: float) -> None:
    """Keep them on as a loop of one's own does."""
    wanted = set(ids)
    while True:
        began = asyncio.get_running_loop().time()
        off = [
            server.id
            async for server in bms.servers.list()
            if server.id in wanted and server.status is not ServerStatus.ACTIVE
        ]
        if off:
            await bms.fleet.start(off)
        await asyncio.sleep(max(0.0, began + resync - asyncio.get_running_loop().time()))


WAYS: dict[str, Way] = {"a reconciler": by_reconciler, "a loop of one's own": by_hand}


def measure(way: Way, servers: int, hours: float, resync: float) -> dict[str, Any]:
    """Return the figures of a day."""

    async def main(collector: Collector) -> dict[str, Any]:
        cloud = DriftingCloud(servers, collector, seed=7)
        client = BmsClient(endpoint="http://localhost", project_id="p", auth=StaticToken("t" * 8), transport=cloud)
        loop = asyncio.get_running_loop()
        per_minute = int(servers * SHARE_A_MINUTE)
        early = 0
        async with client as bms:
            ids = [id_of(number) for number in range(servers)]
            set_aside()
            begun = time.thread_time()
            with Watch(cloud) as watch:
                keeping = asyncio.ensure_future(way(bms, ids, resync))
                start = loop.time()
                while (elapsed := loop.time() - start) < hours * HOUR and not keeping.done():
                    await asyncio.sleep(60)
                    cloud.drift(per_minute)
                    early = early or (_resident() if elapsed >= min(2.0, hours / 2) * HOUR else 0)
                spent = time.thread_time() - begun - cloud.spent
                keeping.cancel()
                await asyncio.wait([keeping])
            late = _resident()
        pages = -(-servers // PAGE)
        drifted_between = per_minute * resync / 60
        resyncs = hours * HOUR / resync
        fewest = round(resyncs * (pages + -(-drifted_between // PAGE)))
        made = cloud.calls["pages"] + cloud.calls["starts"] + cloud.calls["stops"] + cloud.calls["others"]
        return {
            "virtual hours": hours,
            "drifted": cloud.drifted,
            "started": cloud.started,
            "needless": cloud.needless,
            "pages": cloud.calls["pages"],
            "starts": cloud.calls["starts"],
            "single reads": cloud.calls["others"],
            "polls": cloud.calls["polls"],
            "of the fewest": round(made / fewest, 4),
            "CPU s an hour": round(spent / hours, 2),
            "longest (ms)": round(watch.callback * 1e3, 1),
            "MB early": round(early / 1e6, 1),
            "MB late": round(late / 1e6, 1),
        }

    gc.collect()
    with Collector() as collector:
        return run_virtually(lambda: main(collector))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES


def main() -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--servers", type=int, default=100_000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--resync", type=float, default=300.0)
    parser.add_argument("--only", choices=list(WAYS), help="one of the two alone")
    given = parser.parse_args()
    rows = {}
    for name, way in WAYS.items():
        if given.only in (None, name):
            sys.stderr.write(f"{name}...\n")
            rows[name] = measure(way, given.servers, given.hours, given.resync)
    report("reconcile", [{"how": name, **row} for name, row in rows.items()])
    mine = rows.get("a reconciler")
    if mine is None:
        return os.EX_OK
    growth = mine["MB late"] / mine["MB early"]
    return judge(
        {
            f"{mine['of the fewest']} of the fewest calls, at most {MAX_CALLS:g}": mine["of the fewest"] <= MAX_CALLS,
            f"{mine['longest (ms)']} ms the longest hold, at most {MAX_HOLD * 1e3:g}": mine["longest (ms)"]
            <= MAX_HOLD * 1e3,
            f"{growth:.3f} of the early memory at the end, at most {MAX_GROWTH:g}": growth <= MAX_GROWTH,
            f"{mine['needless']} needless starts": mine["needless"] == 0,
        }
    )


if __name__ == "__main__":
    raise SystemExit(main())
