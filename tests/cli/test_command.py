"""What the command does without a cloud, and how it says what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

import bms_async
from bms_async.api import operations
from bms_async.cli.app import app
from bms_async.cli.terminal.numbers import read_share
from bms_async.limits import DOCUMENTED_LIMITS
from tests.cli._helpers import Bms
from tests.support.machine import patience

NOBODY = {"BMS_ENDPOINT": "http://127.0.0.1:9", "OS_PROJECT_ID": "project", "OS_TOKEN": "a-secret-token"}


def typed(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), prog_name="bms", color=False)
    return result.exit_code, result.output


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without any settings, in a folder of its own."""
    for name in os.environ:
        if name.startswith(("BMS_", "OS_", "HUAWEICLOUD_")):
            monkeypatch.delenv(name)
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed_with(settings: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), prog_name="bms", color=False, env=settings)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


def test_a_share_is_what_is_written_and_nothing_else_is_one() -> None:
    shares = {"0.02": 0.02, "2%": 0.02, "2 %": 0.02, "0.7%": 0.007, ".5": 0.5, "1": 1.0, "100%": 1.0, "0": 0.0}
    assert {text: read_share(text) for text in shares} == shares
    assert [read_share(text) for text in ("101%", "1.1", "-1", "nan", "1e-2", "%", "", ".", "2%%")] == [None] * 9


def test_it_tells_its_version() -> None:
    assert typed("--version") == (0, f"bms {bms_async.__version__}\n")


@pytest.mark.parametrize("command", [[], ["stop"], ["servers", "list"], ["jobs", "watch"], ["limits"]])
def test_help_tells_the_exit_codes(command: list[str]) -> None:
    code, text = typed(*command, "--help")
    assert code == 0
    words = " ".join(text.split())
    assert "Exit codes: 0 success; 1 some servers are not as asked" in words
    assert "130 interrupted by Ctrl-C" in words


def test_every_call_is_listed_with_its_limit_and_its_chapter() -> None:
    code, text = typed("calls", "--json")
    listed = {told["call"]: told for told in map(json.loads, text.splitlines())}
    assert code == 0
    assert list(listed) == [operation.name for operation in operations()]
    assert listed["servers.stop"]["limit"] == 50
    assert listed["servers.stop"]["chapter"] == "4.4.5"
    assert listed["servers.stop"]["method"] == "POST"
    assert listed["nova.servers.reboot"]["limit"] is None
    found = typed("calls", "password")[1].splitlines()
    assert all("password" in line.lower() for line in found)
    assert 3 < len(found) < 10
    assert typed("calls", "nonsense")[0] == 2


def test_the_statuses_that_completion_offers_are_the_documented_ones() -> None:
    from bms_async.cli.declaring import statuses_known

    assert statuses_known() == [status.value for status in bms_async.ServerStatus]


