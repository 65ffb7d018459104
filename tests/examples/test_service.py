"""`examples/service.py`, served by uvicorn as a user would, and killed."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import anyio
import httpx
import pytest
from sse_starlette.sse import AppStatus
from starlette.types import Receive, Scope, Send

from bms_async import BmsClient
from bms_async.testing import CloudSettings, SimulatedCloud, advance
from examples import service as example
from tests.examples.first_screen import Request, requests, server_of, traced
from tests.examples.processes import NOBODY, Program, RunsFile, Simulator, running, simulator, wait_until
from tests.examples.sse import Event, read_events
from tests.support.plain_http import plain_client
from tests.support.virtual_clock import run_virtually

BEGIN, FOLLOW, PAUSE = requests(example)


class Served(NamedTuple):
    http: httpx.Client
    program: Program

    def begin(self, key: str, **wanted: Any) -> str:
        begun = self.http.post("/runs", json=wanted, headers={"Idempotency-Key": key})
        assert begun.status_code == 202, begun.text
        return f"/runs/{key}"

    def events(self, run: str, last: str | None = None) -> Iterator[Event]:
        headers = {} if last is None else {"Last-Event-ID": last}
        with self.http.stream("GET", f"{run}/events", headers=headers) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            yield from read_events(stream.iter_lines())


@contextmanager
def served(cloud: Simulator, **settings: str) -> Iterator[Served]:
    with running(*server_of(example), settings={**cloud.settings, **settings}) as program:
        address = program.line_with("Uvicorn running on").partition("running on ")[2].partition(" ")[0]
        with plain_client(address) as http:
            yield Served(http, program)


def send(http: httpx.Client, request: Request) -> httpx.Response:
    return http.request(request.method, request.path, headers=request.headers, content=request.body)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Simulator]:
    with simulator("--servers", "320", "--seed", "5", "--job-seconds", "0.3", "3", "--throttle", "none") as cloud:
        yield cloud


@pytest.fixture(scope="module")
def service(cloud: Simulator) -> Iterator[Served]:
    with served(cloud) as service:
        yield service


def test_what_the_first_screen_says_to_type_does_what_it_says(service: Served) -> None:
    assert send(service.http, BEGIN).json()["progress"]["total"] == 40

    events = list(service.events(FOLLOW.path.removesuffix("/events")))

    *outcomes, (name, _, ended) = events
    assert {(each, data["state"]) for each, _, data in outcomes} == {("outcome", "SUCCEEDED")}
    assert len({data["server_id"] for _, _, data in outcomes}) == 40
    assert (name, ended["progress"]["by_state"]["SUCCEEDED"]) == ("ended", 40)
    assert send(service.http, PAUSE).json() == ended


def test_a_reader_that_comes_late_is_given_all_and_one_that_comes_back_only_what_is_new(service: Served) -> None:
    run = service.begin("late", action="stop", servers="rack-1", wave_size=20)
    first = next(service.events(run))

    events = list(service.events(run))

    assert events[0] == first
    assert list(service.events(run, last=first[1])) == events[1:]
    assert list(service.events(run, last=events[-2][1])) == events[-1:]
    for unfit in ("ended", "seven", "9" * 500):
        assert service.http.get(f"{run}/events", headers={"Last-Event-ID": unfit}).status_code == 400


def test_readers_that_vanish_harm_nobody(service: Served) -> None:
    run = service.begin("vanish", action="stop", servers="rack-2")
    place = (service.http.base_url.host, service.http.base_url.port or 0)
    for _ in range(10):
        with socket.create_connection(place) as gone:
            gone.sendall(f"GET {run}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    with socket.create_connection(place) as gone:
        gone.sendall(b'POST /runs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"action"')

    *_, (_, _, ended) = service.events(run)

    assert ended["progress"]["by_state"]["SUCCEEDED"] == 40
    assert not [line for line in service.program.errors if "Traceback" in line]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("GET", "/runs/none-such", None, 404, "bms.runs.list()"),
        ("GET", "/runs/none-such/events", None, 404, "bms.runs.list()"),
        ("PUT", "/runs/none-such/cancel", None, 404, "bms.runs.list()"),
        ("GET", "/nowhere", None, 404, "Not Found"),
        ("POST", "/runs", b"{", 400, "expected a run as JSON"),
        ("POST", "/runs", b'{"action": "\xff"}', 400, "expected a run as JSON"),
        ("POST", "/runs", b'{"action": "fly", "servers": "a"}', 400, "fly"),
        ("POST", "/runs", b'{"action": "stop"}', 400, "servers"),
        ("POST", "/runs", b'{"action": "stop", "servers": ","}', 400, "tags=','"),
        ("POST", "/runs", b'{"action": "stop", "servers": [5]}', 400, "$.servers[0]"),
        ("POST", "/runs", b'{"action": "stop", "servers": ["a"], "colour": 1}', 400, "colour"),
        ("POST", "/runs", b'{"action": "stop", "servers": ["a"], "wave_size": 0}', 400, "wave_size=0"),
        ("POST", "/runs", b" " * (2**24 + 1), 413, "Too Large"),
    ],
)
def test_what_is_wrong_is_told_by_the_status_and_in_words(
    service: Served, method: str, path: str, body: bytes | None, status: int, told: str
) -> None:
    answer = service.http.request(method, path, content=body)

    assert (answer.status_code, told in answer.text) == (status, True), answer.text


def test_what_a_web_page_asks_for_is_not_done(service: Served) -> None:
    page = {"Origin": "http://example.com", "Content-Type": "text/plain"}
    assert (
        service.http.post("/runs", content=b'{"action": "stop", "servers": "rack-0"}', headers=page).status_code == 403
    )


def test_a_run_that_was_killed_goes_on_where_a_journal_is_set_and_no_server_is_rebooted_twice(
    cloud: Simulator, tmp_path: Path
) -> None:
    rebooted = cloud.ids()[200:240]
    journal, file = {"BMS_RUNS": f"sqlite://{tmp_path}/runs.db"}, RunsFile(tmp_path / "runs.db")
    before: Mapping[str, int] = cloud.ask("servers/work")["reboot"]
    # The first half is asked for by four calls, and nothing of the second before the kill.
    cloud.refuse_after(4, "servers.reboot")
    with served(cloud, **journal) as service:
        run = service.begin("tonight", action="reboot", servers=rebooted, wave_size=20)
        events = service.events(run)
        first = [next(events)]
        wait_until(lambda: cloud.has_refused and not file.sends, service.program)
        service.program.kill()
        # Whatever was on its way had been written by then.
        with pytest.raises(httpx.TransportError):
            first.extend(events)
    assert len(first) <= 20
    file.let_leases_end()
    with served(cloud, **journal) as service:
        *rest, (name, _, ended) = service.events(run, last=first[-1][1])

    assert (name, ended["progress"]["by_state"]["SUCCEEDED"]) == ("ended", 40)
    assert sorted(data["server_id"] for _, _, data in [*first, *rest]) == sorted(rebooted)
    after: Mapping[str, int] = cloud.ask("servers/work")["reboot"]
    assert {each: after[each] - before.get(each, 0) for each in rebooted} == dict.fromkeys(rebooted, 1)


def test_a_signal_ends_it_and_its_streams_while_a_run_has_not_ended(service: Served, cloud: Simulator) -> None:
    cloud.refuse_after(4, "servers.reboot")
    run = service.begin("signal", action="reboot", servers=cloud.ids()[240:320], wave_size=20)
    events = service.events(run)
    assert next(events)[0] == "outcome"
    wait_until(lambda: cloud.has_refused, service.program)
    assert service.http.put(f"{run}/pause").json()["ended"] is None

    service.program.process.send_signal(signal.SIGTERM)

    assert "ended" not in [name for name, _, _ in events]
    assert service.program.end() == -signal.SIGTERM
    assert not [line for line in service.program.errors if "Traceback" in line or "ERROR" in line]


def test_settings_that_make_no_sense_keep_it_from_starting() -> None:
    with running(*server_of(example), settings={**NOBODY, "OS_TOKEN": ""}) as program:
        assert program.end() == 3
    assert any("OS_TOKEN" in line for line in program.errors)


@asynccontextmanager
async def in_process(module: ModuleType, cloud: SimulatedCloud) -> AsyncIterator[httpx.AsyncClient]:
    """Have the application here, on this loop's clock, before a cloud that is here too."""

    def client(runs: Any) -> BmsClient:
        return cloud.client(runs=runs)

    with patch.object(BmsClient, "from_env", client), patch.object(AppStatus, "should_exit", False):
        async with module.app.router.lifespan_context(module.app) as state:

            async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
                await module.app({**scope, "state": dict(state)}, receive, send)

            async with httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://service") as http:
                yield http


