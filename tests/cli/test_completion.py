"""Completion, for the command as it is installed."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from click.shell_completion import ShellComplete

from bms_async import Runs
from bms_async.cli.access import seen
from bms_async.cli.access.settings import read_settings
from bms_async.cli.app import app
from bms_async.cli.shells import complete_for
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
        ("bms servers list --output=cs", {"csv"}),
        ("bms limits o", {"open"}),
        ("bms limits open --st", {"--store"}),
        ("bms servers list --status SH", {"SHUTOFF"}),
        ("bms completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes_by_the_script_that_is_printed(installed: Bms, words: str, offered: set[str]) -> None:
    # As bash does.
    typed = [word for word in re.split(" |(=)", words) if word is not None]
    program = (
        'eval "$(bms completion bash)"\n'
        f"COMP_WORDS=({' '.join(repr(word) for word in typed)}); COMP_CWORD={len(typed) - 1}\n"
        f"COMP_LINE={words!r}; COMP_POINT={len(words)}\n"
        "_bms_completion bms\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
        "complete -p bms >&2"
    )
    assert set(run(installed, "bash", "--norc", "-c", program).split()) == offered


def test_zsh_and_fish_ask_for_what_their_scripts_say(installed: Bms) -> None:
    zsh = run(installed, "bms", "completion", "zsh")
    assert "#compdef bms" in zsh
    assert "_BMS_COMPLETE=zsh_complete bms" in zsh
    asked = {"_BMS_COMPLETE": "zsh_complete", "COMP_WORDS": "bms st"}
    assert run(installed, "bms", **asked).splitlines()[0::3] == ["plain", "plain"]
    assert run(installed, "bms", **asked).splitlines()[1::3] == ["start", "stop"]
    fish = run(installed, "bms", "completion", "fish")
    assert "_BMS_COMPLETE=fish_complete COMP_WORDS=(commandline -cp | string join ' ') bms" in fish
    asked = {"_BMS_COMPLETE": "fish_complete", "COMP_WORDS": "bms st"}
    offered = [line.partition(",")[2] for line in run(installed, "bms", **asked).splitlines()]
    assert [word.split("\t")[0] for word in offered if word] == ["start", "stop"]


def test_where_a_file_is_expected_the_shell_offers_its_own(installed: Bms) -> None:
    asked = {"_BMS_COMPLETE": "bash_complete", "COMP_WORDS": "bms stop --file ab", "COMP_CWORD": "ab"}
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


CLOUDS = {"clouds": {"east": {"auth": {"token": "x", "project_id": "0" * 32}}, "west": {}}}
PLACE = {"BMS_ENDPOINT": "http://127.0.0.1:9", "OS_PROJECT_ID": "0" * 32, "OS_TOKEN": "x"}
Offered = Callable[[str], list[str]]


@pytest.fixture
def offered(nowhere: Bms, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """What is offered for a line, by this process, with a cloud that does not answer."""
    for name in [name for name in os.environ if name.startswith(("OS_", "BMS_", "HUAWEICLOUD_"))]:
        monkeypatch.delenv(name)
    for name, value in {**PLACE, "XDG_STATE_HOME": str(nowhere.state), "XDG_CONFIG_HOME": str(nowhere.state)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(nowhere.state)

    def offer(line: str) -> list[str]:
        *words, begun = line.split(" ")[1:]
        return [item.value for item in ShellComplete(app, {}, "bms", "_BMS_COMPLETE").get_completions(words, begun)]

    return offer


@pytest.mark.parametrize("line", ["bms --cloud ", "bms stop --cloud ", "bms worker --cloud "])
def test_clouds_are_those_of_the_file(offered: Offered, nowhere: Bms, line: str) -> None:
    assert offered(line) == []
    (nowhere.state / "clouds.json").write_text(json.dumps(CLOUDS))
    assert offered(line) == ["east", "west"]
    assert offered(f"{line}w") == ["west"]
    (nowhere.state / "clouds.json").write_text("{")
    assert offered(line) == []


@pytest.mark.parametrize("line", ["bms reboot --resume ", "bms runs show ", "bms runs watch "])
def test_runs_are_those_of_the_journal_and_the_last_one(offered: Offered, nowhere: Bms, line: str) -> None:
    assert offered(line) == ["last"]
    assert not nowhere.journal.exists()

    async def write() -> None:
        runs = Runs()
        await runs.journal.open()
        await runs.journal.aclose()

    anyio.run(write)
    with closing(sqlite3.connect(nowhere.journal)) as connection, connection:
        columns = {name: kind for _, name, kind, *_ in connection.execute("PRAGMA table_info(bms_async_runs)")}
        for number, key in enumerate(["kernel-41", "kernel-42"]):
            row: dict[str, object] = {name: 0 if kind != "text" else "" for name, kind in columns.items()}
            row |= {"id": key, "run_key": key, "created": float(number)}
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO bms_async_runs ({', '.join(row)}) VALUES ({marks})", [*row.values()])
    assert offered(line) == ["last", "kernel-42", "kernel-41"]
    assert offered(f"{line}kernel-42") == ["kernel-42"]


def remembered(state: Path, **changes: object) -> Path:
    now = time.time()
    found = {"tags": ["rack-1", "rack-2"], "zones": ["az-1"], "flavors": ["m2"], "at": now, "tried": now, **changes}
    path = seen._path(read_settings(None))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    assert state in path.parents
    return path


def test_tags_zones_and_flavors_are_those_of_the_last_list(offered: Offered, nowhere: Bms) -> None:
    remembered(nowhere.state)
    for option in ("--tag", "--tag-any", "--not-tag"):
        assert offered(f"bms stop {option} ") == ["rack-1", "rack-2"]
    assert offered("bms servers list --tag rack-2") == ["rack-2"]
    assert (offered("bms stop --zone "), offered("bms stop --flavor ")) == (["az-1"], ["m2"])


@pytest.mark.parametrize(
    ("line", "word", "inserted"),
    [
        ("bms stop --tag env:p", "p", ["prod"]),
        ("bms stop --tag env:", ":", ["prod", "test"]),
        ("bms stop --tag k=", "=", ["v"]),
        ("bms stop --tag=env:p", "p", ["prod"]),
        ("bms stop --tag=", "=", ["a,b", "env:prod", "env:test", "k=v"]),
        ("bms stop --tag=e", "e", ["env:prod", "env:test"]),
        ('bms stop --tag "env:p', '"env:p', ["env:prod"]),
        ("bms stop --tag R\u00fc", "R\u00fc", []),
        ("bms stop --tag $(touch x) --tag a", "a", ["a,b"]),
        ("bms stop --tag 'it", "'it", []),
        ("bms stop --tag '", "'", ["a,b", "env:prod", "env:test", "k=v"]),
        ("bms servers list --columns name,sta", "name,sta", ["name,status"]),
    ],
)
@pytest.mark.usefixtures("offered")
def test_bash_is_given_the_rest_of_a_word_that_it_has_split_and_the_others_the_whole(
    nowhere: Bms,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    word: str,
    inserted: list[str],
) -> None:
    remembered(nowhere.state, tags=["env:prod", "env:test", "k=v", "a,b", "$(touch x)", "it's"])
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", word)
    said = {}
    for shell in ("bash", "zsh", "fish"):
        assert complete_for(app, f"{shell}_complete") == 0
        said[shell] = [line for line in capsys.readouterr().out.splitlines() if line]
    assert said["bash"] == [f"plain,{rest}" for rest in inserted]
    whole = [each.removeprefix("plain,") for each in said["fish"]]
    assert said["zsh"][1::3] == whole
    assert [each.endswith(rest) for each, rest in zip(whole, inserted, strict=True)] == [True] * len(inserted)


@pytest.mark.parametrize("asked", ["bash_source", "zsh", "powershell_complete", "bash_complete"])
def test_what_no_script_of_ours_asks_is_refused(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMP_WORDS", raising=False)
    assert complete_for(app, asked) == 1


def test_nothing_is_offered_that_a_shell_would_run_or_split(offered: Offered, nowhere: Bms) -> None:
    harmful = ["$(reboot)", "`reboot`", "a b", "a;b", "*", "a|b", "~root", "a>b", "a'b", "!x", "{a,b}", "a\nb", "a\\b"]
    remembered(nowhere.state, tags=[*harmful, "env=prod", "R\u00fcck"])
    assert offered("bms stop --tag ") == ["R\u00fcck", "env=prod"]
    (nowhere.state / "clouds.json").write_text(json.dumps({"clouds": {name: {} for name in (*harmful, "east")}}))
    assert offered("bms --cloud ") == ["east"]


def test_a_cloud_that_does_not_answer_costs_one_attempt_and_says_nothing(
    offered: Offered, nowhere: Bms, capfd: pytest.CaptureFixture[str]
) -> None:
    path = remembered(nowhere.state, at=0.0, tried=0.0)
    assert offered("bms stop --tag ") == ["rack-1", "rack-2"]
    assert json.loads(path.read_text())["tried"] > 0
    written = path.stat().st_mtime_ns
    assert offered("bms stop --tag ") == ["rack-1", "rack-2"]
    assert path.stat().st_mtime_ns == written
    path.write_text("{")
    assert offered("bms stop --tag ") == []
    assert capfd.readouterr() == ("", "")


def test_without_settings_nothing_is_offered(offered: Offered, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACE:
        monkeypatch.delenv(name)
    assert offered("bms stop --tag ") == []


def test_what_takes_too_long_ends_without_an_error() -> None:
    program = (
        "import bms_async.cli.completing as c, threading\n"
        "c._SECONDS = 0.05\n"
        "with c.ended_in_time():\n    threading.Event().wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=patience(60.0), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
