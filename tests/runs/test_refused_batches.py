"""A batch that the cloud has refused: known as not sent at once, and not only when its servers have been sorted out."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from bms_async.runs import Runs
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.support.mocked import virtually
from tests.support.virtual_clock import advance


def _states(file: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT state FROM bms_async_batches WHERE state != 'done'").fetchall()


@virtually
async def test_a_refusal_is_written_down_before_its_servers_are_looked_at(tmp_path: Path) -> None:
    cloud = SimulatedCloud(CloudSettings(servers=20, refuse_batches=True))
    ids = cloud.ids
    async with cloud.client(runs=Runs(f"sqlite://{tmp_path}/runs.db")) as bms:
        await bms.servers.stop(ids[:1])
        run = await bms.runs.reboot(ids, key="tonight")
        # It is refused at once, and a busy server is looked at after five seconds.
        await advance(2.0)
        assert cloud.arrived("servers.reboot")
        assert _states(tmp_path / "runs.db") == [("waiting",)]
        report = await run
    assert report.by_state["SUCCEEDED"] == 20  # type: ignore[index]
