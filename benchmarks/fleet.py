"""Whole fleet runs on the virtual clock: how close to the limit, and what a server costs.

The cloud is the simulator in the same process, and the CPU of both is in the figure. Without ``--servers`` it runs
1,000, 10,000 and 100,000.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import tracemalloc

from benchmarks._report import report
from tests.support.clouds import simulated
from tests.support.virtual_clock import run_virtually

LIMIT = 50
BATCH = 1000


def stop(servers: int, *, measure_memory: bool) -> dict[str, object]:
    """Stop a whole cloud and tell what it took."""

    async def main() -> dict[str, object]:
        async with simulated(servers=servers, seed=7, latency=(0.02, 0.3), job_seconds=(2, 8)) as (bms, cloud):
            ids = list(cloud.servers)
            if measure_memory:
                tracemalloc.start()
            begun = time.process_time()
            report = await bms.fleet.stop(ids)
            spent = time.process_time() - begun
            memory = tracemalloc.get_traced_memory()[1] if measure_memory else 0
            tracemalloc.stop()
            report.raise_for_failures()
            books = cloud.books()
            last = books.operations["servers.stop"].last or 0.0
            windows = (-(-servers // BATCH) - 1) // LIMIT
            return {
                "servers": servers,
                "refused": books.refused,
                "last batch at (s)": last,
                "dictated (s)": windows * 60.0,
                "virtual seconds": asyncio.get_running_loop().time(),
                "polls": books.operations["jobs.get"].arrived,
                "CPU a server (µs)": spent / servers * 1e6,
                "peak memory a server (bytes)": memory / servers,
            }

    return run_virtually(main)


def main() -> None:
    """Run the sizes that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    rows = []
    for servers in parser.parse_args().servers:
        row = stop(servers, measure_memory=False)
        # Tracing memory slows everything down, so it has a run of its own.
        row["peak memory a server (bytes)"] = stop(servers, measure_memory=True)["peak memory a server (bytes)"]
        rows.append(row)
    report("fleet", rows)


if __name__ == "__main__":
    main()
