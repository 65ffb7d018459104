"""The watcher and its handles, on the virtual clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async import (
    ClientClosedError,
    InvalidRequestError,
    Job,
    JobFailedError,
    JobHandle,
    JobLostError,
    JobStatus,
    JobTimeoutError,
    NotFoundError,
    Patience,
    SubJob,
    TransportError,
)
from bms_async.errors import ApiError, AuthenticationError, CallError, ServerError
from bms_async.jobs import POLL_BUDGET_SHARE, Watcher
from bms_async.limits import Pacer
from bms_async.models import JobEntities, SubJobEntities
from tests.support.clouds import client_of, simulated
from tests.support.virtual_clock import advance, run_virtually


def sub_job(server_id: str | None, status: str, **fields: Any) -> SubJob:
    return SubJob(about=SubJobEntities(server_id=server_id), status=JobStatus(status), **fields)


def job(status: str, *subs: SubJob, **fields: Any) -> Job:
    return Job(job_id="j", status=JobStatus(status), entities=JobEntities(sub_jobs=subs), **fields)


async def watched(
    polls: Sequence[Job | Exception] | Callable[[int], Job | Exception],
    use: Callable[[Watcher], Awaitable[None]],
) -> int:
    """Run a watcher whose cloud responds with these, the last one for ever; return how many polls there were."""
    asked = 0

    async def fetch(_: str, *rest: object) -> Job:
        nonlocal asked
        shown = polls(asked) if callable(polls) else polls[min(asked, len(polls) - 1)]
        asked += 1
        if isinstance(shown, Exception):
            raise shown
        return shown

    watcher = Watcher(fetch, pace=Pacer(1800), project=lambda: "p")
    await watcher.open()
    try:
        await use(watcher)
    finally:
        await watcher.aclose()
    return asked


def watch_j(
    polls: Sequence[Job | Exception] | Callable[[int], Job | Exception],
    use: Callable[[JobHandle], Awaitable[None]],
    servers: tuple[str, ...] = ("a", "b"),
) -> int:
    async def with_handle(watcher: Watcher) -> None:
        await use(watcher.watch("j", servers=servers, action="servers.stop"))

    return run_virtually(lambda: watched(polls, with_handle))


def test_each_future_resolves_when_its_own_server_has_ended() -> None:
    polls = [
        job("RUNNING", sub_job("a", "RUNNING"), sub_job("b", "RUNNING")),
        job("RUNNING", sub_job("b", "SUCCESS"), sub_job("a", "RUNNING")),
        job("FAIL", sub_job("a", "FAIL", error_code="BMS.3037"), sub_job("b", "SUCCESS")),
    ]

    async def use(handle: JobHandle) -> None:
        first, second = handle.sub_job("a"), handle.sub_job("b")
        assert (await second).status is JobStatus.SUCCESS
        assert not first.done()
        assert not handle.done()
        assert handle.status is JobStatus.RUNNING
        assert (await first).error_code == "BMS.3037"
        assert handle.done()
        assert str(handle.status) == "FAIL"
        assert (await handle.sub_job("a")).error_code == "BMS.3037"

    assert watch_j(polls, use) == 3


def test_awaiting_a_job_that_succeeds_returns_it_and_one_that_fails_raises_with_all_of_it() -> None:
    async def good(handle: JobHandle) -> None:
        assert (await handle).sub_jobs[0].server_id == "a"
        assert (await handle.result(timeout=1)).job_id == "j"

    watch_j([job("SUCCESS", sub_job("a", "SUCCESS"), sub_job("b", "SUCCESS"))], good)

    async def bad(handle: JobHandle) -> None:
        with pytest.raises(
            JobFailedError, match=r"job j failed for 1 of 2 servers with BMS\.3037: no machine"
        ) as raised:
            await handle
        assert raised.value.job_id == "j"
        assert [sub.status for sub in raised.value.job.sub_jobs] == ["FAIL", "SUCCESS"]

    failed = sub_job("a", "FAIL", error_code="BMS.3037", fail_reason="no machine")
    watch_j([job("FAIL", failed, sub_job("b", "SUCCESS"))], bad)


def test_sub_jobs_are_iterated_in_the_order_in_which_they_end_and_those_that_have_come_first() -> None:
    polls = [
        job("RUNNING", sub_job("a", "RUNNING"), sub_job("b", "SUCCESS")),
        job("SUCCESS", sub_job("a", "SUCCESS"), sub_job("b", "SUCCESS")),
    ]

    async def use(handle: JobHandle) -> None:
        assert [sub.server_id async for sub in handle.sub_jobs()] == ["b", "a"]
        assert [sub.server_id async for sub in handle.sub_jobs()] == ["b", "a"]

    assert watch_j(polls, use) == 2


def test_r6_a_job_has_one_poll_in_flight_however_many_wait_for_it() -> None:
    in_flight: Counter[str] = Counter()
    worst: Counter[str] = Counter()
    polls: Counter[str] = Counter()

    async def fetch(job_id: str, *rest: object) -> Job:
        polls[job_id] += 1
        in_flight[job_id] += 1
        worst[job_id] = max(worst[job_id], in_flight[job_id])
        await advance(7)
        in_flight[job_id] -= 1
        done = anyio.current_time() > 100
        return Job(job_id=job_id, status=JobStatus.SUCCESS if done else JobStatus.RUNNING)

    async def main() -> None:
        watcher = Watcher(fetch, pace=Pacer(1800), project=lambda: "p")
        await watcher.open()

        async def wait(handle: JobHandle) -> None:
            await handle

        async with anyio.create_task_group() as waiters:
            for _ in range(50):
                for name in ("x", "y", "z"):
                    waiters.start_soon(wait, watcher.watch(name))
                await advance(1)
        await watcher.aclose()
        assert set(worst.values()) == {1}
        assert max(polls.values()) < 20

    run_virtually(main)


def test_r4_cancelling_a_waiter_touches_no_other() -> None:
    polls = [
        job("RUNNING"),
        job("RUNNING"),
        job("RUNNING"),
        job("SUCCESS", sub_job("a", "SUCCESS"), sub_job("b", "SUCCESS")),
    ]

    async def use(handle: JobHandle) -> None:
        staying, leaving = handle.sub_job("a"), handle.sub_job("a")
        leaving.cancel()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.sub_job("a"), 0.1)
        with anyio.move_on_after(0.1):
            await handle
        assert (await staying).server_id == "a"
        assert (await handle).status == "SUCCESS"

    watch_j(polls, use)


def test_r4_closing_gives_every_waiter_client_closed_error_and_leaves_no_task() -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        caught: list[BaseException] = []

        async def wait(what: Awaitable[object]) -> None:
            try:
                await what
            except ClientClosedError as error:
                caught.append(error)

        async def iterate(handle: JobHandle) -> None:
            try:
                async for _ in handle.sub_jobs():
                    pass
            except ClientClosedError as error:
                caught.append(error)

        async with anyio.create_task_group() as waiters, simulated(servers=3, job_seconds=(1000, 1000)) as sim:
            handle = await sim.bms.servers.stop(sim.ids)
            waiters.start_soon(wait, handle)
            waiters.start_soon(wait, handle.sub_job(sim.ids[0]))
            waiters.start_soon(iterate, handle)
            await advance(10)
            assert not caught
        assert len(caught) == 3
        assert all("the job goes on" in str(error) for error in caught)
        assert handle.done()
        with pytest.raises(ClientClosedError):
            await handle
        with pytest.raises(ClientClosedError):
            await handle.sub_job(handle.servers[1])
        with pytest.raises(ClientClosedError):
            sim.bms.jobs.watch("another")
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert asyncio.all_tasks() == before

    run_virtually(main)


def failing(error: type[CallError]) -> CallError:
    if error is TransportError:
        return TransportError("cut", maybe_delivered=True)
    assert issubclass(error, ApiError)
    return error(status=503)


@pytest.mark.parametrize("error", [TransportError, ServerError, AuthenticationError, NotFoundError])
def test_a_failed_poll_never_fails_a_job(error: type[CallError]) -> None:
    good = job("SUCCESS", sub_job("a", "SUCCESS"), sub_job("b", "SUCCESS"))

    async def use(handle: JobHandle) -> None:
        assert (await handle).status == "SUCCESS"

    assert watch_j([failing(error)] * 4 + [good], use) == 5


def test_a_poll_that_breaks_in_our_own_hands_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    async def use(handle: JobHandle) -> None:
        with pytest.raises(JobLostError) as raised:
            await handle
        assert isinstance(raised.value.__cause__, ZeroDivisionError)

    watch_j([ZeroDivisionError()], use)
    assert "polling job j broke" in caplog.text


def test_closing_in_the_very_pass_in_which_a_poll_gets_its_turn_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    class Gate(Pacer):
        def __init__(self) -> None:
            super().__init__(1800)
            self.turn = asyncio.Event()

        async def acquire(self) -> None:
            await self.turn.wait()

    async def fetch(job_id: str, *rest: object) -> Job:
        return Job(job_id=job_id)

    async def main() -> None:
        gate = Gate()
        watcher = Watcher(fetch, pace=gate, project=lambda: "p")
        await watcher.open()
        watcher.watch("j")
        await advance(10)
        gate.turn.set()
        await watcher.aclose()

    run_virtually(main)
    assert caplog.records == []


def test_more_polls_than_may_be_under_way_wait_and_are_made_when_others_have_ended() -> None:
    under_way, worst = 0, 0

    async def fetch(job_id: str, *rest: object) -> Job:
        nonlocal under_way, worst
        under_way += 1
        worst = max(worst, under_way)
        await advance(50)
        under_way -= 1
        return Job(job_id=job_id, status=JobStatus.SUCCESS)

    async def main() -> None:
        watcher = Watcher(fetch, pace=Pacer(60_000), project=lambda: "p")
        await watcher.open()
        for handle in [watcher.watch(f"j{number}", keep_polling=True) for number in range(100)]:
            await handle
        assert watcher.statistics().in_flight == 0
        await watcher.aclose()

    run_virtually(main)
    assert worst == 32


def test_a_404_is_believed_after_a_grace_and_then_the_last_state_is_told() -> None:
    polls: list[Job | Exception] = [
        job("RUNNING", sub_job("a", "SUCCESS"), sub_job("b", "RUNNING")),
        failing(NotFoundError),
    ]

    async def use(handle: JobHandle) -> None:
        first = handle.sub_job("a")
        with pytest.raises(JobLostError, match="read the servers' own state") as raised:
            await handle
        assert 60 <= anyio.current_time() < 100
        assert raised.value.job is not None
        assert raised.value.job.status == "RUNNING"
        assert (await first).status == "SUCCESS"
        with pytest.raises(JobLostError):
            await handle.sub_job("b")

    watch_j(polls, use)


@pytest.mark.parametrize(("error", "patience"), [(AuthenticationError, 300), (ServerError, 3600)])
def test_a_job_that_nobody_can_look_at_any_more_is_lost_in_the_end(error: type[CallError], patience: float) -> None:
    async def use(handle: JobHandle) -> None:
        with pytest.raises(JobLostError):
            await handle
        assert patience <= anyio.current_time() < patience + 60

    assert watch_j([failing(error)], use) < 200


@pytest.mark.parametrize("between", [None, ServerError])
def test_a_404_that_something_else_came_between_is_not_believed_sooner(between: type[CallError] | None) -> None:
    def polls(_: int) -> Job | Exception:
        now = anyio.current_time()
        if 45 <= now < 55:
            return failing(between) if between else job("RUNNING")
        return failing(NotFoundError) if now < 100 else job("SUCCESS")

    async def use(handle: JobHandle) -> None:
        assert (await handle).status == "SUCCESS"

    watch_j(polls, use)


def test_an_outage_counts_from_its_own_beginning() -> None:
    def polls(_: int) -> Job | Exception:
        now = anyio.current_time()
        if 2400 <= now < 2440:
            return job("RUNNING")
        return failing(ServerError) if now < 5500 else job("SUCCESS")

    async def use(handle: JobHandle) -> None:
        assert (await handle).status == "SUCCESS"

    watch_j(polls, use)


def test_failures_that_name_no_server_are_given_to_none_when_that_would_be_a_guess() -> None:
    nameless = sub_job(None, "FAIL", error_code="BMS.3037")

    async def use(handle: JobHandle) -> None:
        with pytest.raises(JobFailedError):
            await handle
        for server_id in ("a", "b"):
            with pytest.raises(JobLostError, match="ended without reporting"):
                await handle.sub_job(server_id)

    watch_j([job("FAIL", nameless)], use)
    watch_j([job("FAIL", sub_job(None, "SUCCESS"), nameless)], use)

    async def told_of_one(handle: JobHandle) -> None:
        assert (await handle.sub_job("a")).error_code == "BMS.3037"
        with pytest.raises(JobLostError, match="ended without reporting"):
            await handle.sub_job("b")

    watch_j([job("FAIL", sub_job("a", "FAIL", error_code="BMS.3037"), error_code="BMS.0006")], told_of_one)


def test_a_job_that_has_ended_is_polled_and_held_no_more() -> None:
    async def use(watcher: Watcher) -> None:
        await watcher.watch("j")
        await advance(100)
        statistics = watcher.statistics()
        assert (statistics.polled, statistics.ended, statistics.next_poll) == (0, 1, None)

    assert run_virtually(lambda: watched([job("SUCCESS")], use)) == 1


def test_a_job_watched_by_its_id_learns_its_servers_from_who_started_it() -> None:
    async def use(watcher: Watcher) -> None:
        by_id = watcher.watch("j")
        started = watcher.watch("j", servers=("a", "b"), action="servers.stop")
        assert by_id.servers == started.servers == ("a", "b")
        assert by_id.action == "servers.stop"
        assert {sub.server_id async for sub in by_id.sub_jobs()} == {"a", "b"}

    run_virtually(lambda: watched([job("SUCCESS")], use))


def test_r7_a_status_that_nobody_documented_is_not_an_end() -> None:
    polls = [
        job("PAUSED", sub_job("a", "MIGRATING"), sub_job("b", "SUCCESS")),
        job("", sub_job("a", "")),
        job("SUCCESS", sub_job("a", "SUCCESS"), sub_job("b", "SUCCESS")),
    ]

    async def use(handle: JobHandle) -> None:
        assert (await handle.sub_job("b")).status == "SUCCESS"
        assert handle.status == "PAUSED"
        assert (await handle).status == "SUCCESS"

    assert watch_j(polls, use) == 3


def test_a_sub_job_that_went_back_from_its_end_has_ended_all_the_same_and_once() -> None:
    polls = [
        job("RUNNING", sub_job("a", "SUCCESS"), sub_job("b", "RUNNING")),
        job("RUNNING", sub_job("a", "RUNNING"), sub_job("a", "FAIL"), sub_job("b", "RUNNING")),
        job("SUCCESS", sub_job("b", "SUCCESS"), sub_job("a", "SUCCESS"), sub_job("a", "SUCCESS")),
    ]

    async def use(handle: JobHandle) -> None:
        ended = [(sub.server_id, sub.status) async for sub in handle.sub_jobs()]
        assert ended == [("a", "SUCCESS"), ("b", "SUCCESS")]

    watch_j(polls, use)


def test_servers_that_an_ended_job_does_not_name_are_told_where_that_is_certain() -> None:
    async def succeeded(handle: JobHandle) -> None:
        assert {sub.server_id: sub.status async for sub in handle.sub_jobs()} == {"a": "SUCCESS", "b": "SUCCESS"}

    watch_j([job("SUCCESS")], succeeded)
    watch_j([job("SUCCESS", sub_job("b", "SUCCESS"))], succeeded)

    async def failed(handle: JobHandle) -> None:
        assert (await handle.sub_job("b")).error_code == "BMS.3037"
        assert (await handle.sub_job("b")).server_id == "b"

    watch_j([job("FAIL", sub_job("a", "SUCCESS"), sub_job(None, "FAIL", error_code="BMS.3037"))], failed)
    watch_j([job("FAIL", error_code="BMS.3037")], failed)

    async def mixed(handle: JobHandle) -> None:
        sub = await handle.sub_job("a")
        assert sub.status == "FAIL"
        assert sub.error_code is None
        assert sub.fail_reason == "one of: BMS.0006 (x); BMS.3037 (y)"

    one = sub_job(None, "FAIL", error_code="BMS.3037", fail_reason="y")
    other = sub_job(None, "FAIL", error_code="BMS.0006", fail_reason="x")
    watch_j([job("FAIL", one, other)], mixed)


def test_servers_of_which_nothing_certain_is_told_are_lost_and_not_guessed() -> None:
    async def use(handle: JobHandle) -> None:
        assert [sub.server_id async for sub in handle.sub_jobs()] == ["a"]
        with pytest.raises(JobLostError, match="ended without reporting server b"):
            await handle.sub_job("b")
        with pytest.raises(JobFailedError):
            await handle

    watch_j([job("FAIL", sub_job("a", "FAIL", error_code="BMS.3037"))], use)


def test_a_job_that_has_ended_with_a_sub_job_that_has_not_is_asked_again_but_not_for_ever() -> None:
    late = job("FAIL", sub_job("a", "RUNNING"), sub_job("b", "FAIL"))
    done = job("FAIL", sub_job("a", "SUCCESS"), sub_job("b", "FAIL"))

    async def patient(handle: JobHandle) -> None:
        assert (await handle.sub_job("a")).status == "SUCCESS"

    watch_j([late, late, done], patient)

    async def hopeless(handle: JobHandle) -> None:
        with pytest.raises(JobLostError, match="still shows RUNNING for server a"):
            await handle.sub_job("a")
        assert Patience().no_news < anyio.current_time() < Patience().no_news + 60

    watch_j([late], hopeless)


def test_a_job_that_failed_before_it_has_told_of_all_its_sub_jobs_is_asked_again() -> None:
    def failed_job(*subs: SubJob) -> Job:
        entities = JobEntities(sub_jobs=subs, sub_jobs_total=2)
        return Job(job_id="j", status=JobStatus.FAIL, error_code="BMS.3037", entities=entities)

    good, bad = sub_job("a", "SUCCESS"), sub_job("b", "FAIL", error_code="BMS.0006")

    async def use(handle: JobHandle) -> None:
        assert [(sub.server_id, sub.status, sub.error_code) async for sub in handle.sub_jobs()] == [
            ("a", "SUCCESS", None),
            ("b", "FAIL", "BMS.0006"),
        ]

    watch_j([failed_job(), failed_job(good), failed_job(good, bad)], use)


def test_a_failure_without_a_server_in_a_job_that_succeeded_is_no_success() -> None:
    async def use(handle: JobHandle) -> None:
        assert (await handle.sub_job("b")).status == "FAIL"

    watch_j([job("SUCCESS", sub_job("a", "SUCCESS"), sub_job(None, "FAIL", error_code="BMS.0006"))], use)


def test_one_refusal_of_the_credentials_after_a_long_outage_does_not_lose_a_job() -> None:
    good = job("SUCCESS", sub_job("a", "SUCCESS"), sub_job("b", "SUCCESS"))

    async def use(handle: JobHandle) -> None:
        assert (await handle).status == "SUCCESS"
        assert anyio.current_time() > 300

    watch_j([failing(ServerError)] * 20 + [failing(AuthenticationError), good], use)


def test_a_transport_that_is_closed_under_the_watcher_leaves_nobody_waiting() -> None:
    async def use(handle: JobHandle) -> None:
        with pytest.raises(JobLostError, match="cannot be polled"):
            await handle

    watch_j([ClientClosedError("the transport was closed")], use)


def test_a_wait_that_is_over_resumes_elsewhere_from_what_the_error_holds() -> None:
    async def main() -> None:
        async with simulated(servers=2, job_seconds=(100, 100)) as sim:
            handle = await sim.bms.servers.stop(sim.ids)
            with pytest.raises(JobTimeoutError, match="goes on") as raised:
                await handle.result(timeout=30)
            assert isinstance(raised.value, TimeoutError)
            resumed = sim.bms.jobs.restore(raised.value.resume)
            assert resumed.servers == handle.servers == tuple(sim.ids)
            assert resumed.action == "servers.stop"
            assert resumed.id == handle.id
            assert (await resumed).status == "SUCCESS"
            assert sim.cloud.call_counts().operations["jobs.get"].arrived < 40

    run_virtually(main)


def test_a_job_picked_up_by_its_id_learns_its_servers_from_the_cloud() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            started = await sim.bms.servers.stop(sim.ids)
            async with client_of(sim.cloud) as another:
                handle = another.jobs.watch(started.id)
                assert handle.servers == ()
                assert {sub.server_id async for sub in handle.sub_jobs()} == set(sim.ids)
                with pytest.raises(JobLostError, match="ended without reporting"):
                    await handle.sub_job("no-such-server")

    run_virtually(main)


def test_a_server_that_the_job_was_not_started_for_is_refused() -> None:
    async def use(handle: JobHandle) -> None:
        with pytest.raises(InvalidRequestError, match="expected one of the servers of job j"):
            handle.sub_job("c")

    watch_j([job("SUCCESS")], use)


def test_a_poll_without_news_is_only_glanced_at_and_one_with_news_is_read() -> None:
    async def main() -> None:
        async with simulated(servers=1000, job_seconds=(200, 220)) as sim:
            handle = sim.bms.jobs.watch((await sim.bms.servers.stop(sim.ids)).id, keep_polling=True)
            await advance(100)
            seen = handle.job
            assert seen is not None
            assert handle.status == "RUNNING"
            polls = sim.bms.statistics().watcher.polls
            await advance(40)
            assert sim.bms.statistics().watcher.polls > polls
            assert handle.job is seen
            job = await handle
            assert job is not seen
            assert [sub.status for sub in job.sub_jobs] == ["SUCCESS"] * 1000

    run_virtually(main)


def test_the_polls_of_many_jobs_keep_within_their_share_of_the_limit() -> None:
    async def main() -> None:
        async with simulated(servers=3000, job_seconds=(200, 300), limits=None, latency=(0.05, 0.1)) as sim:
            ids = sim.ids
            handles = [sim.bms.jobs.watch(f"unknown-{number}") for number in range(5000)]
            handles += [await sim.bms.servers.stop(ids[first : first + 1000]) for first in range(0, 3000, 1000)]
            async with sim.bms.jobs.events():
                await advance(100)
            book = sim.cloud.call_counts().operations["jobs.get"]
            assert sim.cloud.call_counts().refused == 0
            assert book.worst_minute <= 2000 * POLL_BUDGET_SHARE
            assert book.worst_minute > 1500

    run_virtually(main)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_the_cloud_tells_each_server_ends_at_most_once_and_nobody_waits_for_ever(data: st.DataObject) -> None:
    names = st.sampled_from(["a", "b", "c", None])
    statuses = st.sampled_from(["INIT", "RUNNING", "SUCCESS", "FAIL", "ODD"])
    shown = data.draw(
        st.lists(
            st.one_of(
                st.builds(
                    lambda status, subs: job(status, *subs),
                    statuses,
                    st.lists(st.builds(sub_job, names, statuses), max_size=5),
                ),
                st.sampled_from([failing(NotFoundError), failing(ServerError), failing(AuthenticationError)]),
            ),
            min_size=1,
            max_size=12,
        )
    )
    end = job(data.draw(st.sampled_from(["SUCCESS", "FAIL"])))

    async def use(handle: JobHandle) -> None:
        futures = [handle.sub_job(name) for name in ("a", "b", "c")]
        seen = Counter([sub.server_id async for sub in handle.sub_jobs()])
        assert set(seen) <= {"a", "b", "c"}
        assert all(count == 1 for count in seen.values())
        for name, future in zip(("a", "b", "c"), futures, strict=True):
            assert future.done()
            assert (future.exception() is None) == (name in seen)
        assert handle.done()

    watch_j([*shown, end], use, servers=("a", "b", "c"))
