"""`examples/service.py`, run as a user would."""

from __future__ import annotations

import json
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import anyio
import httpx
import pytest

from examples import service as example
from tests.examples.processes import NOBODY, ROOT, Program, Simulator, running, simulator, wait_until
from tests.support.clouds import simulated
from tests.support.machine import patience
from tests.support.virtual_clock import run_virtually

SERVICE = str(ROOT / "examples" / "service.py")
QUICK = ("--servers", "120", "--seed", "7", "--job-seconds", "0.1", "0.4", "--throttle", "none")
SLOW = ("--servers", "120", "--seed", "7", "--job-seconds", "50", "60")


class Served(NamedTuple):
    http: httpx.Client
    cloud: Simulator
    program: Program

    def begin(self, **wanted: Any) -> str:
        begun = self.http.post("/runs", json=wanted)
        assert begun.status_code == 202, begun.text
        return begun.headers["Location"]

    def events(self, run: str, last: str | None = None) -> Iterator[tuple[str, str | None, Any]]:
        """Yield the events of a run: name, id and data."""
        headers = {} if last is None else {"Last-Event-ID": last}
        with self.http.stream("GET", f"{run}/events", headers=headers) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            told: dict[str, str] = {}
            for line in stream.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    told[name] = value
                else:
                    yield told["event"], told.get("id"), json.loads(told["data"])
                    told = {}


@contextmanager
def served(cloud: Simulator, *flags: str, times: float | None = None) -> Iterator[Served]:
    with running(SERVICE, "--port", "0", *flags, settings=cloud.settings, times=times) as program:
        address = program.line_with("listening on").partition("listening on ")[2].partition(",")[0]
        with httpx.Client(base_url=address, trust_env=False, timeout=patience(60.0)) as http:
            yield Served(http, cloud, program)


@pytest.fixture(scope="module")
def quick() -> Iterator[Served]:
    with simulator(*QUICK) as cloud, served(cloud) as service:
        yield service


@pytest.fixture(scope="module")
def slow() -> Iterator[Served]:
    with simulator(*SLOW) as cloud, served(cloud, "--heartbeat", "0.1", "--max-wait", "0.5") as service:
        yield service


def test_a_run_is_followed_from_its_beginning_to_its_summary(quick: Served) -> None:
    events = list(quick.events(quick.begin(action="reboot", tag="rack-1")))
    outcomes = [(number, data) for name, number, data in events if name == "outcome"]
    assert [number for number, _ in outcomes] == [str(number) for number in range(1, 41)]
    assert Counter(data["state"] for _, data in outcomes) == {"SUCCEEDED": 40}
    assert len({data["server_id"] for _, data in outcomes}) == 40
    assert {name for name, _, _ in events} == {"outcome", "progress", "report"}
    name, number, report = events[-1]
    assert (name, number, report["by_state"]["SUCCEEDED"], report["ended"]) == ("report", "end", 40, True)


def test_who_comes_late_is_told_what_was_and_who_comes_back_only_what_is_new(quick: Served) -> None:
    run = quick.begin(action="reboot", ids=quick.cloud.ids()[:10])
    first = [each for each in quick.events(run) if each[0] == "outcome"]
    assert [each for each in quick.events(run) if each[0] == "outcome"] == first
    assert [each for each in quick.events(run, last="7") if each[0] == "outcome"] == first[7:]
    assert [name for name, _, _ in quick.events(run, last="9")] == ["outcome", "report"]
    assert [name for name, _, _ in quick.events(run, last="10")] == ["report"]
    # So a browser learns that it need not come back.
    assert quick.http.get(f"{run}/events", headers={"Last-Event-ID": "end"}).status_code == 204
    for unfit in ("seven", "-1", "11", "9" * 5000):
        wrong = quick.http.get(f"{run}/events", headers={"Last-Event-ID": unfit})
        assert (wrong.status_code, f"'{unfit}'" in wrong.text) == (400, True)


def test_a_run_that_has_ended_has_its_report(quick: Served) -> None:
    ids = [*quick.cloud.ids()[:3], "no id [at] all"]
    run = quick.begin(action="reboot", ids=ids)
    *_, (_, _, summary) = quick.events(run)
    assert summary["by_state"] == {"SUCCEEDED": 3, "UNCHANGED": 0, "FAILED": 0, "UNKNOWN": 0, "SKIPPED": 1}
    assert quick.http.get(run).json() == summary
    assert summary in quick.http.get("/runs").json()["runs"]
    report = quick.http.get(f"{run}/report").json()
    assert sorted(outcome["server_id"] for outcome in report["outcomes"]) == sorted(ids)
    (skipped,) = [outcome for outcome in report["outcomes"] if outcome["state"] == "SKIPPED"]
    assert "no id [at] all" in skipped["error"]["message"]


