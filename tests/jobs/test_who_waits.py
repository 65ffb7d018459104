"""Jobs are polled for those who wait: which are, which sleep, and who goes first."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable

import anyio
import pytest

from bms_async import ClientClosedError, Job, JobHandle, JobLostError, JobTimeoutError, Patience
from bms_async.errors import NotFoundError, ServerError
from bms_async.jobs import Watcher
from tests.jobs._helpers import FakeCloud, job, sub_job, watching
from tests.support.clouds import client_of, simulated
from tests.support.virtual_clock import advance, run_virtually


def watch(use: Callable[[Watcher, FakeCloud], Awaitable[None]], *, polls_a_minute: float = 1800) -> None:
    async def main() -> None:
        async with watching(polls_a_minute=polls_a_minute) as (watcher, cloud):
            await use(watcher, cloud)

    run_virtually(main)


def test_a_handle_that_merely_exists_costs_no_poll() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j")
        await advance(1000)
        assert cloud.counts["j"] == 0
        statistics = watcher.statistics()
        assert (statistics.polled, statistics.idle, statistics.next_poll) == (0, 1, None)
        assert repr(handle) == "<JobHandle j INIT, 0 ended>"
        assert cloud.counts["j"] == 0

    watch(use)


@pytest.mark.parametrize("how", ["await", "sub_job", "sub_jobs", "result"])
def test_a_job_that_slept_is_polled_at_once_when_somebody_waits(how: str) -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j", servers=("a",))
        await advance(1000)
        cloud.says["j"] = job("SUCCESS", sub_job("a", "SUCCESS"))
        if how == "await":
            await handle
        elif how == "sub_job":
            await handle.sub_job("a")
        elif how == "result":
            await handle.result(timeout=5)
        else:
            assert [sub.server_id async for sub in handle.sub_jobs()] == ["a"]
        assert cloud.asked["j"] == [pytest.approx(1000, abs=0.1)]

    watch(use)


def test_who_asks_from_time_to_time_whether_a_job_is_done_is_told_in_the_end() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j", servers=("a",))
        cloud.says["j"] = lambda: job("SUCCESS" if anyio.current_time() > 100 else "RUNNING")
        while not handle.done():
            await advance(5)
        assert 100 < anyio.current_time() < 120
        assert cloud.counts["j"] < 25

    watch(use)


def test_polls_stop_when_the_last_waiter_has_left_and_go_on_when_one_comes_back() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j", servers=("a", "b"))
        future = handle.sub_job("a")
        with pytest.raises(JobTimeoutError):
            await handle.result(timeout=20)
        assert not future.done()
        await advance(20)
        before = cloud.counts["j"]
        assert cloud.asked["j"][-1] > 30
        future.cancel()
        await advance(1000)
        assert cloud.counts["j"] <= before + 1
        cloud.says["j"] = job("SUCCESS")
        assert (await handle.sub_job("b")).status == "SUCCESS"

    watch(use)


def test_r4_of_several_waiters_some_may_leave_and_the_others_are_told() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j", servers=("a",))

        def says() -> Job:
            status = "SUCCESS" if anyio.current_time() > 50 else "RUNNING"
            return job(status, sub_job("a", status))

        cloud.says["j"] = says
        ended: list[str] = []

        async def wait(handle: JobHandle) -> None:
            ended.append((await handle).status)

        async with anyio.create_task_group() as staying:
            for _ in range(3):
                staying.start_soon(wait, handle)
            async with anyio.create_task_group() as leaving:
                for _ in range(5):
                    leaving.start_soon(wait, watcher.watch("j"))
                await advance(10)
                leaving.cancel_scope.cancel()
        assert ended == ["SUCCESS"] * 3
        assert cloud.counts["j"] < 40

    watch(use)


def test_a_job_that_is_kept_is_polled_to_its_end_though_nobody_waits() -> None:
    async def main() -> None:
        async with simulated(servers=2, job_seconds=(40, 60)) as sim:
            started = await sim.bms.servers.stop(sim.ids)
            async with client_of(sim.cloud) as another:
                another.jobs.watch(started.id, keep_polling=True)
                await advance(100)
                assert another.statistics().watcher.ended == 1
            assert sim.bms.statistics().watcher.polls == 0

    run_virtually(main)


def test_a_sleeping_job_can_be_kept_later() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j")
        await advance(100)
        watcher.watch("j", keep_polling=True)
        cloud.says["j"] = job("SUCCESS")
        await advance(1)
        assert watcher.statistics().ended == 1
        assert handle.done()

    watch(use)


def test_a_job_picked_up_by_its_id_is_polled_once_at_once() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j", started=False)
        await advance(100)
        assert cloud.asked["j"] == [pytest.approx(0, abs=0.1)]
        assert handle.status == "RUNNING"

    watch(use)


def test_jobs_that_somebody_waits_for_are_polled_before_jobs_that_nobody_does() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handles = [watcher.watch(f"kept-{number}", keep_polling=True) for number in range(300)]
        handles += [watcher.watch(f"awaited-{number}") for number in range(100)]
        futures = [handle.sub_job("a") for handle in handles[300:]]
        await advance(13)
        firsts = {job_id: moments[0] for job_id, moments in cloud.asked.items()}
        awaited = [at for job_id, at in firsts.items() if job_id.startswith("awaited")]
        kept = [at for job_id, at in firsts.items() if job_id.startswith("kept")]
        assert len(awaited) == 100
        assert sorted(kept)[12] > max(awaited)
        assert not any(future.done() for future in futures)

    watch(use, polls_a_minute=600)


def test_jobs_that_nobody_waits_for_are_not_starved_when_there_are_too_few_polls() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        kept = [watcher.watch(f"kept-{number}", keep_polling=True) for number in range(5)]
        futures = [watcher.watch(f"awaited-{number}").sub_job("a") for number in range(100)]
        await advance(3000)
        assert watcher.statistics().load > 1.5
        for handle in kept:
            assert cloud.counts[handle.id] > 10
        assert len(futures) == 100

    watch(use, polls_a_minute=150)


def test_a_sleeping_job_whose_last_handle_is_gone_is_forgotten() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handles = [watcher.watch(f"j{number}") for number in range(100)]
        await advance(100)
        assert watcher.statistics().idle == 100
        assert {handle.id for handle in watcher.watched()} == {handle.id for handle in handles}
        del handles[10:]
        gc.collect()
        assert watcher.statistics().idle == 10

    watch(use)


def test_r4_closing_tells_sleeping_jobs_too() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j")
        await advance(100)
        await watcher.aclose()
        with pytest.raises(ClientClosedError, match="the job goes on"):
            await handle

    watch(use)


@pytest.mark.parametrize("error", [NotFoundError(status=404), ServerError(status=503)])
def test_how_long_a_job_slept_does_not_count_as_time_in_which_polls_failed(error: Exception) -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        cloud.says["j"] = error
        handle = watcher.watch("j", started=False)
        await advance(2 * Patience().failing)
        assert cloud.counts["j"] == 1
        future = handle.sub_job("a")
        await advance(20)
        assert not future.done()
        cloud.says["j"] = job("SUCCESS", sub_job("a", "SUCCESS"))
        assert (await future).status == "SUCCESS"

    watch(use)


def test_two_calls_that_are_given_the_same_job_are_each_told_of_their_own_servers() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        first = watcher.watch("j", servers=("a", "b"), action="servers.stop")
        second = watcher.watch("j", servers=("c", "d"), action="servers.start")
        assert (first.servers, second.servers) == (("a", "b"), ("c", "d"))
        assert (first.action, second.action) == ("servers.stop", "servers.start")
        cloud.says["j"] = job("SUCCESS", *(sub_job(name, "SUCCESS") for name in "abcd"))
        assert [sub.server_id async for sub in first.sub_jobs()] == ["a", "b"]
        assert [sub.server_id async for sub in second.sub_jobs()] == ["c", "d"]
        assert cloud.counts["j"] == 1
        with pytest.raises(ValueError, match="expected one of the servers of job j"):
            first.sub_job("c")

    watch(use)


def test_of_servers_that_a_job_given_twice_does_not_name_nothing_is_guessed() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        first = watcher.watch("j", servers=("a", "b"), action="servers.stop")
        second = watcher.watch("j", servers=("c",), action="servers.stop")
        cloud.says["j"] = job("SUCCESS", sub_job("a", "SUCCESS"), sub_job("b", "SUCCESS"), total=2)
        assert [sub.server_id async for sub in first.sub_jobs()] == ["a", "b"]
        assert [sub.server_id async for sub in second.sub_jobs()] == []
        with pytest.raises(JobLostError, match="ended without reporting server c"):
            await second.sub_job("c")

    watch(use)


def test_a_job_that_tells_of_servers_it_was_not_started_for_proves_nothing_of_those_it_does_not_name() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j", servers=("a", "b"))
        cloud.says["j"] = job("SUCCESS", sub_job("x", "SUCCESS"), sub_job("a", "SUCCESS"))
        assert (await handle.sub_job("a")).status == "SUCCESS"
        with pytest.raises(JobLostError, match="without reporting server b"):
            await handle.sub_job("b")

    watch(use)
