"""Each who waits for a job has an error of its own, and ids are the same in whatever spelling they come."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable

import anyio
import pytest

from bms_async import BmsError, InvalidRequestError, Job, JobChanged, JobHandle, JobLostError, NotFoundError, SubJob
from bms_async.errors.base import own_copy
from bms_async.jobs import Watcher
from tests.jobs._helpers import FakeCloud, job, sub_job, watching
from tests.support.virtual_clock import advance, run_virtually

LOWER = "0a1b2c3d-9e0c-4d30-9d4c-0a6b1f3e7c55"
UPPER = LOWER.upper()


def watch(use: Callable[[Watcher, FakeCloud], Awaitable[None]]) -> None:
    async def main() -> None:
        async with watching() as (watcher, cloud):
            await use(watcher, cloud)

    run_virtually(main)


async def caught(what: Awaitable[object]) -> BmsError:
    with pytest.raises(BmsError) as raised:
        await what
    return raised.value


# --- errors ---


def test_a_thousand_who_wait_for_a_lost_job_have_each_an_error_with_a_traceback_of_its_own() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        cloud.says["j"] = NotFoundError(status=404)
        handle = watcher.watch("j", servers=("a",))
        errors = await asyncio.gather(
            *(caught(handle) for _ in range(500)), *(caught(handle.sub_job("a")) for _ in range(500))
        )
        errors += [await caught(handle), await caught(handle.sub_job("a")), await caught(anext(handle.sub_jobs()))]
        assert len({id(error) for error in errors}) == len(errors)
        assert {type(error.__cause__) for error in errors} == {NotFoundError}
        lengths = [len(traceback.extract_tb(error.__traceback__)) for error in errors]
        assert max(lengths) < 10
        assert max(lengths[:500]) == min(lengths[:500])
        errors[0].add_note("of the first one's own")
        assert all(not hasattr(error, "__notes__") for error in errors[1:])

    watch(use)


def test_a_subscriber_has_an_error_of_its_own_too() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        cloud.says["j"] = NotFoundError(status=404)
        async with watcher.events(10) as events:
            error = await caught(watcher.watch("j"))
            await anext(events)
            lost = await anext(events)
            assert getattr(lost, "error", None) is not error
            assert str(getattr(lost, "error", None)) == str(error)

    watch(use)


def test_a_note_on_a_copy_is_on_no_other() -> None:
    kept = JobLostError("lost", job_id="j", job=None, code="BMS.0006", reason="dark")
    kept.add_note("of all")
    one, other = own_copy(kept), own_copy(kept)
    one.add_note("of one")

    assert (one.__notes__, other.__notes__, kept.__notes__) == (["of all", "of one"], ["of all"], ["of all"])
    assert (other.code, other.reason, str(other)) == (kept.code, kept.reason, str(kept))


# --- ids ---


@pytest.mark.parametrize(("asked", "told_as"), [(UPPER, LOWER), (LOWER, UPPER), (UPPER, UPPER)])
def test_a_server_is_found_in_whatever_spelling_it_was_asked_for_and_is_told_of(asked: str, told_as: str) -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j", servers=(asked, "b"))
        futures = [handle.sub_job(name) for name in (LOWER, UPPER)]
        cloud.says["j"] = job("FAIL", sub_job(told_as, "FAIL", error_code="BMS.0006"), sub_job("b", "SUCCESS"))
        # The cloud's words are passed on as they came.
        assert [(await future).server_id for future in futures] == [told_as, told_as]
        assert [sub.server_id async for sub in handle.sub_jobs()] == [told_as, "b"]
        assert (await handle.sub_job(LOWER)).error_code == "BMS.0006"
        assert handle.servers == (asked, "b")

    watch(use)


def test_a_job_that_tells_of_a_server_in_two_spellings_tells_of_one() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j", servers=(LOWER,))
        cloud.says["j"] = job("RUNNING", sub_job(UPPER, "SUCCESS"))
        assert (await handle.sub_job(LOWER)).status == "SUCCESS"
        cloud.says["j"] = job("SUCCESS", sub_job(LOWER, "SUCCESS"))
        await handle
        assert [sub.server_id async for sub in handle.sub_jobs()] == [UPPER]

    watch(use)


def test_a_second_call_for_the_same_server_in_another_spelling_adds_none() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        watcher.watch("j", servers=(LOWER,))
        again = watcher.watch("j", servers=(UPPER,))
        cloud.says["j"] = job("SUCCESS")
        assert [sub.server_id async for sub in again.sub_jobs()] == [LOWER]

    watch(use)


def test_ids_that_are_no_uuids_differ_by_their_case() -> None:
    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        handle = watcher.watch("j", servers=("rack-a",))
        with pytest.raises(InvalidRequestError, match="expected one of the servers of job j"):
            handle.sub_job("RACK-A")

    watch(use)


# --- statuses that nobody documented ---


def test_a_status_that_nobody_documented_and_does_not_change_is_told_once() -> None:
    def says() -> Job:
        status = "PAUSED" if anyio.current_time() < 120 else "SUCCESS"
        return job(status, SubJob(status=job(status).status))

    async def use(watcher: Watcher, cloud: FakeCloud) -> None:
        cloud.says["j"] = says
        async with watcher.events(100) as events:
            handle: JobHandle = watcher.watch("j")
            await handle
            await advance(1)
            seen = [await anext(events) for _ in range(4)]
        assert sum(isinstance(event, JobChanged) for event in seen) == 1

    watch(use)
