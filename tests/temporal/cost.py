"""What Temporal costs a batch: python -m tests.temporal.cost [BATCHES]

CPU of Temporal's dev server and of a worker for a run, and of the same run by `bms.fleet`, whose calls both make.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid

import psutil  # type: ignore[import-untyped]

from bms_async import BmsClient, Limits, StaticToken
from bms_async.temporal import start, worker
from tests.temporal._books import batches_of, histories_of, running_cloud
from tests.temporal._server import running_temporal
from tests.temporal._worker import LIMITS, quick

_BATCH = 20


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def main(batches: int) -> None:
    """Print the figures."""
    with (
        running_temporal() as server,
        running_cloud(batches * _BATCH, latency=(0.0, 0.0)) as cloud,
        quick(),
    ):
        ids = cloud.ids()
        auth = StaticToken(cloud.token)
        client = await server.connect()
        async with BmsClient(
            endpoint=cloud.address, project_id=cloud.project_id, auth=auth, limits=Limits(LIMITS)
        ) as bms:
            before, began = time.process_time(), time.perf_counter()
            report = await bms.fleet.stop(ids)
            fleet, fleet_wall = time.process_time() - before, time.perf_counter() - began
            assert report.batches == batches
            async with worker(client, bms, "cost"):
                at_server, before, began = _cpu(server.pid), time.process_time(), time.perf_counter()
                with batches_of(_BATCH):
                    run = await start(client, ids, "start", key=uuid.uuid4().hex, task_queue="cost")
                report = await run.report()
                wall, mine = time.perf_counter() - began, time.process_time() - before
                at_server = _cpu(server.pid) - at_server
            assert report.batches == batches
            histories = await histories_of(client, run)
    events = sum(len(history.events) for history in histories)
    size = sum(len(event.SerializeToString()) for history in histories for event in history.events)
    _print(f"{batches} batches of {_BATCH}: CPU a batch: bms.fleet {fleet / batches * 1e3:.1f} ms,")
    _print(f"  with Temporal: worker {mine / batches * 1e3:.1f} ms, server {at_server / batches * 1e3:.1f} ms")
    _print(
        f"  wall {fleet_wall:.1f} s and {wall:.1f} s; {events / batches:.1f} events, {size / batches:.0f} bytes a batch"
    )


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
