"""The documented calls over HTTP, in-process."""

from typing import Any

import pytest

from bms_async.simulator import (
    Answer,
    CutAfter,
    CutBefore,
    Delay,
    Fault,
    NotFoundJob,
    Script,
    ScriptedFault,
    SimulatedCut,
    Throttled,
    Unauthorized,
)
from tests.simulator._helpers import Hand, Open, code_of


def batch(key: str, ids: list[Any], **more: Any) -> dict[str, Any]:
    return {key: {"servers": [{"id": each} for each in ids], **more}}


async def test_a_server_is_shown_as_documented(served: Open) -> None:
    cloud, client = served(seed=9)
    server_id = list(cloud.servers)[41]
    answer = await client.get(f"/baremetalservers/{server_id}")
    assert answer.status_code == 200
    server = answer.json()["server"]
    assert server["id"] == server_id
    assert server["tags"] == ["__type_baremetal", "rack-1"]
    assert (server["status"], server["OS-EXT-STS:vm_state"], server["OS-EXT-STS:power_state"]) == (
        "ACTIVE",
        "active",
        1,
    )
    assert server["OS-EXT-STS:task_state"] is None
    assert all(isinstance(server["flavor"][name], str) for name in ("vcpus", "ram", "disk", "id", "name"))
    [[address]] = server["addresses"].values()
    assert address["version"] == "4"
    assert server["created"].endswith("Z")
    assert server["tenant_id"] == cloud.settings.project_id


async def test_every_answer_has_a_request_id(served: Open) -> None:
    _, client = served()
    paths = ["/baremetalservers/detail", "/baremetalservers/no", "/no/such/call", "/_admin/calls"]
    answers = [await client.get(path) for path in paths]
    answers += [await client.patch("/baremetalservers/detail"), await client.get("http://bms.test/_admin/calls")]
    assert [each.status_code for each in answers] == [200, 404, 404, 404, 405, 200]
    assert len({each.headers["X-Request-Id"] for each in answers}) == len(answers)
    assert all(each.headers["Content-Type"] == "application/json" and each.json() for each in answers)


async def test_versions_need_no_token(served: Open) -> None:
    _, client = served()
    client.headers.pop("X-Auth-Token")
    every = (await client.get("http://bms.test/")).json()["versions"]
    one = (await client.get("http://bms.test/v1")).json()["version"]
    assert every == [one]
    assert one["id"] == "v1"
    assert (await client.get(one["links"][0]["href"])).json()["version"] == one
    assert code_of(await client.get("http://bms.test/v9")) == (404, "APIGW.0101")


async def test_a_list_is_paged_by_page_numbers_from_one(served: Open) -> None:
    cloud, client = served(servers=60)
    ids = list(cloud.servers)

    async def page(**query: Any) -> tuple[int, list[str]]:
        body = (await client.get("/baremetalservers/detail", params=query)).json()
        return body["count"], [each["id"] for each in body["servers"]]

    assert await page() == (60, ids[:25])
    assert await page(offset=1) == (60, ids[:25])
    assert await page(offset=3) == (60, ids[50:])
    assert await page(limit=7, offset=2) == (60, ids[7:14])
    assert await page(limit=1000) == (60, ids)
    assert await page(limit=1000, offset=2) == (60, [])


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ({"tags": "rack-1"}, range(40, 80)),
        ({"tags": "rack-2"}, range(80, 100)),
        ({"tags": "rack-3"}, range(0)),
        ({"tags": "nothing"}, range(0)),
        ({"tags": "__type_baremetal"}, range(100)),
        ({"tags": "__type_baremetal,rack-0"}, range(40)),
        ({"tags": "rack-0,rack-1"}, range(0)),
        ({"name": "bms-000017"}, range(17, 18)),
        ({"flavor": "physical.s1.medium"}, range(1, 100, 3)),
        ({"flavor": "no.such"}, range(0)),
        ({"flavor": "physical.s1.medium", "tags": "rack-1"}, range(40, 80, 3)),
        ({"reservation_id": "r-rack1"}, range(40, 80)),
        ({"status": "ACTIVE"}, range(100)),
        ({"status": "SHUTOFF"}, range(0)),
        ({"status": "BUILD"}, range(0)),
        ({"enterprise_project_id": "all_granted_eps"}, range(100)),
        ({"enterprise_project_id": "2c7b6d77"}, range(0)),
    ],
)
async def test_a_list_is_narrowed_by_each_filter(served: Open, query: dict[str, str], places: range) -> None:
    cloud, client = served(servers=100)
    ids = list(cloud.servers)
    body = (await client.get("/baremetalservers/detail", params={**query, "limit": "1000"})).json()
    assert body["count"] == len(places)
    assert [each["id"] for each in body["servers"]] == [ids[i] for i in places]


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"offset": "0"}, {"offset": "-1"}, {"offset": "²"}]
)
async def test_a_page_that_cannot_be_is_refused(served: Open, query: dict[str, str]) -> None:
    _, client = served()
    assert code_of(await client.get("/baremetalservers/detail", params=query)) == (400, "BMS.0018")


