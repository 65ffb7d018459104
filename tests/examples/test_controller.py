"""`examples/controller.py`, run as a user would."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.examples.processes import ENDLESS, NOBODY, ROOT, Program, Simulator, running, simulator, wait_until

CONTROLLER = str(ROOT / "examples" / "controller.py")
FLAGS = ("--seed", "7", "--throttle", "none")
OFTEN = ("--resync", "0.3")


def write(file: Path, states: Mapping[str, str]) -> None:
    file.write_text("# what should be\n" + "".join(f"{server_id} {state}\n" for server_id, state in states.items()))


@contextmanager
def controlling(
    cloud: Simulator, folder: Path, *flags: str, times: float | None = None, runs: str = ""
) -> Iterator[Program]:
    settings = {**cloud.settings, "BMS_RUNS": runs}
    with running(CONTROLLER, str(folder / "desired"), *(flags or OFTEN), settings=settings, times=times) as program:
        yield program


def event(program: Program, name: str, **details: object) -> dict[str, Any]:
    """Wait for an event with these details, and return it."""
    while True:
        told: dict[str, Any] = json.loads(program.line_with(f'"event":"{name}"'))
        if details.items() <= told.items():
            return told


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
            event(program, "Synced", server=ids[0], desired="ACTIVE")
            # Somebody stops two of them behind our back.
            before = begun(cloud, "start", ids[:2])
            cloud.stop_behind_our_back(*ids[:2])
            wait_until(lambda: begun(cloud, "start", ids[:2]) == [times + 1 for times in before], program)
            wait_until(lambda: cloud.among(ids[:2], "ACTIVE") == ids[:2], program)
            # What the file does not name is left alone, and nothing is ever rebooted.
            assert cloud.among(ids[40:], "SHUTOFF") == unnamed
            assert cloud.arrived("servers.reboot") == 0
            assert program.kill(signal.SIGTERM) == 0
        assert json.loads(program.lines[-1])["event"] == "ended"
        assert program.errors == []


def test_a_file_that_makes_no_sense_is_told_and_the_old_state_stays_in_force(tmp_path: Path) -> None:
    with simulator("--servers", "10", "--job-seconds", "0.1", "0.3", *FLAGS) as cloud:
        one, other, *_ = cloud.ids()
        # Some editors begin a file with a byte order mark, and others end lines in their own way.
        (tmp_path / "desired").write_bytes(f"\ufeff{one}\toff\r\n\r\n{other} on # \x0b\r\nnone-such on\r\n".encode())
        with controlling(cloud, tmp_path) as program:
            assert event(program, "desired")["servers"] == 3
            assert (
                event(program, "Degraded", server="none-such")["reason"]
                == "the cloud does not show it: check the id and the project"
            )
            event(program, "Synced", server=one, desired="SHUTOFF")
            (tmp_path / "desired").write_text(f"{one} off\n{other} of\n")
            assert f"line 2: '{other} of'; write an id" in event(program, "kept")["why"]
            (tmp_path / "desired").write_text(f"{one} off\n{other} o")
            assert "it ends within a line" in event(program, "kept")["why"]
            (tmp_path / "desired").unlink()
            assert "No such file" in event(program, "kept")["why"]
            cloud.stop_behind_our_back(other)
            wait_until(lambda: begun(cloud, "start", [other]) == [1], program)
            wait_until(lambda: cloud.among([other], "ACTIVE") == [other], program)
            write(tmp_path / "desired", {one: "on"})
            assert event(program, "desired")["servers"] == 1
            wait_until(lambda: cloud.states() == {"ACTIVE": 10}, program)
            assert program.kill(signal.SIGINT) == 0


def test_after_a_kill_9_no_server_is_asked_for_twice(tmp_path: Path) -> None:
    with simulator("--servers", "1200", "--job-seconds", "2", "3", *FLAGS) as cloud:
        ids = cloud.ids()
        write(tmp_path / "desired", dict.fromkeys(ids, "off"))
        with controlling(cloud, tmp_path, *OFTEN, "--wave", "700") as program:
            wait_until(lambda: cloud.arrived("servers.stop") >= 1, program)
            program.kill()
        with controlling(cloud, tmp_path, *OFTEN, "--wave", "700") as program:
            wait_until(lambda: cloud.states() == {"SHUTOFF": 1200}, program)
        assert begun(cloud, "stop", ids) == [1] * 1200
        assert cloud.arrived("servers.stop") < 10


def test_of_two_replicas_one_acts_and_the_other_goes_on_when_it_is_killed(tmp_path: Path) -> None:
    runs = f"sqlite://{tmp_path}/runs.db"
    with simulator("--servers", "40", "--job-seconds", "1", "2", *FLAGS) as cloud:
        ids = cloud.ids()
        write(tmp_path / "desired", dict.fromkeys(ids, "off"))
        with controlling(cloud, tmp_path, *OFTEN, "--wave", "10", runs=runs) as first:
            wait_until(lambda: cloud.arrived("servers.stop") >= 1, first)
            with controlling(cloud, tmp_path, *OFTEN, "--wave", "10", runs=runs) as second:
                event(second, "desired")
                first.kill()
                wait_until(lambda: cloud.states() == {"SHUTOFF": 40}, second)
                assert second.kill(signal.SIGTERM) == 0
        assert begun(cloud, "stop", ids) == [1] * 40


def test_it_goes_on_when_the_cloud_is_killed_and_comes_back(tmp_path: Path) -> None:
    with simulator("--servers", "200", *ENDLESS, *FLAGS) as cloud:
        write(tmp_path / "desired", dict.fromkeys(cloud.ids(), "off"))
        with controlling(cloud, tmp_path, times=100) as program:
            event(program, "Progressing", action="stop")
            cloud.program.kill()
            cloud.begin("--job-seconds", "0.2", "0.4")
            assert cloud.states() == {"ACTIVE": 200}
            wait_until(lambda: cloud.states() == {"SHUTOFF": 200}, program)
            assert cloud.arrived("servers.reboot") == 0
            assert program.kill(signal.SIGTERM) == 0


def test_servers_that_fail_are_tried_again_later_and_later(tmp_path: Path) -> None:
    with simulator("--servers", "10", "--job-seconds", "0.1", "0.2", "--fail-share", "1", *FLAGS) as cloud:
        one, other, *_ = cloud.ids()
        write(tmp_path / "desired", {one: "off", other: "on"})
        with controlling(cloud, tmp_path, times=100) as program:
            for attempts in (1, 2):
                told = event(program, "Degraded", server=one, attempts=attempts)
                assert told["code"] == "BMS.0006"
                assert told["code"] in told["reason"]
                assert told["next_try"] > told["at"]
            assert begun(cloud, "stop", [one]) == [2]


@pytest.mark.parametrize(
    ("desired", "told"),
    [
        (None, "No such file"),
        ("a on\nb\n", "line 2: 'b'; write an id"),
        ("a on\n\na off # no\n", "line 3: 'a off # no'; write an id of no other line"),
        ("a reboot\n", "line 1: 'a reboot'; write an id"),
    ],
)
def test_a_file_that_cannot_be_meant_is_told_before_anything_else(
    tmp_path: Path, desired: str | None, told: str
) -> None:
    if desired is not None:
        (tmp_path / "desired").write_text(desired)
    with running(CONTROLLER, str(tmp_path / "desired")) as program:
        assert (program.end(), program.lines) == (2, [])
    assert f"cannot use {tmp_path / 'desired'}: " in program.errors[-1]
    assert told in program.errors[-1]


@pytest.mark.parametrize(
    ("flags", "settings", "code", "told"),
    [
        ([], NOBODY, 3, "nothing reached the cloud"),
        ([], {}, 3, "BMS_ENDPOINT"),
        (["--resync", "soon"], NOBODY, 2, "invalid float value"),
    ],
)
def test_what_keeps_it_from_starting_is_told_by_the_code(
    tmp_path: Path, flags: list[str], settings: Mapping[str, str], code: int, told: str
) -> None:
    (tmp_path / "desired").write_text("a on\n")
    with running(CONTROLLER, str(tmp_path / "desired"), *flags, settings=settings) as program:
        assert (program.end(), program.lines) == (code, [])
    assert told in program.errors[-1]
    assert not [line for line in program.errors if "Traceback" in line]


def test_a_wrong_token_and_a_wrong_option_are_told(tmp_path: Path) -> None:
    (tmp_path / "desired").write_text("a on\n")
    with simulator("--servers", "1", *FLAGS) as cloud:
        with running(
            CONTROLLER, str(tmp_path / "desired"), settings={**cloud.settings, "OS_TOKEN": "wrong"}
        ) as program:
            assert program.end() == 3
        assert "401" in program.errors[-1]
        with controlling(cloud, tmp_path, "--wave", "0") as program:
            assert program.end() == 2
        assert "wave_size=0: expected 1 or more" in program.errors[-1]


def test_its_help_says_how_to_run_it_and_how_it_ends() -> None:
    with running(CONTROLLER, "--help") as program:
        assert (program.end(), program.errors) == (0, [])
    shown = " ".join(program.lines)
    assert "python -m bms_async.simulator" in shown
    assert "Exit codes: 0" in shown
