"""A batch that is refused as a whole: the guilty servers are found, and the others go on."""

from __future__ import annotations

import pytest

from bms_async import ApiError, OutcomeState, ServerStateError
from bms_async.fleet import server_reader as reading
from tests.fleet._helpers import assert_one_outcome_each, by_state_and_code, refusal, refuse, states
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


def spoil(sim: Simulated, kind: str, ids: list[str]) -> list[str]:
    """Make servers ones that no stop is taken for; return the ids that are to be handed over."""
    for server_id in ids:
        sim.cloud.servers[server_id].locked = kind == "locked"
    if kind in ("busy", "stopped"):
        sim.cloud.act("reboot" if kind == "busy" else "stop", ids)
    return [f"no-such-{server_id}" for server_id in ids] if kind == "unknown" else ids


EXPECTED = {
    "unknown": ("FAILED", "BMS.0040"),
    "locked": ("FAILED", "BMS.0006"),
    "stopped": ("UNCHANGED", None),
    "busy": ("SUCCEEDED", None),
}


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("number", [1, 50])
def test_bad_servers_in_a_batch_of_a_thousand_cost_the_others_time_and_no_more_than_twelve_calls(
    kind: str, number: int
) -> None:
    async def main() -> None:
        async with simulated(servers=10_000, refuse_batches=True, job_seconds=(10, 20)) as sim:
            ids = sim.ids[4000:5000]
            bad = spoil(sim, kind, ids[:number])
            await advance(50 if kind == "stopped" else 0)
            report = await sim.bms.fleet.stop([*bad, *ids[number:]])
            assert_one_outcome_each([*bad, *ids[number:]], report.outcomes)
            outcomes = {outcome.server_id: outcome for outcome in report.outcomes}
            assert {(outcomes[each].state.value, outcomes[each].code) for each in bad} == {EXPECTED[kind]}
            assert {outcomes[each].state for each in ids[number:]} == {S.SUCCEEDED}
            assert 1 <= report.extra_calls <= 12
            assert sim.arrived("servers.list") + sim.arrived("servers.get") <= 11
            if kind != "busy":
                assert sim.arrived("servers.stop") <= 3
            assert all(server.stops <= 1 for server in sim.cloud.servers.values())

    run_virtually(main)


def test_fifty_bad_servers_of_all_kinds_are_each_told_why() -> None:
    async def main() -> None:
        async with simulated(servers=1000, refuse_batches=True, stopped_share=0.02, job_seconds=(10, 20)) as sim:
            off = [each.id for each in sim.cloud.servers.values() if not each.powered]
            on = [each.id for each in sim.cloud.servers.values() if each.powered]
            unknown = spoil(sim, "unknown", on[:10])
            locked = spoil(sim, "locked", on[10:20])
            spoil(sim, "busy", on[20:30])
            report = await sim.bms.fleet.stop([*unknown, *off, *on[10:]])
            assert by_state_and_code(report.outcomes) == {
                ("SUCCEEDED", None): 960,
                ("UNCHANGED", None): 20,
                ("FAILED", "BMS.0040"): 10,
                ("FAILED", "BMS.0006"): 10,
            }
            assert report.extra_calls <= 12
            assert not any(sim.cloud.servers[each].stops for each in locked)
            assert report.by_code == {"BMS.0040": 10, "BMS.0006": 10}

    run_virtually(main)


def test_where_states_cannot_be_read_one_bad_server_is_found_by_halves() -> None:
    async def main() -> None:
        async with simulated(servers=1000, refuse_batches=True, job_seconds=(10, 30)) as sim:
            sim.cloud.faults.append(refuse("servers.list", "servers.get"))
            bad = sim.ids[617]
            sim.cloud.servers[bad].locked = True
            report = await sim.bms.fleet.stop(sim.ids)
            assert by_state_and_code(report.outcomes) == {("SUCCEEDED", None): 999, ("FAILED", "BMS.0006"): 1}
            assert sim.arrived("servers.stop") <= 21
            assert report.extra_calls <= 22
            assert {server.stops for server in sim.cloud.servers.values() if server.id != bad} == {1}

    run_virtually(main)


