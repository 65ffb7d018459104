"""The life of a client, and of a job's handle that outlives it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import BmsClient, ClientClosedError, InvalidRequestError, JobTimeoutError
from bms_async.jobs import read_saved
from tests.support.mocked import (
    ACCEPTED,
    ACTION,
    BASE,
    ENDPOINT,
    IDS,
    JOB,
    PROJECT,
    SERVER,
    SERVER_ID,
    client_of,
    mocked,
    sent,
    virtually,
)

JOB_ADDRESS = f"{BASE}/jobs/{ACCEPTED['job_id']}"
DONE: dict[str, Any] = {**JOB, "job_id": ACCEPTED["job_id"]}
SAVED: dict[str, Any] = {
    "version": 1,
    "job_id": "j",
    "project_id": PROJECT,
    "action": "servers.stop",
    "servers": list(IDS),
}


async def use_everything(bms: BmsClient) -> None:
    uses: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: bms.servers.get(SERVER_ID),
        lambda: bms.servers.stop(IDS),
        lambda: bms.servers.reboot(IDS),
        lambda: bms.jobs.get("j"),
        lambda: anext(bms.servers.list().__aiter__()),
    )
    for use in uses:
        with pytest.raises(ClientClosedError, match="not open"):
            await use()
    with pytest.raises(ClientClosedError, match="not open"):
        bms.jobs.watch("j")
    with pytest.raises(ClientClosedError, match="not open"):
        bms.jobs.restore(json.dumps(SAVED))


async def test_a_client_that_was_never_opened_says_how_to_use_it() -> None:
    bms = client_of()

    await use_everything(bms)
    assert repr(bms) == f"<BmsClient closed, {ENDPOINT}, project {PROJECT}>"


async def test_a_client_that_was_closed_says_so_and_sends_nothing() -> None:
    async with mocked() as (bms, cloud):
        assert repr(bms) == f"<BmsClient open, {ENDPOINT}, project {PROJECT}>"
        await bms.aclose()

        await use_everything(bms)
        assert sent(cloud) == []


async def test_a_client_is_opened_once() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).respond(json={"server": {"id": SERVER_ID}})
        with pytest.raises(ClientClosedError, match="opened once; make a new one"):
            await bms.__aenter__()

        # The one who has it open does not notice.
        assert (await bms.servers.get(SERVER_ID)).id == SERVER_ID
    with pytest.raises(ClientClosedError, match="opened once; make a new one"):
        await bms.__aenter__()


async def test_a_client_may_be_closed_twice_and_before_it_was_opened() -> None:
    await client_of().aclose()
    async with mocked() as (bms, _):
        await bms.aclose()
        await bms.aclose()


async def test_a_client_may_be_opened_in_one_task_and_closed_in_another() -> None:
    bms = client_of()

    await asyncio.create_task(bms.__aenter__())
    await asyncio.create_task(bms.aclose())


@virtually
async def test_closing_ends_a_call_under_way_with_a_word() -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(10_000)
        raise AssertionError

    async with mocked() as (bms, cloud):
        cloud.get(SERVER).mock(side_effect=never)
        call = asyncio.create_task(bms.servers.get(SERVER_ID))
        await asyncio.sleep(1)
        await bms.aclose()

        with pytest.raises(ClientClosedError, match="closed before"):
            await call


@virtually
async def test_closing_ends_a_wait_for_a_job_with_a_word() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(ACTION).respond(json=ACCEPTED)
        cloud.get(JOB_ADDRESS).respond(json={**DONE, "status": "RUNNING", "entities": {}})
        job = await bms.servers.stop(IDS)
        wait = asyncio.create_task(job.result())
        part = job.sub_job(IDS[0])
        await asyncio.sleep(5)
        await bms.aclose()

        for waiter in (wait, part):
            with pytest.raises(ClientClosedError, match=f"before job {job.id} ended; the job goes on"):
                await waiter


@virtually
async def test_a_job_is_awaited_to_its_end() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(ACTION).respond(json=ACCEPTED)
        cloud.get(JOB_ADDRESS).mock(
            side_effect=[httpx.Response(200, json={**DONE, "status": "RUNNING"}), httpx.Response(200, json=DONE)]
        )
        job = await bms.servers.start(IDS)
        done = await job

        assert done.status == "SUCCESS"
        assert job.done()
        assert len(sent(cloud, to=JOB_ADDRESS)) == 2


@virtually
async def test_a_handle_survives_being_written_down_and_read_by_another_client() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(ACTION).respond(json=ACCEPTED)
        job = await bms.servers.stop(IDS)
        text = job.to_json()
    assert json.loads(text) == {**SAVED, "job_id": ACCEPTED["job_id"]}

    async with mocked() as (bms, cloud):
        cloud.get(JOB_ADDRESS).respond(json=DONE)
        for written in (text, text.encode()):
            again = bms.jobs.restore(written)

            assert (again.id, again.servers, again.action) == (ACCEPTED["job_id"], IDS, "servers.stop")
            assert again.to_json() == text
        assert (await again).status == "SUCCESS"


@virtually
async def test_a_wait_that_ran_out_holds_what_resumes_it() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(ACTION).respond(json=ACCEPTED)
        route = cloud.get(JOB_ADDRESS).respond(json={**DONE, "status": "RUNNING", "entities": {}})
        job = await bms.servers.stop(IDS)

        with pytest.raises(JobTimeoutError, match="RUNNING after 5 s and goes on") as caught:
            await job.result(timeout=5)

        route.respond(json=DONE)
        assert (await bms.jobs.restore(caught.value.resume)).status == "SUCCESS"


@given(
    job_id=st.text(min_size=1),
    project_id=st.text(min_size=1),
    action=st.none() | st.text(),
    servers=st.lists(st.text(), max_size=3),
)
def test_what_was_written_down_is_read_back(
    job_id: str, project_id: str, action: str | None, servers: list[str]
) -> None:
    document = {**SAVED, "job_id": job_id, "project_id": project_id, "action": action, "servers": servers}

    saved = read_saved(json.dumps(document), project_id)

    assert (saved.job_id, saved.action, saved.servers) == (job_id, action, tuple(servers))


@given(text=st.text(max_size=50) | st.binary(max_size=50))
def test_whatever_is_no_saved_job_is_an_invalid_request(text: str | bytes) -> None:
    with pytest.raises(InvalidRequestError, match="expected what JobHandle"):
        read_saved(text, PROJECT)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected what JobHandle"),
        ("{}", "expected what JobHandle"),
        ("[]", "expected what JobHandle"),
        (b"\xff", "expected what JobHandle"),
        (None, "expected what JobHandle"),
        (7, "expected what JobHandle"),
        ("[" * 100_000, "expected what JobHandle"),
        ('{"x":' * 100_000, "expected what JobHandle"),
        ('{"version": 2, "of": "another shape"}', "expected version 1, "),
        (json.dumps({**SAVED, "job_id": 7}), "expected what JobHandle"),
        (json.dumps(SAVED)[:-9], "expected what JobHandle"),
        (json.dumps({**SAVED, "version": 2}), r"text=2: expected version 1, the only one"),
        (json.dumps({**SAVED, "version": 0}), r"text=0: expected version 1, the only one"),
        (json.dumps({**SAVED, "project_id": "other"}), f"expected a job of this client's project {PROJECT}"),
    ],
)
async def test_a_text_that_cannot_be_resumed_says_why(text: Any, says: str) -> None:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError, match=says) as caught:
            bms.jobs.restore(text)

        assert caught.value.argument == "text"
        assert sent(cloud) == []


async def test_a_saved_job_with_an_unfit_id_is_refused() -> None:
    async with mocked() as (bms, _):
        with pytest.raises(InvalidRequestError, match=r"text\.job_id='\.\./x'"):
            bms.jobs.restore(json.dumps({**SAVED, "job_id": "../x"}))


async def test_what_a_later_version_adds_does_not_hinder() -> None:
    async with mocked() as (bms, _):
        assert bms.jobs.restore(json.dumps({**SAVED, "added": "later"})).id == "j"
