"""`examples/controller.py`, run as a user would."""

from __future__ import annotations

import json
import signal
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bms_async._extras import is_installed
from tests.examples.processes import NOBODY, ROOT, Program, Simulator, running, simulator, wait_until

CONTROLLER = str(ROOT / "examples" / "controller.py")
FLAGS = ("--seed", "7", "--throttle", "none")
OFTEN = ("--every", "0.3", "--look", "0.1", "--backoff", "0.5")


def write(file: Path, states: Mapping[str, str]) -> None:
    file.write_text("# what should be\n" + "".join(f"{server_id} {state}\n" for server_id, state in states.items()))


@contextmanager
def controlling(cloud: Simulator, folder: Path, *flags: str, times: float | None = None) -> Iterator[Program]:
    files = (str(folder / "desired"), "--jobs", str(folder / "jobs"))
    with running(CONTROLLER, *files, *(flags or OFTEN), settings=cloud.settings, times=times) as program:
        yield program


def decision(program: Program, name: str) -> dict[str, Any]:
    """Wait for a decision and return it."""
    told: dict[str, Any] = json.loads(program.line_with(f'"decision":"{name}"'))
    return told


def decisions(program: Program, name: str) -> list[dict[str, Any]]:
    return [told for line in program.lines if (told := json.loads(line))["decision"] == name]


def saved(folder: Path) -> Mapping[str, str]:
    jobs: Mapping[str, str] = json.loads((folder / "jobs").read_text())["jobs"]
    return jobs


def arrived(cloud: Simulator, operation: str) -> int:
    count: int = cloud.ask("calls")["operations"].get(operation, {}).get("arrived", 0)
    return count


def begun(cloud: Simulator, action: str, ids: Iterable[str]) -> list[int]:
    """How often an action was begun with each of these."""
    work = cloud.ask("servers/work")[action]
    return [work.get(server_id, 0) for server_id in ids]


def test_it_makes_servers_as_the_file_has_them_and_keeps_them_so(tmp_path: Path) -> None:
    with simulator("--servers", "60", "--job-seconds", "0.1", "0.3", "--stopped-share", "0.5", *FLAGS) as cloud:
        ids = cloud.ids()
        write(tmp_path / "desired", dict.fromkeys(ids[:20], "on") | dict.fromkeys(ids[20:40], "off"))
        unnamed = cloud.among(ids[40:], "SHUTOFF")
        with controlling(cloud, tmp_path) as program:
            wait_until(lambda: cloud.among(ids[:40], "ACTIVE") == ids[:20], program)
            # Somebody stops two of them behind our back.
            decision(program, "repaired")
            before = begun(cloud, "start", ids[:2])
            cloud.stop_behind_our_back(*ids[:2])
            wait_until(lambda: begun(cloud, "start", ids[:2]) == [times + 1 for times in before], program)
            wait_until(lambda: cloud.among(ids[:2], "ACTIVE") == ids[:2], program)
            # What the file does not name is left alone, and nothing is ever rebooted.
            assert cloud.among(ids[40:], "SHUTOFF") == unnamed
            assert arrived(cloud, "servers.reboot") == 0
            wait_until(lambda: not saved(tmp_path), program)
            assert program.kill(signal.SIGTERM) == 0
        assert decisions(program, "end") == [json.loads(program.lines[-1])]
        assert program.errors == []
        assert all(told["action"] in ("start", "stop") for told in decisions(program, "repair"))


def test_a_file_that_makes_no_sense_is_told_and_the_old_state_stays_in_force(tmp_path: Path) -> None:
    with simulator("--servers", "10", "--job-seconds", "0.1", "0.3", *FLAGS) as cloud:
        one, other, *_ = cloud.ids()
        write(tmp_path / "desired", {one: "off", other: "on", "none-such": "on"})
        with controlling(cloud, tmp_path) as program:
            assert decision(program, "ignore")["first"] == ["none-such"]
            assert decision(program, "repaired")["SUCCEEDED"] == 1
            (tmp_path / "desired").write_text(f"{one} off\n{other} of\n")
            why = decision(program, "keep")["why"]
            assert f"line 2: '{other} of'; write the id of a server, a blank, and on or off" in why
            (tmp_path / "desired").unlink()
            assert "cannot read" in decision(program, "keep")["why"]
            cloud.stop_behind_our_back(other)
            wait_until(lambda: begun(cloud, "start", [other]) == [1], program)
            wait_until(lambda: cloud.among([other], "ACTIVE") == [other], program)
            write(tmp_path / "desired", {one: "on"})
            assert (decision(program, "desire")["on"], decision(program, "repair")["first"]) == (1, [one])
            wait_until(lambda: cloud.states() == {"ACTIVE": 10}, program)


