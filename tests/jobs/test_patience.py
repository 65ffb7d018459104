"""Patience runs from the last news, and every wait has an end."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from bms_async import (
    BmsClient,
    ConfigurationError,
    InvalidRequestError,
    Job,
    JobEnded,
    JobFailedError,
    JobHandle,
    JobLost,
    JobLostError,
    NotFoundError,
    OutcomeState,
    Patience,
    ServerError,
    StaticToken,
    SubJob,
    SubJobEnded,
)
from bms_async.jobs import Watcher
from bms_async.limits import Pacer
from tests.jobs._helpers import FakeCloud, job, sub_job
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

NO_NEWS = 1800.0
HURRIED = Patience(no_news=NO_NEWS)


@asynccontextmanager
async def watching(patience: Patience = HURRIED) -> AsyncIterator[tuple[Watcher, FakeCloud]]:
    cloud = FakeCloud()
    watcher = Watcher(cloud.fetch, pace=Pacer(1800), project=lambda: "p", patience=patience)
    await watcher.open()
    try:
        yield watcher, cloud
    finally:
        await watcher.aclose()


def watch_j(
    says: Callable[[], Job | Exception],
    use: Callable[[JobHandle], Awaitable[None]],
    *,
    servers: tuple[str, ...] = ("a", "b"),
    patience: Patience = HURRIED,
) -> None:
    async def main() -> None:
        async with watching(patience) as (watcher, cloud):
            cloud.says["j"] = says
            await use(watcher.watch("j", servers=servers, action="servers.stop"))

    run_virtually(main)


def running(*ends: float) -> list[SubJob]:
    """Sub-jobs of servers s0, s1, ... that are RUNNING until these moments."""
    now = anyio.current_time()
    return [sub_job(f"s{index}", "RUNNING" if now < end else "SUCCESS") for index, end in enumerate(ends)]


# --- a job that has failed early ---


def test_after_an_early_failure_each_other_sub_job_has_its_own_end() -> None:
    ends = [1.0, *(100.0 * number for number in range(1, 15))]
    names = tuple(f"s{index}" for index in range(len(ends)))

    def says() -> Job:
        first, *others = running(*ends)
        failed = sub_job("s0", "FAIL", error_code="BMS.0006") if anyio.current_time() >= 1 else first
        return job("FAIL" if anyio.current_time() >= 1 else "RUNNING", failed, *others)

    async def use(handle: JobHandle) -> None:
        with pytest.raises(JobFailedError, match="for 1 of 15 servers") as raised:
            await handle
        assert 1400 <= anyio.current_time() < 1430
        assert all(sub.is_final for sub in raised.value.job.sub_jobs)
        ended = [(sub.server_id, sub.status.value) async for sub in handle.sub_jobs()]
        assert ended == [("s0", "FAIL"), *((name, "SUCCESS") for name in names[1:])]

    watch_j(says, use, servers=names)


def test_sub_jobs_that_a_failed_job_never_shows_are_given_up_a_minute_after_the_last_news() -> None:
    def says() -> Job:
        shown = [sub_job("a", "FAIL")] if anyio.current_time() < 50 else [sub_job("a", "FAIL"), sub_job("b", "SUCCESS")]
        return job("FAIL", *shown, total=3, error_code="BMS.0006", fail_reason="rack 7 is dark")

    async def use(handle: JobHandle) -> None:
        with pytest.raises(JobLostError, match=r"server c.*BMS\.0006: rack 7 is dark") as raised:
            await handle.sub_job("c")
        assert 110 < anyio.current_time() < 140
        assert (raised.value.code, raised.value.reason) == ("BMS.0006", "rack 7 is dark")
        assert (await handle.sub_job("b")).status == "SUCCESS"

    watch_j(says, use, servers=("a", "b", "c"))


def test_a_job_that_says_success_while_sub_jobs_run_waits_for_how_those_end() -> None:
    def says() -> Job:
        return job(
            "SUCCESS", sub_job("a", "SUCCESS"), sub_job("b", "RUNNING" if anyio.current_time() < 300 else "FAIL")
        )

    async def use(handle: JobHandle) -> None:
        assert (await handle.sub_job("b")).status == "FAIL"
        assert anyio.current_time() >= 300

    watch_j(says, use)


def test_a_job_that_says_success_and_shows_a_sub_job_running_for_ever_proves_nothing_of_that_server() -> None:
    async def use(handle: JobHandle) -> None:
        with pytest.raises(JobLostError, match="says SUCCESS, but still shows sub-jobs that have not ended"):
            await handle
        assert (await handle.sub_job("a")).status == "SUCCESS"
        with pytest.raises(JobLostError):
            await handle.sub_job("b")

    watch_j(lambda: job("SUCCESS", sub_job("a", "SUCCESS"), sub_job("b", "RUNNING")), use)


# --- a job that never ends ---


def test_a_job_that_runs_for_ever_is_lost_half_an_hour_after_its_last_news_and_what_ended_counts() -> None:
    async def use(handle: JobHandle) -> None:
        waiting = handle.sub_job("b")
        with pytest.raises(JobLostError, match="says RUNNING, and has shown nothing new for 1800 s") as raised:
            await handle
        assert 900 + NO_NEWS <= anyio.current_time() < 900 + NO_NEWS + 60
        assert raised.value.job is not None
        assert (await handle.sub_job("a")).status == "SUCCESS"
        with pytest.raises(JobLostError):
            await waiting
        subs = aiter(handle.sub_jobs())
        assert (await anext(subs)).server_id == "a"
        with pytest.raises(JobLostError):
            await anext(subs)

    def says() -> Job:
        return job(
            "RUNNING", sub_job("a", "RUNNING" if anyio.current_time() < 900 else "SUCCESS"), sub_job("b", "INIT")
        )

    watch_j(says, use)


@pytest.mark.parametrize(
    "says",
    [
        lambda: job("RUNNING" if int(anyio.current_time() / 40) % 2 else "INIT"),
        lambda: job("FAIL" if int(anyio.current_time() / 40) % 2 else "RUNNING", sub_job("a", "RUNNING")),
        lambda: job(f"ODD-{anyio.current_time():.0f}"),
        lambda: job("RUNNING", *(sub_job(f"new-{n}", "RUNNING") for n in range(int(anyio.current_time() / 30)))),
        lambda: job("FAIL", *(sub_job(f"new-{n}", "INIT") for n in range(int(anyio.current_time() / 30))), total=10**6),
        lambda: job("RUNNING", sub_job("a", "RUNNING" if int(anyio.current_time() / 40) % 2 else "INIT")),
        lambda: job("FAIL", total=10**9),
        lambda: job("SUCCESS", sub_job(None, "RUNNING")),
    ],
    ids=["forth and back", "end and back", "ever new words", "ever new sub-jobs", "ever new ones of an ended job",
         "a sub-job forth and back", "more than ever shown", "nameless for ever"],
)  # fmt: skip
def test_whatever_a_job_goes_on_telling_a_wait_for_it_has_an_end(says: Callable[[], Job]) -> None:
    async def use(handle: JobHandle) -> None:
        with pytest.raises((JobLostError, JobFailedError)):
            await handle
        assert anyio.current_time() < 2 * NO_NEWS
        with pytest.raises(JobLostError):
            await handle.sub_job("b")

    watch_j(says, use)


def test_a_job_of_unknown_servers_that_shows_new_sub_jobs_for_ever_ends_too() -> None:
    def says() -> Job:
        return job("RUNNING", *(sub_job(f"new-{n}", "RUNNING") for n in range(int(anyio.current_time() / 10))))

    async def use(handle: JobHandle) -> None:
        with pytest.raises(JobLostError):
            await handle

    watch_j(says, use, servers=())


def test_an_outage_is_no_time_without_news() -> None:
    def says() -> Job | Exception:
        now = anyio.current_time()
        if 1000 <= now < 4000:
            return ServerError(status=503)
        return job("SUCCESS" if now > 4700 else "RUNNING")

    async def use(handle: JobHandle) -> None:
        assert (await handle).status == "SUCCESS"

    watch_j(says, use)


@pytest.mark.parametrize("error", [ServerError(status=503), NotFoundError(status=404)])
def test_polls_that_fail_every_other_time_are_no_reason_to_wait_for_ever(error: Exception) -> None:
    def says() -> Job | Exception:
        return error if int(anyio.current_time() / 20) % 2 else job("RUNNING")

    async def use(handle: JobHandle) -> None:
        with pytest.raises(JobLostError, match="nothing new"):
            await handle
        assert NO_NEWS < anyio.current_time() < 4 * NO_NEWS

    watch_j(says, use)


@pytest.mark.parametrize("said", [NotFoundError(status=404), ServerError(status=503), job("RUNNING")])
def test_who_asks_every_five_minutes_whether_a_job_is_done_is_told_in_the_end(said: Job | Exception) -> None:
    async def use(handle: JobHandle) -> None:
        while not handle.done():
            await advance(300)
        assert anyio.current_time() < 2 * 86400

    watch_j(lambda: said, use)


def test_endless_patience_is_had_for_the_asking() -> None:
    async def use(handle: JobHandle) -> None:
        with anyio.move_on_after(20 * 3600) as scope:
            await handle
        assert scope.cancelled_caught

    watch_j(lambda: job("RUNNING"), use, patience=Patience(no_news=math.inf))


def test_each_kind_of_patience_is_the_clients() -> None:
    async def lost_after(patience: Patience, said: Job | Exception) -> float:
        async with watching(patience) as (watcher, cloud):
            cloud.says["j"] = said
            begun = anyio.current_time()
            with pytest.raises((JobLostError, JobFailedError)):
                await watcher.watch("j", servers=("a", "b"))
            return anyio.current_time() - begun

    async def main() -> None:
        assert 200 <= await lost_after(Patience(not_found=200), NotFoundError(status=404)) < 260
        assert 500 <= await lost_after(Patience(failing=500), ServerError(status=503)) < 560
        assert 300 <= await lost_after(Patience(incomplete=300), job("FAIL", sub_job("a", "FAIL"), total=2)) < 340
        assert 100 <= await lost_after(Patience(no_news=100), job("RUNNING")) < 130

    run_virtually(main)


@pytest.mark.parametrize("value", [-1, math.nan, "60", None, True])
def test_patience_that_is_no_number_of_seconds_is_refused(value: float) -> None:
    with pytest.raises(InvalidRequestError, match=r"no_news=.*expected seconds"):
        Patience(no_news=value)
    with pytest.raises(ConfigurationError, match="expected a Patience"):
        BmsClient(endpoint="http://127.0.0.1:1", project_id="p", auth=StaticToken("t"), patience=value)  # type: ignore[arg-type]


def test_the_patience_that_is_had_by_itself_outlasts_any_job_by_far() -> None:
    assert Patience().no_news >= 4 * 1800
    assert Patience() == Patience(not_found=60, unauthorized=300, failing=3600, incomplete=60, no_news=7200)


# --- the simulated cloud ---


def test_of_jobs_that_hang_and_fail_early_each_wait_ends_and_the_known_ends_count() -> None:
    async def main() -> None:
        settings: dict[str, Any] = {"fail_share": 0.1, "stuck_share": 0.05, "early_failures": True, "seed": 3}
        async with (
            simulated(servers=100, job_seconds=(20, 900), patience=HURRIED, **settings) as sim,
            sim.bms.jobs.events() as events,
        ):
            handle = await sim.bms.servers.stop(sim.ids)
            with pytest.raises(JobFailedError) as raised:
                await handle
            assert 900 < anyio.current_time() < 900 + NO_NEWS + 60
            stuck = [sub.server_id for sub in raised.value.job.sub_jobs if not sub.is_final]
            ended = {sub.server_id async for sub in handle.sub_jobs()}
            assert stuck
            assert ended == set(sim.ids) - set(stuck)
            with pytest.raises(JobLostError, match="still shows RUNNING"):
                await handle.sub_job(stuck[0] or "")
            seen = []
            async for event in events:
                seen.append(event)
                if isinstance(event, JobEnded | JobLost):
                    break
            assert isinstance(seen[-1], JobEnded)
            assert sum(isinstance(event, SubJobEnded) for event in seen) == len(ended)

    run_virtually(main)


def test_r2_a_run_whose_jobs_hang_ends_and_is_proved_by_the_servers_own_states() -> None:
    async def main() -> None:
        async with simulated(servers=50, stuck_share=0.2, seed=2, patience=HURRIED) as sim:
            report = await sim.bms.fleet.stop(sim.ids)
            assert report.by_state[OutcomeState.UNKNOWN] == report.by_state[OutcomeState.FAILED] == 0
            assert len(report) == 50
            assert anyio.current_time() < NO_NEWS + 300

    run_virtually(main)


def test_a_run_whose_batches_fail_before_their_sub_jobs_are_made_tells_the_jobs_own_words() -> None:
    async def main() -> None:
        async with simulated(servers=3, stillborn_share=1.0, patience=HURRIED) as sim:
            report = await sim.bms.fleet.reboot(sim.ids)
            for outcome in report.outcomes:
                assert outcome.state is OutcomeState.UNKNOWN
                assert outcome.code == "BMS.0006"
                assert outcome.job_id is not None
                assert f"job {outcome.job_id} ended" in str(outcome.error)
                assert "The job could not be divided into sub-jobs." in str(outcome.error)
            one = (await sim.bms.fleet.reboot(sim.ids[:1])).outcomes[0]
            assert one.state is OutcomeState.FAILED
            assert "The job could not be divided into sub-jobs." in str(one.error)

    run_virtually(main)


def test_what_only_the_job_tells_of_a_failure_is_told_as_the_jobs() -> None:
    async def main() -> None:
        async with simulated(servers=1, fail_share=1.0, reason_place="job") as sim:
            outcome = (await sim.bms.fleet.stop(sim.ids)).outcomes[0]
            assert outcome.state is OutcomeState.FAILED
            assert outcome.code is None
            assert "of the job as a whole the cloud says: BMS.0006: The power operation could not" in str(outcome.error)

    run_virtually(main)
