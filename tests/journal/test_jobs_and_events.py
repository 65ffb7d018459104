"""Watched jobs in the journal: one owner each, and events where somebody wants them and nowhere else."""

from __future__ import annotations

import uuid

import pytest

from bms_async.journal import AppendedJobs, ClaimedJobs, JobOffer, NewEvents, pack_ids
from bms_async.journal.statements import Transaction, ask
from bms_async.journal.transactions import events, jobs
from tests.journal._desk import Desk, make_ids

WEEK = 7 * 86400.0
GAP = b"gap"


@pytest.fixture
def job() -> str:
    return uuid.uuid4().hex


async def claim(desk: Desk, job: str) -> ClaimedJobs:
    return await desk.run(jobs.claim_jobs, desk.place, desk.owner, [JobOffer(job=job, action="servers.stop")])


async def end(desk: Desk, job: str, *, fence: int = 1, count: int = 0, sequence: int = 0) -> AppendedJobs:
    part = NewEvents(job=job, fence=fence, sequence=sequence, count=count, body=b"x" * count, is_end=True)
    return await desk.run(jobs.append_events, desk.place, desk.owner, [part])


async def want(desk: Desk, seconds: float = WEEK) -> None:
    await desk.run(events.want_events, desk.place, seconds, GAP)


async def kept(desk: Desk) -> tuple[int, list[bytes]]:
    """How many jobs there are, and the bodies of all events."""
    page = await desk.run(events.read_events, desk.place, 0, 100)

    def count() -> Transaction[int]:
        ((found,),) = yield from ask("SELECT count(*) FROM bms_async_jobs WHERE place = $1", desk.place)
        assert isinstance(found, int)
        return found

    return await desk.run(count), [block.body for block in page.blocks]


async def test_a_job_has_one_owner_and_leaves_nothing_where_nobody_wants_its_events(desk: Desk, job: str) -> None:
    claimed = await claim(desk, job)
    assert (claimed.jobs[job].fence, claimed.jobs[job].sequence, claimed.is_wanted) == (1, 0, False)
    assert await end(desk, job) == AppendedJobs(made={job}, wanted=set())
    assert await kept(desk) == (0, [])
    # As where the commit was not confirmed.
    assert await end(desk, job) == AppendedJobs(made={job}, wanted=set())
    assert (await claim(desk.another(), job)).jobs[job].fence == 1
    assert await end(desk, job) == AppendedJobs(made=set(), wanted=set())


async def test_an_end_is_not_taken_without_events_where_another_process_waits_for_the_job(desk: Desk, job: str) -> None:
    await claim(desk, job)
    assert (await claim(desk.another(), job)).jobs[job].fence is None
    renewed = await desk.run(jobs.renew_jobs, desk.owner)
    assert renewed.fences == {(desk.place, job): 1}
    assert renewed.followed == {(desk.place, job)}
    assert desk.place not in renewed.wanted
    assert await end(desk, job) == AppendedJobs(made=set(), wanted={job})
    for _ in range(2):
        assert await end(desk, job, count=3) == AppendedJobs(made={job}, wanted=set())
    assert await kept(desk) == (1, [b"xxx"])
    seen = (await claim(desk.another(), job)).jobs[job]
    assert (seen.is_ended, seen.fence, [block.body for block in seen.blocks]) == (True, None, [b"xxx"])


async def test_an_end_is_not_taken_without_events_where_a_reader_has_come(desk: Desk, job: str) -> None:
    await claim(desk, job)
    await want(desk)
    assert desk.place in (await desk.run(jobs.renew_jobs, desk.owner)).wanted
    assert await end(desk, job) == AppendedJobs(made=set(), wanted={job})
    assert (await claim(desk.another(), uuid.uuid4().hex)).is_wanted


async def test_a_job_that_was_handed_back_is_found_with_its_servers(desk: Desk, job: str) -> None:
    servers = pack_ids(make_ids(3))
    await claim(desk, job)
    assert await desk.run(jobs.find_free_jobs, desk.place, 10) == []
    await desk.run(jobs.release_jobs, desk.place, desk.owner, {job: servers})
    (free,) = await desk.run(jobs.find_free_jobs, desk.place, 10)
    assert (free.job, free.action, free.servers) == (job, "servers.stop", servers)
    assert (await claim(desk.another(), job)).jobs[job].fence == 2
    # Of a place without a reader, too.
    assert desk.place in await desk.run(events.list_places)


async def test_whoever_comes_after_nobody_has_wanted_events_finds_a_gap_and_the_next_one_no_second(desk: Desk) -> None:
    await want(desk)
    await want(desk)
    assert await kept(desk) == (0, [])
    await want(desk, -1.0)
    for _ in range(2):
        await want(desk)
    assert await kept(desk) == (0, [GAP])
    assert await desk.run(events.read_place, desk.place) == (1, 0)


async def test_events_of_a_job_that_has_just_ended_stay_with_all_that_its_end_refers_to(desk: Desk, job: str) -> None:
    await want(desk)
    await claim(desk, job)
    part = NewEvents(job=job, fence=1, sequence=0, count=1, body=b"first", is_end=False)
    await desk.run(jobs.append_events, desk.place, desk.owner, [part])

    def age() -> Transaction[None]:
        yield from ask("UPDATE bms_async_events SET created = created - 100 WHERE place = $1", desk.place)

    await desk.run(age)
    assert (await end(desk, job, count=1, sequence=1)).made == {job}
    await desk.run(events.trim_events, desk.place, 50.0)
    assert await kept(desk) == (1, [b"first", b"x"])
    await desk.run(events.trim_events, desk.place, -1.0)
    assert await kept(desk) == (0, [])