def test_a_stream_on_which_nothing_happens_tells_that_it_lives(slow: Served) -> None:
    run = slow.begin(action="reboot", ids=slow.cloud.ids()[:2])
    events = slow.events(run)
    assert [next(events)[0] for _ in range(5)] == ["progress"] * 5
    assert slow.http.get(f"{run}/report").status_code == 409
    slow.http.delete(run, params={"detach": "true"})
    assert list(events)[-1][2]["by_state"]["UNKNOWN"] == 2


def test_readers_who_vanish_or_never_read_harm_nobody(quick: Served) -> None:
    run = quick.begin(action="reboot", tag="rack-2")
    host, port = quick.http.base_url.host, quick.http.base_url.port
    asked = f"GET {run}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    with socket.create_connection((host, port or 0)) as silent:
        silent.sendall(asked)
        for _ in range(20):
            with socket.create_connection((host, port or 0)) as gone:
                gone.sendall(asked)
        *_, (_, _, report) = quick.events(run)
    assert report["by_state"]["SUCCEEDED"] == 40
    assert not [line for line in quick.program.errors if "Traceback" in line]


def test_two_hundred_requests_at_once_are_answered_by_one_client(quick: Served) -> None:
    before = quick.cloud.ask("calls")["operations"].get("servers.get", {}).get("arrived", 0)
    wanted = (quick.cloud.ids() * 2)[:200]

    async def ask_all() -> list[str]:
        told: list[str] = []
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=quick.http.base_url, trust_env=False, limits=limits, timeout=patience(60.0)
        ) as http:

            async def ask(server_id: str) -> None:
                told.append((await http.get(f"/servers/{server_id}")).raise_for_status().json()["id"])

            async with anyio.create_task_group() as tasks:
                for server_id in wanted:
                    tasks.start_soon(ask, server_id)
        return told

    assert sorted(anyio.run(ask_all)) == sorted(wanted)
    book = quick.cloud.ask("calls")["operations"]["servers.get"]
    assert (book["arrived"] - before, book["refused"]) == (200, 0)


def test_who_would_have_to_wait_too_long_for_the_limit_is_told_when_to_come_back(slow: Served) -> None:
    server_id = slow.cloud.ids()[-1]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: slow.http.post(f"/servers/{server_id}/start"), range(55)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[503] >= 5
    assert statuses[202] + statuses[503] == 55
    late = next(answer for answer in answers if answer.status_code == 503)
    assert 1 <= int(late.headers["Retry-After"]) <= 60
    assert "max_wait" in late.json()["error"]


def test_one_server_can_be_read_and_acted_on(quick: Served) -> None:
    server_id = quick.cloud.ids()[5]
    begun = quick.http.post(f"/servers/{server_id}/reboot")
    assert begun.status_code == 202
    assert begun.json()["servers"] == [server_id]
    wait_until(lambda: quick.http.get(begun.headers["Location"]).json()["status"] == "SUCCESS", quick.program)
    told = quick.http.get(f"/servers/{server_id}").json()
    assert told | {"id": server_id, "status": "ACTIVE"} == told
    assert set(told) == {"id", "name", "status", "task_state", "tags"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("GET", "/servers/a%20b", None, 400, "server_id='a b'"),
        ("GET", "/servers/none-such", None, 404, "Check the id"),
        ("POST", "/servers/none-such/stop", None, 404, "Check the id"),
        ("POST", "/servers/any/paint", None, 404, "start, stop or reboot"),
        ("GET", "/jobs/none-such", None, 404, "BMS.0018"),
        ("GET", "/runs/none-such", None, 404, "GET /runs"),
        ("GET", "/nowhere", None, 404, "Not Found"),
        ("POST", "/runs", b"{", 400, "not a run"),
        ("POST", "/runs", b"\xff", 400, "not a run"),
        ("POST", "/runs", b'{"action": "fly", "tag": "a"}', 400, "'fly'"),
        ("POST", "/runs", b'{"action": "stop"}', 400, "ids or a tag"),
        ("POST", "/runs", b'{"action": "stop", "ids": []}', 400, "ids or a tag"),
        ("POST", "/runs", b'{"action": "stop", "ids": [5]}', 400, "$.ids[0]"),
        ("POST", "/runs", b'{"action": "stop", "ids": ["a"], "colour": 1}', 400, "colour"),
        ("POST", "/runs", b'{"action": "stop", "ids": ["a"], "wave_size": 0}', 400, "wave_size=0"),
        ("POST", "/runs", b'{"action": "stop", "tag": "rack-99"}', 404, "'rack-99'"),
        ("POST", "/runs", b'{"action": "stop", "tag": ","}', 400, "tags=','"),
        ("POST", "/runs", b'{"action": "stop", "tag": " "}', 400, "tags=' '"),
        ("POST", "/runs", b" " * (16 * 2**20 + 1), 413, "two runs"),
    ],
)
def test_what_is_wrong_is_told_by_the_status_and_in_words(
    quick: Served, method: str, path: str, body: bytes | None, status: int, told: str
) -> None:
    answer = quick.http.request(method, path, content=body)
    assert answer.status_code == status
    assert told in answer.json()["error"]


