"""What README.md prints works as it is printed."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import bms_async
from bms_async.config.environment import VARIABLES
from bms_async.limits import DOCUMENTED_LIMITS
from bms_async.wire import RetryPolicy

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SIMULATOR = next(line for block in COMMANDS for line in block.splitlines() if "bms_async.simulator" in line)
EXPORT = next(line for block in COMMANDS for line in block.splitlines() if line.startswith("export "))


@pytest.fixture(scope="module")
def environment() -> Iterator[Mapping[str, str]]:
    """The two terminals: the simulator of the one, and what was exported in the other."""
    exported = dict(pair.split("=", 1) for pair in shlex.split(EXPORT)[1:])
    port = exported["BMS_ENDPOINT"].rpartition(":")[2]
    python, *flags = shlex.split(SIMULATOR)
    assert python == "python"
    assert flags[flags.index("--port") + 1] == port
    # The one change: the printed port may be somebody else's on this machine.
    flags[flags.index("--port") + 1] = "0"
    with subprocess.Popen([sys.executable, *flags], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            exported["BMS_ENDPOINT"] = json.loads(process.stdout.readline())["address"]
            ours = {name: value for name, value in os.environ.items() if not name.startswith(("BMS_", "OS_"))}
            yield ours | exported | {"NO_PROXY": "127.0.0.1"}
        finally:
            process.terminate()


def run_program(text: str, environment: Mapping[str, str]) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_the_first_program_is_ten_lines_and_stops_everything(environment: Mapping[str, str]) -> None:
    assert len([line for line in PROGRAMS[0].splitlines() if line.strip()]) <= 10
    shown = run_program(PROGRAMS[0], environment)
    assert re.fullmatch(
        r"<FleetReport servers\.stop of 100 servers: 95 SUCCEEDED, 5 FAILED in .* s> \{'BMS\.0006': 5\}\n", shown
    )


def test_the_program_that_reads_outcomes_as_they_happen_works(environment: Mapping[str, str]) -> None:
    *_, last = run_program(PROGRAMS[1], environment).splitlines()
    assert last.startswith("Progress(total=40, submitted=40, done=40")


def test_the_program_that_awaits_a_job_works(environment: Mapping[str, str]) -> None:
    first, *_ = run_program(PROGRAMS[2], environment).splitlines()
    assert first in {"SUCCESS", "FAIL"}


def test_every_program_is_run_here() -> None:
    assert len(PROGRAMS) == 3
    assert README.count("```") == 2 * (len(PROGRAMS) + len(COMMANDS))


@pytest.mark.parametrize("block", COMMANDS)
def test_commands_are_shell_and_what_they_make_can_be_made(block: str) -> None:
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    for line in block.splitlines():
        if line.startswith("make "):
            subprocess.run(["make", "-n", shlex.split(line, comments=True)[1]], cwd=ROOT, check=True)


def test_targets_of_make_that_are_named_in_passing_exist() -> None:
    for target in sorted(set(re.findall(r"`make (\w+)`", README))):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True)


def test_links_lead_to_files() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).is_file(), link


def test_the_table_names_every_setting_and_its_default() -> None:
    rows = [[cell.strip() for cell in row.split("|")[1:5]] for row in README.splitlines() if row.startswith("| ")]
    table = {argument.strip("`"): (variables, default.strip("`")) for variables, argument, default, _ in rows[1:]}
    signature = inspect.signature(bms_async.BmsClient)
    assert list(table) == list(signature.parameters)
    assert table["timeout"][1] == f"{signature.parameters['timeout'].default:g}"
    assert table["check"][1] == str(signature.parameters["check"].default)
    assert signature.parameters["retry"].default == RetryPolicy()
    needed = {name for name, each in signature.parameters.items() if each.default is inspect.Parameter.empty}
    assert needed == {argument for argument, (_, default) in table.items() if default == "needed"}


def test_the_table_names_every_variable_that_is_read() -> None:
    table = "".join(row for row in README.splitlines() if row.startswith("| "))
    named = set(re.findall(r"`((?:BMS|OS|HUAWEICLOUD)_\w+)`", table))
    assert named == {name for several in VARIABLES.values() for name in several}


def test_the_limits_are_the_documented_ones() -> None:
    named = dict(re.findall(r"`(\w+\.\w+)`\s(\d+)[,.]", README))
    assert {name: int(limit) for name, limit in named.items()} == dict(DOCUMENTED_LIMITS)


def test_every_name_in_code_exists() -> None:
    states = {state.value for state in bms_async.OutcomeState}
    assert states <= set(re.findall(r"\b[A-Z]{6,}\b", README))
    for name in re.findall(r"`([A-Z][a-z]+[A-Z]\w+)[`(]", README):
        assert hasattr(bms_async, name) or name == "TimeoutError", name


def test_it_is_read_at_one_sitting() -> None:
    assert len(README.splitlines()) < 220
    assert max(len(line) for line in README.splitlines() if not line.startswith("|")) <= 123