def test_what_was_not_asked_for_yet_is_not_asked_for_when_the_file_has_changed(tmp_path: Path) -> None:
    with simulator("--servers", "20", "--job-seconds", "2", "2.5", *FLAGS) as cloud:
        write(tmp_path / "desired", dict.fromkeys(cloud.ids(), "off"))
        with controlling(cloud, tmp_path, *OFTEN, "--wave", "5") as program:
            assert decision(program, "accepted")["servers"] == 5
            write(tmp_path / "desired", {})
            assert decision(program, "desire")["off"] == 0
            told = decision(program, "repaired")
            assert (told["SUCCEEDED"], told["SKIPPED"]) == (5, 15)
            assert sum(begun(cloud, "stop", cloud.ids())) == 5


def test_what_is_begun_is_what_the_file_says_when_the_last_page_has_come(tmp_path: Path) -> None:
    with simulator("--servers", "1100", "--job-seconds", "0.1", "0.3", *FLAGS) as cloud:
        write(tmp_path / "desired", dict.fromkeys(cloud.ids(), "off"))
        # The cloud is tried by one page, and two that are fetched ahead and abandoned at once. Our own transport does
        # not send the one of them whose connection is still to be opened.
        tried = 2 if is_installed("httptools") else 3
        second_page = tried + 2
        cloud.err("servers.list", [second_page], {"type": "Delay", "seconds": 4})
        with controlling(cloud, tmp_path) as program:
            wait_until(lambda: arrived(cloud, "servers.list") >= second_page, program)
            write(tmp_path / "desired", dict.fromkeys(cloud.ids(), "on"))
            assert decision(program, "desire")["on"] == 1100
            wait_until(lambda: arrived(cloud, "servers.list") > second_page + 3, program)
        assert arrived(cloud, "servers.stop") == 0


def test_no_more_servers_are_under_way_than_allowed_however_often_the_file_changes(tmp_path: Path) -> None:
    with simulator("--servers", "20", "--job-seconds", "1", "1.5", *FLAGS) as cloud:
        ids = cloud.ids()
        write(tmp_path / "desired", dict.fromkeys(ids[:10], "off"))
        with controlling(cloud, tmp_path, *OFTEN, "--wave", "5") as program:
            assert decision(program, "accepted")["servers"] == 5
            write(tmp_path / "desired", dict.fromkeys(ids[10:], "off"))
            decision(program, "desire")
            wait_until(lambda: cloud.among(ids[10:], "SHUTOFF") == ids[10:], program)
        told = [json.loads(line)["decision"] for line in program.lines]
        # The five end first.
        assert [name for name in told if name in ("accepted", "repaired")][:3] == ["accepted", "repaired", "accepted"]


def test_a_server_that_the_list_never_shows_as_asked_is_asked_for_later_and_later(tmp_path: Path) -> None:
    with simulator("--servers", "3", *FLAGS) as cloud:
        write(tmp_path / "desired", {cloud.ids()[0]: "off"})
        # The cloud says that it is off already, and lists it as running.
        already = b64encode(b'{"error": {"code": "BMS.0039", "message": "It is off."}}').decode()
        cloud.err("servers.stop", range(1, 1000), {"type": "Answer", "status": 400, "body": already})
        with controlling(cloud, tmp_path, "--every", "0.1", "--backoff", "600") as program:
            assert decision(program, "repaired")
            wait_until(lambda: arrived(cloud, "servers.list") > 10, program)
        assert len(decisions(program, "repair")) == 1


def test_a_job_is_saved_before_it_is_told(tmp_path: Path) -> None:
    with simulator("--servers", "10", "--job-seconds", "20", "30", *FLAGS) as cloud:
        write(tmp_path / "desired", dict.fromkeys(cloud.ids(), "off"))
        with controlling(cloud, tmp_path) as program:
            assert decision(program, "accepted")["job"] in saved(tmp_path)


def test_a_file_from_any_editor_is_read(tmp_path: Path) -> None:
    with simulator("--servers", "4", "--job-seconds", "0.1", "0.3", *FLAGS) as cloud:
        one, other, *_ = cloud.ids()
        (tmp_path / "desired").write_bytes(f"\ufeff{one}\toff\r\n\r\n{other} off # \x0b\r\n".encode())
        with controlling(cloud, tmp_path) as program:
            assert decision(program, "repaired")["SUCCEEDED"] == 2
        assert decisions(program, "ignore") == []


