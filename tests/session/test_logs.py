"""What the log says of a call: its name, its tries, how each ended, the cloud's id of it, and how long it waited."""

from __future__ import annotations

import json
import logging

import httpx
import pytest
import respx

from bms_async import CallError, JobFailedError, Limits
from tests.support.mocked import BASE, SERVER, SERVER_ID, TOKEN, client_of, error, mocked, virtually

GOOD = httpx.Response(200, json={"server": {"id": SERVER_ID}}, headers={"X-Request-Id": "req-1"})


def of_the_session(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "bms_async.session"]


@virtually
async def test_each_try_is_a_record_with_its_figures(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bms_async")
    async with mocked() as (bms, cloud):
        refused = httpx.Response(503, json=error("BMS.0001", "busy"), headers={"X-Request-Id": "req-0"})
        cloud.get(SERVER).mock(side_effect=[refused, GOOD])
        await bms.servers.get(SERVER_ID)

    first, second = of_the_session(caplog)
    assert (first.levelname, second.levelname) == ("INFO", "DEBUG")
    assert first.getMessage() == (
        "servers.get attempt 1: failed with ServerError 503 BMS.0001; waited 0.000 s for its slot; request id req-0"
    )
    assert second.getMessage() == "servers.get attempt 2: 200; waited 0.000 s for its slot; request id req-1"
    attributes = {name: vars(second)[name] for name in ("operation", "attempt", "status", "code", "request_id", "wait")}
    assert attributes == {
        "operation": "servers.get",
        "attempt": 2,
        "status": 200,
        "code": None,
        "request_id": "req-1",
        "wait": 0.0,
    }


@virtually
async def test_the_wait_for_a_slot_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bms_async")
    async with respx.mock() as cloud, client_of(limits=Limits({"servers.get": 1})) as bms:
        cloud.get(SERVER).mock(return_value=GOOD)
        await bms.servers.get(SERVER_ID)
        await bms.servers.get(SERVER_ID)

    waits = [vars(record)["wait"] for record in of_the_session(caplog)]
    assert waits == [pytest.approx(0.0, abs=0.01), pytest.approx(60.0, abs=0.1)]


@virtually
async def test_a_call_that_was_counted_out_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).mock(side_effect=[httpx.Response(429, json=error("APIGW.0308")), GOOD])
        await bms.servers.get(SERVER_ID)

    (record,) = of_the_session(caplog)
    assert record.levelno == logging.WARNING
    assert "servers.get attempt 1: failed with RateLimitedError 429 APIGW.0308" in record.getMessage()


@virtually
async def test_the_clouds_words_are_for_the_application_and_not_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bms_async")
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).mock(return_value=httpx.Response(400, json=error("BMS.0001", "the customer of rack seven")))
        with pytest.raises(CallError, match="rack seven"):
            await bms.servers.get(SERVER_ID)

    assert len(of_the_session(caplog)) == 1
    assert "rack seven" not in caplog.text


@virtually
async def test_a_token_that_a_good_answer_quotes_is_its_value_and_shows_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "bms_async")
    document = {"job_id": "j", "status": "FAIL", "fail_reason": f"cannot act with {TOKEN}", "entities": {}}
    async with mocked() as (bms, cloud):
        answer = httpx.Response(200, json=document, headers={"X-Request-Id": f"req-{TOKEN}"})
        cloud.get(f"{BASE}/jobs/j").mock(return_value=answer)
        job = await bms.jobs.get("j")

    assert job.fail_reason == f"cannot act with {TOKEN}"
    assert TOKEN not in repr(job)
    assert str(JobFailedError(job)).endswith("cannot act with ***")
    assert TOKEN not in json.dumps([vars(record) for record in of_the_session(caplog)], default=repr)
    assert "request id req-***" in caplog.text
