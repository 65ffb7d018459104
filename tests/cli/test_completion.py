"""Completion, for the command as it is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli._helpers import Bms
from tests.support.machine import patience

ENTRY_POINT = f"#!{sys.executable}\nimport sys\nfrom bms_async.cli import main\nsys.exit(main())\n"


@pytest.fixture
def installed(nowhere: Bms) -> Bms:
    """An environment in which `bms` is on the path, as pip would put it there."""
    command = nowhere.state / "bin" / "bms"
    command.parent.mkdir()
    command.write_text(ENTRY_POINT)
    command.chmod(0o755)
    nowhere.environment["PATH"] = f"{command.parent}:{nowhere.environment['PATH']}"
    return nowhere


def run(installed: Bms, *command: str, **changes: str) -> str:
    done = subprocess.run(
        command,
        env={**installed.environment, **changes},
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("bms st", {"start", "stop"}),
        ("bms servers ", {"list", "show", "rename", "tag", "untag", "metadata", "reinstall", "attach", "detach"}),
        ("bms stop --ab", {"--abort-above", "--abort-sample"}),
        ("bms reboot --group-by fl", {"flavor"}),
        ("bms limits servers.st", {"servers.start", "servers.stop"}),
        ("bms li", {"limits"}),
        ("bms limits o", {"open"}),
        ("bms limits open --st", {"--store"}),
        ("bms servers list --status SH", {"SHUTOFF"}),
        ("bms completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes_by_the_script_that_is_printed(installed: Bms, words: str, offered: set[str]) -> None:
    typed = words.split(" ")
    program = (
        'eval "$(bms completion bash)"\n'
        f"COMP_WORDS=({' '.join(repr(word) for word in typed)}); COMP_CWORD={len(typed) - 1}\n"
        "_bms_completion bms\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
        "complete -p bms >&2"
    )
    assert set(run(installed, "bash", "--norc", "-c", program).split()) == offered


def test_zsh_and_fish_ask_for_what_their_scripts_say(installed: Bms) -> None:
    zsh = run(installed, "bms", "completion", "zsh")
    assert "#compdef bms" in zsh
    assert "_BMS_COMPLETE=zsh_complete bms" in zsh
    asked = {"_BMS_COMPLETE": "zsh_complete", "COMP_WORDS": "bms st", "COMP_CWORD": "1"}
    assert run(installed, "bms", **asked).splitlines()[0::3] == ["plain", "plain"]
    assert run(installed, "bms", **asked).splitlines()[1::3] == ["start", "stop"]
    fish = run(installed, "bms", "completion", "fish")
    assert "_BMS_COMPLETE=fish_complete COMP_WORDS=(commandline -cp)" in fish
    asked = {"_BMS_COMPLETE": "fish_complete", "COMP_WORDS": "bms st", "COMP_CWORD": "st"}
    offered = [line.partition(",")[2] for line in run(installed, "bms", **asked).splitlines()]
    assert [word.split("\t")[0] for word in offered if word] == ["start", "stop"]


def test_where_a_file_is_expected_the_shell_offers_its_own(installed: Bms) -> None:
    asked = {"_BMS_COMPLETE": "bash_complete", "COMP_WORDS": "bms stop --file ab", "COMP_CWORD": "3"}
    assert run(installed, "bms", **asked).splitlines() == ["file,ab"]


def test_a_shell_that_is_not_known_is_refused(installed: Bms) -> None:
    done = subprocess.run(
        ["bms", "completion", "tcsh"],
        env=installed.environment,
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        check=False,
    )
    assert done.returncode == 2
    assert "Invalid value for 'SHELL': 'tcsh' is not one of 'bash', 'zsh', 'fish'." in done.stderr


def test_the_project_declares_the_command() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["bms"] == "bms_async.cli:main"