def test_kill_9_in_the_middle_loses_no_job_and_asks_for_no_server_twice(tmp_path: Path) -> None:
    with simulator("--servers", "1200", "--job-seconds", "2", "3", *FLAGS) as cloud:
        ids = cloud.ids()
        write(tmp_path / "desired", dict.fromkeys(ids, "off"))
        with controlling(cloud, tmp_path) as program:
            wait_until(lambda: arrived(cloud, "servers.stop") == 2, program)
            wait_until(lambda: (tmp_path / "jobs").exists() and len(saved(tmp_path)) == 2, program)
            program.kill()
        with controlling(cloud, tmp_path) as program:
            told = decision(program, "resume")
            assert (told["action"], told["servers"], len(told["jobs"])) == ("stop", 1200, 2)
            assert decision(program, "repaired")["SUCCEEDED"] == 1200
            assert decisions(program, "accepted") == []
            wait_until(lambda: not saved(tmp_path), program)
            assert program.kill(signal.SIGINT) == 0
        assert begun(cloud, "stop", ids) == [1] * 1200
        assert arrived(cloud, "servers.stop") == 2
        assert cloud.states() == {"SHUTOFF": 1200}


def test_a_signal_leaves_the_jobs_to_the_next_controller(tmp_path: Path) -> None:
    with simulator("--servers", "20", "--job-seconds", "2.5", "3", *FLAGS) as cloud:
        write(tmp_path / "desired", dict.fromkeys(cloud.ids(), "off"))
        with controlling(cloud, tmp_path) as program:
            decision(program, "accepted")
            wait_until((tmp_path / "jobs").exists, program)
            assert program.kill(signal.SIGTERM) == 0
            assert decisions(program, "end")[0]["jobs_left"] == 1
        with controlling(cloud, tmp_path) as program:
            assert decision(program, "repaired")["SUCCEEDED"] == 20
        assert arrived(cloud, "servers.stop") == 1


def test_it_goes_on_when_the_cloud_is_killed_and_comes_back(tmp_path: Path) -> None:
    with simulator("--servers", "200", "--job-seconds", "50", "60", *FLAGS) as cloud:
        ids = cloud.ids()
        write(tmp_path / "desired", dict.fromkeys(ids, "off"))
        with controlling(cloud, tmp_path, "--every", "20", times=100) as program:
            decision(program, "accepted")
            cloud.program.kill()
            decision(program, "wait")
            cloud.begin("--job-seconds", "0.2", "0.4")
            assert cloud.states() == {"ACTIVE": 200}
            assert "not known to the cloud" in decision(program, "lost")["why"]
            # No job tells any more what became of them, and their own states show that they are not as asked.
            assert decision(program, "repaired")["UNKNOWN"] == 200
            assert decision(program, "repaired")["SUCCEEDED"] == 200
            wait_until(lambda: cloud.states() == {"SHUTOFF": 200}, program)
            assert arrived(cloud, "servers.reboot") == 0
            wait_until(lambda: not saved(tmp_path), program)
            assert program.kill(signal.SIGTERM) == 0
        assert program.errors == []


def test_servers_that_fail_are_tried_again_later_and_later(tmp_path: Path) -> None:
    with simulator("--servers", "10", "--job-seconds", "0.1", "0.2", "--fail-share", "1", *FLAGS) as cloud:
        one, other, *_ = cloud.ids()
        write(tmp_path / "desired", {one: "off", other: "on"})
        with controlling(cloud, tmp_path) as program:
            told = [decision(program, "back off") for _ in range(2)]
            assert [(each["server"], each["attempts"], each["seconds"]) for each in told] == [
                (one, 1, 0.5),
                (one, 2, 1.0),
            ]
            assert "BMS.0006" in told[0]["why"]
            assert begun(cloud, "stop", [one]) == [2]


def test_who_cannot_save_jobs_begins_nothing_more(tmp_path: Path) -> None:
    with simulator("--servers", "10", "--job-seconds", "1", "2", *FLAGS) as cloud:
        write(tmp_path / "desired", dict.fromkeys(cloud.ids(), "off"))
        # As good as a full disk: nothing can be written there.
        (tmp_path / "jobs.new").mkdir()
        with controlling(cloud, tmp_path, *OFTEN, "--wave", "2") as program:
            assert "cannot save the jobs" in decision(program, "give up")["why"]
            assert program.end() == 1
        assert arrived(cloud, "servers.stop") == 1


