"""R2: an outcome says no more than was seen; what has changed at a server meanwhile proves nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from bms_async import BmsClient, JobHandle, OutcomeState
from bms_async.simulator import Answer, CutBefore, NotFoundJob, Script, ScriptedFault
from bms_async.testing import CloudSettings, SimulatedCloud, suspend
from tests.fleet._helpers import states
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


async def rename(bms: BmsClient, server_id: str) -> object:
    return await bms.servers.rename(server_id, "another-name")


async def tag(bms: BmsClient, server_id: str) -> object:
    await bms.nova.tags.add(server_id, "rack-7")
    return server_id


async def describe(bms: BmsClient, server_id: str) -> object:
    return await bms.servers.update_metadata(server_id, {"owner": "somebody"})


async def stop(bms: BmsClient, server_id: str) -> object:
    return await bms.servers.stop([server_id])


async def stop_and_start(bms: BmsClient, server_id: str) -> object:
    await (await bms.servers.stop([server_id]))
    return await (await bms.servers.start([server_id]))


CHANGES = [rename, tag, describe, stop, stop_and_start]


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_lost_reboot_is_unknown_whatever_else_was_done_to_the_server(
    change: Callable[[BmsClient, str], Awaitable[object]], verify: bool
) -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=2, job_seconds=(1, 3)))
        cloud.faults.add("servers.reboot", CutBefore())
        async with cloud.client() as bms:
            run = bms.fleet.reboot(cloud.ids, verify=verify)
            await advance(4)
            await change(bms, cloud.ids[0])
            report = await run
        assert states(report.outcomes) == {S.UNKNOWN: 2}
        assert [cloud.server(each).reboots for each in cloud.ids] == [0, 0]

    run_virtually(main)


@pytest.mark.parametrize("change", CHANGES)
def test_a_reboot_whose_job_is_lost_is_unknown_whatever_else_was_done_to_the_server(
    change: Callable[[BmsClient, str], Awaitable[object]],
) -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=1, job_seconds=(1, 3)))
        jobs: list[JobHandle] = []
        cloud.cloud.faults.append(
            lambda operation, nth, path: NotFoundJob() if jobs and path.endswith(jobs[0].id) else None
        )
        async with cloud.client() as bms:
            run = bms.fleet.reboot(cloud.ids, on_job=jobs.append)
            # The reboot itself is over long before the job counts as lost.
            await advance(30)
            await change(bms, cloud.ids[0])
            report = await run
        assert cloud.server(cloud.ids[0]).reboots == 1
        assert states(report.outcomes) == {S.UNKNOWN: 1}

    run_virtually(main)


def test_a_lost_stop_is_asked_for_again_though_the_server_has_changed_and_is_not_failed_for_that() -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=2, job_seconds=(5, 20)))
        for _ in range(4):
            cloud.faults.add("servers.stop", CutBefore())
        async with cloud.client() as bms:
            run = bms.fleet.stop(cloud.ids)
            await advance(25)
            await rename(bms, cloud.ids[0])
            report = await run
        assert states(report.outcomes) == {S.SUCCEEDED: 2}
        assert cloud.off == cloud.ids

    run_virtually(main)


def test_a_server_that_is_stopped_at_the_first_look_was_not_seen_to_be_stopped_by_this_run() -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=2, stopped_share=1.0))
        for _ in range(4):
            cloud.faults.add("servers.stop", CutBefore())
        async with cloud.client() as bms:
            run = bms.fleet.stop(cloud.ids)
            await advance(4)
            await rename(bms, cloud.ids[0])
            assert states((await run).outcomes) == {S.UNCHANGED: 2}

    run_virtually(main)


def test_somebody_elses_reboot_that_was_under_way_before_proves_nothing() -> None:
    async def main() -> None:
        async with simulated(servers=1, job_seconds=(40, 40), refuse_batches=True) as sim:
            # The first is somebody else's, the second is refused for it, and the third never arrives.
            sim.cloud.faults.append(Script([ScriptedFault(operation="servers.reboot", nth=3, fault=CutBefore())]))
            await sim.bms.servers.reboot(sim.ids)
            report = await sim.bms.fleet.reboot(sim.ids)
            assert states(report.outcomes) == {S.UNKNOWN: 1}
            assert report.outcomes[0].attempts == 2
            assert sim.cloud.servers[sim.ids[0]].reboots == 1

    run_virtually(main)


@pytest.mark.parametrize("action", ["reboot", "stop"])
def test_a_server_that_has_been_started_already_is_neither_rebooted_nor_stopped(action: str) -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            body = b'{"error": {"code": "BMS.0038", "message": "The server has been started."}}'
            sim.cloud.faults.append(
                lambda operation, nth, _: Answer(status=400, body=body) if operation == f"servers.{action}" else None
            )
            report = await getattr(sim.bms.fleet, action)(sim.ids)
            assert [(outcome.state, outcome.code) for outcome in report.outcomes] == [(S.FAILED, "BMS.0038")]

    run_virtually(main)


def test_times_are_those_of_the_day_though_the_machine_slept_and_prove_nothing() -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=2, job_seconds=(5, 10)))
        first, last = cloud.ids

        async def ids() -> AsyncIterator[str]:
            yield first
            await anyio.sleep(30)
            # Somebody changes it an hour before it is asked for, while this machine sleeps.
            suspend(3600)
            async with cloud.client() as other:
                await rename(other, last)
            suspend(3600)
            cloud.faults.add("servers.reboot", CutBefore())
            yield last

        async with cloud.client() as bms:
            report = await bms.fleet.reboot(ids())
        outcomes = {outcome.server_id: outcome for outcome in report.outcomes}
        assert outcomes[first].state is S.SUCCEEDED
        assert outcomes[last].state is S.UNKNOWN
        started = outcomes[last].started
        assert started is not None
        assert 7230 <= (started - report.started).total_seconds() < 7300
        assert report.ended >= started
        assert report.seconds > 7200
        assert anyio.current_time() < 200

    run_virtually(main)
