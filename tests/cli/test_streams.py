"""Standard streams as the worst of scripts hand them over: closed, full, of another encoding."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import COMMAND, PATIENCE, Bms, Ended


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
        ("<&-", ["stop"], 2),
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


@pytest.mark.parametrize("options", [["--json"], []])
def test_results_that_nobody_can_write_end_no_run(healthy_cloud: Bms, tmp_path: Path, options: list[str]) -> None:
    page = tmp_path / "report.html"
    ended = in_a_shell(healthy_cloud, ">/dev/full", "reboot", "--tag", "rack-2", "-y", "--report", str(page), *options)
    assert ended.code == 2
    assert ended.err.count("results cannot be written any more: [Errno 28] No space left on device") == 1
    assert "reboot: 40 of 40" in ended.err
    assert "Traceback" not in ended.err
    assert page.exists()


def test_jobs_that_are_watched_into_a_full_disk_are_told_of_without_a_traceback(healthy_cloud: Bms) -> None:
    server_id = healthy_cloud.ids("rack-3")[0]
    job_id = healthy_cloud("reboot", server_id, "--json").json[0]["job_id"]
    ended = in_a_shell(healthy_cloud, ">/dev/full", "jobs", "watch", job_id, "--json")
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert ended.err.endswith("No space left on device\n")


def test_an_id_that_is_no_text_has_its_outcome_like_any_other(healthy_cloud: Bms) -> None:
    ended = in_a_shell(healthy_cloud, "</dev/null", "stop", "caf\udce9", "-y", "--json")
    [outcome, summary] = ended.json
    assert (outcome["server_id"], outcome["state"]) == ("caf\\udce9", "SKIPPED")
    assert (ended.code, summary["servers"]) == (1, 1)


def test_ids_that_were_written_on_windows_or_have_a_comment_are_read(healthy_cloud: Bms, tmp_path: Path) -> None:
    one, other = healthy_cloud.ids("rack-4")[:2]
    file = tmp_path / "ids.txt"
    file.write_bytes(f"\ufeff{one}\r\n\r\n{one}  # the same\r\n{other}\r\n".encode())
    [plan] = healthy_cloud("start", "--dry-run", "--json", "--file", str(file)).json
    assert plan["servers"] == 2
    [plan] = in_a_shell(healthy_cloud, f"< {file}", "start", "--dry-run", "--json").json
    assert plan["servers"] == 2
    ended = healthy_cloud("start", "-y", "--json", "--file", str(file))
    assert {each["server_id"] for each in ended.json[:-1]} == {one, other}
    assert ended.code == 0


def test_a_name_that_the_locale_has_no_letters_for_is_written_all_the_same(healthy_cloud: Bms) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = in_a_shell(healthy_cloud, "</dev/null", "start", "caf\u00e9", "--json", **ascii_only)
    told = json.loads(ended.out.splitlines()[0])
    assert (ended.code, told["state"], "Traceback" in ended.err) == (1, "SKIPPED", False)
