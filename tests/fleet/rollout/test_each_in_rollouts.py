"""Rollouts over a call for each server, where they meet: the end of a job is a callback."""

from __future__ import annotations

from bms_async import OutcomeState, Rollout
from bms_async.models import Server
from bms_async.simulator.core.attributes import KEY_NAME
from tests.support.clouds import simulated
from tests.support.virtual_clock import run_virtually


def test_the_end_of_a_job_that_each_follows_begins_the_readiness_check() -> None:
    async def main() -> None:
        async with simulated(servers=3, stopped_share=1.0, job_seconds=(5, 5), boot_seconds=(20, 20)) as sim:

            async def is_reachable(server: Server) -> bool:
                return sim.cloud.is_reachable(server.id)

            report = await sim.bms.fleet.each(
                sim.ids,
                lambda server_id: sim.bms.servers.reinstall_os(server_id, key_name=KEY_NAME),
                rollout=Rollout(ready=is_reachable),
            )
            assert report.by_state[OutcomeState.SUCCEEDED] == 3
            assert all(outcome.seconds is not None and outcome.seconds > 25 for outcome in report.outcomes)

    run_virtually(main)
