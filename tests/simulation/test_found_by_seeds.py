"""What scenarios have found, each as the smallest case that shows it."""

from __future__ import annotations

import anyio
import pytest

from bms_async import Lane, Limits, OutcomeState
from bms_async.api.bms.power import REBOOT, send_power_action
from bms_async.fleet.rollout.reader import RolloutReader
from bms_async.simulator import NotFoundJob, Script, ScriptedFault, Throttled
from tests.simulation.draw import draw_scenario
from tests.simulation.scenario import Close, Mishap, RunFleet, Scenario
from tests.simulation.seeds import try_scenario
from tests.simulation.walk import Walk
from tests.support.clouds import simulated
from tests.support.virtual_clock import run_virtually


def test_a_call_that_is_ended_when_it_is_refused_is_not_handed_to_the_transport_again() -> None:
    async def main() -> None:
        async with simulated(servers=1, limits=Limits({"servers.reboot": None})) as sim:
            sim.cloud.faults.append(
                Script([ScriptedFault(operation="servers.reboot", nth=1, fault=Throttled(retry_after=1))])
            )
            sent: list[float] = []
            with anyio.CancelScope() as scope:
                await send_power_action(
                    sim.bms._session,
                    sim.bms._watcher,
                    REBOOT,
                    tuple(sim.ids),
                    lane=Lane.BULK,
                    on_send=lambda: sent.append(anyio.current_time()),
                    on_refused=scope.cancel,
                )
            assert len(sent) == 1
            assert sim.arrived("servers.reboot") == 1

    run_virtually(main)


@pytest.mark.parametrize(
    ("seed", "broke"),
    [
        (1268, "what a batch was refused for was told of a server that was not so"),
        (912, "the code of a job that shows none of its sub-jobs was told of each of its servers"),
        (1679, "the same, and servers were FAILED though it was done for them"),
        (9013, "a client closed while a token was renewed told of lost jobs"),
        (11242, "what was said of one server of a batch was believed of another that looked otherwise"),
    ],
)
def test_scenarios_that_broke_a_rule_once_break_none(seed: int, broke: str) -> None:
    # As it was drawn then.
    verdict = try_scenario(draw_scenario(seed, walks=False))
    assert not verdict.broken, f"{broke}: {verdict}"


def test_a_run_that_begins_in_the_moment_of_closing_ends() -> None:
    verdict = try_scenario(
        Scenario(seed=0, servers=2, deeds=(Close(0.0), RunFleet(at=0.0, action="start", first=1, count=1)))
    )
    assert verdict.broken == [], verdict


def test_a_server_that_was_only_refused_leaves_its_room_at_once() -> None:
    verdict = try_scenario(
        Scenario(
            seed=0,
            servers=3,
            deeds=(RunFleet(at=0.0, action="tag", first=0, count=3, walk=Walk(max_unavailable=1, settle=5.0)),),
            mishaps=(Mishap("nova.tags.add", 1, 1, NotFoundJob()),),
        )
    )
    assert verdict.broken == [], verdict
    assert (verdict.counts["FAILED"], verdict.counts["SUCCEEDED"]) == (1, 2)
    assert 5 <= verdict.seconds < 10


def test_a_native_run_whose_client_is_closed_while_it_reads_states_ends_as_one_that_was_cancelled() -> None:
    async def main() -> None:
        async with simulated(servers=1, stopped_share=1.0, job_seconds=(60.0, 60.0)) as sim:
            run = sim.bms.nova.fleet.start(sim.ids)
            # The cloud's clock has been read, and a second later the first page will be.
            await anyio.sleep(0.5)
            assert sim.arrived("nova.servers.list_details") == 1
            await sim.bms.aclose()
            report = await run
            assert report.cancelled
            assert [outcome.state for outcome in report.outcomes] == [OutcomeState.UNKNOWN]

    run_virtually(main)


def test_a_server_that_the_cloud_denies_to_a_rollout_may_be_left_out_and_no_other_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    denied = Mishap("servers.get", 1, 1, NotFoundJob())
    rollout = RunFleet(at=0.0, action="reboot", first=0, count=3, walk=Walk(order_by=True, canary=1))
    scenario = Scenario(seed=0, servers=3, deeds=(rollout,), mishaps=(denied,))
    verdict = try_scenario(scenario)
    assert (verdict.broken, verdict.counts["SKIPPED"], verdict.counts["SUCCEEDED"]) == ([], 1, 2), verdict
    monkeypatch.setattr(RolloutReader, "keep", lambda *_: True)
    broken = try_scenario(scenario).broken
    assert len([each for each in broken if "the cloud does not show it" in each]) == 2