def test_every_line_of_it_runs_and_a_run_is_paused_resumed_and_cancelled() -> None:
    async def main(module: ModuleType) -> None:
        cloud = SimulatedCloud(CloudSettings(servers=40))
        async with in_process(module, cloud) as http:
            key = {"Idempotency-Key": "tonight"}
            wanted = {"action": "reboot", "servers": [*cloud.ids, "no id [at] all"], "wave_size": 10}
            begun = [await http.post("/runs", json=wanted, headers=key) for _ in range(2)]
            await advance(1)
            paused = (await http.put("/runs/tonight/pause")).json()
            await advance(120)
            still = (await http.get("/runs/tonight")).json()
            async with anyio.create_task_group() as readers:
                readers.start_soon(http.get, "/runs/tonight/events")
                await advance(1)
                # What a signal does.
                AppStatus.should_exit = True
            AppStatus.should_exit = False
            resumed = (await http.put("/runs/tonight/resume")).json()
            await advance(1)
            cancelled = (await http.put("/runs/tonight/cancel")).json()
            *outcomes, (_, _, ended) = read_events(iter((await http.get("/runs/tonight/events")).text.splitlines()))
            other = await http.post(
                "/runs", json={"action": "stop", "servers": ["a"]}, headers={"Idempotency-Key": "tonight"}
            )
            wrong = await http.put("/runs/tonight/stop")
            missing = await http.get("/runs/none")
            page = await http.post("/runs", json=wanted, headers={"Origin": "http://example.com"})
            no_json = await http.post("/runs", content=b"{")
            listed = (await http.get("/runs")).json()

        assert [answer.status_code for answer in begun] == [202, 202]
        assert (paused["status"], still["status"], resumed["status"]) == ("paused", "paused", "open")
        sent = still["progress"]["submitted"]
        assert 0 < sent == still["progress"]["by_state"]["SUCCEEDED"] < 40
        assert cancelled["status"] == "cancelled"
        assert sum(ended["progress"]["by_state"].values()) == len(outcomes) == 41
        assert ended["progress"]["by_state"]["SKIPPED"] >= 2
        assert listed == [ended]
        refused = [answer.status_code for answer in (other, wrong, missing, page, no_json)]
        assert refused == [400, 404, 404, 403, 400]

    with traced("service") as (module, lines):
        run_virtually(lambda: main(module))
    assert lines.never_ran == []


def test_the_trace_sees_what_does_not_run() -> None:
    with traced("service") as (_, lines):
        anyio.run(anyio.sleep, 0)
    assert len(lines.never_ran) > 20
