"""The simulator's page for people, and the document that keeps it up to date."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async.simulator import (
    Answer,
    Cloud,
    CloudSettings,
    CutAfter,
    FixedWindow,
    Script,
    ScriptedFault,
    SlidingWindow,
    Throttled,
    TokenBucket,
    create_app,
)
from bms_async.simulator.http.status_page import prefers_html, read_status
from tests.simulator._helpers import Hand, Open, Worlds

ROOT = "http://bms.test/"
NO_JOBS = {"begun": 0, "ended": 0, "failed": 0}
CHROMIUM = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def status_of(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("http://bms.test/_admin/status")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    body = answer.json()
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize(
    "accept",
    [
        CHROMIUM,
        FIREFOX,
        "text/html",
        "TEXT/HTML, application/json",
        "application/json;q=0.5, text/html;q=0.5",
        "text/html;level=1;q=0.3, */*;q=0.2",
    ],
)
async def test_a_browser_gets_the_page_and_is_not_counted(accept: str, served: Open) -> None:
    cloud, client = served()
    answer = await client.get(ROOT, headers={"Accept": accept})
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Vary"] == "Accept"
    assert answer.text.startswith("<!doctype html>")
    assert cloud.call_counts().operations == {}


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/json",
        "",
        "text/*",
        "application/xhtml+xml, */*",
        "application/json, text/html;q=0.9",
        "text/html;q=0.1, */*",
        "text/html;q=0",
        "text/html;q=much",
        "application/*, text/html;q=0.5",
    ],
)
async def test_everybody_else_gets_the_versions_as_before_and_is_counted(accept: str, served: Open) -> None:
    cloud, client = served()
    answer = await client.get(ROOT, headers={"Accept": accept})
    assert [each["id"] for each in answer.json()["versions"]] == ["v1"]
    assert cloud.call_counts().operations["versions.list"].arrived == 1


async def test_a_caller_that_says_nothing_of_what_it_accepts_gets_the_versions(served: Open) -> None:
    _, client = served()
    request = client.build_request("GET", ROOT)
    del request.headers["Accept"]
    assert "versions" in (await client.send(request)).json()


@given(html=st.integers(0, 1000), json=st.integers(0, 1000))
def test_whoever_likes_json_more_gets_json(html: int, json: int) -> None:
    accepts = [f"text/html;q={html / 1000:.3f}", f"application/json;q={json / 1000:.3f}"]
    assert prefers_html(accepts) == (html > 0 and html >= json)


@given(accepts=st.lists(st.text(st.sampled_from('texhml/*;q=,.0159 "json'), max_size=40), max_size=4))
def test_no_accept_header_breaks_anything(accepts: list[str]) -> None:
    prefers_html(accepts)


async def test_the_page_loads_nothing_from_elsewhere_and_runs_its_own_script_only(served: Open) -> None:
    _, client = served()
    page = await client.get(ROOT, headers={"Accept": "text/html"})
    rules = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in rules
    assert "script-src 'sha256-" in rules
    assert "connect-src 'self'" in rules
    assert page.text.replace("http://www.w3.org/2000/svg", "").count("://") == 0
    assert "/* page.css */" not in page.text


async def test_looking_changes_no_later_answer(served: Open) -> None:
    seen = []
    for looks in (0, 5):
        _, client = served(seed=3)
        for _ in range(looks):
            await status_of(client)
            await client.get(ROOT, headers={"Accept": "text/html"})
        seen.append((await client.get(ROOT)).headers["X-Request-Id"])
    assert seen[0] == seen[1]


async def test_it_tells_the_servers_by_status_and_what_they_are_at(world: Worlds) -> None:
    cloud = world(servers=12, fail_share=0.25, job_seconds=(100.0, 100.0))
    faulty = [server.id for server in cloud.cloud.servers.values() if server.faulty]
    chosen = [*faulty, *(each for each in cloud.ids if each not in faulty)][:8]
    before = await status_of(cloud.bms)
    assert before["servers"] == {
        "total": 12,
        "by_status": {"ACTIVE": 12, "SHUTOFF": 0, "HARD_REBOOT": 0},
        "virtual_machines": 0,
        "at_work": {},
        "waiting": 0,
        "drifted": 0,
    }
    body = {"os-stop": {"type": "HARD", "servers": [{"id": each} for each in chosen]}}
    accepted = await cloud.bms.post("/baremetalservers/action", json=body)
    just = await status_of(cloud.bms)
    assert (just["servers"]["at_work"], just["servers"]["waiting"]) == ({}, 8)
    cloud.hand.now += 50
    midway = await status_of(cloud.bms)
    assert (midway["servers"]["at_work"], midway["servers"]["waiting"]) == ({"stop": 8}, 0)
    assert midway["jobs"] == {"begun": 1, "ended": 0, "failed": 0}
    cloud.hand.now += 50
    after = await status_of(cloud.bms)
    assert after["servers"]["by_status"] == {"ACTIVE": 7, "SHUTOFF": 5, "HARD_REBOOT": 0}
    assert after["servers"]["at_work"] == {}
    assert after["jobs"] == {"begun": 1, "ended": 1, "failed": 1}
    assert after["latest"] == [
        {
            "id": accepted.json()["job_id"],
            "kind": "stop",
            "total": 8,
            "begun": 8,
            "ended": 8,
            "failed": 3,
            "seconds": 100.0,
        }
    ]
    assert after["uptime"] == 100.0


async def test_jobs_that_others_have_looked_at_are_counted_once(world: Worlds) -> None:
    cloud = world(job_seconds=(1.0, 5.0))
    for server in cloud.ids[:3]:
        wish = {"reboot": {"type": "HARD", "servers": [{"id": server}]}}
        await cloud.finish(await cloud.bms.post("/baremetalservers/action", json=wish))
        await status_of(cloud.bms)
    assert (await status_of(cloud.bms))["jobs"] == {"begun": 3, "ended": 3, "failed": 0}


async def test_native_work_shows_on_the_servers_and_is_no_job(world: Worlds) -> None:
    cloud = world()
    stop: dict[str, Any] = {"os-stop": {}}
    assert (await cloud.nova.post(f"/servers/{cloud.ids[0]}/action", json=stop)).status_code == 202
    seen = await status_of(cloud.bms)
    assert (seen["servers"]["at_work"], seen["jobs"]) == ({"stop": 1}, NO_JOBS)


async def test_only_the_latest_jobs_are_shown_the_last_one_first(world: Worlds) -> None:
    cloud = world(servers=30)
    ids = []
    for server in cloud.ids[:20]:
        wish = {"reboot": {"type": "HARD", "servers": [{"id": server}]}}
        ids.append((await cloud.bms.post("/baremetalservers/action", json=wish)).json()["job_id"])
    seen = await status_of(cloud.bms)
    assert [each["id"] for each in seen["latest"]] == ids[:-13:-1]
    assert seen["jobs"]["begun"] == 20


async def test_it_tells_calls_against_each_limit(served: Open) -> None:
    clock = Hand()
    _, client = served(clock, limits={"versions.list": 2})
    for _ in range(3):
        await client.get(ROOT)
    await client.get("/baremetalservers/detail", headers={"X-Auth-Token": "wrong"})
    seen = await status_of(client)
    versions = next(each for each in seen["calls"] if each["operation"] == "versions.list")
    assert versions == {
        "operation": "versions.list",
        "limit": 2,
        "used": 2,
        "minute": 3,
        "arrived": 3,
        "refused": 1,
        "unauthorized": 0,
        "worst_minute": 3,
    }
    assert seen["refused"] == 1
    assert next(each for each in seen["calls"] if each["operation"] == "servers.list")["unauthorized"] == 1
    clock.now += 61
    later = next(each for each in (await status_of(client))["calls"] if each["operation"] == "versions.list")
    assert (later["used"], later["minute"], later["arrived"]) == (0, 0, 3)


@pytest.mark.parametrize("make", [lambda: FixedWindow(5, 3.0), lambda: SlidingWindow(5), lambda: TokenBucket(5)])
@given(gaps=st.lists(st.integers(0, 40_000), max_size=40))
def test_looking_at_a_throttle_tells_what_is_taken_and_changes_nothing(make: Any, gaps: list[int]) -> None:
    looked_at, left_alone = make(), make()
    now = 0.0
    for gap in gaps:
        now += gap / 1000
        assert isinstance(looked_at, FixedWindow | SlidingWindow | TokenBucket)
        used = looked_at.used(now)
        wait = looked_at.admit(now)
        assert wait == left_alone.admit(now)
        assert 0 <= used <= 5
        assert (used == 5) == (wait > 0.0)


def test_a_cloud_without_limits_has_nothing_taken() -> None:
    cloud = Cloud(CloudSettings(servers=0, throttle="none"), lambda: 5.0)
    cloud.arrive("servers.stop")
    status = asyncio.run(read_status(cloud))
    assert [(each.limit, each.used, each.minute) for each in status.calls] == [(None, 0, 1)]


async def test_scripted_faults_are_shown_until_their_call_has_come(served: Open) -> None:
    cloud, client = served()
    cloud.faults.append(lambda _operation, _nth, _path: None)
    cloud.faults.append(
        Script(
            [
                ScriptedFault(operation="versions.list", nth=1, fault=Throttled()),
                ScriptedFault(operation="versions.list", nth=2, fault=Answer(status=500)),
                ScriptedFault(operation="servers.stop", nth=1, fault=CutAfter()),
            ]
        )
    )
    assert (await client.get(ROOT)).status_code == 429
    seen = await status_of(client)
    assert (seen["faults_waiting"], seen["hooks"]) == (2, 1)
    assert seen["faults"] == [
        {"operation": "servers.stop", "nth": 1, "fault": "CutAfter"},
        {"operation": "versions.list", "nth": 2, "fault": "Answer"},
    ]


async def test_settings_are_shown_and_no_secret_is(served: Open) -> None:
    secrets = {name: f"hidden-{name}" for name in ("password", "token", "secret_key", "security_token")}
    _, client = served(seed=42, limits={"servers.stop": 7}, **secrets)
    answer = await client.get("http://bms.test/_admin/status")
    assert "hidden-" not in answer.text
    settings = {each["name"]: (each["value"], each["chosen"]) for each in answer.json()["settings"]}
    assert settings["seed"] == ("42", True)
    assert settings["limits"] == ("servers.stop=7", True)
    assert settings["job_kept_seconds"] == ("without end", False)
    assert settings["retry_after"] == ("no", False)
    assert not secrets.keys() & settings.keys()


async def test_a_cloud_of_no_servers_has_a_status(served: Open) -> None:
    _, client = served(servers=0)
    seen = await status_of(client)
    assert (seen["servers"]["total"], seen["latest"], seen["calls"]) == (0, [], [])


async def test_an_update_lets_others_have_their_turn() -> None:
    clock = Hand()
    cloud = Cloud(CloudSettings(servers=20_000, job_seconds=(20.0, 90.0)), clock)
    ids = list(cloud.servers)
    for first in range(0, len(ids), 1000):
        cloud.act("stop", ids[first : first + 1000])
    clock.now += 60
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    waiting = asyncio.create_task(others())
    status = await read_status(cloud)
    waiting.cancel()
    # Twenty jobs have much to make up for: four at a time, then others.
    assert turns >= 4
    assert status.servers.at_work["stop"] + status.servers.by_status["SHUTOFF"] == 20_000
    looked = [server for server in cloud._inventory.by_id.values() if server.work is not None]
    assert len(looked) == status.servers.at_work["stop"] + status.servers.waiting


async def test_a_head_request_is_answered_as_the_get_would_be() -> None:
    cloud = Cloud(CloudSettings(servers=1), lambda: 5.0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=create_app(cloud)), base_url=ROOT) as client:
        head = await client.head("/", headers={"Accept": "text/html"})
        assert head.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "accept",
    ["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "text/html, image/gif, image/jpeg, */*; q=0.2"],
)
def test_java_which_names_html_unasked_is_no_browser(accept: str) -> None:
    assert not prefers_html([accept])
