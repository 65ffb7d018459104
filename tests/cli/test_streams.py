"""Standard streams as the worst of scripts hand them over: closed, full, of another encoding."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from bms_async.cli.terminal.output import write_aside
from tests.cli._helpers import COMMAND, NO_SERVER, PATIENCE, Bms, Ended


def in_a_shell(bms: Bms, redirections: str, *arguments: str, **changes: str) -> Ended:
    """Run the command as a shell does with such redirections."""
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirections}', "sh", *COMMAND, *arguments],
        env={**bms.environment, **changes},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        cwd=bms.state,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize(
    ("redirections", "arguments", "code"),
    [
        ("<&-", ["stop"], 0),
        ("<&-", ["stop", "--tag", "rack-1"], 2),
        ("<&- >&- 2>&-", ["stop", "--tag", "rack-1"], 2),
        (">&-", ["servers", "list", "--limit", "1"], 0),
        ("<&- >&- 2>&-", ["start", "--tag", "rack-1", "-y"], 0),
        (">/dev/full", ["--help"], 2),
        (">/dev/full", ["servers", "list"], 2),
    ],
)
def test_streams_that_are_closed_or_full_cost_no_traceback(
    healthy_cloud: Bms, redirections: str, arguments: list[str], code: int
) -> None:
    ended = in_a_shell(healthy_cloud, redirections, *arguments)
    assert (ended.code, "Traceback" in ended.err) == (code, False)


COMMANDS = [
    ["--help"], ["--version"], [], ["stop", "--help"], ["servers", "list"], ["servers", "list", "--json"], ["calls"],
    ["calls", "reboot"], ["limits"], ["quota", "--json"], ["login"], ["completion", "zsh"], ["simulator", "--help"],
    ["simulator"], ["simulator", "--json"], ["start", NO_SERVER, "--dry-run"],
]  # fmt: skip


# What a shell starts for each command, but for the imports that all share: a child that is forked before the command
# begins gets the streams that Python would have opened, and the command is the whole process from there.
FORKING = """
import io, json, os, sys
import anyio._backends._asyncio, httptools, msgspec, rich.console, uvloop
import bms_async.cli.access.cloud, bms_async.cli.acting.power, bms_async.cli.app, bms_async.client
from bms_async.cli import main

def full():
    return os.open("/dev/full", os.O_WRONLY)

def unread():
    reading, writing = os.pipe()
    os.close(reading)
    return writing

