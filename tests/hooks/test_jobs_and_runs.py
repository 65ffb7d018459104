"""The hook events of jobs and of fleet runs: enough to know from them alone the outcome of every server."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

from bms_async import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    FleetReport,
    JobFailedError,
    JobFinished,
    JobLostError,
    JobPolled,
    OutcomeRecorded,
    RequestSent,
    RunEnded,
    RunStarted,
)
from bms_async.simulator import Answer, CutAfter, NotFoundJob, Script, ScriptedFault, Throttled
from tests.hooks._helpers import Ear, first, hooked
from tests.support.virtual_clock import run_virtually


def test_each_poll_of_a_job_is_told_and_then_its_end() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=10, fail_share=0.2, seed=3, job_seconds=(5.0, 30.0)) as sim:
            job = await sim.bms.servers.stop(sim.ids)
            with pytest.raises(JobFailedError) as caught:
                await job
            polls = ear.heard(JobPolled)
            assert len(polls) == sim.arrived("jobs.get") == len(ear.heard(CallEnded, operation="jobs.get"))
            assert all(event.is_poll for event in ear.heard(CallStarted, operation="jobs.get"))
            assert [event.ended for event in polls] == sorted(event.ended for event in polls)
            assert {(event.job_id, event.action, event.total) for event in polls} == {(job.id, "servers.stop", 10)}
            assert (polls[-1].status, polls[-1].ended) == ("FAIL", 10)
            (finished,) = ear.heard(JobFinished)
            failed = sum(sub.status.value == "FAIL" for sub in caught.value.job.sub_jobs)
            assert failed > 0
            assert (finished.succeeded, finished.failed) == (10 - failed, failed)
            assert (finished.job_id, finished.status, finished.error) == (job.id, "FAIL", None)
            assert finished.seconds == pytest.approx(anyio.current_time(), abs=0.1)
            assert ear.names[-2:] == ["JobPolled", "JobFinished"]

    run_virtually(main)


def test_a_call_that_reads_a_job_is_no_poll() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1) as sim:
            job = await sim.bms.servers.stop(sim.ids)
            await sim.bms.jobs.get(job.id)
            (read,) = ear.heard(CallStarted, operation="jobs.get")
            assert not read.is_poll
            assert read.parameters == {"job_id": job.id}

    run_virtually(main)


def test_waiting_for_a_native_server_polls_too() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1) as sim:
            await sim.bms.nova.servers.wait_for(sim.ids[0], "ACTIVE")
            polls = ear.heard(CallStarted)
            assert polls
            assert all(event.is_poll for event in polls)

    run_virtually(main)


def test_a_poll_that_fails_and_a_job_that_is_lost_are_told_as_such() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1) as sim:
            sim.cloud.faults.append(lambda operation, nth, path: NotFoundJob() if operation == "jobs.get" else None)
            with pytest.raises(JobLostError):
                await sim.bms.jobs.watch("ff808081ad0b6a5e0190f4c37f5b00a1")
        assert {(event.error, event.status) for event in ear.heard(JobPolled)} == {("NotFoundError", None)}
        (finished,) = ear.heard(JobFinished)
        assert (finished.error, finished.status, finished.seconds) == ("JobLostError", None, None)

    run_virtually(main)


def assert_told_by_events(ear: Ear, ids: list[str], report: FleetReport, action: str) -> None:
    """R2 from the events alone, and their sums beside the report's."""
    (started,) = ear.heard(RunStarted, action=action)
    outcomes = ear.heard(OutcomeRecorded, run=started.run)
    assert sorted(event.server_id for event in outcomes) == sorted(set(ids))
    (ended,) = ear.heard(RunEnded, run=started.run)
    assert ear.events.index(ended) > ear.events.index(outcomes[-1])
    assert Counter(event.state for event in outcomes) == {
        state: count for state, count in ended.by_state.items() if count
    }
    assert ended.by_state == {state.value: count for state, count in report.by_state.items()}
    assert ended.by_code == report.by_code
    assert [event.server_id for event in outcomes] == [outcome.server_id for outcome in report.outcomes]
    for event, outcome in zip(outcomes, report.outcomes, strict=True):
        assert (event.state, event.code, event.job_id) == (outcome.state.value, outcome.code, outcome.job_id)
        assert (event.attempts, event.seconds) == (outcome.attempts, outcome.seconds)
    assert (ended.batches, ended.extra_calls, ended.seconds) == (report.batches, report.extra_calls, report.seconds)


