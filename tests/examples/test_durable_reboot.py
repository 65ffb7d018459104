"""`examples/durable_reboot.py`, run as a user would, and killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.examples.processes import NOBODY, ROOT, Program, RunsFile, Simulator, running, simulator, wait_until

PROGRAM = str(ROOT / "examples" / "durable_reboot.py")
SERVERS = 40


@pytest.fixture
def cloud() -> Iterator[Simulator]:
    with simulator("--servers", str(SERVERS), "--seed", "5", "--job-seconds", "0.5", "1.5") as cloud:
        yield cloud


def arguments_for(cloud: Simulator, folder: Path) -> list[str]:
    ids = folder / "ids.txt"
    ids.write_text("\n".join(cloud.ids()), encoding="utf-8")
    return ["kernel-42", str(ids), "--cursor", str(folder / "cursor")]


def settings_for(cloud: Simulator, folder: Path) -> Mapping[str, str]:
    return {**cloud.settings, "XDG_STATE_HOME": str(folder / "state")}


@pytest.fixture
def arguments(cloud: Simulator, tmp_path: Path) -> list[str]:
    return [*arguments_for(cloud, tmp_path), "--wave", "20"]


@pytest.fixture
def settings(cloud: Simulator, tmp_path: Path) -> Mapping[str, str]:
    return settings_for(cloud, tmp_path)


def printed(program: Program) -> dict[str, str]:
    """Return the state of each server that it has printed a line for."""
    said = [line.split() for line in program.lines[1:] if not line.startswith("<")]
    assert len({server_id for server_id, *_ in said}) == len(said)
    return {server_id: state for server_id, state, *_ in said}


def reboots(cloud: Simulator) -> dict[str, int]:
    counted: dict[str, int] = cloud.ask("servers/work")["reboot"]
    return counted


def journal_in(folder: Path) -> RunsFile:
    return RunsFile(folder / "state" / "bms" / "runs.db")


def test_a_reboot_that_was_killed_goes_on_with_the_same_command_and_no_server_is_rebooted_twice(
    cloud: Simulator, arguments: list[str], settings: Mapping[str, str], tmp_path: Path
) -> None:
    # The first half is asked for by four calls, and nothing of the second before the kill.
    cloud.refuse_after(4, "servers.reboot")
    journal = journal_in(tmp_path)
    with running(PROGRAM, *arguments, settings=settings) as program:
        program.line_with("SUCCEEDED")
        wait_until(lambda: cloud.has_refused and not journal.sends, program)
        program.kill()
    first = printed(program)
    journal.let_leases_end()
    with running(PROGRAM, *arguments, settings=settings) as program:
        assert (program.end(), program.errors) == (0, [])
    second = printed(program)

    assert len(second) >= 20
    assert {**first, **second} == dict.fromkeys(cloud.ids(), "SUCCEEDED")
    assert reboots(cloud) == dict.fromkeys(cloud.ids(), 1)


def test_after_ctrl_c_each_outcome_is_printed_once_and_nothing_is_unknown(
    cloud: Simulator, arguments: list[str], settings: Mapping[str, str]
) -> None:
    cloud.refuse_after(4, "servers.reboot")
    with running(PROGRAM, *arguments, settings=settings) as program:
        program.line_with("SUCCEEDED")
        wait_until(lambda: cloud.has_refused, program)
        assert program.kill(signal.SIGINT) == 130
    first = printed(program)
    said = [line for line in program.errors if "RateLimitedError" not in line]
    assert said == ["interrupted; the same command goes on with the run"]
    with running(PROGRAM, *arguments, settings=settings) as program:
        assert (program.end(), program.errors) == (0, [])
    second = printed(program)

    assert not first.keys() & second.keys()
    assert first | second == dict.fromkeys(cloud.ids(), "SUCCEEDED")
    assert reboots(cloud) == dict.fromkeys(cloud.ids(), 1)


def test_the_same_command_after_the_end_sends_nothing(
    cloud: Simulator, arguments: list[str], settings: Mapping[str, str]
) -> None:
    for lines in (SERVERS, 0):
        with running(PROGRAM, *arguments, settings=settings) as program:
            assert (program.end(), program.errors) == (0, [])
        assert len(printed(program)) == lines
    assert reboots(cloud) == dict.fromkeys(cloud.ids(), 1)


def test_the_key_of_another_run_is_refused(arguments: list[str], settings: Mapping[str, str], tmp_path: Path) -> None:
    with running(PROGRAM, *arguments, settings=settings) as program:
        program.line_with("SUCCEEDED")
    Path(arguments[1]).write_text("another-server", encoding="utf-8")
    with running(PROGRAM, *arguments, settings=settings) as program:
        assert program.end() == 3
    assert "expected the same servers as before, or a new key" in program.errors[0]


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"BMS_RUNS": "nonsense"}, "expected the address of a store"), ({"OS_TOKEN": ""}, "OS_TOKEN")],
)
def test_settings_that_make_no_sense_end_it_before_anything_is_written(
    changes: Mapping[str, str], text: str, tmp_path: Path
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("server", encoding="utf-8")
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with running(PROGRAM, "key", str(ids), settings={**NOBODY, **state, **changes}) as program:
        assert program.end() == 3
    assert text in program.errors[0]
    assert not (tmp_path / "state" / "bms" / "runs.db").exists()


def test_a_file_without_ids_takes_no_key(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("\n", encoding="utf-8")
    with running(PROGRAM, "key", str(ids), settings=NOBODY) as program:
        assert program.end() == 2
    assert "ids.txt has none" in program.errors[-1]


def test_a_server_that_was_not_rebooted_is_printed_with_the_reason(cloud: Simulator, tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("no-such-server an/id", encoding="utf-8")
    cursor = ("--cursor", str(tmp_path / "cursor"))
    with running(PROGRAM, "key", str(ids), *cursor, settings=settings_for(cloud, tmp_path)) as program:
        assert (program.end(), program.errors) == (1, [])
    said = "\n".join(program.lines)
    assert "no-such-server FAILED servers.reboot: 400 BMS.0040: No server has the id no-such-server." in said
    assert "an/id SKIPPED ids='an/id': expected an id of letters" in said


def test_its_help_says_how_to_run_it_and_how_it_ends() -> None:
    with running(PROGRAM, "--help") as program:
        assert (program.end(), program.errors) == (0, [])
    shown = " ".join(program.lines)
    assert "python examples/durable_reboot.py kernel-42" in shown
    assert "Exit codes: 0" in shown
