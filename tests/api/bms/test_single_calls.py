"""One call each: the method, the address, the query, the body and the headers are those of the reference."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest

from bms_async import (
    BadRequestError,
    BmsClient,
    CallError,
    HttpxTransport,
    Job,
    NotFoundError,
    Server,
    StaticToken,
    __version__,
)
from tests.reference.examples import REBOOT_REQUEST, SERVER_SHOW, START_REQUEST, STOP_REQUEST, Example, repair
from tests.support.mocked import (
    ACCEPTED,
    ACTION,
    BASE,
    DETAIL,
    IDS,
    JOB,
    PROJECT,
    SERVER,
    SERVER_ID,
    TOKEN,
    error,
    mocked,
    sent,
)


async def test_a_server_is_got_from_its_address() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).respond(content=repair(SERVER_SHOW).encode())

        server = await bms.servers.get(SERVER_ID)

        (request,) = sent(cloud)
        assert (request.method, str(request.url), request.content) == ("GET", SERVER, b"")
        assert isinstance(server, Server)
        assert (server.id, server.name) == (SERVER_ID, "bms-test")


async def test_a_job_is_got_from_its_address() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(f"{BASE}/jobs/{JOB['job_id']}").respond(json=JOB)

        job = await bms.jobs.get(JOB["job_id"])

        (request,) = sent(cloud)
        assert (request.method, str(request.url)) == ("GET", f"{BASE}/jobs/{JOB['job_id']}")
        assert isinstance(job, Job)
        assert job.is_final


@pytest.mark.parametrize(
    ("action", "example"), [("start", START_REQUEST), ("stop", STOP_REQUEST), ("reboot", REBOOT_REQUEST)]
)
async def test_a_power_call_sends_the_references_example(action: str, example: Example) -> None:
    async with mocked() as (bms, cloud):
        cloud.post(ACTION).respond(json=ACCEPTED)

        job = await getattr(bms.servers, action)(IDS)

        (request,) = sent(cloud)
        assert (request.method, str(request.url)) == ("POST", ACTION)
        assert json.loads(request.content) == json.loads(repair(example))
        assert (job.id, job.servers, job.action) == (ACCEPTED["job_id"], IDS, f"servers.{action}")
        assert job.status == "INIT"
        assert not job.done()


async def test_a_list_asks_for_a_thousand_a_page_and_for_page_one() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json={"servers": [], "count": 0})

        assert [server async for server in bms.servers.list()] == []

        (request,) = sent(cloud)
        assert str(request.url) == f"{DETAIL}?limit=1000&offset=1"


async def test_a_list_sends_every_documented_filter() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json={"servers": [], "count": 0})

        listed = bms.servers.list(
            flavor="physical.o2.medium",
            name="büro 7",
            status="ACTIVE",
            tags="__type_baremetal",
            reservation_id="r-08tuyo08v",
            enterprise_project_id="all_granted_eps",
            page_size=2,
        )
        assert [server async for server in listed] == []

        (request,) = sent(cloud)
        assert str(request.url) == (
            f"{DETAIL}?flavor=physical.o2.medium&name=b%C3%BCro%207&status=ACTIVE&tags=__type_baremetal"
            "&reservation_id=r-08tuyo08v&enterprise_project_id=all_granted_eps&limit=2&offset=1"
        )


async def test_every_call_has_the_token_and_says_who_asks_and_keeps_its_connection() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).respond(json={"server": {"id": SERVER_ID}})
        cloud.post(ACTION).respond(json=ACCEPTED)

        await bms.servers.get(SERVER_ID)
        await bms.servers.stop(IDS)

        get, post = sent(cloud)
        for request in (get, post):
            assert request.headers["X-Auth-Token"] == TOKEN
            assert request.headers["User-Agent"] == f"bms-async/{__version__}"
            assert request.headers["Accept"] == "application/json"
            assert request.headers["Connection"] == "keep-alive"
        assert "Content-Type" not in get.headers
        assert post.headers["Content-Type"] == "application/json"
        assert post.headers["Content-Length"] == str(len(post.content))


async def test_an_endpoint_may_be_behind_a_path() -> None:
    async with mocked(endpoint="https://proxy.example.com/bms/") as (bms, cloud):
        route = cloud.get(f"https://proxy.example.com/bms/v1/{PROJECT}/baremetalservers/a").respond(
            json={"server": {"id": "a"}}
        )

        assert (await bms.servers.get("a")).id == "a"
        assert route.call_count == 1


async def test_ids_may_come_from_any_iterable_once() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(ACTION).respond(json=ACCEPTED)

        job = await bms.servers.stop(server_id for server_id in IDS)

        assert job.servers == IDS
        assert [server["id"] for server in json.loads(sent(cloud)[0].content)["os-stop"]["servers"]] == list(IDS)


async def test_a_thousand_ids_go_in_one_request() -> None:
    ids = [f"server-{number}" for number in range(1000)]
    async with mocked() as (bms, cloud):
        cloud.post(ACTION).respond(json=ACCEPTED)

        await bms.servers.reboot(ids)

        (request,) = sent(cloud)
        assert [server["id"] for server in json.loads(request.content)["reboot"]["servers"]] == ids


async def test_an_unknown_id_is_a_not_found_error_with_its_meaning() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).respond(404, json=error("BMS.0040"), headers={"X-Request-Id": "req-1"})

        with pytest.raises(NotFoundError) as caught:
            await bms.servers.get(SERVER_ID)

        missing = caught.value
        assert (missing.status, missing.code, missing.operation, missing.request_id) == (
            404,
            "BMS.0040",
            "servers.get",
            "req-1",
        )
        assert missing.meaning == "There is no such server."
        assert str(missing).startswith("servers.get: 404 BMS.0040: no [There is no such server.")
        assert len(sent(cloud)) == 1


async def test_a_batch_refused_as_a_whole_names_the_cause() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(ACTION).respond(400, json=error("BMS.0036", "server x is stopping"))

        with pytest.raises(BadRequestError, match=r"servers\.stop: 400 BMS\.0036: server x is stopping"):
            await bms.servers.stop(IDS)

        assert len(sent(cloud)) == 1


async def test_a_redirect_is_not_followed() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).respond(302, headers={"Location": "https://elsewhere.example.com/login"})

        with pytest.raises(BadRequestError, match="redirects, which is never followed"):
            await bms.servers.get(SERVER_ID)

        assert len(sent(cloud)) == 1


async def test_what_a_cloud_echoes_of_the_token_stays_out_of_the_error() -> None:
    async with mocked(retry=None) as (bms, cloud):
        for answer in (
            httpx.Response(400, json=error("X", f"bad token {TOKEN}")),
            httpx.Response(401, json={"error_code": TOKEN, "error_msg": TOKEN, "request_id": TOKEN}),
            httpx.Response(200, content=f'{{"server": {TOKEN}}}'.encode()),
        ):
            cloud.get(SERVER).mock(return_value=answer)

            with pytest.raises(CallError) as caught:
                await bms.servers.get(SERVER_ID)

            assert TOKEN not in str(caught.value)
            assert TOKEN not in repr(vars(caught.value))


async def test_no_log_line_has_the_token_the_query_or_the_clouds_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with mocked(retry=None) as (bms, cloud):
        cloud.get(DETAIL).respond(429, json=error("APIGW.0308", "WORDS"))
        cloud.get(SERVER).respond(500, json=error("X", "WORDS"))
        with pytest.raises(CallError, match="WORDS"):
            [server async for server in bms.servers.list(name="QUERY")]
        with pytest.raises(CallError, match="WORDS"):
            await bms.servers.get(SERVER_ID)

    lines = [record.getMessage() for record in caplog.records if record.name.startswith("bms_async")]
    assert any("servers.list" in line for line in lines)
    assert any("servers.get" in line and "500" in line for line in lines)
    assert not [line for line in lines for word in (TOKEN, "QUERY", "WORDS") if word in line]


async def test_a_client_tells_what_it_has_done() -> None:
    async with mocked(retry=None) as (bms, cloud):
        cloud.get(SERVER).mock(side_effect=[httpx.Response(200, json={"server": {"id": "a"}}), httpx.Response(500)])
        await bms.servers.get(SERVER_ID)
        with pytest.raises(CallError, match="500"):
            await bms.servers.get(SERVER_ID)

        done: Any = bms.statistics().session
        assert (done.calls, done.attempts, done.failed, done.open_calls) == (2, 2, 1, 0)


async def test_r5_a_token_that_the_cloud_echoes_in_another_spelling_is_not_shown() -> None:
    token = "MIIabc/def+ghi=="
    body = json.dumps({"error_code": "X", "error_msg": f"bad token {token}"})
    for spelled in (body.replace("/", "\\/"), body.replace("=", "\\u003d")):
        assert json.loads(spelled) == json.loads(body)

        async def answer(_: httpx.Request, content: str = spelled) -> httpx.Response:
            return httpx.Response(400, text=content, headers={"X-Request-Id": token})

        async with BmsClient(
            endpoint="http://localhost",
            project_id="p",
            auth=StaticToken(token),
            transport=HttpxTransport(httpx.AsyncClient(transport=httpx.MockTransport(answer))),
        ) as bms:
            with pytest.raises(BadRequestError, match=r"bad token \*\*\*") as raised:
                await bms.servers.get("s")
            assert token not in str(raised.value)
            assert token not in repr(vars(raised.value))