@pytest.mark.parametrize("path", ["/runs", "/servers/any/stop"])
def test_what_a_web_page_asks_for_is_not_done(quick: Served, path: str) -> None:
    page = {"Origin": "http://example.com", "Content-Type": "text/plain"}
    answer = quick.http.post(path, content=b'{"action": "stop", "tag": "rack-0"}', headers=page)
    assert (answer.status_code, "web page" in answer.json()["error"]) == (403, True)


def test_who_hangs_up_in_the_middle_of_a_request_is_no_fault_of_ours(quick: Served) -> None:
    place = (quick.http.base_url.host, quick.http.base_url.port or 0)
    with socket.create_connection(place) as gone:
        gone.sendall(b'POST /runs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"action"')
    quick.program.line_with('"POST /runs HTTP/1.1" 400')
    assert not [line for line in quick.program.errors if "Traceback" in line]


def test_a_cloud_that_does_not_answer_is_no_fault_of_the_caller() -> None:
    with simulator(*QUICK) as cloud, served(cloud) as service:
        wanted = {"action": "reboot", "tag": "rack-0"}
        headers = {"Idempotency-Key": "tonight"}
        begun = service.http.post("/runs", json=wanted, headers=headers)
        cloud.program.kill()
        # What was begun is known without it.
        assert service.http.post("/runs", json=wanted, headers=headers).headers["Location"] == begun.headers["Location"]
        answer = service.http.post("/servers/any/reboot")
        assert (answer.status_code, answer.json()["maybe_done"]) == (502, False)
        assert "nothing reached the cloud" in answer.json()["error"]


def test_a_run_that_is_cancelled_skips_what_was_not_asked_for(slow: Served) -> None:
    run = slow.begin(action="reboot", tag="rack-1", wave_size=10)
    wait_until(lambda: slow.http.get(run).json()["progress"]["submitted"] == 10, slow.program)
    assert slow.http.delete(run).status_code == 202
    wait_until(lambda: slow.http.get(run).json()["progress"]["by_state"]["SKIPPED"] == 30, slow.program)
    assert slow.http.delete(run, params={"detach": "true"}).status_code == 202
    *_, (_, _, report) = slow.events(run)
    assert (report["cancelled"], report["by_state"]["SKIPPED"], report["by_state"]["UNKNOWN"]) == (True, 30, 10)
    assert slow.http.delete(run).json() == report


