"""What README.md says in tables and in passing is so; its programs and commands are run in tests/docs."""

from __future__ import annotations

import inspect
import re
import subprocess
from pathlib import Path

import bms_async
from bms_async.config.environment import VARIABLES
from bms_async.limits import DOCUMENTED_LIMITS
from bms_async.wire import RetryPolicy

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


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
    assert {"servers.stop", "servers.list", "jobs.get"} <= set(named)
    assert {name: int(limit) for name, limit in named.items()}.items() <= dict(DOCUMENTED_LIMITS).items()


def test_every_name_in_code_exists() -> None:
    states = {state.value for state in bms_async.OutcomeState}
    assert states <= set(re.findall(r"\b[A-Z]{6,}\b", README))
    for name in re.findall(r"`([A-Z][a-z]+[A-Z]\w+)[`(]", README):
        assert hasattr(bms_async, name) or name == "TimeoutError", name


def test_it_is_read_at_one_sitting() -> None:
    assert len(README.splitlines()) <= 222
    assert max(len(line) for line in README.splitlines() if not line.startswith("|")) <= 123
