"""Answers and jobs that are lost: the servers' own states tell what became of them, or nothing does."""

from __future__ import annotations

import pytest

from bms_async import JobLostError, OutcomeState, ServerStateError, TransportError
from bms_async.simulator import Answer, CutAfter, CutBefore, Fault, NotFoundJob, Script, ScriptedFault
from tests.fleet._helpers import assert_one_outcome_each, refuse, states
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


def first(operation: str, *faults: Fault) -> Script:
    return Script([ScriptedFault(operation=operation, nth=nth, fault=fault) for nth, fault in enumerate(faults, 1)])


def test_a_reboot_whose_answer_is_lost_is_proved_by_servers_that_are_seen_rebooting() -> None:
    async def main() -> None:
        async with simulated(servers=2000, fail_share=0.05, job_seconds=(20, 90)) as sim:
            sim.cloud.faults.append(first("servers.reboot", CutAfter()))
            report = await sim.bms.fleet.reboot(sim.ids[:1000])
            assert_one_outcome_each(sim.ids[:1000], report.outcomes)
            faulty = sum(sim.cloud.servers[each].faulty for each in sim.ids[:1000])
            assert states(report.outcomes) == {S.SUCCEEDED: 1000 - faulty, S.FAILED: faulty}
            failed = [outcome for outcome in report.outcomes if outcome.state is S.FAILED]
            assert all(sim.cloud.servers[outcome.server_id].faulty for outcome in failed)
            assert all(isinstance(outcome.error, ServerStateError) for outcome in failed)
            assert all(isinstance(outcome.error.__cause__, TransportError) for outcome in failed if outcome.error)
            assert sim.arrived("servers.reboot") == 1
            assert report.extra_calls == sim.arrived("servers.list")

    run_virtually(main)


def test_a_reboot_whose_answer_is_lost_is_unknown_where_states_cannot_be_read_and_is_not_asked_for_again() -> None:
    async def main() -> None:
        async with simulated(servers=5) as sim:
            sim.cloud.faults.append(first("servers.reboot", CutAfter()))
            sim.cloud.faults.append(refuse("servers.list", "servers.get"))
            report = await sim.bms.fleet.reboot(sim.ids)
            assert states(report.outcomes) == {S.UNKNOWN: 5}
            assert all(isinstance(o.error, TransportError) and o.error.maybe_delivered for o in report.outcomes)
            await advance(100)
            assert {server.reboots for server in sim.cloud.servers.values()} == {1}
            assert sim.arrived("servers.reboot") == 1

    run_virtually(main)


def test_a_reboot_that_never_arrived_is_unknown_for_nothing_shows_that_it_will_not_come() -> None:
    async def main() -> None:
        async with simulated(servers=5) as sim:
            sim.cloud.faults.append(first("servers.reboot", CutBefore()))
            report = await sim.bms.fleet.reboot(sim.ids)
            assert states(report.outcomes) == {S.UNKNOWN: 5}
            assert sim.arrived("servers.reboot") == 1
            assert not any(server.reboots for server in sim.cloud.servers.values())

    run_virtually(main)


def test_a_reboot_that_was_over_before_anybody_looked_is_unknown_for_it_shows_nowhere_any_more() -> None:
    async def main() -> None:
        async with simulated(servers=2000, job_seconds=(3, 4), latency=(0.1, 0.2)) as sim:
            lost = Answer(status=503, acted=True)
            sim.cloud.faults.append(Script([ScriptedFault(operation="servers.reboot", nth=2, fault=lost)]))
            sim.cloud.faults.append(first("servers.list", *[Answer(status=503)] * 4))
            report = await sim.bms.fleet.reboot(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 1000, S.UNKNOWN: 1000}
            assert {server.reboots for server in sim.cloud.servers.values()} == {1}

    run_virtually(main)


@pytest.mark.parametrize("fault", [CutBefore(), CutAfter()])
def test_a_stop_whose_answers_are_all_lost_is_settled_by_states_and_asked_for_again(fault: Fault) -> None:
    async def main() -> None:
        async with simulated(servers=50, job_seconds=(5, 20)) as sim:
            sim.cloud.faults.append(first("servers.stop", *[fault] * 4))
            report = await sim.bms.fleet.stop(sim.ids)
            assert all(outcome.state.is_success for outcome in report.outcomes)
            assert {server.stops for server in sim.cloud.servers.values()} == {1}

    run_virtually(main)


def test_a_stop_sent_twice_that_finds_its_servers_on_their_way_down_is_asked_for_until_they_are() -> None:
    async def main() -> None:
        async with simulated(servers=5, job_seconds=(20, 60)) as sim:
            sim.cloud.faults.append(first("servers.stop", CutAfter()))
            report = await sim.bms.fleet.stop(sim.ids)
            assert states(report.outcomes) == {S.UNCHANGED: 5}
            assert all(outcome.attempts > 2 for outcome in report.outcomes)
            assert {server.stops for server in sim.cloud.servers.values()} == {1}

    run_virtually(main)


def test_without_other_tries_it_is_unknown_and_not_failed() -> None:
    async def main() -> None:
        async with simulated(servers=5) as sim:
            sim.cloud.faults.append(first("servers.stop", CutAfter()))
            report = await sim.bms.fleet.stop(sim.ids, retry_transient=False)
            assert {(o.state, o.code, o.attempts) for o in report.outcomes} == {(S.UNKNOWN, "BMS.0036", 2)}

    run_virtually(main)


def test_a_stop_that_may_have_been_done_before_it_was_refused_is_settled_by_states() -> None:
    async def main() -> None:
        async with simulated(servers=5) as sim:
            no = Answer(status=400, body=b'{"error": {"code": "BMS.0018", "message": "no"}}')
            sim.cloud.faults.append(first("servers.stop", CutAfter(), no))
            report = await sim.bms.fleet.stop(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 5}

    run_virtually(main)


@pytest.mark.parametrize("readable", [True, False])
def test_a_job_that_the_cloud_forgets_is_made_up_for_by_states(readable: bool) -> None:
    async def main() -> None:
        async with simulated(servers=5, job_seconds=(300, 300)) as sim:
            sim.cloud.faults.append(lambda operation, nth, _: NotFoundJob() if operation == "jobs.get" else None)
            if not readable:
                sim.cloud.faults.append(refuse("servers.list", "servers.get", status=500))
            report = await sim.bms.fleet.stop(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED if readable else S.UNKNOWN: 5}
            assert all(outcome.job_id for outcome in report.outcomes)
            assert readable or all(isinstance(outcome.error, JobLostError) for outcome in report.outcomes)
            assert sim.arrived("servers.stop") == 1

    run_virtually(main)


def test_a_yes_without_the_id_of_a_job_is_made_up_for_by_states() -> None:
    async def main() -> None:
        async with simulated(servers=20) as sim:
            sim.cloud.faults.append(
                first("servers.stop", Answer(status=200, body=b'{"job_id": ""}', acted=True)),
            )
            report = await sim.bms.fleet.stop(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 20}
            assert sim.arrived("servers.stop") == 1

    run_virtually(main)


def test_a_run_that_is_let_go_while_states_are_looked_at_leaves_servers_unknown() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(100, 100)) as sim:
            sim.cloud.faults.append(first("servers.reboot", CutAfter()))
            run = sim.bms.fleet.reboot(sim.ids)
            await advance(30)
            assert run.progress.done == 0
            run.cancel(detach=True)
            assert states((await run).outcomes) == {S.UNKNOWN: 20}

    run_virtually(main)
