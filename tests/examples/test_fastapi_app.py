"""`examples/fastapi_app.py`, tested as its users test theirs: FastAPI's client before a simulated cloud."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

from bms_async.testing import CloudSettings, SimulatedCloud, Throttled
from examples import fastapi_app as example
from tests.examples.first_screen import requests, server_of, traced
from tests.examples.processes import running, simulator
from tests.examples.sse import read_events
from tests.support.plain_http import plain_client

# What gathers for that long is one call, however slow the machine is.
WINDOW = 2.0


@pytest.fixture
def http(bms_simulator: SimulatedCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(example, "make_client", partial(bms_simulator.client, max_wait=2.0, wish_window=WINDOW))
    with TestClient(example.app) as http:
        yield http


def test_requests_for_single_servers_that_come_together_are_one_call(
    http: TestClient, bms_simulator: SimulatedCloud
) -> None:
    def stop(server_id: str) -> Any:
        return http.post(f"/servers/{server_id}/power", json={"action": "stop"}).json()

    with ThreadPoolExecutor(10) as browsers:
        told = list(browsers.map(stop, bms_simulator.ids))

    assert [(each["server_id"], each["state"]) for each in told] == [(each, "SUCCEEDED") for each in bms_simulator.ids]
    assert bms_simulator.off == bms_simulator.ids
    assert bms_simulator.arrived("servers.stop") == 1


def test_what_cannot_be_done_is_told_by_the_status(http: TestClient, bms_simulator: SimulatedCloud) -> None:
    broken = bms_simulator.ids[0]
    bms_simulator.break_down(broken)
    bms_simulator.faults.add("servers.list", Throttled(retry_after=20))
    stop = {"action": "stop"}

    busy = http.get("/servers", params={"tag": "rack-0"})
    answers = {
        "broken": http.post(f"/servers/{broken}/power", json=stop),
        "unknown": http.post("/servers/none-such/power", json=stop),
        "no id": http.post("/servers/a%20b/power", json=stop),
        "no tag": http.get("/servers", params={"tag": " "}),
        "no run": http.get("/runs/7/events"),
        "no action": http.post(f"/servers/{broken}/power", json={"action": "paint"}),
        "a page in a browser": http.post(
            f"/servers/{broken}/power", content=b'{"action": "stop"}', headers={"Content-Type": "text/plain"}
        ),
    }

    assert (busy.status_code, 18 <= int(busy.headers["Retry-After"]) <= 20) == (503, True)
    assert {name: answer.status_code for name, answer in answers.items()} == {
        "broken": 502,
        "unknown": 404,
        "no id": 400,
        "no tag": 400,
        "no run": 404,
        "no action": 422,
        "a page in a browser": 422,
    }
    assert answers["broken"].json()["code"] == "BMS.0006"
    assert bms_simulator.off == []


def test_a_run_over_no_servers_has_a_report_too(http: TestClient) -> None:
    number = http.post("/runs", json={"action": "stop", "tag": "no-such-rack"}).json()["number"]
    (ended,) = read_events(http.get(f"/runs/{number}/events").iter_lines())
    assert http.get(f"/runs/{number}").json()["report"] == ended.data


def follow(module: Any, cloud: SimulatedCloud) -> None:
    """Have each line of the example run once."""
    module.make_client = cloud.client
    with TestClient(module.app) as http:
        listed = http.get("/servers", params={"tag": "rack-0"}).json()
        assert [server["id"] for server in listed] == cloud.ids
        assert {name for server in listed for name in server} == {"id", "name", "status", "tags"}

        stopped = http.post(f"/servers/{cloud.ids[0]}/power", json={"action": "stop"})
        assert stopped.json()["state"] == "SUCCEEDED"
        assert http.post("/servers/none-such/power", json={"action": "stop"}).status_code == 404
        assert http.get("/runs/1").status_code == 404

        number = http.post("/runs", json={"action": "stop", "tag": "rack-0"}).json()["number"]
        *outcomes, ended = read_events(http.get(f"/runs/{number}/events").iter_lines())
        assert sorted(each.data["server_id"] for each in outcomes) == sorted(cloud.ids)
        assert (ended.name, ended.data["by_state"]) == (
            "ended",
            {"SUCCEEDED": 4, "UNCHANGED": 1, "FAILED": 0, "UNKNOWN": 0, "SKIPPED": 0},
        )
        shown = http.get(f"/runs/{number}").json()
        assert (shown["progress"]["done"], shown["report"]) == (5, ended.data)
        assert http.delete(f"/runs/{number}").status_code == 202


def test_every_line_of_it_runs_and_a_rack_is_stopped_in_the_background() -> None:
    with traced("fastapi_app") as (module, lines):
        follow(module, SimulatedCloud(CloudSettings(servers=5, job_seconds=(0.05, 0.25))))
    assert lines.never_ran == []


def test_what_the_first_screen_says_to_type_does_what_it_says() -> None:
    shown, act, begin, events = requests(example)
    with (
        simulator("--servers", "320", "--job-seconds", "0.1", "0.4") as cloud,
        running(*server_of(example), settings=cloud.settings) as program,
    ):
        address = program.line_with("Uvicorn running on").partition("running on ")[2].partition(" ")[0]
        with plain_client(address) as http:
            server = http.get(shown.path).json()[0]
            path = act.path.replace("/ID/", f"/{server['id']}/")
            assert http.post(path, content=act.body, headers=act.headers).json()["state"] == "SUCCEEDED"
            assert http.post(begin.path, content=begin.body, headers=begin.headers).json() == {"number": 1}
            with http.stream("GET", events.path) as stream:
                *outcomes, ended = read_events(stream.iter_lines())
            assert http.get("/docs").status_code == 200
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == -signal.SIGTERM
        assert not [line for line in program.errors if "Traceback" in line or "ERROR" in line]
    assert len(outcomes) == 40
    assert ended.data["by_state"]["SUCCEEDED"] == 40
