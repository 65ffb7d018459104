"""Jobs that all clients with one journal watch together, and their events: `bms.jobs.events(since=)`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from bms_async import (
    BmsClient,
    ClientClosedError,
    ConfigurationError,
    EventGap,
    InvalidRequestError,
    JobChanged,
    JobEnded,
    JobEvent,
    JobHandle,
    JobLost,
    JobLostError,
    JobStarted,
    JobStatus,
    JournalError,
    OutcomeState,
    SharedJobEvents,
    SubJob,
    SubJobEnded,
)
from bms_async.jobs import shared_events
from bms_async.jobs.board_entry import BoardEntry
from bms_async.jobs.packed_events import pack_events, refers_back, unpack_events
from bms_async.journal.statements import Statement
from bms_async.journal.transactions import jobs
from bms_async.models import Job, JobEntities, SubJobEntities
from bms_async.redaction import MaskedStr
from bms_async.testing import CloudSettings, NotFoundJob, SimulatedCloud
from tests.support.replicas import cut_off, replicas
from tests.support.virtual_clock import run_patiently

LEASE = 15.0
TAKE_OVER = LEASE + 5.0


class Polls:
    """The polls of all clients: how often each job was polled, and how many polls of it were in flight at once."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        self.by: Counter[int] = Counter()
        self.most_at_once = 0
        self._in_flight: Counter[str] = Counter()

    def observe(self, number: int, bms: BmsClient) -> None:
        fetch = bms._watcher._polls.fetch

        async def counted(job_id: str, *args: Any) -> Any:
            self.of[job_id] += 1
            self.by[number] += 1
            self._in_flight[job_id] += 1
            self.most_at_once = max(self.most_at_once, self._in_flight[job_id])
            try:
                # Longer than it takes, so that another one would be seen beside it.
                await anyio.sleep(0.5)
                return await fetch(job_id, *args)
            finally:
                self._in_flight[job_id] -= 1

        bms._watcher._polls.fetch = counted


class Stage:
    def __init__(self, cloud: SimulatedCloud, clients: list[BmsClient], path: Path) -> None:
        self.cloud = cloud
        self.clients = clients
        self.path = path
        self.polls = Polls()
        for number, bms in enumerate(clients):
            self.polls.observe(number, bms)

    @asynccontextmanager
    async def another(self) -> AsyncIterator[BmsClient]:
        async with replicas(self.cloud, self.path, 1) as (bms,):
            self.polls.observe(len(self.polls.by) + 10, bms)
            yield bms


def played(tmp_path: Path, main: Callable[[Stage], Awaitable[None]], *, count: int = 2, servers: int = 40) -> None:
    async def run() -> None:
        cloud, path = SimulatedCloud(CloudSettings(servers=servers, seed=1)), tmp_path / "runs.db"
        async with replicas(cloud, path, count) as clients:
            # On a virtual clock what waits for ever would have it go round for ever.
            with anyio.fail_after(7200.0):
                await main(Stage(cloud, clients, path))

    run_patiently(run)


class Reader:
    """Reads events and keeps its cursor, as a controller does."""

    def __init__(self, since: str = "") -> None:
        self.cursor = since
        self.events: list[JobEvent] = []
        self.cursors: list[int] = []

    async def read(self, bms: BmsClient, until: Callable[[JobEvent], bool]) -> None:
        async with bms.jobs.events(since=self.cursor) as events:
            async for event in events:
                self.events.append(event)
                self.cursor = events.cursor
                self.cursors.append(int(events.cursor))
                if until(event):
                    return

    async def read_to_the_end(self, bms: BmsClient, count: int = 1) -> None:
        await self.read(bms, lambda _: self.count(JobEnded) + self.count(JobLost) == count)

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    @property
    def ends(self) -> Counter[str | None]:
        return Counter(event.server_id for event in self.events if isinstance(event, SubJobEnded))