@pytest.mark.parametrize("action", ["stop", "reboot"])
def test_r2_holds_by_the_events_of_a_run_that_meets_every_kind_of_fault(action: str) -> None:
    async def main() -> None:
        ear = Ear()
        settings = {"servers": 1100, "fail_share": 0.03, "stopped_share": 0.002, "latency": (0.0, 1.0), "seed": 5}
        async with hooked(ear, refuse_batches=True, **settings) as sim:
            name = f"servers.{action}"
            sim.cloud.faults.append(
                Script(
                    [
                        ScriptedFault(operation=name, nth=1, fault=Throttled(retry_after=3)),
                        ScriptedFault(operation=name, nth=2, fault=CutAfter()),
                        ScriptedFault(operation=name, nth=4, fault=Answer(status=500, acted=True)),
                        ScriptedFault(operation="jobs.get", nth=2, fault=Answer(status=502)),
                    ]
                )
            )
            report = await getattr(sim.bms.fleet, action)([*sim.ids, "no/id"])
            assert_told_by_events(ear, [*sim.ids, "no/id"], report, name)
            (run,) = {event.run for event in ear.heard(RunStarted)}
            mine = [event for event in ear.heard(CallStarted) if not event.is_poll]
            assert {event.run for event in mine} == {run}
            assert all(event.run is None for event in ear.heard(CallStarted) if event.is_poll)
            for operation, book in sim.cloud.call_counts().operations.items():
                assert len(ear.heard(RequestSent, operation=operation)) == book.arrived
            assert len(ear.heard(RequestSent)) == len(ear.heard(AttemptEnded))
            assert len(ear.heard(CallStarted)) == len(ear.heard(CallEnded))
            started = {event.job_id for event in ear.heard(CallEnded, operation=name)} - {None}
            assert started == {event.job_id for event in ear.heard(JobFinished)}
            assert len(started) == report.batches

    run_virtually(main)


@pytest.mark.parametrize("ending", ["cancelled", "let go", "closed", "aborted"])
def test_r2_holds_by_the_events_of_a_run_that_ends_before_its_end(ending: str) -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=500, fail_share=0.5 if ending == "aborted" else 0.0) as sim:
            run = sim.bms.fleet.stop(sim.ids, wave_size=50, abort_above=0.1 if ending == "aborted" else None)
            await anyio.sleep(30.0)
            if ending == "closed":
                await sim.bms.aclose()
            elif ending != "aborted":
                run.cancel(detach=ending == "let go")
            report = await run
            assert_told_by_events(ear, sim.ids, report, "servers.stop")
            (ended,) = ear.heard(RunEnded)
            assert ended.cancelled is (ending != "aborted")
            assert (ended.aborted is not None) is (ending == "aborted")

    run_virtually(main)


def test_runs_at_the_same_time_are_told_apart() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=40) as sim:
            one, other = sim.bms.fleet.stop(sim.ids[:10]), sim.bms.fleet.reboot(sim.ids[10:])
            for run in (one, other):
                await run
            stop, reboot = (ear.heard(RunStarted, action=f"servers.{name}")[0].run for name in ("stop", "reboot"))
            assert len(ear.heard(OutcomeRecorded, run=stop)) == 10
            assert len(ear.heard(OutcomeRecorded, run=reboot)) == 30
            assert [event.run for event in ear.heard(CallEnded, operation="servers.reboot")] == [reboot]
            await sim.bms.servers.get(sim.ids[0])
            assert [event.run for event in ear.heard(CallEnded, operation="servers.get")] == [None]

    run_virtually(main)


def test_what_breaks_a_run_is_told_at_its_end() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=3) as sim:

            def ids() -> object:
                yield sim.ids[0]
                raise LookupError("the list broke")

            with pytest.raises(LookupError):
                await sim.bms.fleet.stop(ids())  # type: ignore[arg-type]
        (ended,) = ear.heard(RunEnded)
        assert ended.error == "LookupError"
        assert sum(ended.by_state.values()) == 1

    run_virtually(main)


def test_a_hook_that_is_told_of_a_verified_run_hears_each_outcome_once() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=30, fail_share=0.1) as sim:
            sim.cloud.faults.append(first("servers.list", Answer(status=503)))
            report = await sim.bms.fleet.stop(sim.ids, verify=True)
            assert_told_by_events(ear, sim.ids, report, "servers.stop")

    run_virtually(main)