async def test_a_batch_is_accepted_and_its_job_can_be_read(served: Open) -> None:
    hand = Hand()
    cloud, client = served(clock=hand)
    ids = list(cloud.servers)[:3]
    for key, more in (("os-stop", {}), ("os-start", {}), ("os-stop", {"type": "HARD"}), ("reboot", {"type": "HARD"})):
        accepted = await client.post("/baremetalservers/action", json=batch(key, ids, **more))
        assert (accepted.status_code, list(accepted.json())) == (200, ["job_id"])
        hand.now += 100
        job = await client.get(f"/jobs/{accepted.json()['job_id']}")
        assert (job.status_code, job.json()["status"]) == (200, "SUCCESS")
    assert [(each.stops, each.starts, each.reboots) for each in cloud.servers.values()][:4] == [(2, 1, 1)] * 3 + [
        (0, 0, 0)
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "BMS.0001"),
        (b"{", "BMS.0001"),
        (b"\xff\xfe", "BMS.0001"),
        (b"[]", "BMS.0001"),
        (b"{}", "BMS.0001"),
        (b'{"os-fly": {}}', "BMS.0001"),
        (b'{"os-stop": [], "os-start": {}}', "BMS.0001"),
        (b'{"os-stop": []}', "BMS.0001"),
        (b'{"os-stop": {}}', "BMS.0018"),
        (b'{"os-stop": {"servers": []}}', "BMS.0018"),
        (b'{"os-stop": {"servers": {"id": "a"}}}', "BMS.0018"),
        (b'{"os-stop": {"servers": ["a"]}}', "BMS.0018"),
        (b'{"os-stop": {"servers": [{"id": 7}]}}', "BMS.0018"),
        (b'{"os-stop": {"servers": [{"id": "a"}, {"id": "a"}]}}', "BMS.0018"),
        (b'{"os-stop": {"type": "SOFT", "servers": [{"id": "a"}]}}', "BMS.0018"),
        (b'{"reboot": {"type": "SOFT", "servers": [{"id": "a"}]}}', "BMS.0018"),
        (b'{"reboot": {"servers": [{"id": "a"}]}}', "BMS.0018"),
        (b'{"os-stop": {"servers": [{"id": "a"}]}}', "BMS.0040"),
    ],
)
async def test_a_bad_batch_is_refused(served: Open, body: bytes, code: str) -> None:
    _, client = served()
    assert code_of(await client.post("/baremetalservers/action", content=body)) == (400, code)


async def test_a_batch_holds_a_thousand_servers_and_no_more(served: Open) -> None:
    cloud, client = served(servers=1001)
    ids = list(cloud.servers)
    assert code_of(await client.post("/baremetalservers/action", json=batch("os-stop", ids))) == (400, "BMS.0018")
    assert (await client.post("/baremetalservers/action", json=batch("os-stop", ids[1:]))).status_code == 200


