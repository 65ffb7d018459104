"""Runs in Temporal whose workers and whose server are killed: by the cloud's books and by Temporal's own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from temporalio.client import Client
from temporalio.worker import Replayer

from bms_async import FleetReport, OutcomeState
from bms_async.temporal import BlockWorkflow, FleetHandle, FleetOptions, FleetWorkflow, start
from bms_async.testing import SimulatorProcess
from tests.support.machine import patience
from tests.temporal._books import batches_of, histories_of, judge, lost_in, running_cloud, workers
from tests.temporal._server import TemporalServer
from tests.temporal._worker import CARELESS

SERVERS = {"reboot": 2000, "stop": 1000}
BATCH = 100
# Long enough that a worker which has no turn for some time is not taken for dead.
OPTIONS = FleetOptions(wave_size=800, send_timeout=3.0, watch_timeout=3.0)
POINTS = {
    "reboot": ("before send=2", "request on its way=3", "before answer=4", "while watching=3", "while settling=1"),
    "stop": ("request on its way=3", "while watching=3"),
}


async def play(
    client: Client,
    cloud: SimulatorProcess,
    action: str,
    directory: Path,
    *words: str,
    target: str,
    options: FleetOptions = OPTIONS,
    environment: dict[str, str] | None = None,
) -> tuple[FleetHandle, FleetReport]:
    ids = await anyio.to_thread.run_sync(cloud.ids)
    name = uuid4().hex
    async with (
        asyncio.timeout(patience(60.0)),
        workers(target, name, cloud, directory, *words, environment=environment),
    ):
        with batches_of(BATCH):
            run = await start(client, ids, action, key=name, task_queue=name, options=options)
        return run, await run.report()


@pytest.mark.parametrize("action", ["reboot", "stop"])
async def test_workers_killed_at_each_point(temporal: TemporalServer, tmp_path: Path, action: str) -> None:
    client = await temporal.connect()
    with running_cloud(SERVERS[action]) as cloud:
        run, report = await play(client, cloud, action, tmp_path, *POINTS[action], target=temporal.target)
        histories = await histories_of(client, run)
        lost = lost_in(histories)
        assert bool(lost) is (action == "reboot")
        judge(cloud, report, cloud.ids(), lost=lost)
    met = await anyio.to_thread.run_sync(os.listdir, tmp_path)
    assert set(met) == {point.partition("=")[0] for point in POINTS[action]}
    replayer = Replayer(workflows=[FleetWorkflow, BlockWorkflow])
    for history in histories:
        await replayer.replay_workflow(history)


async def test_a_reboot_that_temporal_may_attempt_again_is_caught(temporal: TemporalServer, tmp_path: Path) -> None:
    client = await temporal.connect()
    with running_cloud(BATCH) as cloud:
        words = (CARELESS, "before answer=1")
        _, report = await play(client, cloud, "reboot", tmp_path, *words, target=temporal.target)
        with pytest.raises(AssertionError, match="rebooted twice"):
            judge(cloud, report, cloud.ids(), lost=set(cloud.ids()))


async def test_a_server_that_is_killed_and_started_again_loses_nothing(
    own_temporal: TemporalServer, tmp_path: Path
) -> None:
    client = await own_temporal.connect()
    options = FleetOptions(wave_size=400, send_timeout=20.0, watch_timeout=20.0)

    with running_cloud(1000) as cloud:
        ids = await anyio.to_thread.run_sync(cloud.ids)
        async with asyncio.timeout(patience(60.0)), workers(own_temporal.target, "one", cloud, tmp_path, count=1):
            with batches_of(BATCH):
                run = await start(client, ids, "reboot", key="one", task_queue="one", options=options)
            while not await anyio.to_thread.run_sync(cloud.arrived, "servers.reboot"):
                continue
            await anyio.to_thread.run_sync(own_temporal.kill)
            await anyio.to_thread.run_sync(own_temporal.start)
            report = await run.report()
        judge(cloud, report, ids, lost=set())
    assert report.by_state[OutcomeState.SUCCEEDED] == len(ids)