def test_a_request_that_is_sent_twice_begins_one_run(quick: Served) -> None:
    wanted = {"action": "reboot", "ids": [quick.cloud.ids()[50]]}
    headers = {"Idempotency-Key": "tonight"}
    with ThreadPoolExecutor(8) as threads:
        begun = list(threads.map(lambda _: quick.http.post("/runs", json=wanted, headers=headers), range(8)))
    assert len({answer.headers["Location"] for answer in begun}) == 1
    other = quick.http.post("/runs", json=wanted | {"action": "stop"}, headers=headers)
    assert (other.status_code, "'tonight'" in other.json()["error"]) == (422, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_runs_and_streams_and_leaves_nothing(number: signal.Signals) -> None:
    with simulator(*SLOW) as cloud, served(cloud) as service:
        run = service.begin(action="stop", tag="rack-0", wave_size=10)
        events = service.events(run)
        assert any(name == "progress" and data["submitted"] == 10 for name, _, data in events)
        service.program.process.send_signal(number)
        *_, (name, _, report) = events
        assert name == "report"
        assert report["by_state"] == {"SUCCEEDED": 0, "UNCHANGED": 0, "FAILED": 0, "UNKNOWN": 10, "SKIPPED": 30}
        assert service.program.end() == 0
        assert not [line for line in service.program.errors if "Traceback" in line or "ERROR" in line]
        with pytest.raises(httpx.ConnectError):
            service.http.get("/runs")


def test_a_run_goes_on_when_the_cloud_is_killed_and_comes_back() -> None:
    flags = ("--servers", "300", "--seed", "7", "--job-seconds", "50", "60", "--throttle", "none")
    with simulator(*flags) as cloud, served(cloud, "--heartbeat", "30", times=100) as service:
        run = service.begin(action="stop", ids=cloud.ids())
        events = service.events(run)
        assert any(name == "progress" and data["submitted"] == 300 for name, _, data in events)
        cloud.program.kill()
        cloud.begin("--job-seconds", "0.2", "0.4")
        assert cloud.states() == {"ACTIVE": 300}
        *_, (name, _, report) = events
        assert (name, report["servers"], sum(report["by_state"].values())) == ("report", 300, 300)
        assert report["by_state"]["SUCCEEDED"] + report["by_state"]["UNCHANGED"] == 300
        assert cloud.states() == {"SHUTOFF": 300}


def test_what_ended_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "MAX_OUTCOMES_KEPT", 25)

    async def main() -> None:
        async with simulated(servers=50, job_seconds=(1, 2)) as cloud, anyio.create_task_group() as tasks:
            service = example.Service(cloud.bms, tasks, max_wait=1, heartbeat=1)
            carrier = httpx.ASGITransport(app=service.app)
            async with httpx.AsyncClient(transport=carrier, base_url="http://localhost") as http:
                runs = []
                for _ in range(6):
                    begun = await http.post("/runs", json={"action": "reboot", "ids": cloud.ids[:10]})
                    runs.append(begun.headers["Location"])
                    await anyio.sleep(30)
                kept = [f"/runs/{run['id']}" for run in (await http.get("/runs")).json()["runs"]]
                assert kept == runs[-3:]
                assert (await http.get(runs[0])).status_code == 404

    run_virtually(main)


@pytest.mark.parametrize(
    ("flags", "settings", "code", "told"),
    [
        (["--port", "many"], NOBODY, 2, "'many'"),
        (["--heartbeat", "0"], NOBODY, 2, "more than 0 seconds"),
        (["--port", "99999"], NOBODY, 2, "0 to 65535"),
        (["--port", "0"], {}, 3, "BMS_ENDPOINT"),
        (["--port", "0"], NOBODY | {"OS_TOKEN": ""}, 3, "OS_TOKEN"),
        (["--port", "0"], NOBODY | {"BMS_ENDPOINT": "http://bms.example.com"}, 3, "https"),
        (["--port", "0"], NOBODY, 4, "nothing reached the cloud"),
    ],
)
def test_what_keeps_it_from_starting_is_told_by_the_code(
    flags: list[str], settings: Mapping[str, str], code: int, told: str
) -> None:
    with running(SERVICE, *flags, settings=settings) as program:
        assert (program.end(), program.lines) == (code, [])
        assert told in program.errors[-1]
        assert not [line for line in program.errors if "Traceback" in line]


def test_a_port_that_is_taken_and_a_wrong_token_are_told(quick: Served) -> None:
    port = str(quick.http.base_url.port)
    with running(SERVICE, "--port", port, settings=quick.cloud.settings) as program:
        assert program.end() == 2
        assert port in program.errors[-1]
    with running(SERVICE, "--port", "0", settings=quick.cloud.settings | {"OS_TOKEN": "wrong"}) as program:
        assert program.end() == 3
        assert "401" in program.errors[-1]


def test_its_help_says_how_to_run_it_and_how_it_ends() -> None:
    with running(SERVICE, "--help") as program:
        assert (program.end(), program.errors) == (0, [])
    shown = " ".join(program.lines)
    assert "python -m bms_async.simulator" in shown
    assert "Exit codes: 0" in shown
