"""How much later a durable run ends than a plain one, by one worker and by several, on the virtual clock."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from bms_async import OutcomeState, Runs
from bms_async.testing import CloudSettings, SimulatedCloud, run_virtually

Row = dict[str, object]


def measure(servers: int) -> list[Row]:
    """Stop a cloud's servers, plainly and durably; return when that ended."""
    rows: list[Row] = []
    plain = 0.0
    for workers in (0, 1, 2, 3):
        with tempfile.TemporaryDirectory(prefix="bms_async-") as folder:
            ended, last, polls, cpu = _stop(servers, workers, Path(folder))
        plain = plain or ended
        rows.append(
            {
                "run": f"durable, {workers} workers" if workers else "plain",
                "servers": servers,
                "last batch at (s)": last,
                "ended at (s)": ended,
                "ratio": ended / plain,
                "polls": polls,
                "CPU with the cloud's (s)": cpu,
            }
        )
    return rows


def _stop(servers: int, workers: int, folder: Path) -> tuple[float, float, int, float]:
    async def main() -> tuple[float, float, int, float]:
        cloud = SimulatedCloud(CloudSettings(servers=servers, seed=7, latency=(0.02, 0.3), job_seconds=(2, 8)))
        cpu, runs = time.process_time(), Runs(f"sqlite://{folder / 'runs.db'}") if workers else None
        async with AsyncExitStack() as stack:
            # All clients of a cloud share its limits.
            first, *others = [await stack.enter_async_context(cloud.client(runs=runs)) for _ in range(workers or 1)]
            for bms in others:
                await stack.enter_async_context(bms.runs.work())
            began = asyncio.get_running_loop().time()
            report = await (await first.runs.stop(cloud.ids) if workers else first.fleet.stop(cloud.ids))
            ended = asyncio.get_running_loop().time() - began
        assert report.by_state[OutcomeState.SUCCEEDED] == servers
        books = cloud.cloud.call_counts()
        assert not books.refused
        last = books.operations["servers.stop"].last or 0.0
        return ended, last - began, books.operations["jobs.get"].arrived, time.process_time() - cpu

    return run_virtually(main)
