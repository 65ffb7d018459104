"""Everything the watcher learns, for whoever subscribes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from bms_async import (
    ClientClosedError,
    EventGap,
    InvalidRequestError,
    JobChanged,
    JobEnded,
    JobEvent,
    JobEvents,
    JobLost,
    JobStarted,
    SubJobEnded,
)
from bms_async.errors import NotFoundError
from bms_async.jobs import Watcher
from tests.jobs._helpers import FakeCloud, job, sub_job, watching
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually


def watch(use: Callable[[Watcher, FakeCloud], Awaitable[None]]) -> None:
    async def main() -> None:
        async with watching() as (watcher, cloud):
            await use(watcher, cloud)

    run_virtually(main)


async def read(events: JobEvents, number: int) -> list[JobEvent]:
    return [await anext(events) for _ in range(number)]


def test_a_job_is_told_of_from_its_start_to_its_end_and_each_sub_job_once() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        async with watcher.events(100) as events:
            watcher.watch("j", servers=("a", "b"), action="servers.stop")
            watcher.watch("j")
            cloud.says["j"] = lambda: (
                job("RUNNING", sub_job("a", "SUCCESS"), sub_job("b", "RUNNING"))
                if anyio.current_time() < 10
                else job("FAIL", sub_job("a", "RUNNING"), sub_job("b", "FAIL"))
            )
            started, changed, one, other, ended = await read(events, 5)
            assert started == JobStarted(job_id="j", action="servers.stop", servers=("a", "b"))
            assert changed == JobChanged(job_id="j", status=job("RUNNING").status)
            assert isinstance(one, SubJobEnded)
            assert (one.server_id, one.sub_job.status) == ("a", "SUCCESS")
            assert isinstance(other, SubJobEnded)
            assert (other.server_id, other.sub_job.status) == ("b", "FAIL")
            assert isinstance(ended, JobEnded)
            # As with the futures: the first end that was seen counts.
            assert [sub.status for sub in ended.job.sub_jobs] == ["SUCCESS", "FAIL"]
            assert watcher.statistics().subscribers == 1
        assert watcher.statistics().subscribers == 0

    watch(use)


def test_a_job_that_is_lost_is_told_of_with_its_error() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        cloud.says["j"] = NotFoundError(status=404)
        async with watcher.events(100) as events:
            watcher.watch("j")
            _, lost = await read(events, 2)
            assert isinstance(lost, JobLost)
            assert "is not known to the cloud" in str(lost.error)

    watch(use)


def test_sub_jobs_that_an_ended_job_does_not_name_are_told_of_as_the_futures_tell_it() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        cloud.says["j"] = job("SUCCESS")
        async with watcher.events(100) as events:
            watcher.watch("j", servers=("a", "b"))
            names = [event.server_id for event in await read(events, 4) if isinstance(event, SubJobEnded)]
            assert names == ["a", "b"]

    watch(use)


def test_jobs_that_slept_are_polled_while_anybody_is_subscribed() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j", servers=("a",))
        await advance(100)
        assert cloud.counts["j"] == 0
        async with watcher.events(100):
            await advance(50)
        polls = cloud.counts["j"]
        assert polls >= 5
        await advance(500)
        assert cloud.counts["j"] <= polls + 1
        assert handle.id == "j"

    watch(use)


def test_a_slow_subscriber_is_told_how_many_events_it_missed_and_holds_up_nobody() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        names = tuple(f"s{number}" for number in range(50))
        cloud.says["j"] = job("SUCCESS", *(sub_job(name, "SUCCESS") for name in names))
        async with watcher.events(10) as slow, watcher.events(100) as quick:
            await watcher.watch("j", servers=names)
            # A start, fifty sub-jobs, an end.
            assert repr(slow) == "<JobEvents open, 10 waiting, 42 missed>"
            gap, *rest = await read(slow, 11)
            assert gap == EventGap(missed=42)
            assert [event.server_id for event in rest if isinstance(event, SubJobEnded)] == list(names[-9:])
            assert isinstance(rest[-1], JobEnded)
            all_events = await read(quick, 52)
            assert [event.server_id for event in all_events if isinstance(event, SubJobEnded)] == list(names)
            assert not any(isinstance(event, EventGap) for event in all_events)

    watch(use)


def test_r4_a_reader_that_is_cancelled_loses_no_event() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        async with watcher.events(10) as events:
            with anyio.move_on_after(5):
                await anext(events)
            watcher.watch("j")
            assert isinstance(await anext(events), JobStarted)

    watch(use)


def test_closing_the_client_ends_the_reading_after_the_last_event() -> None:
    async def main() -> None:
        read: list[JobEvent] = []
        ends: list[ClientClosedError] = []
        async with simulated(servers=2, job_seconds=(10, 20)) as sim, anyio.create_task_group() as tasks:
            ready = anyio.Event()

            async def follow() -> None:
                async with sim.bms.jobs.events() as events:
                    ready.set()
                    while True:
                        try:
                            read.append(await anext(events))
                        except ClientClosedError as error:
                            ends.append(error)
                            break

            tasks.start_soon(follow)
            await ready.wait()
            await sim.bms.servers.stop(sim.ids)
            await advance(60)
            await sim.bms.servers.start(sim.ids)
            await sim.bms.aclose()
        assert [str(end) for end in ends] == ["the client was closed"]
        kinds = [type(event) for event in read]
        assert kinds.count(SubJobEnded) == 2
        assert kinds.count(JobEnded) == 1
        assert kinds.count(JobStarted) == 2
        assert kinds.count(JobLost) == 0

    run_virtually(main)


def test_a_subscription_that_was_left_ends_and_one_that_was_not_opened_tells_so() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        events = watcher.events(10)
        with pytest.raises(ClientClosedError, match="use it inside `async with`"):
            await anext(events)
        async with events:
            watcher.watch("j")
        assert [event async for event in events] == []
        await watcher.aclose()
        with pytest.raises(ClientClosedError, match="the client is not open"):
            async with watcher.events(10):
                pass

    watch(use)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "10"])
def test_a_limit_that_is_none_is_refused(limit: int) -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            with pytest.raises(InvalidRequestError, match="max_buffer_size="):
                sim.bms.jobs.events(max_buffer_size=limit)

    run_virtually(main)