def test_in_a_list_that_is_too_long_halves_are_tried_until_the_rest_can_be_read_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "_MAX_PAGES", 3)
    monkeypatch.setattr(reading, "_SERVERS_A_PAGE", 1000)

    async def main() -> None:
        async with simulated(servers=8000, refuse_batches=True, job_seconds=(10, 30)) as sim:
            ids = sim.ids[5000:6000]
            sim.cloud.servers[ids[333]].locked = True
            report = await sim.bms.fleet.stop(ids)
            assert by_state_and_code(report.outcomes) == {("SUCCEEDED", None): 999, ("FAILED", "BMS.0006"): 1}
            # Five times halves, then the innocent and the suspect.
            assert sim.arrived("servers.stop") <= 13
            assert sim.arrived("servers.get") <= 50

    run_virtually(main)


@pytest.mark.parametrize(("code", "most"), [("BMS.0004", 1), ("BMS.0025", 1), ("BMS.0018", 26), ("BMS.7777", 26)])
def test_a_request_that_is_refused_whatever_is_in_it_does_not_cost_a_call_for_each_server(code: str, most: int) -> None:
    async def main() -> None:
        async with simulated(servers=1000) as sim:
            sim.cloud.faults.append(refusal(code, "servers.stop"))
            report = await sim.bms.fleet.stop(sim.ids)
            assert by_state_and_code(report.outcomes) == {("FAILED", code): 1000}
            assert all(isinstance(outcome.error, ApiError) for outcome in report.outcomes)
            assert sim.arrived("servers.stop") <= most

    run_virtually(main)


def test_batches_that_are_refused_while_states_are_read_share_the_next_reading() -> None:
    async def main() -> None:
        async with simulated(
            servers=10_000, refuse_batches=True, stopped_share=0.01, latency=(0.1, 0.2), job_seconds=(10, 30)
        ) as sim:
            report = await sim.bms.fleet.stop(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 9_900, S.UNCHANGED: 100}
            assert report.batches == 10
            assert sim.arrived("servers.list") <= 3 * 10
            assert sim.arrived("servers.stop") == 20

    run_virtually(main)


def test_a_server_that_starts_when_its_batch_is_refused_is_asked_again_when_it_is_up() -> None:
    async def main() -> None:
        async with simulated(servers=100, refuse_batches=True, stopped_share=0.1, job_seconds=(25, 25)) as sim:
            off = [server.id for server in sim.cloud.servers.values() if not server.powered]
            await sim.bms.servers.start(off)
            report = await sim.bms.fleet.stop(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 100}
            attempts = {outcome.server_id: outcome.attempts for outcome in report.outcomes}
            assert all(attempts[server_id] > 2 for server_id in off)
            assert all(attempts[server_id] == 2 for server_id in sim.ids if server_id not in off)

    run_virtually(main)


def test_a_busy_server_is_failed_with_its_code_where_it_is_not_to_be_asked_again() -> None:
    async def main() -> None:
        async with simulated(servers=100, refuse_batches=True, job_seconds=(25, 25)) as sim:
            await sim.bms.servers.reboot(sim.ids[:5])
            report = await sim.bms.fleet.stop(sim.ids, retry_transient=False)
            assert by_state_and_code(report.outcomes) == {("SUCCEEDED", None): 95, ("FAILED", "BMS.0037"): 5}
            error = next(outcome.error for outcome in report.outcomes if outcome.state is S.FAILED)
            assert isinstance(error, ServerStateError)
            assert error.measure
            assert error.server_id in str(error)
            assert (error.status, error.task_state) == ("HARD_REBOOT", "reboot_started_hard")

    run_virtually(main)
