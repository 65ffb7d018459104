"""R9: a hundred thousand jobs, or as many events, do not hold up the loop: what they need is done some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

import anyio
import anyio.lowlevel
import pytest

from bms_async import ClientClosedError, EventGap, JobEvents, JobHandle, SubJobEnded
from bms_async.jobs import Watcher
from tests.jobs._helpers import FakeCloud, job, sub_job, watching
from tests.support.virtual_clock import advance, run_virtually

JOBS = 5000
AT_ONCE = 1000
"""What may be done in one pass of the loop; it is done in fives of hundreds, in two passes at the most."""


def watch(use: Callable[[Watcher, FakeCloud], Awaitable[None]]) -> None:
    async def main() -> None:
        # So many that all jobs are due in the same moment.
        async with watching(polls_a_minute=6_000_000) as (watcher, cloud):
            await use(watcher, cloud)

    run_virtually(main)


async def read_all(events: JobEvents) -> None:
    async for _ in events:
        pass


class Passes:
    """Counts passes of the loop, and how much a number changed in one of them at the most."""

    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read
        self.passes = self.most = 0
        self.changed = 0

    async def __aenter__(self) -> Self:
        self._counting = asyncio.ensure_future(self._count())
        await anyio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._counting.cancel()
        await asyncio.wait([self._counting])

    async def _count(self) -> None:
        while True:
            before = self._read()
            await asyncio.sleep(0)
            change = abs(self._read() - before)
            self.passes, self.most, self.changed = self.passes + 1, max(self.most, change), self.changed + change


def test_r9_many_jobs_that_are_due_at_once_are_sorted_some_at_a_time() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handles = [watcher.watch(f"j{number}") for number in range(JOBS)]
        await advance(0.99)
        # While passes are counted one is always ready, and the clock does not jump but creeps.
        async with Passes(lambda: watcher.statistics().idle) as counted:
            await advance(0.011)
        assert watcher.statistics().idle == len(handles)
        assert counted.changed == JOBS
        assert counted.most <= AT_ONCE

    watch(use)


def test_r9_many_jobs_that_slept_are_woken_some_at_a_time_and_each_is_polled() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handles = [watcher.watch(f"j{number}") for number in range(JOBS)]
        await advance(10)
        async with Passes(lambda: watcher.statistics().polled) as counted, watcher.events(10):
            await advance(0.001)
        assert counted.changed >= JOBS
        assert counted.most <= AT_ONCE
        async with watcher.events(10):
            await advance(3)
        assert len(cloud.counts) == len(handles)

    watch(use)


def test_r9_closing_tells_many_jobs_some_at_a_time_and_leaves_none_out() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        slept = [watcher.watch(f"asleep-{number}") for number in range(JOBS // 2)]
        await advance(10)
        futures = [watcher.watch(f"j{number}").sub_job("a") for number in range(JOBS // 2)]
        async with Passes(lambda: sum(future.done() for future in futures)) as counted:
            await watcher.aclose()
        assert counted.changed == JOBS // 2
        assert counted.most <= AT_ONCE
        assert all(isinstance(future.exception(), ClientClosedError) for future in futures)
        assert all(handle.done() for handle in slept)

    watch(use)


def test_r9_handles_of_many_jobs_are_made_when_they_are_looked_at() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handles = [watcher.watch(f"j{number}") for number in range(20)]
        watched = watcher.watched()
        assert len(watched) == 20
        assert {handle.id for handle in watched} == {handle.id for handle in handles}
        assert isinstance(watched[0], JobHandle)
        assert [handle.id for handle in watched[2:4]] == [watched[2].id, watched[3].id]
        assert repr(watched) == "<20 watched jobs>"

    watch(use)


def test_r9_an_event_is_kept_once_for_all_subscribers_and_no_longer_than_any_of_them_reads_it() -> None:
    names = tuple(f"s{number}" for number in range(1000))

    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        board = watcher._bus
        cloud.says["j"] = job("SUCCESS", *(sub_job(name, "SUCCESS") for name in names))
        subscribers = [watcher.events(10_000) for _ in range(200)]
        for events in subscribers:
            await events.__aenter__()
        await watcher.watch("j", servers=names)

        async def ended(events: JobEvents) -> list[str | None]:
            seen = [await anext(events) for _ in range(len(names) + 2)]
            return [event.server_id for event in seen if isinstance(event, SubJobEnded)]

        assert [await ended(events) for events in subscribers[1:]] == [list(names)] * 199
        assert sum(map(len, board._chunks)) == len(names) + 2
        for events in subscribers:
            await events.__aexit__(None, None, None)
        assert sum(map(len, board._chunks)) == 0

    watch(use)


def test_what_a_slow_subscriber_will_never_read_is_kept_for_nobody() -> None:
    names = tuple(f"s{number}" for number in range(5000))

    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        cloud.says["j"] = job("SUCCESS", *(sub_job(name, "SUCCESS") for name in names))
        async with watcher.events(10) as slow:
            await watcher.watch("j", servers=names)
            assert sum(map(len, watcher._bus._chunks)) <= 1000
            assert await anext(slow) == EventGap(missed=len(names) + 2 - 10)

    watch(use)


def test_r9_who_reads_many_events_that_wait_lets_others_run() -> None:
    names = tuple(f"s{number}" for number in range(5000))

    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        cloud.says["j"] = job("SUCCESS", *(sub_job(name, "SUCCESS") for name in names))
        read = 0
        async with watcher.events(10_000) as events:
            await watcher.watch("j", servers=names)
            async with Passes(lambda: read) as counted:
                for _ in range(len(names)):
                    await anext(events)
                    read += 1
        assert counted.most <= AT_ONCE

    watch(use)


@pytest.mark.parametrize("events_wait", [0, 3])
def test_each_reader_of_a_closed_client_gets_an_error_of_its_own(events_wait: int) -> None:
    async def main() -> None:
        async with watching() as (watcher, cloud):
            cloud.says["j"] = job("SUCCESS")
            async with watcher.events(10) as one, watcher.events(10) as other:
                if events_wait:
                    await watcher.watch("j", servers=("a",))
                await watcher.aclose()
                caught = []
                for events in (one, other, other):
                    with pytest.raises(ClientClosedError) as raised:
                        await read_all(events)
                    caught.append(raised.value)
                assert len({id(error) for error in caught}) == 3

    run_virtually(main)
