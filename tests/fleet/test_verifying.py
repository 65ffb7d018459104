"""States read back at the end of a run, and servers that were busy asked for again."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from bms_async import FleetReport, OutcomeState, Progress, ServerStateError, ServerStatus, SubJobFailedError
from bms_async.fleet.evidence import Evidence, ServerState, recheck_outcome
from bms_async.fleet.power_work import PowerWork
from bms_async.simulator import Cloud, CutBefore
from tests.fleet._helpers import assert_one_outcome_each, by_state_and_code, refuse, states
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


def lie(cloud: Cloud, server_id: str, code: int) -> None:
    """Have a server show another status than its job says."""
    server = cloud.servers[server_id]
    server._statuses[server.index] = code


@pytest.mark.parametrize("servers", [5, 3000])
def test_states_are_read_back_and_what_is_not_so_is_not_succeeded(servers: int) -> None:
    async def main() -> None:
        async with simulated(servers=servers, job_seconds=(20, 40)) as sim:
            on, busy, gone, *_ = ids = sim.ids
            run = sim.bms.fleet.stop(ids, verify=True)
            progress: list[Progress] = []

            def meddle(operation: str, nth: int, path: str) -> None:
                if operation in ("servers.list", "servers.get") and not progress:
                    progress.append(run.progress)
                    lie(sim.cloud, on, 1)
                    sim.cloud.servers[busy].task = "start"
                    lie(sim.cloud, gone, 0)
                    sim.cloud._inventory.remove(sim.cloud.servers[gone])

            sim.cloud.faults.append(meddle)
            report = await run
            assert progress[0].done == 0
            assert progress[0].to_verify == servers
            outcomes = {outcome.server_id: outcome for outcome in report.outcomes}
            assert outcomes[on].state is S.FAILED
            assert isinstance(outcomes[on].error, ServerStateError)
            assert "the cloud reported it as asked: it is ACTIVE" in str(outcomes[on].error)
            assert outcomes[busy].state is S.UNKNOWN
            assert outcomes[gone].state is S.UNKNOWN
            assert states(report.outcomes) == {S.SUCCEEDED: servers - 3, S.FAILED: 1, S.UNKNOWN: 2}
            assert report.unverified == 0
            assert report.extra_calls == sim.arrived("servers.list") + sim.arrived("servers.get")
            assert sim.arrived("servers.list") == (0 if servers == 5 else 3)

    run_virtually(main)


@pytest.mark.parametrize("action", ["servers.stop", "servers.start", "servers.reboot"])
@pytest.mark.parametrize("status", [None, "VERIFY_RESIZE", "MIGRATING", "of another release"])
def test_a_state_that_tells_nothing_contradicts_no_job(action: str, status: str | None) -> None:
    shown = ServerState(id="s", status=None if status is None else ServerStatus(status))
    assert recheck_outcome(action, S.SUCCEEDED, shown, Evidence.NOTHING, last=False) is None
    assert recheck_outcome(action, S.SUCCEEDED, shown, Evidence.NOTHING, last=True) is S.UNKNOWN
    assert recheck_outcome(action, S.UNKNOWN, shown, Evidence.NOTHING, last=True) is S.UNKNOWN


@pytest.mark.parametrize("known", [S.SUCCEEDED, S.UNKNOWN])
def test_a_server_that_rests_otherwise_was_not_stopped(known: OutcomeState) -> None:
    shown = ServerState(id="s", status=ServerStatus.ACTIVE)
    assert recheck_outcome("servers.stop", known, shown, Evidence.NOTHING, last=True) is S.FAILED


def test_verifying_a_good_run_costs_a_page_for_each_thousand_servers_and_changes_nothing() -> None:
    async def main() -> None:
        async with simulated(servers=4500, stopped_share=0.1, fail_share=0.01) as sim:
            report = await sim.bms.fleet.stop(sim.ids, verify=True)
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert report.by_state[S.FAILED] == sum(
                server.faulty and server.powered for server in sim.cloud.servers.values()
            )
            assert report.by_state[S.SUCCEEDED] + report.by_state[S.UNCHANGED] + report.by_state[S.FAILED] == 4500
            assert report.extra_calls == sim.arrived("servers.list") == 5

    run_virtually(main)


def test_what_no_job_told_has_what_its_state_proves() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(20, 30)) as sim:
            sim.cloud.faults.append(lambda operation, nth, _: CutBefore() if operation == "servers.stop" else None)
            report = await sim.bms.fleet.stop(sim.ids, verify=True, retry_transient=False)
            assert states(report.outcomes) == {S.FAILED: 20}
            assert all("its outcome was unknown" in str(outcome.error) for outcome in report.outcomes)

    run_virtually(main)


def test_states_that_cannot_be_read_back_leave_outcomes_as_they_are_and_are_counted() -> None:
    async def main() -> None:
        async with simulated(servers=20) as sim:
            sim.cloud.faults.append(refuse("servers.list", "servers.get"))
            report = await sim.bms.fleet.stop(sim.ids, verify=True)
            assert states(report.outcomes) == {S.SUCCEEDED: 20}
            assert report.unverified == 20
            assert (await sim.bms.fleet.stop(sim.ids)).unverified is None

    run_virtually(main)


@pytest.mark.parametrize("detach", [True, False])
def test_a_run_cancelled_with_all_to_be_verified_tells_what_it_knows(detach: bool) -> None:
    async def main() -> None:
        async with simulated(servers=2000, job_seconds=(5, 60)) as sim:
            run = sim.bms.fleet.stop(sim.ids, verify=True)
            await advance(30)
            assert run.progress.to_verify > 0
            run.cancel(detach=detach)
            report: FleetReport = await run
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert set(states(report.outcomes)) == ({S.SUCCEEDED, S.UNKNOWN} if detach else {S.SUCCEEDED})
            assert bool(report.unverified) == detach
        assert report.ended >= max(outcome.ended for outcome in report.outcomes if outcome.ended)

    run_virtually(main)


def test_a_server_that_is_busy_when_its_turn_comes_is_asked_again_later() -> None:
    async def main() -> None:
        async with simulated(servers=1500, stopped_share=0.5, job_seconds=(20, 90)) as sim:
            off = [server.id for server in sim.cloud.servers.values() if not server.powered]
            await sim.bms.servers.start(off[:500])
            report = await sim.bms.fleet.stop(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 1250, S.UNCHANGED: 250}
            attempts = [outcome.attempts for outcome in report.outcomes if outcome.server_id in off[:500]]
            assert min(attempts) >= 2
            assert max(attempts) <= 5
            # They go together, for a call is scarce.
            assert sim.arrived("servers.stop") <= 2 + 12

    run_virtually(main)


def test_a_server_that_stays_busy_is_given_up_and_one_that_must_not_be_asked_again_is_not() -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(4000, 4000)) as sim:
            await sim.bms.servers.stop(sim.ids[:1])
            report = await sim.bms.fleet.start(sim.ids[:1])
            assert by_state_and_code(report.outcomes) == {("FAILED", "BMS.0036"): 1}
            (outcome,) = report.outcomes
            assert outcome.attempts == 7
            assert isinstance(outcome.error, SubJobFailedError)
            assert outcome.started is not None
            assert outcome.ended is not None
            assert (outcome.ended - outcome.started).total_seconds() > 600

    run_virtually(main)


@pytest.mark.parametrize(("action", "code", "reboots"), [("start", "BMS.0035", 1), ("reboot", "BMS.0037", 0)])
def test_r3_a_reboot_is_repeated_only_where_the_server_surely_did_not_reboot(
    action: str, code: str, reboots: int
) -> None:
    async def main() -> None:
        async with simulated(servers=1, stopped_share=float(action == "start"), job_seconds=(25, 25)) as sim:
            await getattr(sim.bms.servers, action)(sim.ids)
            before = sim.cloud.servers[sim.ids[0]].reboots
            report = await sim.bms.fleet.reboot(sim.ids)
            assert by_state_and_code(report.outcomes) == {("SUCCEEDED", None) if reboots else ("FAILED", code): 1}
            await advance(100)
            # Whoever was first has his reboot in any case.
            assert sim.cloud.servers[sim.ids[0]].reboots - before == 1

    run_virtually(main)


@pytest.mark.parametrize("how", ["cancelled", "let go", "closed"])
def test_servers_that_wait_to_be_asked_again_keep_what_the_cloud_said_when_the_run_is_ended(how: str) -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(400, 400)) as sim:
            await sim.bms.servers.stop(sim.ids)
            run = sim.bms.fleet.start(sim.ids)
            assert isinstance(run._work, PowerWork)
            while len(run._work._scheduler._deferred) < 3:
                await advance(1)
            if how == "closed":
                await sim.bms.aclose()
            else:
                run.cancel(detach=how == "let go")
            report = await run
            assert by_state_and_code(report.outcomes) == {("FAILED", "BMS.0036"): 3}
            assert all(outcome.attempts >= 2 for outcome in report.outcomes)

    run_virtually(main)


def test_a_server_in_two_runs_at_once_has_an_outcome_in_each() -> None:
    async def main() -> None:
        async with simulated(servers=2000, job_seconds=(20, 60)) as sim:
            one, other, back = (
                sim.bms.fleet.stop(sim.ids[:1500]),
                sim.bms.fleet.stop(sim.ids[500:], verify=True),
                sim.bms.fleet.reboot(sim.ids[1000:1200]),
            )
            for run, ids in ((one, sim.ids[:1500]), (other, sim.ids[500:]), (back, sim.ids[1000:1200])):
                report = await run
                assert_one_outcome_each(ids, report.outcomes)
                assert report.by_state[S.UNKNOWN] == 0
            assert all(outcome.state.is_success for outcome in (await one).outcomes)
            assert {server.stops for server in sim.cloud.servers.values()} <= {1, 2}

    run_virtually(main)


def test_a_job_that_is_lost_after_all_its_servers_ended_costs_nothing() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(5, 30), job_kept_seconds=0.0) as sim:
            report = await sim.bms.fleet.stop(sim.ids)
            assert all(outcome.state.is_success for outcome in report.outcomes)
            # Those of which the job had told are that; the others are off, and nobody saw that it was this run's doing.
            assert report.by_state[S.SUCCEEDED] > report.by_state[S.UNCHANGED] > 0
            assert sim.arrived("servers.stop") == 1

    run_virtually(main)


@pytest.mark.parametrize("detach", [False, True])
def test_r9_many_outcomes_that_were_held_back_do_not_hold_up_the_loop(detach: bool) -> None:
    async def main() -> None:
        async with simulated(servers=8_000, job_seconds=(1, 5)) as sim:
            run = sim.bms.fleet.stop(sim.ids, verify=True)
            while run.progress.to_verify < 4_000:
                await advance(0.1)
            if detach:
                run.cancel(detach=True)
            else:
                # Nothing is told before the last state was read back; to count passes until then would take millions.
                await anext(aiter(run))
            most = before = run.progress.done
            while run.report is None:
                await anyio.lowlevel.checkpoint()
                done = run.progress.done
                most, before = max(most, done - before), done
            assert run.progress.done == 8_000
            assert 0 < most <= 1000
            if not detach:
                assert states((await run).outcomes) == {S.SUCCEEDED: 8_000}

    run_virtually(main)