def test_every_replica_reads_each_event_once_and_one_of_them_polls(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        readers = [Reader() for _ in stage.clients]
        async with anyio.create_task_group() as tasks:
            for reader, bms in zip(readers, stage.clients, strict=True):
                tasks.start_soon(reader.read_to_the_end, bms)
            job = await stage.clients[3].servers.stop(stage.cloud.ids)
        for reader in readers:
            assert reader.events == readers[0].events
            assert reader.cursors == list(range(1, len(reader.events) + 1))
            assert reader.ends == Counter(stage.cloud.ids)
        first, last = readers[0].events[0], readers[0].events[-1]
        assert first == JobStarted(job_id=job.id, action="servers.stop", servers=job.servers)
        assert isinstance(last, JobEnded)
        assert last.job == await stage.clients[0].jobs.get(job.id)
        assert stage.polls.most_at_once == 1
        assert len(stage.polls.by) == 1
        polls.append(stage.polls.of[job.id])

    async def alone() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=40, seed=1))
        async with cloud.client() as bms:
            alone = Polls()
            alone.observe(0, bms)
            await (await bms.servers.stop(cloud.ids))
            polls.append(alone.of.total())

    polls: list[int] = []
    played(tmp_path, main, count=10)
    run_patiently(alone)
    assert polls[0] <= polls[1] + 2


