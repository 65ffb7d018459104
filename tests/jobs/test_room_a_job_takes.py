"""R10: what is kept of a job under way is small, however often it is polled, and its value is what the polls showed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from bms_async import Job, JobStatus, SubJob
from bms_async.jobs.events import EventBus
from bms_async.jobs.record import JobRecord
from bms_async.models.jobs import intern_job
from bms_async.models.reading import decode
from tests.support.virtual_clock import run_virtually

SERVERS = 1000
POLLS = 8
MAX_BYTES = 450
MAX_BYTES_IN_PARTS = 160
BEGUN = datetime(2026, 3, 1, tzinfo=UTC)


def poll(server_ids: Sequence[str], ended: int) -> bytes:
    """A poll as it comes over the line, each text of it a new one."""

    def sub_job(index: int, server_id: str) -> dict[str, Any]:
        sub = {
            "status": "FAIL" if index < ended else "RUNNING",
            "entities": {"server_id": server_id},
            "job_id": f"ff8080825bd0{index:020d}",
            "job_type": "baremetalSingleOperate",
            "begin_time": BEGUN + timedelta(milliseconds=index),
        }
        if index >= ended:
            return sub
        return sub | {"end_time": BEGUN, "error_code": "BMS.0006", "fail_reason": "It could not be carried out."}

    subs = [sub_job(index, server_id) for index, server_id in enumerate(server_ids)]
    return msgspec.json.encode(
        {"job_id": "j", "status": "RUNNING", "entities": {"sub_jobs_total": len(subs), "sub_jobs": subs}}
    )


def ids(count: int) -> tuple[str, ...]:
    return tuple(f"{index:08d}-9e0c-4d30-9d4c-0a6b1f3e7c55" for index in range(count))


def record_of(servers: tuple[str, ...]) -> JobRecord:
    return JobRecord("j", servers, "servers.stop", since=0.0, started=True, bus=EventBus(lambda: None))


def test_r10_a_job_that_is_polled_again_and_again_takes_little_room_for_each_server() -> None:
    async def main() -> None:
        servers = ids(SERVERS)
        polls = [poll(servers, SERVERS * index // POLLS) for index in range(POLLS)]
        decode(polls[0], Job)
        tracemalloc.start()
        record = record_of(servers)
        for body in polls:
            record.update(decode(body, Job))
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()

        assert len(record.ended) == SERVERS * (POLLS - 1) // POLLS
        assert kept / SERVERS < MAX_BYTES

    run_virtually(main)


@pytest.mark.parametrize(("split_from", "bound"), [(0, MAX_BYTES_IN_PARTS), (10**9, MAX_BYTES)])
def test_r10_what_has_not_ended_takes_less_than_half_as_much_where_it_is_read_in_parts(
    split_from: int, bound: int
) -> None:
    async def main() -> None:
        servers = ids(SERVERS)
        body = poll(servers, 0)
        read_poll(record_of(servers), body, split_from)
        tracemalloc.start()
        record = record_of(servers)
        for _ in range(POLLS):
            read_poll(record, poll(servers, 0), split_from)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()

        assert MAX_BYTES_IN_PARTS * (split_from > 0) < kept / SERVERS < bound
        assert record.job == decode(body, Job)

    run_virtually(main)


def read_poll(record: JobRecord, body: bytes, split_from: int) -> None:
    shown = record.make_reader(split_from=split_from).read(body, lambda part: decode(part, Job))
    if shown is not None:
        record.update(shown)


def test_a_poll_that_shows_an_end_again_is_no_second_copy_of_it() -> None:
    async def main() -> None:
        record = record_of(("a", "b"))
        record.update(decode(poll(["a", "b"], 1), Job))
        first = record.ended[0]
        record.update(decode(poll(["a", "b"], 1), Job))

        assert record.job is not None
        assert record.job.sub_jobs[0] is first
        assert record.job == decode(poll(["a", "b"], 1), Job)

    run_virtually(main)


def test_a_sub_job_that_is_shown_otherwise_after_its_end_stays_as_it_is_shown() -> None:
    async def main() -> None:
        record = record_of(("a", "b"))
        record.update(decode(poll(["a", "b"], 1), Job))
        record.update(decode(poll(["a", "b"], 0), Job))

        assert record.job == decode(poll(["a", "b"], 0), Job)
        assert [sub.status for sub in record.ended] == [JobStatus.FAIL]

    run_virtually(main)


def test_what_sub_jobs_have_in_common_is_there_once() -> None:
    shown = decode(poll(["a", "b"], 2), Job)
    one, other = intern_job(shown, {}, {}).sub_jobs

    assert one.job_type is other.job_type
    assert one.error_code is other.error_code
    assert one.fail_reason is other.fail_reason


def test_a_server_id_that_is_held_anyway_is_not_kept_twice_wherever_it_is_told() -> None:
    held = ids(2)
    body = poll(ids(2), 0)
    listed = body.replace(b'"entities":{"server_id"', b'"entities":[{"server_id"').replace(
        b'"},"job_id"', b'"}],"job_id"'
    )
    as_object, as_list = decode(body, Job), decode(listed, Job)
    names = dict(zip(held, held, strict=True))

    assert isinstance(as_list.sub_jobs[0].about, tuple)
    for shown in (as_object, as_list):
        assert [sub.server_id for sub in shown.sub_jobs] == list(held)
        assert not any(sub.server_id is name for sub, name in zip(shown.sub_jobs, held, strict=True))
        interned = intern_job(shown, {}, names)
        assert all(sub.server_id is name for sub, name in zip(interned.sub_jobs, held, strict=True))


def test_a_job_without_sub_jobs_and_a_sub_job_without_a_server_are_left_as_they_are() -> None:
    bare = Job(job_id="j")
    nameless = decode(
        b'{"job_id":"j","entities":{"sub_jobs":[{"status":"FAIL"},{"status":"FAIL","entities":{}}]}}', Job
    )

    assert intern_job(bare, {"a": SubJob()}, {"a": "a"}) is bare
    assert intern_job(nameless, {"a": SubJob()}, {"a": "a"}) is nameless
