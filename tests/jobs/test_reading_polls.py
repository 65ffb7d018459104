"""R7, R9, R10: of a large poll only what has changed is decoded, and all is known that the whole of it shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async import DecodeError, Job, JobEnded, JobEvents, JobLost, JobLostError
from bms_async.jobs import PartialPoll, PollReader
from bms_async.jobs.events import EventBus
from bms_async.jobs.kept_job import KeptJob
from bms_async.jobs.poll_reading import SPLIT_FROM, SPLIT_TO
from bms_async.jobs.progress import Counts, count
from bms_async.jobs.record import JobRecord
from bms_async.models import decode
from bms_async.models.free_text import map_free_text
from bms_async.redaction import mask_when_shown
from bms_async.wire import read_fragment
from tests.support.clouds import simulated
from tests.support.virtual_clock import run_virtually

SECRET = "hunter2-hunter2"
UPPER = "ABCDEF01-9E0C-4D30-9D4C-0A6B1F3E7C55"
SERVERS = ("a", "b", UPPER.lower())
GONE = object()
TIMES = ["2019-04-25T20:04:34.604Z", "2019-04-25T20:04:34", "", None, "yesterday", GONE]


def fields_of(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object some of whose fields are not there."""
    whole = st.fixed_dictionaries(fields)
    return whole.map(lambda drawn: {name: value for name, value in drawn.items() if value is not GONE})


ENTITIES = fields_of(
    server_id=st.sampled_from(["a", "b", "c", UPPER, UPPER.lower(), 7, "", None, GONE]),
    nic_id=st.sampled_from(["n", 5, GONE]),
    errorcode_message=st.sampled_from([f"echo of {SECRET}", 7, GONE]),
)
SUB_JOBS = fields_of(
    status=st.sampled_from(["INIT", "RUNNING", "SUCCESS", "FAIL", "SUCCESS", "FAIL", "PAUSED", 5, None, GONE]),
    entities=ENTITIES | st.lists(ENTITIES, max_size=2) | st.sampled_from([None, "", "a", GONE]),
    job_id=st.sampled_from(["k", "l", 7, GONE]),
    begin_time=st.sampled_from(TIMES),
    end_time=st.sampled_from(TIMES),
    error_code=st.sampled_from(["BMS.0006", "", 6, None, GONE]),
    fail_reason=st.sampled_from(["rack 7 is dark", SECRET, ["x"], None, GONE]),
    percent=st.sampled_from([1, 2, GONE]),
)
ODD_SUB_JOBS = st.sampled_from([None, "", "SUCCESS", 5, [], [{"status": "FAIL"}, {"entities": {"server_id": "a"}}]])


@st.composite
def histories(draw: st.DrawFn) -> list[bytes]:
    """The polls of a job: the same sub-jobs come again, late, twice, in another order, changed, or not at all."""
    drawn = SUB_JOBS if draw(st.integers(0, 3)) else SUB_JOBS | ODD_SUB_JOBS
    shown = draw(st.lists(drawn, max_size=8))
    polls = []
    for _ in range(draw(st.integers(1, 6))):
        for _ in range(draw(st.integers(0, 2))):
            shown = draw(after(shown, drawn))
        several: Any = shown if draw(st.integers(0, 9)) else draw(st.sampled_from([None, "", GONE, *shown]))
        polls.append(json.dumps(draw(jobs_of(several))).encode())
    return polls


@st.composite
def after(draw: st.DrawFn, shown: list[Any], drawn: st.SearchStrategy[Any]) -> list[Any]:
    """What another poll shows of sub-jobs."""
    place = draw(st.integers(0, max(0, len(shown) - 1)))
    return draw(
        st.sampled_from([shown[:place] + shown[place + 1 :], shown + shown[place : place + 1]])
        | st.permutations(shown)
        | drawn.map(lambda new: [*shown[:place], new, *shown[place + 1 :]])
        | drawn.map(lambda new: [*shown[:place], new, *shown[place:]])
        | drawn.map(lambda new: [*shown, new])
    )


