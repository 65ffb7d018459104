"""Whole fleet runs on the virtual clock: how close to the limit, and the CPU and memory of a server.

The cloud is the simulator in the same process. Its steps are timed apart, and memory is counted by the file that
allocated it, so that the SDK's own cost is shown beside the cost of both. The garbage collector counts as the SDK's,
wherever it starts; it passes over the servers of the simulator, but not over what that makes of each job. Tracked
objects are counted when the simulator is gone and only the report is left. Without ``--servers`` it runs 1,000, 10,000
and 100,000; a million is fine too, and takes some minutes with ``--memory``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import anyio
import httpx

import bms_async
from benchmarks._collector import Collector, set_aside, tracked
from benchmarks._report import judge, report
from benchmarks._samples import TOKEN
from bms_async import BmsClient, FleetReport, FleetRun, HttpxTransport, StaticToken
from bms_async.simulator import Cloud, CloudSettings, create_app
from tests.support.virtual_clock import advance, run_virtually

LIMIT = 50
BATCH = 1000
MAX_MICROSECONDS = 60.0
MAX_BYTES = 600.0
MAX_TRACKED = 0.02
MAX_COLLECTOR = 3.0
MILLION = 1_000_000
MAX_LATE = 0.4
"""How many per cent later than the limit dictates the last batch of a million servers may be sent."""

PACKAGE = Path(bms_async.__file__).parent

App = Callable[[Any, Any, Any], Awaitable[None]]


class Metered:
    """An application whose own steps are timed, without those of other tasks while it waits, and the collector's."""

    def __init__(self, app: App, collector: Collector) -> None:
        self.app = app
        self.collector = collector
        self.spent = 0.0

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        """Handle a request."""
        await _Steps(self, self.app(scope, receive, send))


class _Steps:
    def __init__(self, meter: Metered, work: Awaitable[None]) -> None:
        self.meter = meter
        self.work = work

    def __await__(self) -> Generator[Any, Any, None]:
        steps, meter = self.work.__await__(), self.meter
        while True:
            begun, collected = time.thread_time(), meter.collector.spent
            try:
                wanted = next(steps)
            except StopIteration:
                return
            finally:
                meter.spent += time.thread_time() - begun - (meter.collector.spent - collected)
            yield wanted


def stop(servers: int) -> dict[str, Any]:
    """Stop a whole cloud and return the figures."""

    async def main(collector: Collector) -> tuple[FleetReport, dict[str, Any]]:
        cloud, settings = _cloud_of(servers)
        meter = Metered(create_app(cloud), collector)
        async with _client_of(settings, meter) as bms:
            ids = list(cloud.servers)
            set_aside()
            begun, collected, collector.longest = time.thread_time(), collector.spent, 0.0
            result = await bms.fleet.stop(ids)
            spent, collected = time.thread_time() - begun, collector.spent - collected
            result.raise_for_failures()
            books = cloud.call_counts()
            last, dictated = books.operations["servers.stop"].last or 0.0, (-(-servers // BATCH) - 1) // LIMIT * 60.0
            return result, {
                "servers": servers,
                "refused": books.refused,
                "last batch at (s)": last,
                "dictated (s)": dictated,
                "late (%)": 100 * (last - dictated) / dictated if dictated else None,
                "virtual seconds": asyncio.get_running_loop().time(),
                "polls": books.operations["jobs.get"].arrived,
                "CPU a server (µs)": spent / servers * 1e6,
                "SDK CPU a server (µs)": (spent - meter.spent) / servers * 1e6,
                "collector (%)": 100 * collected / (spent - meter.spent),
                "its longest pass (ms)": collector.longest * 1e3,
            }

    gc.collect()
    before = tracked()
    with Collector() as collector:
        kept, row = run_virtually(lambda: main(collector))
    gc.unfreeze()
    gc.collect()
    row["tracked a server"] = (tracked() - before) / len(kept)
    return row


def measure_memory(servers: int) -> dict[str, float]:
    """Stop a whole cloud and return the SDK's bytes, which slows everything down."""

    async def main() -> dict[str, float]:
        cloud, settings = _cloud_of(servers)
        async with _client_of(settings, create_app(cloud)) as bms:
            ids = list(cloud.servers)
            tracemalloc.start()
            run = bms.fleet.stop(ids)
            fullest = await _fullest(run)
            kept = _of_the_sdk(tracemalloc.take_snapshot())
            tracemalloc.stop()
            (await run).raise_for_failures()
            return {"SDK bytes a server in flight": fullest, "SDK bytes a server kept": kept / servers}

    return run_virtually(main)


def _cloud_of(servers: int) -> tuple[Cloud, CloudSettings]:
    settings = CloudSettings(servers=servers, seed=7, token=TOKEN, latency=(0.02, 0.3), job_seconds=(2, 8))
    return Cloud(settings, clock=asyncio.get_running_loop().time), settings


def _client_of(settings: CloudSettings, app: App) -> BmsClient:
    return BmsClient(
        endpoint="http://localhost",
        project_id=settings.project_id,
        auth=StaticToken(settings.token),
        transport=HttpxTransport(httpx.AsyncClient(transport=httpx.ASGITransport(app=app))),
    )


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
    # What is imported and made only once is not of a run.
    stop(BATCH)
    rows = []
    for servers in given.servers:
        row = stop(servers)
        measured = measure_memory(servers) if servers <= given.memory else {}
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
        f"at {MILLION:,}, {MAX_LATE:g} % at most": all(
            row["late (%)"] <= MAX_LATE for row in rows if row["servers"] >= MILLION
        ),
        f"{MAX_TRACKED:g} tracked objects a server at most, from 10,000 on": all(
            row["tracked a server"] <= MAX_TRACKED for row in large
        ),
        f"{MAX_COLLECTOR:g} % of the SDK's CPU for the collector at most, from 10,000 on": all(
            row["collector (%)"] <= MAX_COLLECTOR for row in large
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
