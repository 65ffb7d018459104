"""What the cloud said, as the user comes to read it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bms_async import BadRequestError, Job, JobFailedError, JobLostError, Outcome, OutcomeState, TransportError
from bms_async.cli.following.failures import Failures
from bms_async.cli.terminal.words import message_of, message_of_error
from bms_async.errors import SubJobFailedError
from tests.cli._helpers import Bms

SLOT = "power controller of slot 7 did not answer"
FAN = "the fan of slot 9 is broken"


def sub_job(server_id: str, reason: str | None, code: str | None = "BMS.0006") -> dict[str, object]:
    return {"status": "FAIL", "job_id": f"p-{server_id}", "error_code": code, "fail_reason": reason,
            "entities": {"server_id": server_id}}  # fmt: skip


def job(*subs: Mapping[str, object], **more: object) -> dict[str, object]:
    entities = {"sub_jobs_total": len(subs), "sub_jobs": subs}
    return {"job_id": "job-1", "status": "FAIL", "entities": entities, **more}


@contextmanager
def cloud_that_says(answer: Mapping[str, object], *, status: int = 200) -> Iterator[str]:
    """A cloud that takes each call that asks for something, and shows one job, or refuses all with one answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told: object = answer
            if status == 200 and self.command == "POST":
                told = {"job_id": "job-1"}
            elif status == 200 and "/jobs/" not in self.path:
                told = {"server": {"id": self.path.rpartition("/")[2], "status": "ACTIVE"}}
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Request-Id", "req-17")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - as the library calls them

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def bms_at(address: str, state: Path) -> Bms:
    return Bms({"BMS_ENDPOINT": address, "OS_PROJECT_ID": "p", "OS_TOKEN": "t"}, state)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_run_tells_what_the_cloud_said_of_its_servers_in_the_report_the_progress_and_on_the_page(
    tmp_path: Path,
) -> None:
    subs = [sub_job("s-1", SLOT), sub_job("s-2", FAN), sub_job("s-3", SLOT)]
    with cloud_that_says(job(*subs)) as address:
        bms, page = bms_at(address, tmp_path), tmp_path / "page.html"
        ended = bms("stop", "s-1", "s-2", "s-3", "--yes", "--report", str(page))
        told = bms("stop", "s-1", "s-2", "s-3", "--yes", "--json").json
    out, err = flat(ended.out), flat(ended.err)
    assert ended.code == 1
    assert "3 BMS.0006: The service could not set up a job for the request. Read the message that came with it" in out
    assert (
        f"the cloud said of 2 servers, such as s-1 (job job-1): {SLOT} the cloud said of s-2 (job job-1): {FAN}" in out
    )
    for words in (SLOT, FAN):
        assert f"The cloud said: {words} (job job-1)" in err
        assert words in page.read_text()
    assert {each["server_id"]: each["said"] for each in told[:-1]} == {"s-1": SLOT, "s-2": FAN, "s-3": SLOT}
    reasons = [(each["code"], each["said"], each["servers"], each["job_id"]) for each in told[-1]["reasons"]]
    assert reasons == [("BMS.0006", SLOT, 2, "job-1"), ("BMS.0006", FAN, 1, "job-1")]


def test_jobs_are_shown_and_watched_with_what_the_cloud_said_of_them(tmp_path: Path) -> None:
    subs = [sub_job("s-1", SLOT), sub_job("s-2", FAN), sub_job("s-3", None, None)]
    whole = job(*subs, error_code="BMS.3004", fail_reason="2 of 3 nodes are unreachable")
    with cloud_that_says(whole) as address:
        bms = bms_at(address, tmp_path)
        shown, watched = bms("jobs", "show", "job-1"), bms("jobs", "watch", "job-1")
        lines = bms("jobs", "watch", "job-1", "--json").json
    for ended in (shown, watched):
        assert ended.code == 1
        assert f"the cloud said of s-1 (job job-1): {SLOT}" in flat(ended.out)
        assert f"the cloud said of s-2 (job job-1): {FAN}" in flat(ended.out)
    assert "BMS.3004: The server was not created: the service failed inside." in flat(shown.out)
    assert "the cloud said of the job: 2 of 3 nodes are unreachable" in flat(shown.out)
    assert "2 of 3 nodes are unreachable" in watched.err
    assert {each["server_id"]: each["reason"] for each in lines if each["type"] == "sub_job"} == {
        "s-1": SLOT, "s-2": FAN, "s-3": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["servers", "list"], 400),
        (["servers", "show", "s-1"], 404),
        (["jobs", "show", "job-1"], 404),
        (["jobs", "watch", "job-1"], 404),
        (["quota"], 403),
        (["stop", "s-1", "--yes"], 404),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_cloud_and_with_its_request_id(
    tmp_path: Path, arguments: list[str], status: int
) -> None:
    answer = {"error": {"code": "BMS.0018", "message": "the gateway of\x1b[2J zone 3 is closed"}}
    with cloud_that_says(answer, status=status) as address:
        ended = bms_at(address, tmp_path)(*arguments)
    assert ended.code != 0
    assert "zone 3 is closed" in flat(ended.err)
    assert "req-17" in flat(ended.err)
    assert "\x1b" not in ended.err + ended.out


