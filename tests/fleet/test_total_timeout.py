"""A run with a `total_timeout` ends, whatever it waits for, and tells what it knows."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio
import msgspec
import pytest

from bms_async import (
    ApiError,
    FleetError,
    FleetReport,
    FleetTimeoutError,
    InvalidRequestError,
    JobHandle,
    Outcome,
    OutcomeState,
    TransportError,
)
from bms_async.simulator import Answer, CutAfter, CutBefore, Delay
from tests.fleet._helpers import assert_one_outcome_each, by_state_and_code, refuse, states
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState
BOUND = 600.0


@contextmanager
def taking(*, at_least: float = BOUND, at_most: float) -> Iterator[None]:
    began = anyio.current_time()
    yield
    assert at_least <= anyio.current_time() - began <= at_most


def assert_timed_out(report: FleetReport, ids: list[str]) -> None:
    assert_one_outcome_each(ids, report.outcomes)
    assert report.timed_out
    assert not report.cancelled
    assert report.aborted is None
    for outcome in report.outcomes:
        if outcome.state in (S.UNKNOWN, S.SKIPPED):
            assert isinstance(outcome.error, FleetTimeoutError)
            assert isinstance(outcome.error, TimeoutError)
            assert "total_timeout of 600 s is over" in str(outcome.error)


@pytest.mark.parametrize("action", ["stop", "reboot"])
def test_what_is_under_way_and_not_proved_is_unknown_and_what_was_not_asked_for_is_skipped(action: str) -> None:
    async def main() -> None:
        async with simulated(servers=30, job_seconds=(9000, 9000)) as sim:
            with taking(at_most=BOUND + 5):
                report = await getattr(sim.bms.fleet, action)(sim.ids, wave_size=10, total_timeout=BOUND)
            assert_timed_out(report, sim.ids)
            assert states(report.outcomes) == {S.UNKNOWN: 10, S.SKIPPED: 20}
            assert all((outcome.job_id is not None) == (outcome.state is S.UNKNOWN) for outcome in report.outcomes)
            await advance(100)
            assert sim.arrived(f"servers.{action}") == 1
            assert " timed out of 30 servers" in repr(report)
            assert msgspec.json.decode(report.to_json())["timed_out"] is True

    run_virtually(main)


def test_a_job_that_says_running_for_ever_leaves_it_to_the_servers_own_states() -> None:
    async def main() -> None:
        async with simulated(servers=5, fail_share=0.2) as sim:
            body = b'{"job_id": "stuck", "status": "RUNNING", "entities": {"sub_jobs_total": 5, "sub_jobs": []}}'
            sim.cloud.faults.append(
                lambda operation, nth, _: Answer(status=200, body=body) if operation == "jobs.get" else None
            )
            with taking(at_most=BOUND + 5):
                report = await sim.bms.fleet.start(sim.ids, total_timeout=BOUND)
            assert report.timed_out
            assert states(report.outcomes) == {S.UNCHANGED: 5}

    run_virtually(main)


def test_a_reboot_that_was_over_when_the_time_was_is_unknown() -> None:
    async def main() -> None:
        async with simulated(servers=5) as sim:
            sim.cloud.faults.append(refuse("jobs.get", status=503))
            report = await sim.bms.fleet.reboot(sim.ids, total_timeout=BOUND)
            assert_timed_out(report, sim.ids)
            assert states(report.outcomes) == {S.UNKNOWN: 5}
            assert {server.reboots for server in sim.cloud.servers.values()} == {1}

    run_virtually(main)


def test_a_source_that_never_ends_is_let_go() -> None:
    async def main() -> None:
        async with simulated(servers=5) as sim:

            async def ids() -> AsyncIterator[str]:
                for server_id in sim.ids:
                    yield server_id
                await anyio.sleep_forever()

            with taking(at_most=BOUND + 1):
                report = await sim.bms.fleet.stop(ids(), total_timeout=BOUND)
            assert report.timed_out
            assert states(report.outcomes) == {S.SUCCEEDED: 5}

    run_virtually(main)


@pytest.mark.parametrize("servers", [5, 50])
def test_states_that_do_not_come_hold_up_the_end_for_some_seconds_only(servers: int) -> None:
    async def main() -> None:
        async with simulated(servers=servers, job_seconds=(9000, 9000)) as sim:
            sim.cloud.faults.append(
                lambda operation, nth, _: Delay(seconds=50) if operation in ("servers.get", "servers.list") else None
            )
            with taking(at_least=BOUND + 10, at_most=BOUND + 11):
                report = await sim.bms.fleet.stop(sim.ids, total_timeout=BOUND)
            assert_timed_out(report, sim.ids)
            assert states(report.outcomes) == {S.UNKNOWN: servers}

    run_virtually(main)


@pytest.mark.parametrize("fault", [CutBefore(), CutAfter()])
def test_what_waits_to_be_asked_again_is_looked_at_and_unknown_with_what_was_known(fault: CutBefore | CutAfter) -> None:
    async def main() -> None:
        async with simulated(servers=5, job_seconds=(9000, 9000)) as sim:
            sim.cloud.faults.append(lambda operation, nth, _: fault if operation == "servers.stop" else None)
            report = await sim.bms.fleet.stop(sim.ids, total_timeout=BOUND)
            assert_timed_out(report, sim.ids)
            assert states(report.outcomes) == {S.UNKNOWN: 5}
            for outcome in report.outcomes:
                assert outcome.error is not None
                cause = outcome.error.__cause__
                assert isinstance(cause, TransportError)
                assert str(cause) in str(outcome.error)

    run_virtually(main)


def test_what_was_refused_until_the_time_was_over_keeps_what_the_cloud_said() -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(9000, 9000), refuse_batches=True) as sim:
            await sim.bms.servers.stop(sim.ids)
            report = await sim.bms.fleet.start(sim.ids, total_timeout=100)
            assert report.timed_out
            assert by_state_and_code(report.outcomes) == {("FAILED", "BMS.0036"): 3}

    run_virtually(main)


def test_what_was_to_be_verified_is_told_as_it_is_known() -> None:
    async def main() -> None:
        async with simulated(servers=2000, job_seconds=(5, 60)) as sim:
            sim.cloud.faults.append(
                lambda operation, nth, _: CutBefore() if operation == "servers.stop" and nth > 1 else None
            )
            report = await sim.bms.fleet.stop(sim.ids, verify=True, total_timeout=BOUND)
            assert_timed_out(report, sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 1000, S.UNKNOWN: 1000}
            assert report.unverified == 2000

    run_virtually(main)


def test_callbacks_that_hang_are_let_go() -> None:
    async def main() -> None:
        async with simulated(servers=5) as sim:
            heard: list[Outcome] = []

            async def hang(what: Outcome | JobHandle) -> None:
                if isinstance(what, Outcome):
                    heard.append(what)
                await anyio.sleep_forever()

            with taking(at_most=BOUND + 25):
                report = await sim.bms.fleet.stop(sim.ids, on_outcome=hang, on_job=hang, total_timeout=BOUND)
            assert report.timed_out
            # Nobody watched them to their end, for the callback held that up; they are off.
            assert states(report.outcomes) == {S.UNCHANGED: 5}
            assert heard

    run_virtually(main)


def test_a_callback_that_hangs_when_all_is_done_is_let_go_too() -> None:
    async def main() -> None:
        async with simulated(servers=5) as sim:

            async def hang(outcome: Outcome) -> None:
                await anyio.sleep_forever()

            with taking(at_most=BOUND + 11):
                report = await sim.bms.fleet.stop(sim.ids, on_outcome=hang, total_timeout=BOUND)
            assert report.timed_out
            assert states(report.outcomes) == {S.SUCCEEDED: 5}

    run_virtually(main)


def test_a_run_that_ends_in_time_is_as_it_would_be_without() -> None:
    async def main() -> None:
        async with simulated(servers=1500, fail_share=0.1) as sim:
            report = await sim.bms.fleet.stop(sim.ids, total_timeout=9000)
            assert anyio.current_time() < 300
            assert not report.timed_out
            assert not report.cancelled
            with pytest.raises(ExceptionGroup) as caught:
                report.raise_for_failures()
            assert all(isinstance(error, FleetError) for error in caught.value.exceptions)

    run_virtually(main)


@pytest.mark.parametrize("detach", [False, True])
def test_a_run_that_is_cancelled_before_is_cancelled(detach: bool) -> None:
    async def main() -> None:
        async with simulated(servers=5, job_seconds=(9000, 9000)) as sim:
            run = sim.bms.fleet.stop(sim.ids, total_timeout=BOUND)
            await advance(10)
            run.cancel(detach=detach)
            report = await run
            assert report.cancelled
            assert report.timed_out is not detach
            assert anyio.current_time() < BOUND + 5

    run_virtually(main)


def test_a_client_that_is_closed_during_the_last_look_ends_the_run_at_once() -> None:
    async def main() -> None:
        async with simulated(servers=5, job_seconds=(9000, 9000)) as sim:
            sim.cloud.faults.append(lambda operation, nth, _: Delay(seconds=50) if operation == "servers.get" else None)
            run = sim.bms.fleet.stop(sim.ids, total_timeout=BOUND)
            await advance(BOUND + 3)
            assert run.report is None
        assert anyio.current_time() < BOUND + 5
        report = await run
        assert_timed_out(report, sim.ids)
        assert states(report.outcomes) == {S.UNKNOWN: 5}

    run_virtually(main)


@pytest.mark.parametrize("seconds", [0, -1, True, "60", math.nan, math.inf])
def test_what_is_no_time_is_refused(seconds: float) -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            for start in (sim.bms.fleet.start, sim.bms.fleet.stop, sim.bms.fleet.reboot):
                with pytest.raises(InvalidRequestError, match="total_timeout"):
                    start(sim.ids, total_timeout=seconds)

    run_virtually(main)


def test_a_batch_that_was_refused_and_not_asked_again_in_time_says_why() -> None:
    async def main() -> None:
        async with simulated(servers=20) as sim:
            body = b'{"error": {"code": "BMS.0018", "message": "no such luck"}}'
            sim.cloud.faults.append(
                lambda operation, nth, _: Answer(status=400, body=body) if operation == "servers.stop" else None
            )
            sim.cloud.faults.append(
                lambda operation, nth, _: Delay(seconds=50) if operation in ("servers.get", "servers.list") else None
            )
            report = await sim.bms.fleet.stop(sim.ids, total_timeout=20)
            assert report.timed_out
            assert by_state_and_code(report.outcomes) == {("SKIPPED", "BMS.0018"): 20}
            assert all(isinstance(outcome.error, ApiError) for outcome in report.outcomes)
            assert all("no such luck" in str(outcome.error) for outcome in report.outcomes)

    run_virtually(main)