def test_limits_are_all_free_where_nothing_was_used(bare: Path) -> None:
    code, out, _ = typed_with(NOBODY, "limits", "--json")
    assert code == 0
    account, *limits = map(json.loads, out.splitlines())
    assert (account["type"], account["known"], account["closed_for"]) == ("account", False, 0.0)
    assert {told["call"]: told["left"] for told in limits} == DOCUMENTED_LIMITS


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "told"),
    [
        (["fly"], {}, 2, "No such command 'fly'"),
        (["stop", "--wave", "0", "a"], NOBODY, 2, "--wave"),
        (["stop", "--abort-above", "3", "a"], NOBODY, 2, "0.02 or 2%"),
        (["stop", "--file", "/no/such/file"], NOBODY, 2, "/no/such/file"),
        (["stop", "--file", "/no/such/file", "a"], NOBODY, 2, "got ids and --file"),
        (["stop", "--tag", ""], NOBODY, 2, "--tag is empty"),
        (["stop", "--file", ""], NOBODY, 2, "--file is empty"),
        (["stop", "--report", "", "a"], NOBODY, 2, "--report '': not a regular file"),
        (
            ["stop", "a", "--report", "a.txt", "--report", "b.txt"],
            NOBODY,
            2,
            "--report: expected one file, got 2: ",
        ),
        (["stop"], NOBODY, 0, "nothing to do: standard input has no servers"),
        (["stop", "--fail-if-none"], NOBODY, 2, "nothing to do: standard input has no servers"),
        (["stop", ""], NOBODY, 2, "a server's id is empty"),
        (["stop", "--tag", "a", "--except", ""], NOBODY, 2, "--except is empty"),
        (["stop", "--except", "-"], NOBODY, 2, "standard input is read for the servers already"),
        (["stop", "a", "--save", "file"], NOBODY, 2, "runs are kept in the journal now; name this one by --key"),
        (["stop", "a", "--report", "/no/such/folder/file"], NOBODY, 2, "its folder does not exist"),
        (["stop", "--resume", "/no/such/file"], NOBODY, 2, "--resume /no/such/file: there is no run of that key"),
        (["stop", "--resume", "tonight", "a"], NOBODY, 2, "the run has its servers"),
        (["stop", "--resume", "tonight", "--wave", "3"], NOBODY, 2, "the run keeps its --wave"),
        (["stop", "a", "--no-journal", "--key", "tonight"], NOBODY, 2, "a run without one has no key"),
        (["stop", "a", "--detach", "--report", "page.html"], NOBODY, 2, "the command ends before the run"),
        (["stop", "a", "b", "--journal", "redis://host"], NOBODY, 3, "--journal: 'redis://host': expected"),
        (
            ["stop", "a", "--window", "22:00-04:00", "--window-zone", "Nowhere/City"],
            NOBODY,
            2,
            "--window-zone Nowhere/City: expected the IANA name",
        ),
        (["jobs", "show", "a b"], NOBODY, 2, "job id 'a b': expected an id of letters"),
        (["servers", "tag", "a,b", "id"], NOBODY, 2, "tag 'a,b': expected"),
        (["servers", "metadata", "set", "user_data=x", "id"], NOBODY, 2, "set it with `bms api POST /v1/"),
        (["stop", "a", "b"], {**NOBODY, "BMS_RUNS": "redis://host"}, 3, "BMS_RUNS, or bms_runs in clouds.yaml"),
        (["runs", "show", "tonight"], NOBODY, 1, "there is no run tonight of project"),
        (["runs", "prune", "--older-than", "soon"], NOBODY, 2, "expected an age such as 30d"),
        (["runs", "prune", "--older-than", "30"], NOBODY, 2, "expected an age such as 30d"),
        (["runs", "list", "--journal", "runs.db"], NOBODY, 3, "expected the address of a store"),
        (["worker", "--cloud", "mine"], {}, 3, "clouds.yaml"),
        (["jobs", "watch"], NOBODY, 2, "--from"),
        (
            ["servers", "list", "--columns", "id,colour"],
            NOBODY,
            2,
            "no column colour; the columns are id, name",
        ),
        (["servers", "list", "--ids", "--json"], NOBODY, 2, "--ids"),
        (["limits", "servers.fly"], NOBODY, 2, "servers.fly"),
        (["quota"], {}, 3, "bms simulator"),
        (["login"], {}, 3, "OS_TOKEN"),
        (["quota"], {**NOBODY, "OS_TOKEN": ""}, 3, "OS_TOKEN"),
        (["quota", "--cloud", "mine"], {}, 3, "clouds.yaml"),
        (["quota"], {"OS_CLOUD": "mine"}, 3, "no clouds.yaml found"),
        (["quota"], {**NOBODY, "BMS_ENDPOINT": "http://bms.example.com"}, 3, "https"),
        (["stop", "a"], NOBODY, 4, "Check BMS_ENDPOINT (or OS_REGION_NAME and BMS_DOMAIN)"),
        (["servers", "list"], NOBODY, 4, "Check BMS_ENDPOINT (or OS_REGION_NAME and BMS_DOMAIN)"),
        (["login"], NOBODY, 4, "Check BMS_ENDPOINT (or OS_REGION_NAME and BMS_DOMAIN)"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do_and_by_the_code(
    bare: Path, arguments: list[str], settings: dict[str, str], code: int, told: str
) -> None:
    ended, out, err = typed_with(settings, *arguments)
    assert ended == code
    assert told in err
    assert "a-secret-token" not in out + err


@pytest.mark.parametrize("line", ["{nonsense", '{"id": "a", "x": ' + "[" * 200_000 + "]" * 200_000 + "}"])
def test_a_line_that_looks_like_json_and_cannot_be_read_is_wrong_usage(tmp_path: Path, line: str) -> None:
    (tmp_path / "ids").write_text(line + "\n")
    ended, out, err = typed_with(NOBODY, "stop", "--file", str(tmp_path / "ids"))
    assert (ended, out) == (2, "")
    assert f"{tmp_path}/ids, line 1: expected JSON, got '{{" in err
    assert len(err) < 600


def test_a_cloud_of_the_file_is_taken_where_the_environment_is_not_complete(bare: Path) -> None:
    clouds = {"mine": {"auth": {"token": "t", "project_id": "p"}, "bms_endpoint_override": "http://127.0.0.1:9"}}
    (bare / "clouds.json").write_text(json.dumps({"clouds": clouds}))
    assert typed_with({"OS_CLOUD": "mine"}, "limits")[0] == 0
    assert typed_with({}, "limits", "--cloud", "mine")[0] == 0
    code, _, err = typed_with({}, "limits", "--cloud", "another")
    assert (code, "no cloud 'another'" in err) == (3, True)
    code, _, err = typed_with({"OS_CLOUD": "mine", "OS_TOKEN": "t"}, "limits")
    assert (code, err) == (0, "bms: the cloud is OS_CLOUD=mine; OS_TOKEN in the environment is not used")


@pytest.mark.parametrize("arguments", [["jobs", "watch", "--from"], ["stop", "--resume"]])
def test_what_was_saved_of_a_run_is_not_looked_for_in_another_cloud(bare: Path, arguments: list[str]) -> None:
    head = {"bms_run": 1, "action": "servers.stop", "endpoint": "https://elsewhere.example.com", "project_id": "p",
            "started": "2026-03-01T12:00:00+00:00", "ids": ["a"]}  # fmt: skip
    (bare / "run").write_text(json.dumps(head) + "\n")
    code, _, err = typed_with(NOBODY, *arguments, "./run")
    assert (code, "run was saved for https://elsewhere.example.com, but the settings name" in err) == (2, True)
    (bare / "run").write_text(json.dumps(head | {"endpoint": NOBODY["BMS_ENDPOINT"], "project_id": "q"}) + "\n")
    code, _, err = typed_with(NOBODY, *arguments, "./run")
    assert (code, "run was saved for project q, but the settings name" in err) == (2, True)


@pytest.mark.parametrize(
    ("missing", "arguments", "told"),
    [
        ("click", [], "bms-async[cli]"),
        ("rich", ["stop"], "bms-async[cli]"),
        ("jinja2", ["stop", "a", "--report", "page.html"], "bms-async[cli]"),
        ("uvicorn", ["simulator"], "bms-async[simulator]"),
    ],
)
def test_an_extra_that_is_missing_is_told_with_how_to_install_it(
    tmp_path: Path, missing: str, arguments: list[str], told: str
) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None\nfrom bms_async.cli import main\nsys.exit(main({arguments!r}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=patience(60.0), check=False,
        env=Bms({}, tmp_path).environment,
    )  # fmt: skip
    assert ended.returncode == 2
    assert f"pip install '{told}'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_help_of_the_simulator_speaks_of_what_this_command_prints(nowhere: Bms) -> None:
    code, out, _ = nowhere.in_a_process("simulator", "--help")
    assert (code, out.partition(" [")[0]) == (0, "usage: bms simulator")
    assert "prints the exports that lead to it" in " ".join(out.split())


def test_help_imports_no_http_library_and_nothing_that_a_command_needs(nowhere: Bms) -> None:
    program = (
        "import sys\n"
        "from bms_async.cli import main\n"
        "main(['--help'])\n"
        "late = ('httpx', 'httptools', 'aiohttp', 'starlette', 'jinja2', 'bms_async.cli.acting.power')\n"
        "print(*(name for name in late if name in sys.modules), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        check=False,
        env=nowhere.environment,
    )
    assert ended.stderr == "\n"