def jobs_of(several: Any) -> st.SearchStrategy[dict[str, Any]]:
    entities = fields_of(
        sub_jobs=st.just(several), sub_jobs_total=st.sampled_from([0, 2, 2, 3, "4", "many", None, GONE])
    )
    odd = entities.map(lambda each: [each]) | st.sampled_from([None, "", GONE])
    return fields_of(
        job_id=st.just("j"),
        status=st.sampled_from(["INIT", *["RUNNING"] * 6, "SUCCESS", "FAIL", "PAUSED", None, GONE]),
        entities=st.integers(0, 9).flatmap(lambda number: entities if number else odd),
        job_type=st.just("t"),
        end_time=st.sampled_from(TIMES),
        fail_reason=st.sampled_from([SECRET, 7, GONE]),
    )


def read(body: bytes) -> Job:
    return read_fragment("jobs.get", body, Job)


def poll_in_parts(record: JobRecord, body: bytes) -> None:
    poll = record.make_reader(split_from=0).read(body, read)
    if poll is not None:
        record.update(poll)


def poll_as_a_whole(record: JobRecord, body: bytes) -> None:
    record.update(decode(body, Job))


def record_of(*servers: str, bus: EventBus | None = None) -> JobRecord:
    used = EventBus(lambda: None) if bus is None else bus
    return JobRecord("j", servers, "servers.stop", since=0.0, started=True, bus=used)


def play(polls: list[bytes], poll: Callable[[JobRecord, bytes], None]) -> list[object]:
    """Return all that is known after each poll, and the events."""

    async def main() -> list[object]:
        bus = EventBus(lambda: None)
        bus.is_open, bus.loop = True, asyncio.get_running_loop()
        record = record_of(*SERVERS, bus=bus)
        record.mask_with(mask)
        seen: list[object] = []
        async with JobEvents(bus, 1000) as events:
            for number, body in enumerate(polls):
                poll(record, body)
                record.note_progress(float(number))
                seen += [
                    (record.job, repr(record.job), tuple(record.ended), record.finished, record.total),
                    (record.status, record.shows_unended, record.polling.last_progress_at, counts_of(record)),
                ]
            record.fail(JobLostError("that was all", job_id="j", job=None))
            while not isinstance(seen[-1], JobEnded | JobLost):
                seen.append(await anext(events))
        return [str(each) if isinstance(each, JobLost) else each for each in seen]

    return run_virtually(main)


def counts_of(record: JobRecord) -> Counts | None:
    shown = record._shown
    return shown.counts if isinstance(shown, KeptJob) else None if shown is None else count(shown)


def mask(text: str) -> str:
    return text.replace(SECRET, "***")


@given(polls=histories())
@settings(deadline=None, max_examples=60)
def test_a_poll_that_is_read_in_parts_shows_all_that_the_whole_of_it_shows(polls: list[bytes]) -> None:
    assert play(polls, poll_in_parts) == play(polls, poll_as_a_whole)


def poll_of(*statuses: str, **fields: object) -> bytes:
    """A poll of a job, with a sub-job of each status, about servers that are numbered."""
    subs = [
        {"status": status, "entities": {"server_id": f"s{number}"}, "job_id": f"k{number}", "end_time": ""}
        for number, status in enumerate(statuses)
    ]
    return json.dumps({"job_id": "j", "status": "RUNNING", "entities": {"sub_jobs": subs}, **fields}).encode()


class Decoder:
    """Decodes, and keeps how many sub-jobs it decoded each time."""

    def __init__(self) -> None:
        self.decoded: list[int] = []

    def __call__(self, body: bytes) -> Job:
        job = read(body)
        self.decoded.append(len(job.sub_jobs))
        return job


def apply(record: JobRecord, body: bytes, decoder: Decoder) -> None:
    poll = record.make_reader(split_from=0).read(body, decoder)
    assert poll is not None
    record.update(poll)


def test_r9_only_what_has_changed_is_decoded() -> None:
    record, decoder = record_of(), Decoder()
    apply(record, poll_of(*["RUNNING"] * 9), decoder)
    apply(record, poll_of("SUCCESS", "FAIL", *["RUNNING"] * 7), decoder)
    apply(record, poll_of("SUCCESS", "FAIL", *["RUNNING"] * 7, "INIT"), decoder)

    assert decoder.decoded == [9, 2, 1]
    assert [sub.server_id for sub in record.ended] == ["s0", "s1"]


