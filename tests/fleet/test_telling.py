"""What a run tells while it goes on, what it saves for another process, and what it shares with other runs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import anyio
import msgspec
import pytest

from bms_async import FleetReport, InvalidRequestError, JobHandle, Limits, Outcome, OutcomeState
from tests.fleet._helpers import assert_one_outcome_each, states
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


@pytest.mark.parametrize("is_async", [False, True])
def test_each_outcome_is_called_back_once_in_order_and_never_two_at_a_time(is_async: bool) -> None:
    async def main() -> None:
        async with simulated(servers=1500, fail_share=0.1, job_seconds=(5, 20)) as sim:
            heard: list[Outcome] = []
            at_once = 0

            def hear(outcome: Outcome) -> None:
                heard.append(outcome)

            async def hear_slowly(outcome: Outcome) -> None:
                nonlocal at_once
                at_once += 1
                assert at_once == 1
                await asyncio.sleep(0.001)
                at_once -= 1
                heard.append(outcome)

            report = await sim.bms.fleet.stop(sim.ids, on_outcome=hear_slowly if is_async else hear)
            assert heard == report.outcomes
            assert len(heard) == 1500

    run_virtually(main)


def test_a_callback_that_is_slow_holds_up_no_server_and_the_run_waits_for_it() -> None:
    async def main() -> None:
        async with simulated(servers=3000, job_seconds=(5, 20), limits=Limits.unlimited(), throttle="none") as sim:
            heard = 0

            async def hear(outcome: Outcome) -> None:
                nonlocal heard
                heard += 1
                await advance(1)

            run = sim.bms.fleet.stop(sim.ids, on_outcome=hear)
            await advance(60)
            assert run.progress.done == 3000
            assert heard < 60
            report = await run
            assert heard == 3000
            assert anyio.current_time() > 2900
            assert report.ended >= max(outcome.ended for outcome in report.outcomes if outcome.ended)

    run_virtually(main)


@pytest.mark.parametrize("how", [ValueError, asyncio.CancelledError, SystemExit])
def test_a_callback_that_raises_is_called_for_the_others_and_is_told_at_the_end(how: type[BaseException]) -> None:
    async def main() -> None:
        async with simulated(servers=100) as sim:
            heard = 0

            def hear(outcome: Outcome) -> None:
                nonlocal heard
                heard += 1
                if heard in (3, 5):
                    raise how(f"the {heard}th")

            run = sim.bms.fleet.stop(sim.ids, on_outcome=hear)
            with pytest.raises(
                Exception, match="the 3th" if how is ValueError else f"on_outcome raised {how.__name__}"
            ):
                await run
            assert heard == 100
            assert run.report is not None
            assert states(run.report.outcomes) == {S.SUCCEEDED: 100}

    run_virtually(main)


@pytest.mark.parametrize("hangs", [False, True])
def test_what_is_left_when_the_client_is_closed_is_called_back_and_a_callback_that_hangs_keeps_nobody(
    hangs: bool,
) -> None:
    async def main() -> None:
        heard = 0

        async def hear(outcome: Outcome) -> None:
            nonlocal heard
            heard += 1
            await advance(1000 if hangs else 0)

        async with simulated(servers=3000, job_seconds=(100, 200)) as sim:
            run = sim.bms.fleet.stop(sim.ids, on_outcome=hear)
            await advance(20)
            closed_at = anyio.current_time()
        assert anyio.current_time() - closed_at < 10
        report: FleetReport = await run
        assert states(report.outcomes) == {S.UNKNOWN: 3000}
        assert heard == (1 if hangs else 3000)

    run_virtually(main)


def test_two_runs_that_share_a_limit_get_on_equally_fast() -> None:
    async def main() -> None:
        async with simulated(servers=40_000, job_seconds=(1, 2), limits=Limits({"servers.stop": 10})) as sim:
            ids = sim.ids
            first = sim.bms.fleet.stop(ids[:20_000])
            await advance(0.1)
            second = sim.bms.fleet.stop(ids[20_000:])
            at: dict[str, list[float]] = {"first": [], "second": []}

            async def follow(name: str, run: object) -> None:
                async for _ in run:  # type: ignore[attr-defined]
                    at[name].append(anyio.current_time())

            async with anyio.create_task_group() as following:
                following.start_soon(follow, "first", first)
                following.start_soon(follow, "second", second)
            # The first ten calls are the first run's, for nobody else was there; from then on they take turns.
            middle = {name: times[10_000] for name, times in at.items()}
            assert middle["second"] - middle["first"] <= 121
            assert at["second"][-1] - at["first"][-1] <= 61
            assert at["second"][0] <= 65

    run_virtually(main)


def test_jobs_are_told_as_they_are_accepted_and_another_run_goes_on_with_them() -> None:
    async def main() -> None:
        async with simulated(servers=3500, job_seconds=(50, 100), limits=Limits({"servers.reboot": 2})) as sim:
            saved: list[str] = []

            async def save(job: JobHandle) -> None:
                await asyncio.sleep(0)
                saved.append(job.to_json())

            run = sim.bms.fleet.reboot(sim.ids, on_job=save)
            await advance(20)
            run.cancel(detach=True)
            assert states((await run).outcomes) == {S.UNKNOWN: 2000, S.SKIPPED: 1500}
            assert len(saved) == 2
            jobs = [sim.bms.jobs.restore(text) for text in saved]
            again = sim.bms.fleet.reboot(sim.ids, jobs=jobs, verify=True)
            await advance(1)
            assert again.progress.submitted == 2000
            report = await again
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.SUCCEEDED: 3500}
            assert Counter(server.reboots for server in sim.cloud.servers.values()) == {1: 3500}
            assert Counter(outcome.attempts for outcome in report.outcomes) == {1: 3500}

    run_virtually(main)


def test_jobs_of_another_action_or_without_servers_are_refused() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            stopping = await sim.bms.servers.stop(sim.ids)
            for job in (stopping, sim.bms.jobs.watch("0" * 32)):
                with pytest.raises(InvalidRequestError, match=r"a job that servers\.start started"):
                    sim.bms.fleet.start(sim.ids, jobs=[job])

    run_virtually(main)


def test_a_fault_of_whoever_saves_jobs_is_told_at_the_end() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:

            def save(job: JobHandle) -> None:
                raise OSError("disk full")

            run = sim.bms.fleet.stop(sim.ids, on_job=save)
            with pytest.raises(OSError, match="disk full"):
                await run
            assert run.report is not None
            assert states(run.report.outcomes) == {S.SUCCEEDED: 3}

    run_virtually(main)


def test_a_report_tells_the_slowest_what_ended_when_and_all_of_it_as_json() -> None:
    async def main() -> None:
        async with simulated(servers=1000, fail_share=0.01, stopped_share=0.1, job_seconds=(5, 60)) as sim:
            report = await sim.bms.fleet.stop([*sim.ids, "no such"])
            slowest = report.slowest(5)
            assert len(slowest) == 5
            longest = [outcome.seconds for outcome in slowest if outcome.seconds is not None]
            assert longest == sorted(longest, reverse=True)
            assert longest[0] == max(outcome.seconds or 0.0 for outcome in report.outcomes)
            assert longest[0] > 50
            timeline = report.timeline()
            assert sum(sum(bucket.values()) for bucket in timeline) == 1001
            assert len(timeline) == int(report.seconds // 10) + 1
            assert timeline[0][S.SKIPPED] == 1
            assert sum(bucket.get(S.FAILED, 0) for bucket in timeline) == report.by_state[S.FAILED]
            assert set(report.measures) == {"BMS.0006"}
            for wrong in (0.0, -1.0, float("nan")):
                with pytest.raises(InvalidRequestError, match="bucket="):
                    report.timeline(wrong)
            plain = msgspec.json.decode(report.to_json())
            assert plain["version"] == 1
            assert plain["action"] == "servers.stop"
            assert plain["by_state"] == {state.value: number for state, number in report.by_state.items()}
            assert plain["measures"] == dict(report.measures)
            assert len(plain["outcomes"]) == 1001
            failed = next(outcome for outcome in plain["outcomes"] if outcome["state"] == "FAILED")
            assert failed["error"]["code"] == "BMS.0006"
            assert failed["error"]["type"] == "SubJobFailedError"
            assert failed["server_id"] in failed["error"]["message"]

    run_virtually(main)


def test_a_report_is_iterated_over_and_gives_what_is_not_as_asked_and_what_a_web_service_answers() -> None:
    async def main() -> None:
        async with simulated(servers=30, fail_share=0.2, job_seconds=(1, 2)) as sim:
            report = await sim.bms.fleet.stop([*sim.ids, "no id"])
            assert list(report) == report.outcomes
            failures = list(report.failures())
            assert failures == [outcome for outcome in report if not outcome.state.is_success]
            assert len(failures) == sum(report.by_code.values()) > 1

            written = msgspec.json.decode(report.to_json())
            assert [json.loads(json.dumps(outcome.to_dict())) for outcome in report] == written.pop("outcomes")
            assert json.loads(json.dumps(report.summary())) == written

    run_virtually(main)
