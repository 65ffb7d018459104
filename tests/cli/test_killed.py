"""Runs that are killed, gone on with, and killed again: no server is rebooted twice, and none is forgotten."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli._cloud import NEVER, arrived, plan_fault
from tests.cli._helpers import PATIENCE, Bms, simulator
from tests.cli._limits import use_elsewhere

PROGRAM = """
import sys
from bms_async.fleet import proving
proving._IDLE_TIMEOUT, proving._POLL_DELAYS = 0.5, (0.1,)
from bms_async.cli import main
sys.exit(main(sys.argv[1:]))
"""
QUICKLY = [sys.executable, "-c", PROGRAM]
"""The command, which soon gives up servers whose states prove nothing."""

HEAD = {"bms_run": 1, "action": "servers.reboot", "started": ""}


@pytest.fixture
def bms(tmp_path: Path) -> Iterator[Bms]:
    """The command, in a quick cloud of 20 servers of its own."""
    with simulator("--servers", "20", "--job-seconds", "0.1", "0.2") as exports:
        yield Bms(exports, tmp_path)


def kill_while_it_asks(bms: Bms, action: str, *arguments: str) -> None:
    """Run it until the cloud has one more call whose answer does not come, kill it then, and let its lease be over."""
    before = arrived(bms, f"servers.{action}")
    plan_fault(bms, f"servers.{action}", NEVER)
    with bms.in_a_pipe(action, *arguments, command=QUICKLY) as process:
        wait_until_asked(bms, action, before + 1, by=process)
        process.send_signal(signal.SIGKILL)
    bms.bury()


def wait_until_asked(bms: Bms, action: str, count: int, *, by: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE
    while arrived(bms, f"servers.{action}") < count:
        assert by.poll() is None, "it has ended before it asked"
        assert time.monotonic() < until, "it never asked"
        time.sleep(0.05)


@pytest.mark.usefixtures("quickly")
def test_a_reboot_that_was_saved_in_a_file_is_gone_on_with_and_killed_and_not_made_twice(
    bms: Bms, tmp_path: Path
) -> None:
    server_id, other = bms.ids("rack-0")[:2]
    file = tmp_path / "run.jsonl"
    place = {"endpoint": bms.exports["BMS_ENDPOINT"], "project_id": bms.exports["OS_PROJECT_ID"]}
    head = {**HEAD, **place, "ids": [server_id, other], "ahead": True}
    file.write_text(f"{json.dumps(head)}\n{json.dumps({'left': [server_id], 'in_doubt': [other]})}\n")
    kill_while_it_asks(bms, "reboot", "--resume", str(file), "--yes")
    again = bms("reboot", "--resume", str(file), "--yes", "--json")
    *outcomes, summary = again.json
    assert arrived(bms, "servers.reboot") == 1
    assert [each["server_id"] for each in outcomes] == [server_id]
    assert outcomes[0]["state"] in {"SUCCEEDED", "UNKNOWN"}
    assert "1 server may have been rebooted, since no response came" in again.err
    assert other in again.err
    # The same file is the same run, also once that has ended.
    ended = bms("reboot", "--resume", str(file), "--yes", "--json")
    assert "has ended before: nothing is sent" in ended.err
    assert ended.json[-1]["run"] == summary["run"] == bms.runs[0]["key"]
    assert arrived(bms, "servers.reboot") == 1


@pytest.mark.usefixtures("quickly")
def test_a_reboot_that_is_killed_whenever_it_asks_reboots_each_server_once(bms: Bms) -> None:
    ids = bms.ids("__type_baremetal")
    kill_while_it_asks(bms, "reboot", *ids, "--yes", "--wave", "8", "--key", "tonight")
    kill_while_it_asks(bms, "reboot", "--resume", "tonight", "--yes")
    *outcomes, summary = bms("reboot", "--resume", "tonight", "--yes", "--json").json
    assert sorted(each["server_id"] for each in outcomes) == sorted(ids)
    states = summary["by_state"]
    # Each batch of two came to the cloud once, or never if the command was killed just before its request left. Only
    # those are in doubt that were under way at a kill.
    calls = arrived(bms, "servers.reboot")
    assert 8 <= calls <= 10
    assert states["UNKNOWN"] <= 2 * 8
    assert states["SUCCEEDED"] + states["UNKNOWN"] == 20
    again = bms("reboot", "--resume", "tonight", "--yes")
    assert (again.code, "nothing is left of it" in again.err) == (2, True)
    assert bms("reboot", *ids, "--yes", "--key", "tonight", "--json").json[-1]["by_state"] == states
    assert arrived(bms, "servers.reboot") == calls


@pytest.mark.usefixtures("quickly")
def test_of_a_stop_that_is_killed_nothing_stays_unknown(bms: Bms) -> None:
    ids = bms.ids("__type_baremetal")
    kill_while_it_asks(bms, "stop", *ids, "--yes", "--wave", "8", "--key", "tonight")
    [run] = bms.runs
    assert (run["key"], run["status"], run["done"] < 20) == ("tonight", "open", True)
    *outcomes, summary = bms("stop", "--resume", "tonight", "--yes", "--json").json
    assert sorted(each["server_id"] for each in outcomes) == sorted(ids)
    assert summary["by_state"]["SUCCEEDED"] + summary["by_state"]["UNCHANGED"] == 20


def test_a_run_that_goes_on_elsewhere_is_said_to_be_held(bms: Bms) -> None:
    plan_fault(bms, "servers.stop", NEVER)
    with bms.in_a_pipe("stop", *bms.ids("rack-0")[:4], "--yes", "--key", "held") as process:
        wait_until_asked(bms, "stop", 1, by=process)
        resumed = bms("stop", "--resume", "held")
        assert (resumed.code, "another process holds 1 batch of the run" in resumed.err) == (2, True)
        process.send_signal(signal.SIGKILL)


def test_a_batch_that_waits_for_the_limit_is_asked_for_only_once_it_is_resumed(bms: Bms) -> None:
    ids = bms.ids("__type_baremetal")
    for server_id in ids[:2]:
        bms("reboot", server_id, "-q")
    use_elsewhere(bms, "servers.reboot", 48)
    with bms.in_a_pipe("reboot", *ids, "--yes", "--key", "waits") as process:
        assert process.stderr is not None
        assert "bms: project " in process.stderr.readline()
        assert "0 of 20" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        err = process.stderr.read()
        assert process.wait(timeout=PATIENCE) == 143
    assert "20 servers left" in err
    run = bms.run("waits")
    assert (run["status"], run["submitted"], run["done"], run["held"]) == ("paused", 0, 0, 0)
    assert arrived(bms, "servers.reboot") == 2
