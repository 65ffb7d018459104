"""Runs in Temporal with kills at random points: python -m tests.temporal.soak --first 0 --seeds 10

Each seed draws the action, the points at which workers are killed, and whether Temporal's server or a worker is killed
from outside. A seed that breaks a rule is played again by `--first SEED --seeds 1`; it ends with 1 then.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

import anyio

from bms_async.temporal import FleetOptions, start
from bms_async.testing import SimulatorProcess
from tests.temporal._books import batches_of, histories_of, judge, lost_in, running_cloud, workers
from tests.temporal._server import TemporalServer, running_temporal

_POINTS = ("before send", "request on its way", "before answer", "while watching", "while settling")
_SERVERS = 2000
_BATCH = 50
_TIMEOUT = 300.0


async def play(server: TemporalServer, cloud: SimulatorProcess, seed: int, directory: Path) -> str:
    """Play one seed, and return what was seen of it."""
    draw = random.Random(seed)
    action = draw.choice(["reboot", "reboot", "stop", "start"])
    points = [f"{point}={draw.randint(1, 12)}" for point in _POINTS if draw.random() < 0.7]
    kills_server = draw.random() < 0.4
    # An outage of the server must not look like the death of all workers.
    options = FleetOptions(wave_size=draw.choice([None, 400, 800]), send_timeout=15.0, watch_timeout=6.0)
    ids = await anyio.to_thread.run_sync(cloud.ids)
    client = await server.connect()
    name = f"soak-{seed}"
    async with asyncio.timeout(_TIMEOUT), workers(server.target, name, cloud, directory, *points, count=3):
        with batches_of(_BATCH):
            run = await start(client, ids, action, key=name, task_queue=name, options=options)
        if kills_server:
            await asyncio.sleep(draw.uniform(1.0, 6.0))
            await anyio.to_thread.run_sync(server.kill)
            await anyio.to_thread.run_sync(server.start)
        report = await run.report()
    lost = lost_in(await histories_of(client, run))
    await anyio.to_thread.run_sync(lambda: judge(cloud, report, ids, lost=lost))
    return f"{action} {points} server killed: {kills_server}; {len(lost)} servers with a lost answer; {report}"


def main() -> int:
    """Play all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    broken = []
    for seed in range(asked.first, asked.first + asked.seeds):
        with running_temporal() as server, running_cloud(_SERVERS, seed=seed) as cloud, _folder() as directory:
            try:
                told = asyncio.run(play(server, cloud, seed, directory))
            except (AssertionError, TimeoutError, ExceptionGroup) as error:
                broken.append(seed)
                told = f"BROKEN: {error!r}"
        sys.stdout.write(f"seed {seed}: {told}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{asked.seeds} seeds, broken: {broken or 'none'}\n")
    return int(bool(broken))


class _folder(tempfile.TemporaryDirectory[str]):  # noqa: N801 - used as a function
    def __enter__(self) -> Path:  # type: ignore[override]  # a path is what is wanted
        return Path(super().__enter__())


if __name__ == "__main__":
    sys.exit(main())