async def test_calls_without_credentials_are_refused(served: Open) -> None:
    cloud, client = served(access_key="AK")
    path = "/baremetalservers/detail"
    client.headers.pop("X-Auth-Token")
    for headers in (
        {},
        {"X-Auth-Token": "wrong"},
        {"Authorization": "SDK-HMAC-SHA256 Access=OTHER, SignedHeaders=host, Signature=0"},
        {"Authorization": "SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature=0"},
        {"Authorization": "Bearer AK"},
    ):
        answer = await client.get(path, headers=headers)
        assert code_of(answer) == (401, "APIGW.0301")
        assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    cloud.tokens.add("newer")
    assert (await client.get(path, headers={"X-Auth-Token": "newer"})).status_code == 200


async def test_another_project_is_refused(served: Open) -> None:
    _, client = served()
    answer = await client.get("http://bms.test/v1/another/baremetalservers/detail")
    assert code_of(answer) == (400, "Common.0018")


@pytest.mark.parametrize("path", ["/baremetalservers/00000000-0000-4000-8000-000000000000", "/jobs/1234"])
async def test_what_is_not_there_is_not_found(served: Open, path: str) -> None:
    _, client = served()
    answer = await client.get(path)
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "code"}


async def test_one_call_too_many_is_refused_by_the_gateway(served: Open) -> None:
    hand = Hand()
    cloud, client = served(clock=hand, retry_after=True, limits={"servers.list": 2})
    answers = []
    for _ in range(3):
        answers.append(await client.get("/baremetalservers/detail", headers={"X-Auth-Token": "x"}))
        hand.now += 0.25
    assert [each.status_code for each in answers] == [401, 401, 429]
    body = answers[-1].json()
    assert body["error_code"] == "APIGW.0308"
    assert "policy user over ratelimit,limit:2,time:1 minute" in body["error_msg"]
    assert body["request_id"] == answers[-1].headers["X-Request-Id"]
    assert answers[-1].headers["Retry-After"] == "60"
    hand.now += 59.25
    assert (await client.get("/baremetalservers/detail")).status_code == 200
    book = cloud.call_counts().operations["servers.list"]
    assert (book.arrived, book.refused, book.worst_minute, book.limit) == (4, 1, 3, 2)


async def test_each_call_is_counted_under_its_name_and_admin_is_not(served: Open) -> None:
    cloud, client = served()
    [server_id, *_] = cloud.servers
    await client.get("http://bms.test/")
    await client.get("http://bms.test/v1")
    await client.get("/baremetalservers/detail")
    await client.get(f"/baremetalservers/{server_id}")
    await client.get("/jobs/1")
    for key in ("os-start", "os-stop", "reboot", "os-fly"):
        await client.post("/baremetalservers/action", json=batch(key, ["x"]))
    client.headers.pop("X-Auth-Token")
    admin = (await client.get("http://bms.test/_admin/calls")).json()
    names = "versions.list versions.get servers.list servers.get jobs.get servers.start servers.stop servers.reboot"
    assert set(admin["operations"]) == {*names.split(), "servers.action"}
    assert all(each["arrived"] == each["worst_minute"] == 1 for each in admin["operations"].values())
    assert admin["refused"] == 0