@pytest.mark.parametrize("odd", [b"null", b"[]", b'[{"status":"FAIL"}]', b'""', b"5"])
def test_r9_a_poll_with_what_is_no_sub_job_is_decoded_once(odd: bytes) -> None:
    record, decoder = record_of(), Decoder()
    apply(record, poll_of("RUNNING", "RUNNING").replace(b"]}", b", %b]}" % odd), decoder)

    assert decoder.decoded in ([2], [3])


def test_r9_sub_jobs_in_another_order_or_with_others_before_them_are_not_decoded_again() -> None:
    record, decoder = record_of(), Decoder()
    document = json.loads(poll_of("SUCCESS", "FAIL", "RUNNING", "RUNNING", "INIT"))
    subs = document["entities"]["sub_jobs"]
    apply(record, json.dumps(document).encode(), decoder)
    decoded = []
    for shown in (subs[::-1], [{"status": "FAIL"}, *subs], subs[2:], subs[:1]):
        document["entities"]["sub_jobs"] = shown
        apply(record, json.dumps(document).encode(), decoder)
        decoded.append(decoder.decoded[-1])
        assert record.job == read(json.dumps(document).encode())

    # What the last poll did not show is new when it is shown again.
    assert decoded == [0, 1, 0, 1]


def test_a_poll_that_shows_what_the_last_one_showed_is_no_news() -> None:
    record = record_of()
    apply(record, poll_of("SUCCESS", "RUNNING"), Decoder())

    assert record.make_reader(split_from=0).read(poll_of("SUCCESS", "RUNNING"), read) is None
    for changed in (
        poll_of("RUNNING", "SUCCESS"),
        poll_of("SUCCESS"),
        poll_of("SUCCESS", "RUNNING", "INIT"),
        poll_of("SUCCESS", "RUNNING", status="FAIL"),
        poll_of("SUCCESS", "RUNNING", job_type="t"),
    ):
        assert record.make_reader(split_from=0).read(changed, read) is not None


def test_a_small_poll_is_read_as_a_whole_and_a_large_one_in_parts() -> None:
    small, large = poll_of("RUNNING"), poll_of(*["RUNNING"] * 200)
    reader = record_of().make_reader()

    assert len(small) < SPLIT_FROM <= len(large)
    assert reader.read(small, read) == read(small)
    assert isinstance(reader.read(large, read), PartialPoll)
    assert PollReader(read(small)).read(small, read) is None


def test_r9_a_poll_with_more_besides_than_can_be_split_and_compressed_at_once_is_read_as_a_whole() -> None:
    usual, huge = poll_of(*["RUNNING"] * 1000), poll_of(*["RUNNING"] * 1000, details="x" * SPLIT_TO)
    record = record_of()
    reader = record.make_reader()

    assert len(usual) < SPLIT_TO < len(huge)
    assert isinstance(reader.read(usual, read), PartialPoll)
    shown = reader.read(huge, read)
    assert isinstance(shown, Job)
    record.update(shown)
    assert record.make_reader().read(huge, read) is None


def test_what_runs_is_decoded_when_a_caller_asks_for_the_job_and_once() -> None:
    record, decoder = record_of(), Decoder()
    apply(record, poll_of("SUCCESS", "RUNNING", "INIT"), decoder)
    job = record.job

    assert job == read(poll_of("SUCCESS", "RUNNING", "INIT"))
    assert record.job is job
    assert decoder.decoded == [3, 2]
    assert job is not None
    assert job.sub_jobs[0] is record.ended[0]


def test_r7_what_runs_is_there_for_a_caller_though_its_parts_cannot_be_read_together() -> None:
    # No number is that large: it is passed over, unless a repair has to read all that came.
    huge = b'{"status":"RUNNING","entities":{"server_id":"a"},"percent":1e999}'
    repaired = b'{"status":"RUNNING","entities":{"server_id":"b"},"code":7}'
    frame = b'{"job_id":"j","status":"RUNNING","entities":{"sub_jobs":[%b]}}'
    record = record_of()
    poll_in_parts(record, frame % huge)
    poll_in_parts(record, frame % (huge + b"," + repaired))

    assert record.job is not None
    assert [(sub.server_id, sub.code) for sub in record.job.sub_jobs] == [("a", None), ("b", "7")]
    with pytest.raises(DecodeError):
        read(frame % (huge + b"," + repaired))