def run(opened, arguments):
    said, saying = os.pipe()
    if os.fork():
        os.close(saying)
        with open(said) as errors:
            text = errors.read()
        return os.waitstatus_to_exitcode(os.wait()[1]), text
    os.dup2(opened, 1)
    os.dup2(saying, 2)
    os.closerange(3, 20)
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)))
    errors = io.BufferedWriter(io.FileIO(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(errors, errors="backslashreplace", line_buffering=True)
    sys.argv[1:] = arguments
    sys.exit(main())

for opened in (full, unread):
    for arguments in json.loads(sys.argv[1]):
        print(json.dumps(run(opened(), arguments)), flush=True)
"""


@pytest.fixture(scope="module")
def spoilt(healthy_cloud: Bms) -> dict[tuple[str, ...], list[Ended]]:
    """How each command ends on a full disk, and where nobody reads what it writes."""
    done = subprocess.run(
        [*COMMAND[:3], "-c", FORKING, json.dumps(COMMANDS)],
        env=healthy_cloud.environment, cwd=healthy_cloud.state, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    ended = [Ended(code, "", err) for code, err in map(json.loads, done.stdout.splitlines())]
    full, unread = ended[: len(COMMANDS)], ended[len(COMMANDS) :]
    return {tuple(each): [*both] for each, *both in zip(COMMANDS, full, unread, strict=True)}


@pytest.mark.parametrize("arguments", COMMANDS)
def test_output_that_a_full_disk_does_not_take_ends_with_one_line_and_the_code_for_that(
    spoilt: dict[tuple[str, ...], list[Ended]], arguments: list[str]
) -> None:
    ended, _ = spoilt[tuple(arguments)]
    *before, last = ended.err.splitlines()
    assert (ended.code, last) == (2, "bms: No space left on device")
    # The simulator says first that it is ready.
    assert len(before) <= (arguments == ["simulator"])


@pytest.mark.parametrize("arguments", COMMANDS)
def test_output_that_nobody_reads_ends_in_silence_and_with_the_code_for_that(
    spoilt: dict[tuple[str, ...], list[Ended]], arguments: list[str]
) -> None:
    _, ended = spoilt[tuple(arguments)]
    assert ended.code == 141
    assert len(ended.err.splitlines()) <= (arguments == ["simulator"])


@pytest.mark.parametrize(("arguments", "code"), [(["fly"], 2), (["quota"], 4), (["-vv", "quota"], 4), (["calls"], 0)])
def test_errors_that_cannot_be_written_change_no_exit_code(nowhere: Bms, arguments: list[str], code: int) -> None:
    nobody = {"BMS_ENDPOINT": "http://127.0.0.1:9", "OS_PROJECT_ID": "p", "OS_TOKEN": "t"}
    # Results and errors may go to the same full disk.
    codes = {"2>/dev/full": code, "2>&-": code, ">/dev/full 2>&1": code or 2}
    # At once, for most of the time they wait to try again.
    with ThreadPoolExecutor(len(codes)) as threads:
        ended = threads.map(lambda errors: in_a_shell(nowhere, errors, *arguments, **nobody).code, codes)
        assert dict(zip(codes, ended, strict=True)) == codes


def test_a_script_of_completion_that_cannot_be_written_is_told_of(nowhere: Bms) -> None:
    asked = {"_BMS_COMPLETE": "zsh_complete", "COMP_WORDS": "bms st", "COMP_CWORD": "1"}
    ended = in_a_shell(nowhere, ">/dev/full", **asked)
    assert (ended.code, ended.err) == (2, "bms: No space left on device\n")


@pytest.mark.parametrize("options", [["--json"], []])
def test_results_that_nobody_can_write_end_no_run(healthy_cloud: Bms, tmp_path: Path, options: list[str]) -> None:
    page = tmp_path / "report.html"
    ended = in_a_shell(healthy_cloud, ">/dev/full", "reboot", "--tag", "rack-2", "-y", "--report", str(page), *options)
    assert ended.code == 2
    assert ended.err.count("results cannot be written any more: No space left on device") == 1
    assert "reboot: 40 of 40" in ended.err
    assert "Traceback" not in ended.err
    assert page.exists()


def test_jobs_that_are_watched_into_a_full_disk_are_told_of_without_a_traceback(healthy_cloud: Bms) -> None:
    server_id = healthy_cloud.ids("rack-3")[0]
    job_id = healthy_cloud("reboot", server_id, "--json").json[0]["job_id"]
    ended = in_a_shell(healthy_cloud, ">/dev/full", "jobs", "watch", job_id, "--json")
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert ended.err.endswith("No space left on device\n")


HOMELESS = {"XDG_STATE_HOME": "", "XDG_CONFIG_HOME": "", "HOME": "/proc/nowhere"}


def test_without_a_home_each_command_says_once_that_it_cannot_share_the_limits(healthy_cloud: Bms) -> None:
    server_id = healthy_cloud.ids("rack-5")[0]
    for arguments in (["start", server_id, "-q"], ["quota"], ["servers", "list", "-n", "1"], ["login"]):
        ended = in_a_shell(healthy_cloud, "</dev/null", *arguments, **HOMELESS)
        told = [line for line in ended.err.splitlines() if "limits cannot be shared" in line]
        assert (ended.code, len(told)) == (0, 1), arguments
        assert "/proc/nowhere" in told[0]
    for arguments in (["calls"], ["--version"]):
        assert in_a_shell(healthy_cloud, "", *arguments, **HOMELESS).err == ""


def test_without_a_home_the_limits_are_shown_with_the_words_that_they_cannot_be_shared(healthy_cloud: Bms) -> None:
    ended = in_a_shell(healthy_cloud, "", "limits", "servers.stop", "--json", **HOMELESS)
    assert (ended.code, ended.json[1]["shared"], len(ended.err.splitlines())) == (0, False, 1)
    assert "the real usage may be higher than shown" in ended.err
    assert healthy_cloud("limits", "servers.stop", "--json").json[1]["shared"] is True
    assert healthy_cloud("limits").err == ""


def test_a_name_that_is_no_text_is_refused_like_any_other(healthy_cloud: Bms) -> None:
    ended = in_a_shell(healthy_cloud, "</dev/null", "stop", "caf\udce9", "-y", "--json")
    assert (ended.code, ended.out, "there is no server named 'caf\\udce9'" in ended.err) == (2, "", True)


def test_ids_that_were_written_on_windows_or_have_a_comment_are_read(healthy_cloud: Bms, tmp_path: Path) -> None:
    one, other = healthy_cloud.ids("rack-4")[:2]
    file = tmp_path / "ids.txt"
    file.write_bytes(f"\ufeff{one}\r\n\r\n{one}  # the same\r\n{other}\r\n".encode())
    plan, *_ = healthy_cloud("start", "--dry-run", "--json", "--file", str(file)).json
    assert plan["servers"] == 2
    plan, *_ = in_a_shell(healthy_cloud, f"< {file}", "start", "--dry-run", "--json").json
    assert plan["servers"] == 2
    ended = healthy_cloud("start", "-y", "--json", "--file", str(file))
    assert {each["server_id"] for each in ended.json[:-1]} == {one, other}
    assert ended.code == 0


def test_a_name_that_the_locale_has_no_letters_for_is_refused_without_a_traceback(healthy_cloud: Bms) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = in_a_shell(healthy_cloud, "</dev/null", "start", "caf\u00e9", **ascii_only)
    assert (ended.code, ended.out, "Traceback" in ended.err) == (2, "", False)


async def test_what_was_taken_to_be_written_is_written_though_its_writer_is_cancelled_at_that_moment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await write_aside("the end of a job\n")

    assert capsys.readouterr().out == "the end of a job\n"