async def test_admin_counts_servers_and_names_them(served: Open) -> None:
    cloud, client = served(stopped_share=0.25)
    admin = "http://bms.test/_admin"
    assert (await client.get(f"{admin}/servers")).json() == {"ACTIVE": 75, "SHUTOFF": 25, "HARD_REBOOT": 0}
    found = (await client.get(f"{admin}/servers/ids", params={"tags": "rack-1", "limit": 2})).json()
    assert found == {"count": 40, "ids": list(cloud.servers)[40:42]}
    off = (await client.get(f"{admin}/servers/ids", params={"status": "SHUTOFF"})).json()
    assert off["ids"] == [each.id for each in cloud.servers.values() if each.status == "SHUTOFF"]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Answer(status=502, body=b"<html>", headers={"content-type": "text/html"}), 502),
        (Answer(status=200, body=b'{"job_id":'), 200),
        (Throttled(retry_after=3), 429),
        (Unauthorized(), 401),
        (NotFoundJob(), 404),
    ],
)
async def test_a_fault_answers_instead_of_the_cloud(served: Open, fault: Fault, status: int) -> None:
    cloud, client = served()
    ids = list(cloud.servers)[:1]
    asked = []

    def hook(operation: str, nth: int, path: str) -> Fault | None:
        asked.append((operation, nth, path))
        return fault if nth == 2 else None

    cloud.faults.append(hook)
    answers = [await client.post("/baremetalservers/action", json=batch("os-stop", ids)) for _ in range(2)]
    assert [each.status_code for each in answers] == [200, status]
    path = f"/v1/{cloud.settings.project_id}/baremetalservers/action"
    assert asked == [("servers.stop", 1, path), ("servers.stop", 2, path)]
    if isinstance(fault, Answer):
        assert answers[1].content == fault.body
    if isinstance(fault, Throttled):
        assert answers[1].headers["Retry-After"] == "3"


@pytest.mark.parametrize(("fault", "acted"), [(CutBefore(), False), (CutAfter(), True)])
async def test_a_cut_says_whether_the_server_acted(served: Open, fault: Fault, acted: bool) -> None:
    cloud, client = served()
    cloud.faults.append(Script([ScriptedFault(operation="servers.reboot", nth=1, fault=fault)]))
    body = batch("reboot", list(cloud.servers)[:1], type="HARD")
    with pytest.raises(SimulatedCut) as cut:
        await client.post("/baremetalservers/action", json=body)
    assert cut.value.delivered is acted
    assert (next(iter(cloud.servers.values())).action == "reboot") is acted
    assert (await client.post("/baremetalservers/action", json=body)).status_code == 200


@pytest.mark.parametrize("acted", [False, True])
async def test_an_error_may_come_from_a_server_that_acted(served: Open, acted: bool) -> None:
    cloud, client = served()
    cloud.faults.append(lambda *_: Answer(status=500, acted=acted))
    await client.post("/baremetalservers/action", json=batch("os-stop", list(cloud.servers)[:1]))
    assert (next(iter(cloud.servers.values())).action == "stop") is acted


@pytest.mark.parametrize("acted", [False, True])
async def test_a_delay_comes_before_or_after_the_work(
    served: Open, acted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud, client = served()
    slept: list[tuple[float, bool]] = []

    async def sleep(seconds: float) -> None:
        slept.append((seconds, next(iter(cloud.servers.values())).action == "stop"))

    monkeypatch.setattr("bms_async.simulator.http.gateway.anyio.sleep", sleep)
    cloud.faults.append(lambda *_: Delay(seconds=7.0, acted=acted))
    answer = await client.post("/baremetalservers/action", json=batch("os-stop", list(cloud.servers)[:1]))
    assert answer.status_code == 200
    assert slept == [(7.0, acted)]


async def test_latency_is_spent_on_both_ways_and_adds_up(served: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Hand()
    cloud, client = served(clock=hand, latency=(0.5, 2.0))

    async def sleep(seconds: float) -> None:
        hand.now += seconds

    monkeypatch.setattr("bms_async.simulator.http.gateway.anyio.sleep", sleep)
    for _ in range(20):
        sent = hand.now
        await client.get("/baremetalservers/detail?limit=1")
        arrived = cloud.call_counts().operations["servers.list"].last
        assert arrived is not None
        assert sent < arrived < hand.now
        assert 0.5 <= hand.now - sent <= 2.0


async def test_faults_can_be_scripted_over_http(served: Open) -> None:
    _, client = served()
    script = [{"operation": "servers.list", "nth": 2, "fault": {"type": "Answer", "status": 503, "body": "aGk="}}]
    admin = "http://bms.test/_admin/faults"
    assert (await client.post(admin, json=script)).status_code == 200
    answers = [await client.get("/baremetalservers/detail") for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 503, 200]
    assert answers[1].content == b"hi"
    assert code_of(await client.post(admin, json=[{"fault": {}}])) == (400, "BMS.0001")