def test_r5_a_secret_in_what_runs_is_masked_when_a_caller_asks_for_the_job() -> None:
    def masked(body: bytes) -> Job:
        return map_free_text(read(body), lambda text: mask_when_shown(text, mask))

    record = record_of()
    document = json.loads(poll_of("RUNNING", "FAIL"))
    for sub in document["entities"]["sub_jobs"]:
        sub["message"] = SECRET
    poll = record.make_reader(split_from=0).read(json.dumps(document).encode(), masked)
    assert poll is not None
    record.update(poll)

    assert record.job is not None
    assert [sub.message for sub in record.job.sub_jobs] == [SECRET, SECRET]
    assert SECRET not in repr(record.job)
    assert SECRET in repr(read(json.dumps(document).encode()))


def test_a_secret_that_becomes_known_during_a_poll_is_masked_and_the_next_poll_shows_what_that_one_did() -> None:
    record = record_of()
    before, after = poll_of("RUNNING", "RUNNING", fail_reason=SECRET), poll_of("RUNNING", "FAIL", fail_reason=SECRET)
    apply(record, before, Decoder())
    poll = record.make_reader(split_from=0).read(after, read)
    record.mask_with(mask)
    assert poll is not None
    record.update(poll)
    assert record.job == read(before)
    assert SECRET not in repr(record.job)

    poll_in_parts(record, after)
    assert record.job == read(after)
    assert SECRET not in repr(record.job)
    assert [sub.server_id for sub in record.ended] == ["s1"]


@pytest.mark.parametrize("poll", [poll_in_parts, poll_as_a_whole])
def test_r5_a_secret_that_becomes_known_after_an_end_is_masked_in_what_has_ended_too(
    poll: Callable[[JobRecord, bytes], None],
) -> None:
    async def main() -> None:
        record = record_of("s0", "s1")
        document = json.loads(poll_of("FAIL", "RUNNING"))
        document["entities"]["sub_jobs"][0]["fail_reason"] = SECRET
        poll(record, json.dumps(document).encode())
        assert SECRET in repr(record.ended)
        record.mask_with(mask)
        document["entities"]["sub_jobs"] += [{"status": "INIT"}]
        poll(record, json.dumps(document).encode())

        ended = [*record.ended, record.sub_job("s0").result()]
        assert [sub.fail_reason for sub in ended] == [SECRET] * 2
        assert record.job is not None
        assert record.job.sub_jobs[0] is ended[0] is ended[1]
        assert SECRET not in repr([record.job, *ended])

    run_virtually(main)


def test_r5_the_secrets_of_all_calls_that_a_job_belongs_to_are_masked() -> None:
    record = record_of()
    record.mask_with(mask)
    record.mask_with(lambda text: text.replace("rack 7", "***"))
    poll_as_a_whole(record, poll_of("RUNNING", fail_reason=f"{SECRET} in rack 7"))

    assert record.job is not None
    assert record.job.fail_reason == f"{SECRET} in rack 7"
    assert "fail_reason='*** in ***'" in repr(record.job)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"status":"RUNNING","entities":{"sub_jobs":[]}}', b'{"job_id":"j","entities":[[[', b"\xff"],
)
def test_what_is_no_job_is_the_same_error_in_parts_and_as_a_whole(body: bytes) -> None:
    with pytest.raises(DecodeError) as whole:
        read(body)
    with pytest.raises(DecodeError) as in_parts:
        record_of().make_reader(split_from=0).read(body, read)

    assert str(in_parts.value) == str(whole.value)


def test_a_job_of_the_client_shows_what_the_cloud_says_of_it() -> None:
    async def main() -> None:
        async with simulated(servers=200, job_seconds=(5, 60), seed=3) as (bms, cloud):
            handle = await bms.servers.stop(list(cloud.servers))
            ended = 0
            async for _ in handle.sub_jobs():
                ended += 1
                if ended % 40 == 0:
                    shown = handle.job
                    assert shown is not None
                    assert {sub.server_id for sub in shown.sub_jobs} == set(cloud.servers)
                    assert sum(sub.is_final for sub in shown.sub_jobs) >= ended
            assert await handle == await bms.jobs.get(handle.id)

    run_virtually(main)
