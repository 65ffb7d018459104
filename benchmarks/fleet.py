"""Whole fleet runs on the virtual clock: how close to the limit, and the CPU and memory of a server.

The cloud is the simulator in the same process. Its steps are timed apart, and memory is counted by the file that
allocated it, so that the SDK's own cost is shown beside the cost of both. Without ``--servers`` it runs 1,000, 10,000
and 100,000; a million is fine too, and takes some minutes with ``--memory``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import anyio
import httpx

import bms_async
from benchmarks._report import judge, report
from bms_async import BmsClient, FleetRun, HttpxTransport, StaticToken
from bms_async.simulator import Cloud, CloudSettings, create_app
from tests.support.virtual_clock import advance, run_virtually

LIMIT = 50
BATCH = 1000
MAX_MICROSECONDS = 60.0
MAX_BYTES = 600.0

PACKAGE = Path(bms_async.__file__).parent

App = Callable[[Any, Any, Any], Awaitable[None]]


class Metered:
    """An application whose own steps are timed, without those of other tasks while it waits."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.spent = 0.0

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        """Handle a request."""
        await _Steps(self, self.app(scope, receive, send))


class _Steps:
    def __init__(self, meter: Metered, work: Awaitable[None]) -> None:
        self.meter = meter
        self.work = work

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self.work.__await__()
        while True:
            begun = time.process_time()
            try:
                wanted = next(steps)
            except StopIteration:
                return
            finally:
                self.meter.spent += time.process_time() - begun
            yield wanted


def stop(servers: int, *, memory: bool) -> dict[str, Any]:
    """Stop a whole cloud and return the figures."""

    async def main() -> dict[str, Any]:
        settings = CloudSettings(servers=servers, seed=7, latency=(0.02, 0.3), job_seconds=(2, 8))
        cloud = Cloud(settings, clock=asyncio.get_running_loop().time)
        meter = Metered(create_app(cloud))
        async with BmsClient(
            endpoint="http://localhost",
            project_id=settings.project_id,
            auth=StaticToken(settings.token),
            transport=HttpxTransport(httpx.AsyncClient(transport=httpx.ASGITransport(app=meter))),
        ) as bms:
            ids = list(cloud.servers)
            if memory:
                tracemalloc.start()
                run = bms.fleet.stop(ids)
                fullest = await _fullest(run)
                kept = _of_the_sdk(tracemalloc.take_snapshot())
                tracemalloc.stop()
                (await run).raise_for_failures()
                return {"SDK bytes a server in flight": fullest, "SDK bytes a server kept": kept / servers}
            begun = time.process_time()
            result = await bms.fleet.stop(ids)
            spent = time.process_time() - begun
            result.raise_for_failures()
            books = cloud.call_counts()
            windows = (-(-servers // BATCH) - 1) // LIMIT
            return {
                "servers": servers,
                "refused": books.refused,
                "last batch at (s)": books.operations["servers.stop"].last or 0.0,
                "dictated (s)": windows * 60.0,
                "virtual seconds": asyncio.get_running_loop().time(),
                "polls": books.operations["jobs.get"].arrived,
                "CPU a server (µs)": spent / servers * 1e6,
                "SDK CPU a server (µs)": (spent - meter.spent) / servers * 1e6,
            }

    return run_virtually(main)


async def _fullest(run: FleetRun) -> float:
    """Return the peak of the SDK's bytes for each server in flight, measured once a virtual second."""
    fullest = 0.0
    while run.report is None:
        with anyio.move_on_after(1):
            await advance(1)
        if run.progress.in_flight:
            fullest = max(fullest, _of_the_sdk(tracemalloc.take_snapshot()) / run.progress.submitted)
    return fullest


def _of_the_sdk(snapshot: tracemalloc.Snapshot) -> float:
    ours = (each for each in snapshot.statistics("filename") if each.traceback[0].filename.startswith(str(PACKAGE)))
    return float(sum(each.size for each in ours if "/simulator/" not in each.traceback[0].filename))


def main() -> int:
    """Run the requested sizes; return 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--memory", type=int, default=10_000, help="the largest size whose memory is measured")
    given = parser.parse_args()
    rows = []
    for servers in given.servers:
        row = stop(servers, memory=False)
        # Tracing memory slows everything down, so it has a run of its own.
        measured = stop(servers, memory=True) if servers <= given.memory else {}
        row |= {name: measured.get(name) for name in ("SDK bytes a server in flight", "SDK bytes a server kept")}
        rows.append(row)
    report("fleet", rows)
    # A thousand servers are a single job.
    bytes_each = [each for row in rows if (each := row["SDK bytes a server in flight"]) and row["servers"] >= 10_000]
    large = [row for row in rows if row["servers"] >= 10_000]
    targets = {
        "no call refused": not any(row["refused"] for row in rows),
        "the last batch within 1 % of the time that the limit dictates": all(
            row["last batch at (s)"] <= 1.01 * row["dictated (s)"] + 1.0 for row in rows
        ),
        f"under {MAX_MICROSECONDS:g} µs of SDK CPU a server, from 10,000 on": all(
            row["SDK CPU a server (µs)"] < MAX_MICROSECONDS for row in large
        ),
    }
    if bytes_each:
        targets[f"under {MAX_BYTES:g} bytes of the SDK a server in flight"] = max(bytes_each) < MAX_BYTES
    return judge(targets)


if __name__ == "__main__":
    sys.exit(main())
