"""What the watcher learns of how long jobs take, and what it does with it; and when it may not look at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from bms_async import Job, JobHandle, JobLostError, Patience, SubJob, TransportError
from bms_async.simulator import Answer
from tests.jobs._helpers import job, sub_job, watching
from tests.simulator.logged_in import logged_in
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_next_job_of_a_kind_costs_fewer_polls_while_nothing_can_end_and_is_told_of_sooner() -> None:
    async def main() -> None:
        async with simulated(servers=1000, job_seconds=(280, 320), seed=3) as sim:
            early, delays = [], []

            async def follow(handle: JobHandle, begun: float) -> None:
                job = None
                late = 0.0
                async for sub in handle.sub_jobs():
                    job = handle.job
                    assert job is not None
                    assert job.begin_time is not None
                    assert sub.end_time is not None
                    late += anyio.current_time() - begun - (sub.end_time - job.begin_time).total_seconds()
                delays.append(late / len(sim.ids))

            for _ in range(3):
                before = sim.bms.statistics().watcher.polls
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(follow, await sim.bms.servers.reboot(sim.ids), anyio.current_time())
                    await advance(200)
                    early.append(sim.bms.statistics().watcher.polls - before)
            assert early[0] > 25
            assert early[1] < 10
            assert delays[0] > 4 * delays[1]
            assert delays[2] < 1.0

    run_virtually(main)


@pytest.mark.parametrize(
    "times",
    [
        {},
        # Clocks that were set between, and ends before the beginning.
        {"_end_time": (BEGUN + timedelta(days=1)).isoformat()},
        {"_end_time": (BEGUN - timedelta(days=1)).isoformat()},
    ],
)
def test_times_that_the_cloud_does_not_tell_or_that_cannot_be_are_taken_from_our_own_clock(
    times: dict[str, str],
) -> None:
    async def main() -> None:
        async with watching() as (watcher, cloud):

            def said(begun: float) -> Job:
                if anyio.current_time() - begun < 200:
                    return job("RUNNING", _begin_time=BEGUN.isoformat())
                return job("SUCCESS", sub_job("a", "SUCCESS", **times), _begin_time=BEGUN.isoformat())

            counts = []
            for number in range(6):
                begun = anyio.current_time()
                cloud.says[f"j{number}"] = lambda begun=begun: said(begun)  # type: ignore[misc]
                assert (await watcher.watch(f"j{number}", servers=("a",), action="servers.stop")).status == "SUCCESS"
                assert 200 <= anyio.current_time() - begun < 220
                counts.append([at - begun for at in cloud.asked[f"j{number}"]])
            assert len([age for age in counts[0] if age < 100]) > 20
            assert len([age for age in counts[-1] if age < 100]) <= 5

    run_virtually(main)


def test_a_job_that_was_picked_up_is_polled_by_how_long_it_is_watched_for_nobody_knows_its_age() -> None:
    async def main() -> None:
        async with simulated(servers=1000, job_seconds=(280, 320), seed=3) as sim:
            await (await sim.bms.servers.reboot(sim.ids))
            started = await sim.bms.servers.reboot(sim.ids)
            saved = started.to_json()
            del started
            await advance(298)
            polls = sim.bms.statistics().watcher.polls
            restored = sim.bms.jobs.restore(saved)
            assert restored.servers == tuple(sim.ids)
            ended = [sub async for sub in restored.sub_jobs()]
            assert len(ended) == 1000
            assert sim.bms.statistics().watcher.polls - polls > 10

    run_virtually(main)


def test_a_job_is_lost_after_five_minutes_without_credentials_to_look_at_it_with() -> None:
    async def main() -> None:
        async with logged_in(servers=2, job_seconds=(10_000, 10_000)) as (bms, cloud):
            handle = await bms.servers.stop(list(cloud.servers))
            future = handle.sub_job(handle.servers[0])
            await advance(100)
            cloud.revoke_tokens()
            cloud.faults.append(
                lambda operation, *_: Answer(status=503) if operation == "identity.create_token" else None
            )
            begun = anyio.current_time()
            with pytest.raises(JobLostError, match="could not be read for 300 s") as caught:
                await handle
            assert Patience().unauthorized <= anyio.current_time() - begun < Patience().unauthorized + 120
            assert isinstance(caught.value.__cause__, TransportError)
            assert caught.value.__cause__.operation == "identity.create_token"
            assert caught.value.job is not None
            assert isinstance(future.exception(), JobLostError)

    run_virtually(main)


def test_the_job_that_is_returned_agrees_with_what_the_futures_told() -> None:
    async def main() -> None:
        async with watching() as (watcher, cloud):
            handle = watcher.watch("j", servers=("a", "b"))
            cloud.says["j"] = job("RUNNING", sub_job("a", "SUCCESS"), sub_job("b", "RUNNING"))
            first: SubJob = await handle.sub_job("a")
            # Back from its end, shown twice, in another order: the first end that was seen counts, and nobody waits.
            cloud.says["j"] = job("SUCCESS", sub_job("b", "SUCCESS"), sub_job("a", "RUNNING"), sub_job("a", "FAIL"))
            begun = anyio.current_time()
            done = await handle
            assert anyio.current_time() - begun < 5
            assert done.sub_jobs[1] == done.sub_jobs[2] == first
            assert [sub.status for sub in done.sub_jobs] == ["SUCCESS"] * 3
            assert handle.job == done

    run_virtually(main)


def test_a_job_that_goes_back_from_its_end_has_not_ended() -> None:
    async def main() -> None:
        async with watching() as (watcher, cloud):
            handle = watcher.watch("j", servers=("a", "b"))
            cloud.says["j"] = job("FAIL", sub_job("a", "FAIL"), total=2)
            await handle.sub_job("a")
            assert handle.status == "FAIL"
            assert not handle.done()
            cloud.says["j"] = job("RUNNING", sub_job("a", "FAIL"), sub_job("b", "RUNNING"), total=2)
            await advance(5)
            future = handle.sub_job("b")
            await advance(20)
            assert handle.status == "RUNNING"
            cloud.says["j"] = job("FAIL", sub_job("a", "FAIL"), sub_job("b", "SUCCESS"), total=2)
            assert (await future).status == "SUCCESS"
            assert handle.done()

    run_virtually(main)