def refused(server: str, words: str, request_id: str = "r-1") -> Outcome:
    error = BadRequestError(status=400, code="BMS.0018", message=words, request_id=request_id)
    return Outcome(server_id=server, state=OutcomeState.FAILED, error=error)


def test_words_that_differ_under_one_code_are_kept_apart_and_counted() -> None:
    failures = Failures()
    first = failures.add(refused("s-0", "the flavor is gone"))
    assert first is not None
    assert first.endswith("The cloud said: the flavor is gone (request id r-1)")
    for number in range(1, 9):
        failures.add(refused(f"s-{number}", "the disk is full" if number > 2 else "the flavor is gone"))
    [reason] = failures.reasons()
    assert [(each.message.text, each.server, each.total) for each in reason.messages] == [
        ("the disk is full", "s-3", 6),
        ("the flavor is gone", "s-0", 3),
    ]


def test_words_that_name_each_server_are_the_same_of_all() -> None:
    failures = Failures()
    shown = [failures.add(refused(f"s-{number}", f"server s-{number} is locked")) for number in range(100)]
    [reason] = failures.reasons()
    assert [(each.message.text, each.total) for each in reason.messages] == [("server s-0 is locked", 100)]
    assert sum(each is not None for each in shown) == 1


def test_however_many_different_words_there_are_few_are_kept_and_all_are_counted() -> None:
    failures = Failures()
    shown = [failures.add(refused("s-1", f"slot {number} is empty")) for number in range(10_000)]
    [reason] = failures.reasons()
    assert sum(each.total for each in reason.messages) + reason.dropped == reason.total == len(failures) == 10_000
    assert len(reason.messages) <= 500
    assert sum(each is not None for each in shown) == 3


def test_what_is_said_often_is_found_also_where_it_comes_after_much_that_is_said_once() -> None:
    failures = Failures()
    for number in range(3000):
        failures.add(refused("s-1", f"slot {number} is empty" if number < 1500 or number % 2 else "no power"))
    [reason] = failures.reasons()
    assert (reason.messages[0].message.text, reason.messages[0].total) == ("no power", 750)


def test_words_come_from_wherever_an_error_has_them_on_one_line_and_bounded() -> None:
    failed = JobFailedError(Job(job_id="j", status="FAIL", fail_reason="no\npower"))  # type: ignore[arg-type]
    assert message_of_error(failed) == ("no power", "j", None)
    sub = SubJobFailedError(server_id="s", job_id="j", code=None, reason="数" * 1000)
    told = message_of_error(sub)
    assert told is not None
    assert (len(told.text), told.text[-1]) == (300, "…")
    silent = (
        TransportError("reset", maybe_delivered=True),
        JobLostError("it is gone", job_id="j", job=None),
        SubJobFailedError(server_id="s", job_id="j", code="BMS.0006", reason=" \n"),
    )
    assert [message_of_error(each) for each in silent] == [None, None, None]
    outcome = Outcome(server_id="s", state=OutcomeState.FAILED, job_id="job-9", error=refused("s", "no").error)
    assert message_of(outcome) == ("no", "job-9", "r-1")


def test_a_code_that_nobody_knows_is_said_to_be_unknown_beside_what_the_cloud_said() -> None:
    failures = Failures()
    error = SubJobFailedError(server_id="s", job_id="j", code="BMS.9999", reason=SLOT)
    told = failures.add(Outcome(server_id="s", state=OutcomeState.FAILED, error=error))
    assert told == f"The API reference does not have this code. The cloud said: {SLOT} (job j)"