def test_two_controllers_do_not_share_a_file_of_jobs(tmp_path: Path) -> None:
    with simulator("--servers", "10", *FLAGS) as cloud:
        write(tmp_path / "desired", {})
        with controlling(cloud, tmp_path) as program:
            wait_until(lambda: arrived(cloud, "servers.list") > 0, program)
            with controlling(cloud, tmp_path) as second:
                assert second.end() == 2
            assert "another controller has" in second.errors[-1]
            assert program.kill(signal.SIGTERM) == 0


@pytest.fixture(scope="module")
def real() -> Iterator[Mapping[str, str]]:
    with simulator("--servers", "10", *FLAGS) as cloud:
        yield cloud.settings


@pytest.mark.parametrize(
    ("desired", "jobs", "code", "told"),
    [
        (None, None, 2, "cannot read"),
        ("a on\nb\n", None, 2, "line 2: 'b'; write the id of a server"),
        ("a on\n\na off # no\n", None, 2, "line 3: server a is on line 1 too; delete one"),
        ("a reboot\n", None, 2, "line 1: reboot is not a state; write on or off"),
        ("a on\n", "{", 2, "repair it, or give another --jobs"),
        ("a on\n", '{"version": 2, "jobs": {}}', 2, "version 2, and this program reads 1"),
        ("a on\n", '{"version": 1, "jobs": {"j": "{}"}}', 2, "cannot resume a job"),
        ("a on\n", "PROJECT", 2, "expected a job of this client's project"),
        ("a on\n", "REBOOT", 2, "cannot resume job j of servers.reboot"),
        ("a on\n", "EMPTY", 2, "cannot resume job j of servers.stop and 0 servers"),
    ],
)
def test_files_that_cannot_be_meant_are_told(
    real: Mapping[str, str], tmp_path: Path, desired: str | None, jobs: str | None, code: int, told: str
) -> None:
    kept = {"version": 1, "job_id": "j", "project_id": real["OS_PROJECT_ID"], "servers": ["a"]}
    changes: dict[str | None, dict[str, object]] = {
        "PROJECT": {"project_id": "another"},
        "REBOOT": {"action": "servers.reboot"},
        "EMPTY": {"action": "servers.stop", "servers": []},
    }
    kept |= changes.get(jobs, {})
    if jobs in changes:
        jobs = json.dumps({"version": 1, "jobs": {"j": json.dumps(kept)}})
    for name, text in {"desired": desired, "jobs": jobs}.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    with running(CONTROLLER, str(tmp_path / "desired"), "--jobs", str(tmp_path / "jobs"), settings=real) as program:
        assert (program.end(), program.lines) == (code, [])
    assert told in program.errors[-1]
    assert len(program.errors) == 1


@pytest.mark.parametrize(
    ("flags", "settings", "code", "told"),
    [
        ([], NOBODY, 4, "nothing reached the cloud"),
        ([], {}, 3, "BMS_ENDPOINT"),
        ([], NOBODY | {"OS_TOKEN": ""}, 3, "OS_TOKEN"),
        (["--every", "0"], NOBODY, 2, "more than 0 seconds"),
        (["--wave", "0"], NOBODY, 2, "1 or more"),
        (["--jobs", "/no/such/folder/jobs"], NOBODY, 2, "/no/such/folder"),
        (["--jobs", "."], NOBODY, 2, "give another --jobs"),
    ],
)
def test_what_keeps_it_from_starting_is_told_by_the_code(
    tmp_path: Path, flags: list[str], settings: Mapping[str, str], code: int, told: str
) -> None:
    (tmp_path / "desired").write_text("a on\n")
    files = (str(tmp_path / "desired"), "--jobs", str(tmp_path / "jobs"))
    with running(CONTROLLER, *files, *flags, settings=settings) as program:
        assert (program.end(), program.lines) == (code, [])
    assert told in program.errors[-1]
    assert not [line for line in program.errors if "Traceback" in line]


def test_a_wrong_token_is_told(real: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "desired").write_text("a on\n")
    files = (str(tmp_path / "desired"), "--jobs", str(tmp_path / "jobs"))
    with running(CONTROLLER, *files, settings={**real, "OS_TOKEN": "wrong"}) as program:
        assert program.end() == 3
    assert "401" in program.errors[-1]


def test_its_help_says_how_to_run_it_and_how_it_ends() -> None:
    with running(CONTROLLER, "--help") as program:
        assert (program.end(), program.errors) == (0, [])
    shown = " ".join(program.lines)
    assert "python -m bms_async.simulator" in shown
    assert "Exit codes: 0" in shown
