"""A small controller as users write them, tested as they would: restarts, drift, lost answers, tokens that end."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from bms_async import BmsClient, JobHandle, OutcomeState, PowerState
from bms_async.testing import CutAfter, CutBefore, Fault, SimulatedCloud, advance, run_virtually

pytestmark = pytest.mark.bms(virtual=True, servers=6)


class Controller:
    """Keeps servers as a file wants them, and reboots some without losing sight of it when it is started again."""

    def __init__(self, bms: BmsClient, folder: Path) -> None:
        self.bms = bms
        self.wishes = folder / "wishes.json"
        self.under_way = folder / "under_way.json"

    async def run(self) -> None:
        while True:
            await self.repair()
            await anyio.sleep(60)

    async def repair(self) -> list[OutcomeState]:
        wishes: dict[str, bool] = json.loads(await anyio.to_thread.run_sync(self.wishes.read_text))
        seen = {server.id: server.power_state is PowerState.RUNNING async for server in self.bms.servers.list()}
        astray = {each: on for each, on in wishes.items() if each in seen and seen[each] is not on}
        runs = [
            await self.bms.fleet.start([each for each, on in astray.items() if on]),
            await self.bms.fleet.stop([each for each, on in astray.items() if not on]),
        ]
        return [outcome.state for run in runs for outcome in run.outcomes]

    async def reboot(self, ids: list[str]) -> JobHandle:
        job = await self.bms.servers.reboot(ids)
        await anyio.to_thread.run_sync(self.under_way.write_text, job.to_json())
        return job

    async def resume(self) -> JobHandle:
        return self.bms.jobs.restore(await anyio.to_thread.run_sync(self.under_way.read_text))


def want(folder: Path, **wishes: bool) -> None:
    (folder / "wishes.json").write_text(json.dumps(wishes))


@pytest.fixture
async def running(bms_simulator: SimulatedCloud, bms_client: BmsClient, tmp_path: Path) -> Controller:
    await anyio.to_thread.run_sync(lambda: want(tmp_path, **dict.fromkeys(bms_simulator.ids, True)))
    return Controller(bms_client, tmp_path)


async def test_what_drifts_again_and_again_is_put_right_each_time(
    running: Controller, bms_simulator: SimulatedCloud
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.run)
        for server_id in bms_simulator.ids:
            bms_simulator.turn_off(server_id)
            await advance(200)
            assert bms_simulator.off == []
        tasks.cancel_scope.cancel()
    assert [bms_simulator.server(each).starts for each in bms_simulator.ids] == [1] * 6
    # It read its file in a thread some twenty times, and the clock has waited for it.
    assert bms_simulator.now() < 6 * 200 + 1


@pytest.mark.parametrize("fault", [CutAfter(), CutBefore()])
async def test_a_lost_answer_ends_as_wanted_whatever_the_cloud_did(
    fault: Fault, running: Controller, bms_simulator: SimulatedCloud
) -> None:
    bms_simulator.turn_off(*bms_simulator.ids)
    bms_simulator.faults.add("servers.start", fault)
    states = await running.repair()
    assert set(states) <= {OutcomeState.SUCCEEDED, OutcomeState.UNCHANGED}
    assert bms_simulator.off == []
    assert [bms_simulator.server(each).starts for each in bms_simulator.ids] == [1] * 6


async def test_a_server_that_is_gone_is_no_reason_to_stumble(
    running: Controller, bms_simulator: SimulatedCloud
) -> None:
    gone, drifted, *_ = bms_simulator.ids
    bms_simulator.remove(gone)
    bms_simulator.turn_off(drifted)
    assert await running.repair() == [OutcomeState.SUCCEEDED]


def test_a_controller_that_is_started_again_finds_its_job(bms_simulator: SimulatedCloud, tmp_path: Path) -> None:
    async def first_life() -> str:
        async with bms_simulator.client() as bms:
            return (await Controller(bms, tmp_path).reboot(bms_simulator.ids[:2])).id

    async def second_life() -> str:
        async with bms_simulator.client(auth=bms_simulator.password_auth()) as bms:
            await bms.quotas.get()
            bms_simulator.revoke_tokens()
            job = await Controller(bms, tmp_path).resume()
            await job
            return job.id

    assert run_virtually(first_life) == run_virtually(second_life) == bms_simulator.jobs[0].id
    assert bms_simulator.arrived("servers.reboot") == 1
    assert [bms_simulator.server(each).reboots for each in bms_simulator.ids] == [1, 1, 0, 0, 0, 0]