def test_waiters_of_a_process_that_does_not_poll_learn_all_that_the_other_one_does(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        job = await first.servers.stop(stage.cloud.ids)
        subs: list[SubJob] = []
        done: list[Job] = []

        async def wait() -> None:
            done.append(await job)

        async def wait_elsewhere() -> None:
            elsewhere = second.jobs.restore(job.to_json())
            one = elsewhere.sub_job(stage.cloud.ids[7])
            subs.extend([sub async for sub in elsewhere.sub_jobs()])
            assert (await one).server_id == stage.cloud.ids[7]
            done.append(await elsewhere)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(1.0)
            tasks.start_soon(wait_elsewhere)
        assert sorted(str(sub.server_id) for sub in subs) == sorted(stage.cloud.ids)
        assert done[0] == done[1]
        assert set(stage.polls.by) == {0}

    played(tmp_path, main)


async def want_events(bms: BmsClient) -> None:
    """Have been a reader."""
    async with bms.jobs.events(since=""):
        pass


def test_a_job_that_has_ended_is_known_without_a_poll_where_events_are_wanted(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        await want_events(second)
        job = await first.servers.stop(stage.cloud.ids)
        done = await job
        await anyio.sleep(1.0)
        assert await second.jobs.watch(job.id) == done
        assert set(stage.polls.by) == {0}

    played(tmp_path, main)


def test_a_reader_that_goes_on_from_its_cursor_misses_nothing_and_gets_nothing_twice(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        reader = Reader()
        job = await stage.clients[0].servers.stop(stage.cloud.ids)
        await reader.read(stage.clients[0], lambda event: isinstance(event, SubJobEnded))
        # It is not there while much happens, and is another process when it comes back.
        await stage.clients[0].aclose()
        await stage.clients[1].jobs.watch(job.id)
        async with stage.another() as bms:
            await reader.read_to_the_end(bms)
        assert reader.ends == Counter(stage.cloud.ids)
        assert reader.cursors == list(range(1, len(reader.events) + 1))
        assert reader.count(EventGap) == 0

    played(tmp_path, main)


def lose_the_owner(tmp_path: Path) -> tuple[Reader, float]:
    """Have the owner of a job be cut off in its middle, and another one read to the end."""
    reader, took = Reader(), []

    async def main(stage: Stage) -> None:
        first, second = stage.clients
        job = await first.servers.stop(stage.cloud.ids)
        await Reader().read(first, lambda event: isinstance(event, SubJobEnded))
        handle = first.jobs.watch(job.id, keep_polling=True)
        cut_at = anyio.current_time()
        cut_off(first)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.read_to_the_end, second)
            while not stage.polls.by[1]:  # noqa: ASYNC110 - on a virtual clock
                await anyio.sleep(0.1)
            took.append(anyio.current_time() - cut_at)
        assert reader.cursors == list(range(1, len(reader.events) + 1))
        assert stage.polls.most_at_once == 1
        del handle

    played(tmp_path, main)
    return reader, took[0]


def test_a_job_whose_owner_does_not_renew_its_lease_is_taken_over_and_no_event_is_written_twice(tmp_path: Path) -> None:
    reader, took = lose_the_owner(tmp_path)
    assert took <= TAKE_OVER
    assert len(reader.ends) == 40
    assert set(reader.ends.values()) == {1}
    assert reader.count(JobStarted) == reader.count(JobEnded) == 1


def test_without_a_look_at_what_is_written_events_would_be_written_twice(tmp_path: Path, monkeypatch: Any) -> None:
    def forget(entry: BoardEntry, events: Any, sequence: int) -> None:
        entry.sequence = sequence
        entry._sub_count = sum(isinstance(event, SubJobEnded) for event in events)

    monkeypatch.setattr(BoardEntry, "note_written", forget)
    reader, _ = lose_the_owner(tmp_path)
    assert max(reader.ends.values()) == 2


def test_an_owner_that_was_cut_off_writes_nothing_when_it_comes_back(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        job = await first.servers.stop(stage.cloud.ids)
        handle = first.jobs.watch(job.id, keep_polling=True)
        await Reader().read(first, lambda event: isinstance(event, SubJobEnded))
        assert first.runs._runs is not None
        journal = first.runs._runs.journal
        cut_off(first)
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.read_to_the_end, second)
            while not stage.polls.by[1]:  # noqa: ASYNC110 - on a virtual clock
                await anyio.sleep(0.1)
            del journal.run
        done = await handle
        assert done.status is JobStatus.SUCCESS
        assert reader.ends == Counter(stage.cloud.ids)
        assert stage.polls.most_at_once == 1

    played(tmp_path, main)


def test_a_job_that_nobody_waits_for_in_its_process_is_polled_by_whoever_reads_events(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        await first.servers.stop(stage.cloud.ids)
        reader = Reader()
        await reader.read_to_the_end(second)
        assert reader.ends == Counter(stage.cloud.ids)
        assert stage.polls.by[1] > 0
        assert first.statistics().watcher.polled == second.statistics().watcher.polled == 0

    played(tmp_path, main)


def test_a_client_that_is_closed_hands_its_jobs_over_at_once(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        job = await first.servers.stop(stage.cloud.ids)
        done: list[Job] = []

        async def wait_elsewhere() -> None:
            done.append(await second.jobs.watch(job.id))

        async def wait_here() -> None:
            with pytest.raises(ClientClosedError):
                await job

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_here)
            await anyio.sleep(2.0)
            tasks.start_soon(wait_elsewhere)
            await anyio.sleep(2.0)
            assert stage.polls.by[1] == 0
            await first.aclose()
            await anyio.sleep(4.0)
            assert stage.polls.by[1] > 0
        assert done[0].status is JobStatus.SUCCESS

    played(tmp_path, main)


def test_a_job_that_is_lost_is_lost_for_all(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        reader = Reader()
        stage.cloud.faults.add("jobs.get", NotFoundJob(), times=None)
        job = await first.servers.stop(stage.cloud.ids)
        errors: list[JobLostError] = []

        async def wait(bms: BmsClient) -> None:
            with pytest.raises(JobLostError) as caught:
                await bms.jobs.watch(job.id)
            errors.append(caught.value)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, first)
            tasks.start_soon(wait, second)
            tasks.start_soon(reader.read_to_the_end, second)
        assert str(errors[0]) == str(errors[1])
        assert reader.count(JobLost) == 1
        assert stage.polls.most_at_once == 1

    played(tmp_path, main)


def test_a_journal_that_does_not_answer_stops_no_waiter_and_has_the_end_written_later(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        assert first.runs._runs is not None
        journal = first.runs._runs.journal

        async def fail(*_: Any, **__: Any) -> Any:
            raise JournalError("the disk is full")

        await want_events(second)
        journal.run = fail  # type: ignore[method-assign, assignment]
        job = await first.servers.stop(stage.cloud.ids)
        done = await job
        assert done.status is JobStatus.SUCCESS
        del journal.run
        reader = Reader()
        await reader.read_to_the_end(second)
        assert reader.ends == Counter(stage.cloud.ids)
        assert stage.polls.by[1] == 0

    played(tmp_path, main)


def test_events_that_were_trimmed_are_a_gap_and_those_of_a_job_that_goes_on_stay(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        await want_events(first)
        await (await first.servers.stop(stage.cloud.ids[:20]))
        await anyio.sleep(100.0)
        before = Reader()
        await before.read_to_the_end(second)
        started = await first.servers.stop(stage.cloud.ids[20:])
        first.jobs.watch(started.id, keep_polling=True)
        await anyio.sleep(25.0)
        assert await first.runs.prune(older_than=20.0) == 0
        reader = Reader()
        await reader.read_to_the_end(second)
        assert reader.events[0] == EventGap(missed=len(before.events))
        assert reader.events[1] == JobStarted(job_id=started.id, action="servers.stop", servers=started.servers)
        assert reader.ends == Counter(stage.cloud.ids[20:])
        # A reader that has read them misses nothing.
        before.events.clear()
        await before.read_to_the_end(second)
        assert before.events == reader.events[1:]
        await anyio.sleep(100.0)
        await first.runs.prune(older_than=30.0, prefix="tonight")
        assert len(await kept(first)) == 1
        await first.runs.prune(older_than=30.0, all_places=True)
        assert await kept(first) == []

    played(tmp_path, main)


DAY = 86400.0


def test_no_event_is_written_and_no_job_is_left_where_nobody_wants_events(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        job = await first.servers.stop(stage.cloud.ids)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for, job)
            await anyio.sleep(1.0)
            assert await kept(second) == [job.id]
        await anyio.sleep(2.0)
        assert await kept(second) == []
        # Whoever asks for it later polls it once more, and is no reader of it either.
        assert (await second.jobs.watch(job.id)).status is JobStatus.SUCCESS
        await anyio.sleep(2.0)
        assert await kept(second) == []
        assert stage.polls.by[1] == 1

    played(tmp_path, main)


def test_events_are_written_where_they_were_wanted_and_no_reader_is_there(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        await want_events(second)
        await second.aclose()
        await (await first.servers.stop(stage.cloud.ids))
        reader = Reader()
        await reader.read_to_the_end(first)
        assert reader.ends == Counter(stage.cloud.ids)

    played(tmp_path, main)


def test_a_job_that_goes_on_when_the_first_reader_comes_is_there_from_its_start(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        job = await first.servers.stop(stage.cloud.ids)
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for, job)
            async for _ in job.sub_jobs():
                break
            tasks.start_soon(reader.read_to_the_end, second)
        assert reader.events[0] == JobStarted(job_id=job.id, action="servers.stop", servers=job.servers)
        assert reader.ends == Counter(stage.cloud.ids)
        assert reader.cursors == list(range(1, len(reader.events) + 1))
        assert stage.polls.by[1] == 0

    played(tmp_path, main)


def end_a_job_whose_owner_has_not_heard_of_a_reader(tmp_path: Path) -> Reader:
    reader = Reader()

    async def main(stage: Stage) -> None:
        first, second = stage.clients
        job = await first.servers.stop(stage.cloud.ids)
        its_board = first._watcher.board
        assert its_board is not None
        writer = its_board._writer
        write = writer._append

        async def append(place: str) -> None:
            if job.done():
                writer._append = write  # type: ignore[method-assign]
                await want_events(second)
                assert not writer.is_wanted
            await write(place)

        writer._append = append  # type: ignore[method-assign]
        await job
        await anyio.sleep(5.0)
        with anyio.move_on_after(30.0):
            await reader.read_to_the_end(second)

    played(tmp_path, main, servers=1)
    return reader


def test_the_end_of_a_job_is_written_though_its_owner_has_not_heard_of_the_reader(tmp_path: Path) -> None:
    reader = end_a_job_whose_owner_has_not_heard_of_a_reader(tmp_path)
    assert [type(event) for event in reader.events] == [JobStarted, SubJobEnded, JobEnded]


def test_without_a_look_at_readers_the_end_of_a_job_would_be_lost(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(jobs, "IS_WANTED", "0")
    assert not end_a_job_whose_owner_has_not_heard_of_a_reader(tmp_path).events


@asynccontextmanager
async def alone(cloud: SimulatedCloud, path: Path) -> AsyncIterator[BmsClient]:
    async with replicas(cloud, path, 1) as (bms,):
        yield bms


def come_back_after(days: float, path: Path) -> tuple[Reader, SimulatedCloud]:
    """Have a reader come back after days, while a job has ended in between, and see another one then."""
    reader = Reader()
    cloud = SimulatedCloud(CloudSettings(servers=40, seed=1))

    async def main() -> None:
        async with alone(cloud, path) as bms:
            await want_events(bms)
            await (await bms.servers.stop(cloud.ids[:10]))
            await reader.read_to_the_end(bms)
        await anyio.sleep(days * DAY)
        async with alone(cloud, path) as bms:
            await (await bms.servers.stop(cloud.ids[10:20]))
        async with alone(cloud, path) as bms:
            await want_events(bms)
            await (await bms.servers.stop(cloud.ids[20:]))
            await reader.read(bms, lambda _: len(reader.ends) >= 30 and isinstance(reader.events[-1], JobEnded))

    run_patiently(main)
    return reader, cloud


def test_a_reader_that_comes_back_after_days_has_missed_nothing(tmp_path: Path) -> None:
    reader, cloud = come_back_after(6.9, tmp_path / "runs.db")
    assert reader.count(EventGap) == 0
    assert reader.ends == Counter(cloud.ids)


def test_a_reader_that_comes_back_after_more_than_seven_days_gets_a_gap(tmp_path: Path) -> None:
    reader, cloud = come_back_after(7.1, tmp_path / "runs.db")
    assert reader.ends == Counter([*cloud.ids[:10], *cloud.ids[20:]])
    assert [event for event in reader.events if isinstance(event, EventGap)] == [EventGap(missed=0)]
    gap = reader.events.index(EventGap(missed=0))
    assert isinstance(reader.events[gap - 1], JobEnded)
    assert isinstance(reader.events[gap + 1], JobStarted)
    assert reader.cursors == list(range(1, len(reader.events) + 1))


def test_a_reader_that_reads_for_weeks_has_events_written_all_the_time(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shared_events, "WANTED_FOR", 20.0)
    monkeypatch.setattr(shared_events, "_WANT_EVERY", 10.0)

    async def main(stage: Stage) -> None:
        first, second = stage.clients
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.read_to_the_end, second)
            await anyio.sleep(100.0)
            await (await first.servers.stop(stage.cloud.ids))
        assert reader.ends == Counter(stage.cloud.ids)
        assert reader.count(EventGap) == 0

    played(tmp_path, main)


def test_the_end_of_a_job_does_not_repeat_what_was_written_before(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.read_to_the_end, second)
            job = await first.servers.stop(stage.cloud.ids)
        last = reader.events[-1]
        assert isinstance(last, JobEnded)
        assert last.job == await first.jobs.get(job.id)
        # One that begins at the end gets the whole job nevertheless.
        late = Reader(str(reader.cursors[-2]))
        await late.read_to_the_end(second)
        assert late.events == [last]

        def read() -> Any:
            return (yield Statement("SELECT body FROM bms_async_events ORDER BY number"))

        bodies = [bytes(body) for (body,) in await first.runs._journal.run(read, writes=False)]
        assert refers_back(bodies[-1])
        names = [sub.job_id for sub in last.job.sub_jobs]
        assert sum(body.count(bytes.fromhex(str(name))) for body in bodies for name in names) == len(names)
        # And where the blocks before are gone, it is a gap.
        assert unpack_events(job.id, bodies[-1])[-1] == EventGap(missed=1)

    played(tmp_path, main)


async def wait_for(job: JobHandle) -> None:
    await job


async def kept(bms: BmsClient) -> list[str]:
    def read() -> Any:
        return (yield Statement("SELECT job FROM bms_async_jobs UNION SELECT job FROM bms_async_events"))

    return [str(job) for (job,) in await bms.runs._journal.run(read, writes=False)]


def test_jobs_of_a_durable_run_are_watched_in_the_same_way(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        reader = Reader()
        run = await first.runs.reboot(stage.cloud.ids)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.read_to_the_end, second)
            report = await run
        assert report.by_state[OutcomeState.SUCCEEDED] == len(stage.cloud.ids)
        assert reader.ends == Counter(stage.cloud.ids)
        assert set(stage.polls.by) == {0}

    played(tmp_path, main)


def test_without_a_cursor_events_are_those_of_the_client_alone(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        first, second = stage.clients
        async with first.jobs.events() as mine, second.jobs.events() as its:
            job = await first.servers.stop(stage.cloud.ids)
            await job
            assert isinstance(await anext(mine), JobStarted)
            with anyio.move_on_after(5.0):
                await anext(its)
                pytest.fail("another client got an event")

    played(tmp_path, main)


def test_a_cursor_is_checked(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        bms = stage.clients[0]
        for since in ("x", "-1", "1.5", "9" * 19, 7):
            with pytest.raises(InvalidRequestError, match="since="):
                bms.jobs.events(since=since)  # type: ignore[arg-type]
        for since in ("", "0"):
            async with bms.jobs.events(since=since) as events:
                assert isinstance(events, SharedJobEvents)
                assert events.cursor == "0"
                assert repr(events) == "<SharedJobEvents open, at 0>"
        with pytest.raises(InvalidRequestError, match="of this journal and this project, at most 0"):
            await bms.jobs.events(since="3").__aenter__()
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        with pytest.raises(ClientClosedError, match="async with"):
            await anext(bms.jobs.events(since=""))

    played(tmp_path, main, count=1)


def test_a_reader_of_a_client_that_is_closed_is_woken(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        bms = stage.clients[0]

        async def read() -> None:
            with pytest.raises(ClientClosedError):
                await Reader().read(bms, lambda _: False)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.sleep(1.0)
            await bms.aclose()

    played(tmp_path, main, count=1)


def test_a_client_without_a_journal_has_no_shared_events() -> None:
    async def main() -> None:
        async with SimulatedCloud(CloudSettings(servers=1)).client() as bms:
            with pytest.raises(ConfigurationError, match="runs=Runs"):
                bms.jobs.events(since="")

    run_patiently(main)


def test_events_are_read_as_they_were_written_but_for_secrets_and_halves_of_characters() -> None:
    failed = SubJob(
        about=SubJobEntities(server_id="a"), status=JobStatus.FAIL, fail_reason=MaskedStr("pw s3cret", "pw ***")
    )
    odd = SubJob(about=SubJobEntities(server_id="b"), status=JobStatus("ODD"), fail_reason="half \ud800")
    job = Job(job_id="j", status=JobStatus.FAIL, entities=JobEntities(sub_jobs=(failed, odd)))
    events: list[JobEvent] = [
        JobStarted(job_id="j", action=None, servers=("a", "b")),
        JobChanged(job_id="j", status=JobStatus("ODD")),
        SubJobEnded(job_id="j", server_id="a", sub_job=failed),
        JobEnded(job_id="j", job=job),
    ]
    read = unpack_events("j", pack_events(events))
    assert read[:2] == events[:2]
    assert isinstance(read[2], SubJobEnded)
    assert isinstance(read[3], JobEnded)
    assert read[2].sub_job.fail_reason == read[3].job.sub_jobs[0].fail_reason == "pw ***"
    assert read[3].job.sub_jobs[1].fail_reason == "half \\ud800"
    lost = JobLost(job_id="j", error=JobLostError("gone", job_id="j", job=None))
    (again,) = unpack_events("j", pack_events([lost]))
    assert isinstance(again, JobLost)
    assert (str(again.error), again.error.job_id) == ("gone", "j")
    with pytest.raises(JournalError, match="events of job j"):
        unpack_events("j", b"no events")
