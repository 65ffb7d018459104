"""The help of all commands, the topics of `bms help`, and how both look."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from bms_async.cli.app import app
from bms_async.cli.app_help import all_commands
from bms_async.cli.ending import CODES
from bms_async.cli.guides import TOPICS
from bms_async.cli.terminal.exit import Code
from tests.cli._helpers import Bms

PACKAGE = Path(__file__).parents[2] / "bms_async"
PAGES = [
    context for context in all_commands(app.make_context("bms", [], resilient_parsing=True)) if context.command.params
]
VARIABLE = re.compile(r'"((?:BMS|OS|HUAWEICLOUD_SDK|SSL)_?[A-Z_]+|NO_COLOR|NO_PROXY|COLUMNS|TERM)"')
NO_VARIABLES = {"BMSLATER", "BMSUNREADABLE"}


@pytest.mark.parametrize("words", [[], ["servers"], ["servers", "list"], ["limits", "open"], ["nova", "stop"]])
def test_help_of_a_command_is_what_its_option_shows(nowhere: Bms, words: list[str]) -> None:
    asked = nowhere("help", *words)
    assert (asked.code, asked.err) == (0, "")
    assert asked.out == nowhere(*words, "--help").out


def test_help_of_what_is_not_there_says_what_is(nowhere: Bms) -> None:
    asked = nowhere("help", "servers", "lost")
    assert asked.code == 2
    assert "there is no command 'servers lost' and no topic; the topics are settings, exit-codes" in asked.err


def test_help_of_the_simulator_is_that_of_what_it_runs(nowhere: Bms) -> None:
    asked = nowhere("help", "simulator")
    assert asked.code == 0
    assert "--fail-share" in asked.out


def test_help_settings_names_each_variable_that_the_package_reads(nowhere: Bms) -> None:
    parts = [
        path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in {"simulator", "testing"}
    ]
    read = {name for path in parts for name in VARIABLE.findall(path.read_text())} - NO_VARIABLES
    assert {"BMS_ENDPOINT", "OS_CACERT", "NO_COLOR"} <= read
    shown = nowhere("help", "settings").out
    assert sorted(name for name in read if not re.search(rf"\b{name}\b", shown)) == []


def test_help_exit_codes_names_each_code(nowhere: Bms) -> None:
    shown = nowhere("help", "exit-codes").out
    assert set(re.findall(r"^  (\d+) ", shown, re.MULTILINE)) == {str(int(code)) for code in Code}
    assert [code for code, _, _ in CODES] == [str(int(code)) for code in Code]


@pytest.mark.parametrize("action", ["stop", "reboot"])
@pytest.mark.parametrize("group", [[], ["nova"]])
def test_help_says_that_power_is_cut_and_that_there_is_no_soft_way(nowhere: Bms, group: list[str], action: str) -> None:
    shown = " ".join(nowhere(*group, action, "--help").out.split())
    assert "their power is cut" in shown
    assert "data that is not on disk yet may be lost" in shown
    assert re.search(rf"This is a hard {action}, .* The cloud has no soft {action}", shown)


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_help_keeps_within_the_terminal_and_breaks_no_option(columns: int) -> None:
    for context in PAGES:
        shown = click.unstyle(_at(context, columns))
        assert max(map(len, shown.splitlines())) < columns, context.command_path
        # A line that ends in a hyphen has broken a word, or an option, at it.
        assert [line for line in shown.splitlines() if re.search(r"\w-$", line)] == [], context.command_path


@pytest.mark.parametrize("columns", [60, 80])
def test_topics_keep_within_the_terminal(nowhere: Bms, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for topic in TOPICS:
        shown = nowhere("help", topic, changes={"COLUMNS": str(columns)}).out
        assert max(map(len, shown.splitlines())) < columns


def test_no_help_speaks_of_what_only_programs_know() -> None:
    shown = "\n".join(_at(context, 100) for context in PAGES)
    assert re.findall(r"\bSDK\b|bms_async|BmsClient|\bPython\b|\[x>=?\d+\]|<[a-z]+>", shown) == []


def _at(context: click.Context, columns: int) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        return context.get_help()


def test_limits_of_a_group_are_those_of_its_calls(nowhere: Bms) -> None:
    settings = {"BMS_ENDPOINT": "http://127.0.0.1:9", "OS_PROJECT_ID": "0" * 32, "OS_TOKEN": "x"}
    shown = nowhere("limits", "servers", changes=settings)
    assert shown.code == 0
    calls = [line.split("\t")[0] for line in shown.out.splitlines()]
    assert {"servers.list", "servers.stop"} <= set(calls)
    assert all(call.startswith("servers.") for call in calls)
    wrong = nowhere("limits", "server", changes=settings)
    assert (wrong.code, "or a group of them such as servers" in wrong.err) == (2, True)
