"""Fleet runs from end to end on the virtual clock: every id handed over ends in exactly one outcome."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bms_async import (
    BmsClient,
    ClientClosedError,
    FleetError,
    FleetReport,
    FleetRun,
    ForeignCodeError,
    HttpRequest,
    InvalidRequestError,
    Lane,
    Limits,
    Outcome,
    OutcomeState,
    StaticToken,
    SubJobFailedError,
)
from bms_async.simulator import (
    Answer,
    Cloud,
    CloudSettings,
    CutAfter,
    CutBefore,
    Delay,
    Fault,
    NotFoundJob,
    Script,
    ScriptedFault,
    Throttled,
    Unauthorized,
)
from bms_async.simulator.core.settings import ANY_POWER
from bms_async.testing import SimulatedCloud
from bms_async.testing._client import transport_to
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState
FIVE_BATCHES = Limits({"servers.stop": 5, "servers.reboot": 5})
"""What of six thousand servers leaves a thousand to the next minute."""


def states(outcomes: Sequence[Outcome]) -> dict[OutcomeState, int]:
    return dict(Counter(outcome.state for outcome in outcomes))


def assert_one_outcome_each(ids: Sequence[str], outcomes: Sequence[Outcome]) -> None:
    assert sorted(outcome.server_id for outcome in outcomes) == sorted(set(ids))


async def collect(run: FleetRun, outcomes: list[Outcome]) -> None:
    async for outcome in run:
        outcomes.append(outcome)  # noqa: PERF401 - what came before an error counts


FAULTS: st.SearchStrategy[Fault] = st.sampled_from(
    [
        Answer(status=500, body=b"{}"),
        Answer(status=502, body=b"<html>bad gateway</html>", headers={"Content-Type": "text/html"}),
        Answer(status=503, body=b"", acted=True),
        Answer(status=200, body=b"<html>hello</html>"),
        Answer(status=200, body=b'{"job_i', acted=True),
        Answer(status=400, body=b'{"error": {"code": "BMS.0212", "message": "busy"}}'),
        Answer(status=400, body=b'{"error": {"code": "BMS.0018", "message": "no"}}'),
        Throttled(),
        Throttled(retry_after=7),
        Unauthorized(),
        NotFoundJob(),
        Delay(seconds=100),
        Delay(seconds=5, acted=False),
        CutBefore(),
        CutAfter(),
    ]
)

SCRIPTS = st.lists(
    st.builds(
        ScriptedFault,
        operation=st.sampled_from(["servers.stop", "servers.start", "servers.reboot", "jobs.get", "jobs.get"]),
        nth=st.integers(1, 12),
        fault=FAULTS,
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=SCRIPTS,
    action=st.sampled_from(["start", "stop", "reboot"]),
    fail_share=st.sampled_from([0, 0.02]),
    anonymous=st.booleans(),
    refuse_batches=st.booleans(),
    leave_after=st.one_of(st.none(), st.floats(0, 90)),
    close_after=st.one_of(st.none(), st.none(), st.floats(0, 90)),
    options=st.fixed_dictionaries(
        {},
        optional={
            "wave_size": st.sampled_from([100, 700, 5000]),
            "abort_above": st.sampled_from([0.0, 0.01, 0.5]),
            "retry_transient": st.booleans(),
            "verify": st.booleans(),
        },
    ),
    locked=st.sampled_from([0, 0, 1, 30]),
    seed=st.integers(0, 1000),
)
def test_r2_every_id_ends_in_one_outcome_and_r3_no_reboot_happens_twice_whatever_fails(
    script: list[ScriptedFault],
    action: str,
    fail_share: float,
    anonymous: bool,
    refuse_batches: bool,
    leave_after: float | None,
    close_after: float | None,
    options: dict[str, Any],
    locked: int,
    seed: int,
) -> None:
    async def main() -> None:
        async with simulated(
            servers=1500,
            seed=seed,
            fail_share=fail_share,
            anonymous_failures=anonymous,
            refuse_batches=refuse_batches,
            stopped_share=0.3,
            shuffle_sub_jobs=True,
            latency=(0.01, 0.2),
            job_seconds=(1, 60),
        ) as (bms, cloud):
            ids = list(cloud.servers)
            powered = {server.id: server.powered for server in cloud.servers.values()}
            cloud.faults.append(Script(script))
            for server_id in ids[:locked]:
                cloud.servers[server_id].locked = True
            run = getattr(bms.fleet, action)(ids, **options)
            with anyio.move_on_after(leave_after) as looking_on:
                if close_after is not None:
                    await advance(close_after)
                    await bms.aclose()
                await run
            if looking_on.cancelled_caught:
                run.cancel(detach=True)
            report: FleetReport = await run
            assert_one_outcome_each(ids, report.outcomes)
            assert run.progress.done == run.progress.total == len(ids)
            await advance(200)
            await cloud.settle()
            for outcome in report.outcomes:
                server = cloud.servers[outcome.server_id]
                done = {"start": server.starts, "stop": server.stops, "reboot": server.reboots}[action]
                if outcome.state is S.SUCCEEDED:
                    assert done == 1
                elif outcome.state is S.UNCHANGED:
                    assert powered[server.id] == (action == "start") or done == 1
                elif outcome.state in (S.FAILED, S.SKIPPED):
                    assert done == 0
                if action == "reboot":
                    assert done <= 1

    run_virtually(main)


def test_a_fleet_with_failures_is_reported_by_state_and_by_code() -> None:
    async def main() -> None:
        async with simulated(servers=2500, seed=3, fail_share=0.02, stopped_share=0.1) as sim:
            report = await sim.bms.fleet.stop(sim.ids)
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert report.by_state[S.SUCCEEDED] + report.by_state[S.UNCHANGED] + report.by_state[S.FAILED] == 2500
            assert report.by_state[S.UNCHANGED] > 200
            assert dict(report.by_code) == {"BMS.0006": report.by_state[S.FAILED]}
            failed = next(outcome for outcome in report.outcomes if outcome.state is S.FAILED)
            assert isinstance(failed.error, SubJobFailedError)
            assert failed.error.measure
            assert failed.server_id in str(failed.error)
            assert failed.job_id == failed.error.job_id
            assert failed.sub_job_id
            assert failed.attempts == 1
            assert failed.started is not None
            assert failed.ended is not None
            assert report.started <= failed.started < failed.ended <= report.ended
            assert not report.cancelled
            assert report.batches == 3
            with pytest.raises(ExceptionGroup) as raised:
                report.raise_for_failures()
            (error,) = raised.value.exceptions
            assert isinstance(error, FleetError)
            assert error.code == "BMS.0006"
            assert len(error.server_ids) == report.by_state[S.FAILED]
            assert error.measure

    run_virtually(main)


def test_a_fleet_without_failures_raises_nothing() -> None:
    async def main() -> None:
        async with simulated(servers=10) as sim:
            report = await sim.bms.fleet.reboot(sim.ids)
            report.raise_for_failures()
            assert repr(report).startswith("<FleetReport servers.reboot of 10 servers: 10 SUCCEEDED in ")

    run_virtually(main)


def test_outcomes_come_in_the_order_in_which_servers_end_and_while_others_still_run() -> None:
    async def main() -> None:
        async with simulated(servers=3000, job_seconds=(5, 100)) as sim:
            run = sim.bms.fleet.stop(sim.ids)
            outcomes = []
            first_at = None
            async for outcome in run:
                outcomes.append(outcome)
                if first_at is None:
                    first_at = anyio.current_time()
                    assert run.progress.done < 3000
            assert first_at is not None
            assert first_at < 20
            assert anyio.current_time() > 95
            ended = [outcome.ended for outcome in outcomes if outcome.ended is not None]
            assert ended == sorted(ended)
            assert len(ended) == 3000
            assert (await run).outcomes == outcomes

    run_virtually(main)


def test_an_id_that_comes_twice_counts_once_and_an_unfit_one_is_skipped_with_the_rule() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            first, second, third = sim.ids
            report = await sim.bms.fleet.stop([first, "no/such", second, first, "", "a b", third, third])
            assert states(report.outcomes) == {S.SUCCEEDED: 3, S.SKIPPED: 3}
            skipped = [outcome for outcome in report.outcomes if outcome.state is S.SKIPPED]
            assert [outcome.server_id for outcome in skipped] == ["no/such", "", "a b"]
            assert all(isinstance(outcome.error, InvalidRequestError) for outcome in skipped)
            assert all(outcome.attempts == 0 and outcome.started is None for outcome in skipped)
            assert sim.arrived("servers.stop") == 1

    run_virtually(main)


def test_what_is_no_string_is_skipped_under_its_repr() -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            report = await sim.bms.fleet.stop([None, 7, b"x", *sim.ids])  # type: ignore[list-item]
            assert {o.server_id: o.state for o in report.outcomes} == {
                "None": S.SKIPPED,
                "7": S.SKIPPED,
                "b'x'": S.SKIPPED,
                sim.ids[0]: S.SUCCEEDED,
            }

    run_virtually(main)


def test_no_ids_make_an_empty_report() -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            report = await sim.bms.fleet.stop([])
            assert len(report) == 0
            report.raise_for_failures()
            assert [outcome async for outcome in sim.bms.fleet.stop(iter(()))] == []
            assert sim.arrived("servers.stop") == 0

    run_virtually(main)


@pytest.mark.parametrize("ids", ["one-id", b"one-id", 7, None])
def test_what_is_no_iterable_of_ids_is_refused_at_once(ids: object) -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            with pytest.raises(InvalidRequestError, match="ids="):
                sim.bms.fleet.stop(ids)  # type: ignore[arg-type]

    run_virtually(main)


def test_an_unknown_id_fails_with_what_the_cloud_says_of_its_batch() -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            report = await sim.bms.fleet.stop(["no-such-server"])
            (outcome,) = report.outcomes
            assert outcome.state is S.FAILED
            assert outcome.code == "BMS.0040"

    run_virtually(main)


def test_a_lone_server_that_is_refused_because_it_already_is_so_is_unchanged() -> None:
    async def main() -> None:
        async with simulated(servers=1, refuse_batches=True) as sim:
            (outcome,) = (await sim.bms.fleet.start(sim.ids)).outcomes
            assert outcome.state is S.UNCHANGED
            assert outcome.error is None
            assert outcome.job_id is None

    run_virtually(main)


def test_a_stop_whose_answer_is_lost_is_sent_again() -> None:
    async def main() -> None:
        async with simulated(servers=5) as sim:
            sim.cloud.faults.append(Script([ScriptedFault(operation="servers.stop", nth=1, fault=CutBefore())]))
            report = await sim.bms.fleet.stop(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 5}
            assert {outcome.attempts for outcome in report.outcomes} == {2}

    run_virtually(main)


def test_failures_that_the_cloud_does_not_name_are_found_by_elimination() -> None:
    async def main() -> None:
        async with simulated(servers=500, seed=5, fail_share=0.02, anonymous_failures=True) as sim:
            report = await sim.bms.fleet.stop(sim.ids)
            assert states(report.outcomes) == {S.SUCCEEDED: 490, S.FAILED: 10}
            faulty = {server.id for server in sim.cloud.servers.values() if server.faulty}
            assert {outcome.server_id for outcome in report.outcomes if outcome.state is S.FAILED} == faulty
            assert {outcome.code for outcome in report.outcomes if outcome.state is S.FAILED} == {"BMS.0006"}

    run_virtually(main)


def test_ids_may_come_from_a_generator_that_is_read_no_faster_than_needed() -> None:
    async def main() -> None:
        async with simulated(servers=3000, limits=None) as sim:
            read: list[str] = []

            def source() -> Iterator[str]:
                for server_id in sim.ids:
                    read.append(server_id)
                    yield server_id

            run = sim.bms.fleet.stop(source())
            before = run.progress
            assert before.total is None
            report = await run
            assert run.progress.total == len(read) == 3000
            assert states(report.outcomes) == {S.SUCCEEDED: 3000}

    run_virtually(main)


def test_ids_from_a_slow_source_go_in_batches_that_are_not_full() -> None:
    async def main() -> None:
        async with simulated(servers=5, job_seconds=(1, 2)) as sim:

            async def source() -> AsyncIterator[str]:
                for server_id in sim.ids:
                    yield server_id
                    await advance(30)

            first = None
            async for _ in sim.bms.fleet.stop(source()):
                first = first or anyio.current_time()
            assert first is not None
            assert first < 10
            assert sim.arrived("servers.stop") == 5

    run_virtually(main)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_source_that_breaks_is_told_after_what_it_gave_has_ended(is_async: bool) -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:

            def plain() -> Iterator[str]:
                yield from sim.ids
                raise OSError("the file ends here")

            async def slow() -> AsyncIterator[str]:
                for server_id in sim.ids:
                    yield server_id
                raise OSError("the file ends here")

            run = sim.bms.fleet.stop(slow() if is_async else plain())
            with pytest.raises(OSError, match="the file ends here"):
                await run
            assert run.report is not None
            assert states(run.report.outcomes) == {S.SUCCEEDED: 3}
            outcomes: list[Outcome] = []
            with pytest.raises(OSError, match="the file ends here"):
                await collect(run, outcomes)
            assert_one_outcome_each(sim.ids, outcomes)

    run_virtually(main)


def test_a_collection_that_breaks_each_time_it_is_read_keeps_nobody_waiting() -> None:
    class Broken(list[str]):
        def __iter__(self) -> Iterator[str]:
            yield "a"
            raise OSError("gone")

    async def main() -> None:
        async with simulated(servers=1) as sim:
            run = sim.bms.fleet.stop(Broken())
            run.cancel()
            with pytest.raises(OSError, match="gone"):
                await run
            assert run.report is not None
            assert states(run.report.outcomes) == {S.SKIPPED: 1}

    run_virtually(main)


def test_a_cancelled_run_skips_what_was_not_asked_for_and_sees_the_rest_to_its_end() -> None:
    async def main() -> None:
        async with simulated(servers=6000, limits=FIVE_BATCHES, job_seconds=(100, 200)) as sim:
            ids = sim.ids
            run = sim.bms.fleet.stop(ids)
            await advance(5)
            assert run.progress.submitted == 5000
            run.cancel()
            report = await run
            assert_one_outcome_each(ids, report.outcomes)
            assert states(report.outcomes) == {S.SUCCEEDED: 5000, S.SKIPPED: 1000}
            assert report.cancelled
            assert sum(server.stops for server in sim.cloud.servers.values()) == 5000

    run_virtually(main)


@pytest.mark.parametrize("how", ["batch", "each"])
def test_a_cancelled_run_does_not_wait_for_what_the_cloud_refused(how: str) -> None:
    async def main() -> None:
        async with simulated(servers=30, seed=1) as sim:
            operation = "servers.stop" if how == "batch" else "servers.rename"
            sim.cloud.faults.append(
                Script([ScriptedFault(operation=operation, nth=1, fault=Throttled(retry_after=60))])
            )
            if how == "batch":
                run = sim.bms.fleet.stop(sim.ids)
            else:
                run = sim.bms.fleet.each(sim.ids[:1], lambda server_id: sim.bms.servers.rename(server_id, "new"))
            await advance(5)
            assert run.progress.submitted == (30 if how == "batch" else 0)
            run.cancel()
            report = await run
            assert anyio.current_time() < 6
            assert set(states(report.outcomes)) == {S.SKIPPED}
            assert sim.arrived(operation) == 1

    run_virtually(main)


def test_a_run_that_is_let_go_ends_at_once_with_what_is_known() -> None:
    async def main() -> None:
        async with simulated(servers=6000, limits=FIVE_BATCHES, job_seconds=(1, 200)) as sim:
            ids = sim.ids
            run = sim.bms.fleet.stop(ids)
            await advance(30)
            run.cancel(detach=True)
            report = await run
            assert anyio.current_time() < 31
            assert_one_outcome_each(ids, report.outcomes)
            counts = states(report.outcomes)
            assert set(counts) == {S.SUCCEEDED, S.UNKNOWN, S.SKIPPED}
            assert counts[S.SKIPPED] == 1000
            assert report.cancelled

    run_virtually(main)


def test_a_run_cancelled_before_it_began_asks_for_nothing() -> None:
    async def main() -> None:
        async with simulated(servers=1000) as sim:
            ids = sim.ids
            run = sim.bms.fleet.stop(ids)
            run.cancel()
            report = await run
            assert_one_outcome_each(ids, report.outcomes)
            assert states(report.outcomes) == {S.SKIPPED: 1000}
            assert sim.arrived("servers.stop") == 0

    run_virtually(main)


def tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


async def settled() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


def test_r4_a_run_that_is_let_go_in_the_middle_leaves_no_task_and_no_pending_future() -> None:
    async def main() -> None:
        before = tasks()
        async with simulated(servers=6000, limits=FIVE_BATCHES, job_seconds=(1, 200)) as sim:
            await settled()
            idle = tasks()
            run = sim.bms.fleet.stop(sim.ids)
            async for _ in run:
                break
            left_at = anyio.current_time()
            run.cancel(detach=True)
            report = await run
            assert anyio.current_time() - left_at < 0.1
            await settled()
            # What has sent waits for the next request.
            assert tasks() - {"bms_async send"} == idle
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert sim.bms.statistics().session.open_calls <= sim.bms.statistics().watcher.in_flight
        await settled()
        assert tasks() == before

    run_virtually(main)


def test_r4_a_waiter_who_leaves_does_not_end_the_run_that_others_wait_for() -> None:
    async def main() -> None:
        async with simulated(servers=100) as sim:
            run = sim.bms.fleet.stop(sim.ids)
            reports: list[FleetReport] = []

            async def wait() -> None:
                reports.append(await run)

            async with anyio.create_task_group() as waiters:
                waiters.start_soon(wait)
                await advance(1)
                with anyio.move_on_after(1):
                    await run
                async for _ in run:
                    break
            assert states(reports[0].outcomes) == {S.SUCCEEDED: 100}
            assert not reports[0].cancelled

    run_virtually(main)


def test_r4_closing_the_client_ends_a_run_with_an_outcome_for_each_server() -> None:
    async def main() -> None:
        async with simulated(servers=6000, limits=FIVE_BATCHES, job_seconds=(1, 200)) as sim:
            ids = sim.ids
            run = sim.bms.fleet.reboot(ids)
            await advance(20)
        report = await run
        assert_one_outcome_each(ids, report.outcomes)
        assert states(report.outcomes).keys() == {S.SUCCEEDED, S.UNKNOWN, S.SKIPPED}
        assert report.cancelled
        with pytest.raises(ClientClosedError):
            sim.bms.fleet.stop(ids)

    run_virtually(main)


def test_two_clients_that_share_limits_together_keep_them() -> None:
    async def main() -> None:
        settings = CloudSettings(servers=8000, job_seconds=(1, 2), latency=(0.01, 0.2), limits={"servers.stop": 5})
        simulator = SimulatedCloud(settings, clock=asyncio.get_running_loop().time)
        async with simulator.client(limits=Limits({"servers.stop": 5})) as bms:
            sim = Simulated(bms, simulator.cloud)
            async with simulator.client(limits=bms.limits) as other:
                half = 4000
                first = sim.bms.fleet.stop(sim.ids[:half])
                second = other.fleet.stop(sim.ids[half:])
                third = sim.bms.fleet.reboot([])
                reports = [await first, await second, await third]
            assert [len(report) for report in reports] == [half, half, 0]
            assert sim.cloud.call_counts().refused == 0

    run_virtually(main)


def test_one_power_budget_is_kept_where_the_gateway_counts_by_uri() -> None:
    five = {"servers.stop": 5, "servers.start": 5, "servers.reboot": 5}

    async def run(limits: Limits) -> int:
        there = CloudSettings(
            servers=3000, job_seconds=(1, 2), shared_power_budget=True, limits={ANY_POWER: 5}, stopped_share=0.5
        )
        simulator = SimulatedCloud(there, clock=asyncio.get_running_loop().time)
        async with simulator.client(limits=limits) as bms:
            await run_all(bms, simulator.cloud)
            return simulator.cloud.call_counts().refused

    async def run_all(bms: BmsClient, cloud: Cloud) -> None:
        on = [server.id for server in cloud.servers.values() if server.powered]
        off = [server.id for server in cloud.servers.values() if not server.powered]
        stopping, starting, rebooting = (
            bms.fleet.stop(on),
            bms.fleet.start(off),
            bms.fleet.reboot(f"no-such-{number}" for number in range(3000)),
        )
        for going in (stopping, starting, rebooting):
            await going

    assert run_virtually(lambda: run(Limits(five, shared_power_budget=True))) == 0
    # Seven batches, and no kind of them as many as five.
    assert run_virtually(lambda: run(Limits(five))) > 0


def test_ids_that_linger_when_a_source_ends_are_not_lost() -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(1, 2), limits=Limits({"servers.stop": 1})) as sim:

            async def source() -> AsyncIterator[str]:
                for server_id in sim.ids:
                    yield server_id
                    # The first takes the slot, the second waits for it, the third for the second.
                    await advance(3)

            report = await sim.bms.fleet.stop(source())
            assert states(report.outcomes) == {S.SUCCEEDED: 3}

    run_virtually(main)


@pytest.mark.parametrize("odd", [asyncio.CancelledError(), GeneratorExit()])
def test_r4_a_source_that_is_cancelled_by_others_touches_no_other_run(odd: BaseException) -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            first, second, third = sim.ids

            async def source() -> AsyncIterator[str]:
                yield first
                await advance(5)
                raise odd

            other, run = sim.bms.fleet.stop([second]), sim.bms.fleet.stop(source())
            with pytest.raises(ForeignCodeError, match=type(odd).__name__):
                await run
            assert run.report is not None
            assert states(run.report.outcomes) == states((await other).outcomes) == {S.SUCCEEDED: 1}
            assert states((await sim.bms.fleet.stop([third])).outcomes) == {S.SUCCEEDED: 1}

    run_virtually(main)


@pytest.mark.parametrize("detach", [False, True])
def test_a_batch_that_was_counted_out_is_not_asked_for_again_after_the_run_was_cancelled(detach: bool) -> None:
    async def main() -> None:
        async with simulated(servers=2000, latency=(1, 1)) as sim:
            sim.cloud.faults.append(
                Script([ScriptedFault(operation="servers.reboot", nth=nth, fault=Throttled()) for nth in (1, 2)])
            )
            run = sim.bms.fleet.reboot(sim.ids)
            await advance(5)
            run.cancel(detach=detach)
            report = await run
            assert anyio.current_time() < 6
            assert states(report.outcomes) == {S.SKIPPED: 2000}
            assert {outcome.attempts for outcome in report.outcomes} == {1}
            await advance(200)
            assert sim.arrived("servers.reboot") == 2

    run_virtually(main)


def test_a_list_that_its_owner_uses_again_was_handed_over_all_the_same() -> None:
    async def main() -> None:
        async with simulated(servers=20) as sim:
            for buffer in (list(sim.ids[:10]), set(sim.ids[10:])):
                run = sim.bms.fleet.stop(buffer)
                buffer.clear()
                assert len(await run) == 10

    run_virtually(main)


def test_a_cancelled_run_lets_go_of_its_source() -> None:
    async def main() -> None:
        async with simulated(servers=1, limits=Limits({"servers.stop": 1})) as sim:
            closed = False

            async def source() -> AsyncIterator[str]:
                nonlocal closed
                try:
                    for number in range(100_000):
                        yield f"no-such-{number}"
                finally:
                    closed = True

            run = sim.bms.fleet.stop(source())
            await advance(5)
            run.cancel()
            await run
            await settled()
            assert closed

    run_virtually(main)


class Flaky:
    """Credentials that cannot be got at these times."""

    def __init__(self, token: str, *times: int) -> None:
        self.token, self.times, self.asked = token, times, 0

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        if request.operation == "servers.reboot":
            self.asked += 1
            if self.asked in self.times:
                raise OSError("no token today")
        return {"X-Auth-Token": self.token}

    def redact(self, text: str) -> str:
        return text.replace(self.token, "***")


def test_credentials_that_fail_for_one_batch_leave_the_others_alone() -> None:
    async def main() -> None:
        cloud = Cloud(CloudSettings(servers=3000), clock=asyncio.get_running_loop().time)
        async with BmsClient(
            endpoint="http://localhost",
            project_id=cloud.settings.project_id,
            auth=Flaky(cloud.settings.token, 2),
            transport=transport_to(cloud),
        ) as bms:
            run = bms.fleet.reboot(list(cloud.servers))
            with pytest.raises(OSError, match="no token today"):
                await run
            assert run.report is not None
            assert states(run.report.outcomes) == {S.SUCCEEDED: 2000, S.SKIPPED: 1000}

    run_virtually(main)


def test_an_id_that_no_request_can_carry_spoils_its_own_batch_only() -> None:
    async def main() -> None:
        cloud = Cloud(CloudSettings(servers=2000), clock=asyncio.get_running_loop().time)
        async with BmsClient(
            endpoint="http://localhost",
            project_id=cloud.settings.project_id,
            auth=Flaky(cloud.settings.token),
            transport=transport_to(cloud),
            check=False,
        ) as bms:
            report = await bms.fleet.reboot([*list(cloud.servers)[:1999], "b\udc80d"])
            assert states(report.outcomes) == {S.SUCCEEDED: 1000, S.SKIPPED: 1000}
            assert {type(o.error) for o in report.outcomes if o.state is S.SKIPPED} == {InvalidRequestError}
            with pytest.raises(InvalidRequestError, match="can be encoded as UTF-8"):
                await bms.servers.get("b\udc80d")

    run_virtually(main)


def test_who_asks_while_the_client_is_being_closed_is_told_so() -> None:
    async def main() -> None:
        async with simulated(servers=5000, job_seconds=(50, 60)) as sim:
            sim.bms.fleet.stop(sim.ids)
            await advance(3)
            closing = asyncio.ensure_future(sim.bms.aclose())
            refused = 0
            while not closing.done():
                try:
                    sim.bms.fleet.stop(["a"])
                except ClientClosedError:
                    refused += 1
                await anyio.lowlevel.checkpoint()
            assert refused > 5

    run_virtually(main)


@pytest.mark.parametrize("how", ["cancelled", "unfit", "twice", "read again"])
def test_r9_a_hundred_thousand_ids_that_need_no_call_do_not_hold_up_the_loop(how: str) -> None:
    async def main() -> None:
        passes = most = 0

        async def count(run: FleetRun) -> None:
            nonlocal passes, most
            while True:
                before = run.progress.done
                await asyncio.sleep(0)
                passes, most = passes + 1, max(most, run.progress.done - before)

        async with simulated(servers=1) as sim:
            text = {"unfit": "no id {}", "twice": "one-id"}.get(how, "no-such-{}")
            ids = (text.format(number) for number in range(100_000))
            handed_over = list(ids) if how in ("cancelled", "read again") else None
            run = sim.bms.fleet.stop(ids if handed_over is None else handed_over)
            if handed_over is not None:
                while run.progress.total is None:
                    await anyio.lowlevel.checkpoint()
                run.cancel(detach=True)
            if how == "read again":
                await run
            counting = asyncio.ensure_future(count(run))
            async for _ in run:
                pass
            counting.cancel()
            assert passes >= 100
            assert most <= 5000

    run_virtually(main)


def test_a_batch_in_flight_when_a_run_is_cancelled_is_seen_to_its_end() -> None:
    async def main() -> None:
        async with simulated(servers=20, latency=(5, 5), job_seconds=(1, 2)) as sim:
            run = sim.bms.fleet.stop(sim.ids)
            await advance(2)
            run.cancel()
            assert states((await run).outcomes) == {S.SUCCEEDED: 20}

    run_virtually(main)


def test_a_run_waits_in_its_lane() -> None:
    async def main() -> None:
        async with simulated(servers=3000, limits=Limits({"servers.stop": 1, "servers.start": 1})) as sim:
            bulk = sim.bms.fleet.stop(sim.ids)
            urgent = sim.bms.fleet.start(sim.ids, lane=Lane.INTERACTIVE)
            await advance(1)
            stopping = sim.bms.limits["servers.stop"].statistics()
            starting = sim.bms.limits["servers.start"].statistics()
            # One is through, one waits for it, and the third for its turn to wait.
            assert (stopping.waiting_bulk, stopping.waiting_interactive) == (1, 0)
            assert (starting.waiting_bulk, starting.waiting_interactive) == (0, 1)
            for run in (bulk, urgent):
                run.cancel(detach=True)
                await run

    run_virtually(main)


def test_polls_wait_behind_callers_and_are_not_retried_by_themselves() -> None:
    async def main() -> None:
        async with simulated(servers=1, limits=Limits({"jobs.get": 20})) as sim, sim.bms.jobs.events():
            handle = await sim.bms.servers.stop(sim.ids)
            for _ in range(20):
                await sim.bms.jobs.get(handle.id)
            await advance(5)
            polls = sim.bms.limits["jobs.get"].statistics()
            assert (polls.waiting_bulk, polls.waiting_interactive) == (1, 0)
        async with simulated(servers=1, job_seconds=(50, 50)) as sim, sim.bms.jobs.events():
            sim.cloud.faults.append(lambda operation, *_: Answer(status=503) if operation == "jobs.get" else None)
            handle = await sim.bms.servers.stop(sim.ids)
            await advance(10)
            told_polls = sim.bms.statistics().watcher
            assert told_polls.polls == told_polls.failed_polls == sim.arrived("jobs.get") > 0
            assert not handle.done()

    run_virtually(main)


def test_closing_the_client_ends_its_runs_before_it_lets_go_of_their_jobs() -> None:
    async def main() -> None:
        async with simulated(servers=5, job_seconds=(100, 200)) as sim:
            run = sim.bms.fleet.stop(sim.ids)
            await advance(20)
        assert all(outcome.error is None for outcome in (await run).outcomes)

    run_virtually(main)


def test_a_slot_is_not_lost_when_credentials_fail_and_successes_do_not_pile_up_retries() -> None:
    class Odd(StaticToken):
        broken = True

        async def headers(self, request: HttpRequest) -> Mapping[str, str]:
            if self.broken:
                raise OSError("no token service")
            return await super().headers(request)

    async def main() -> None:
        async with simulated(servers=1) as sim:
            auth = Odd(sim.cloud.settings.token)
            sim.bms._core.auth = auth
            with pytest.raises(OSError, match="no token service"):
                await sim.bms.servers.get(sim.ids[0])
            assert sim.bms.limits["servers.get"].statistics().used == 0
            auth.broken = False
            full = sim.bms.statistics().session.retries_left
            for _ in range(50):
                await sim.bms.servers.get(sim.ids[0])
            assert sim.bms.statistics().session.retries_left == full

    run_virtually(main)
