"""Ctrl-C and its relatives, and what can be gone on with."""

from __future__ import annotations

import csv
import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bms_async.cli.following.display import Display
from tests.cli._cloud import NEVER, no_fault_waits, plan_fault
from tests.cli._helpers import NO_SERVER, PATIENCE, Bms, simulator

WAVE, BATCH = 100, 25
PROGRAM = """
import signal, sys
from bms_async.cli import main
from bms_async.cli.following.display import Display

sample, presses = Display.sample, []

def sample_and_press(display):
    sample(display)
    if display._run.under_way and not presses:
        presses.append(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

Display.sample = sample_and_press
sys.exit(main(sys.argv[1:]))
"""
INTERRUPTED = [sys.executable, "-W", "error", "-c", PROGRAM]
"""The command, which is interrupted as soon as it shows that something is under way."""


def test_ctrl_c_pauses_a_run_and_it_is_gone_on_with_exactly(healthy_cloud: Bms) -> None:
    # Nothing is told of the first wave before it is interrupted, and so the second never begins.
    plan_fault(healthy_cloud, "jobs.get", NEVER, 1, 2, 3, 4)
    arguments = ["stop", "--tag", "__type_baremetal", "-y", "--wave", str(WAVE)]
    with healthy_cloud.on_a_terminal(*arguments, columns=200, lines=60) as terminal:
        terminal.wait_for(lambda: f"{WAVE} asked" in terminal.text and no_fault_waits(healthy_cloud))
        terminal.interrupt_twice()
        assert terminal.end() == 130
        text = terminal.text
    [run] = healthy_cloud.runs
    key = run["key"]
    assert (run["status"], run["submitted"], run["servers"]) == ("paused", WAVE, 300)
    assert "stop: 300 servers of project" in text
    assert "not ended" in text
    assert "200 servers left" in text
    assert f"bms stop --resume {key}" in text
    assert f"bms runs resume {key}" in text
    assert f"bms runs cancel {key}" in text

    with closing(sqlite3.connect(healthy_cloud.journal)) as connection:
        [[job_id], *_] = connection.execute("SELECT job FROM bms_async_batches WHERE job IS NOT NULL").fetchall()
    watched = healthy_cloud("jobs", "watch", job_id, "--json")
    assert (watched.code, watched.json[-1]["servers"], watched.json[-1]["failed"]) == (0, WAVE / 4, 0)
    shown = healthy_cloud("jobs", "show", job_id, "--json")
    assert (shown.code, shown.json[0]["sub_jobs_total"], len(shown.json[0]["sub_jobs"])) == (0, WAVE / 4, WAVE / 4)
    assert "25 servers: 25 SUCCESS" in healthy_cloud("jobs", "show", job_id).out
    assert healthy_cloud("jobs", "watch", job_id).out.startswith("1 of 1 job ended: 25 servers, 0 failed")

    assert healthy_cloud("start", "--resume", key, "-y").code == 2
    went_on = datetime.now(UTC)
    resumed = healthy_cloud("stop", "--resume", key, "-y", "--json", "--report", "whole.csv")
    *outcomes, summary = resumed.json
    assert resumed.code == 0
    assert len({each["server_id"] for each in outcomes}) == len(outcomes) == 300
    assert summary["by_state"]["SUCCEEDED"] + summary["by_state"]["UNCHANGED"] == 300
    # Those that had been asked for were watched, and not asked for again.
    assert summary["calls"] == 200 * 4 / WAVE
    assert summary["left"] == 0
    # The report begins where the run did, and what was asked before has its own times.
    with (healthy_cloud.state / "whole.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    assert all(row["seconds"] for row in rows)
    assert sum(datetime.fromisoformat(row["started"]) < went_on for row in rows) == WAVE
    again = healthy_cloud("stop", "--resume", key, "-y")
    assert (again.code, "nothing is left of it" in again.err) == (2, True)


@pytest.mark.parametrize("how", ["--json", "--quiet"])
def test_ctrl_c_once_pauses_a_run_at_once_and_waits_for_what_is_under_way(
    healthy_cloud: Bms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    bms, sample = Bms(healthy_cloud.exports, tmp_path), Display.sample
    presses: list[int] = []

    def sample_and_press(display: Display) -> None:
        sample(display)
        if display._run.under_way and not presses:
            presses.append(display._run.under_way)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Display, "sample", sample_and_press)
    ended = bms("reboot", "--tag", "__type_baremetal", "-y", "--wave", "40", "--key", "tonight", how)
    run = bms.run("tonight")
    assert (ended.code, run["status"], run["in_flight"]) == (130, "paused", 0)
    assert run["submitted"] == run["by_state"]["SUCCEEDED"] == run["done"] < 300
    assert "no further server is asked for; waiting for " in ended.err
    assert "Ctrl-C again to let go" in ended.err
    assert f"the run tonight is paused, and nothing more is sent: {300 - run['done']} servers left. To" in ended.err
    assert "bms reboot --resume tonight" in ended.err
    if how == "--json":
        assert (ended.json[-1]["exit_code"], ended.json[-1]["left"]) == (130, 300 - run["done"])
        resumed = bms("reboot", "--resume", "last", "-y", "--json")
        assert (resumed.code, resumed.json[-1]["by_state"]["SUCCEEDED"]) == (0, 300)


def test_ctrl_c_once_waits_for_what_is_under_way_and_says_how_to_ask_for_the_rest(healthy_cloud: Bms) -> None:
    arguments = ["reboot", "--tag", "__type_baremetal", "-y", "--wave", str(WAVE), "--no-journal"]
    with healthy_cloud.on_a_terminal(*arguments, columns=200, lines=60, command=INTERRUPTED) as terminal:
        assert terminal.end() == 130
        text = terminal.text
    assert "no further server is asked for; waiting for " in text
    ended = int(text.partition(" succeeded, ")[0].split()[-1])
    assert ended % BATCH == 0
    assert f"{ended}/300" in text
    assert f"{300 - ended} skipped" in text
    assert "UNKNOWN" not in text
    assert "skipped: Nothing was done to it: the run ended before its turn." in text
    file = text.partition("bms reboot --file ")[2].split()[0]
    plan, *_ = healthy_cloud("reboot", "--file", file, "--plan", "--json").json
    assert plan["servers"] == 300 - ended
    assert Path(file).stat().st_mode & 0o777 == 0o600


def test_a_run_in_memory_is_let_go_by_the_second_ctrl_c_and_its_jobs_can_be_watched(endless_cloud: Bms) -> None:
    arguments = ["reboot", "--tag", "rack-6", "-y", "--wave", "20", "--no-journal"]
    with endless_cloud.on_a_terminal(*arguments, columns=200, lines=60) as terminal:
        terminal.wait_for_text("20 asked")
        terminal.interrupt_twice()
        assert terminal.end() == 130
        text = terminal.text
    assert "reboot: 40 servers of project" in text
    assert "no longer waiting for 20 under way, whose jobs go on in the cloud" in text
    assert "unknown: The job was accepted, and the run did not wait for it; it continues in the cloud." in text
    assert "20 servers may have been rebooted. To ask again for the others only:" in text
    assert "| bms reboot -" in text
    job_id = text.partition("bms jobs watch ")[2].split()[0]
    [shown] = endless_cloud("jobs", "show", job_id, "--json").json
    assert shown["sub_jobs_total"] == 20


PRESSED = """
import asyncio, sys
from bms_async.cli.terminal.signals import run_interruptibly
from tests.support.real_clock import run_ahead, stand_still

async def main(stop):
    lines = asyncio.Queue()
    asyncio.get_running_loop().add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline()))
    stand_still()
    stop.on_first_signal = lambda: print("gently", flush=True)
    print("ready", flush=True)
    while line := await lines.get():
        run_ahead(float(line))
        print(line, end="", flush=True)

run_interruptibly(main)
"""
"""Lets as much time pass, and no more, as it reads on each line."""


def test_one_press_that_comes_twice_is_one_and_the_next_press_leaves_at_once(nowhere: Bms) -> None:
    command = [sys.executable, "-c", PRESSED]
    with subprocess.Popen(
        command, env=nowhere.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def passes(seconds: str) -> str:
            print(seconds, file=process.stdin, flush=True)
            return process.stdout.readline() if process.stdout else ""

        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "gently\n"
        process.send_signal(signal.SIGINT)
        assert passes("0.2") == "0.2\n"
        process.send_signal(signal.SIGINT)
        assert passes("0.2") == "0.2\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stdout.read() == ""


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(("action", "unknown"), [("stop", 0), ("reboot", 5)])
def test_servers_whose_answer_was_not_waited_for_are_settled_by_their_states(
    tmp_path: Path, action: str, unknown: int
) -> None:
    with simulator("--servers", "60", "--job-seconds", "0.2", "0.4") as exports:
        bms = Bms(exports, tmp_path)
        plan_fault(bms, f"servers.{action}", NEVER, 2)
        arguments = [action, "--tag", "__type_baremetal", "-y", "--wave", "20", "--key", "tonight"]
        with bms.on_a_terminal(*arguments, columns=200) as terminal:
            terminal.wait_for(lambda: no_fault_waits(bms))
            # The answer is not waited for, as it is after Ctrl-C.
            terminal.process.send_signal(signal.SIGTERM)
            assert terminal.end() == 143
        *outcomes, summary = bms(action, "--resume", "tonight", "-y", "--json").json
        assert len({each["server_id"] for each in outcomes}) == len(outcomes) == summary["servers"] == 60
        assert summary["by_state"]["UNKNOWN"] <= unknown
        assert sum(summary["by_state"].values()) == 60
        assert summary["by_state"]["FAILED"] == summary["by_state"]["SKIPPED"] == 0


def test_a_cloud_that_answers_again_is_no_longer_told_of(tmp_path: Path) -> None:
    with simulator("--servers", "40", "--job-seconds", "90000", "90000") as exports:
        bms = Bms(exports, tmp_path)
        plan_fault(bms, "jobs.get", {"type": "CutBefore"})
        with bms.on_a_terminal("stop", "--tag", "rack-0", "-y", columns=200) as terminal:
            terminal.wait_for_text("the cloud does not respond: 1 poll failed")
            terminal.wait_for(lambda: "40 asked" in terminal.text and "does not respond" not in terminal.text)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_in_a_pipe_ends_the_command_and_loses_no_server(
    endless_cloud: Bms, number: signal.Signals, code: int
) -> None:
    arguments = ["stop", NO_SERVER, *endless_cloud.ids("rack-1"), "-y", "--json", "--key", f"until {code}"]
    with endless_cloud.in_a_pipe(*arguments) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert json.loads(first)["state"] == "FAILED"
        process.send_signal(number)
        rest, err = process.communicate(timeout=PATIENCE)
    *outcomes, summary = [json.loads(line) for line in [first, *rest.splitlines()]]
    assert process.returncode == summary["exit_code"] == code
    assert len({each["server_id"] for each in outcomes}) == len(outcomes) == 41 - summary["left"]
    assert (summary["servers"], summary["interrupted"]) == (41, True)
    assert endless_cloud.run(f"until {code}")["status"] == "paused"
    assert "Traceback" not in err


def test_whoever_stops_reading_ends_a_run_in_order_and_without_complaint(endless_cloud: Bms) -> None:
    arguments = ["reboot", NO_SERVER, *endless_cloud.ids("rack-2"), "-y", "--json", "--key", "unread"]
    with endless_cloud.in_a_pipe(*arguments) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        assert process.wait(timeout=PATIENCE) == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    assert endless_cloud.run("unread")["status"] == "paused"


def test_nothing_is_changed_when_it_is_interrupted_before_the_question_is_answered(endless_cloud: Bms) -> None:
    with endless_cloud.on_a_terminal("stop", "--tag", "rack-1", columns=200) as terminal:
        terminal.wait_for_text("[y/N]")
        terminal.send("\x03")
        assert terminal.end() == 130
        assert "interrupted; nothing was changed" in terminal.text
    with endless_cloud.on_a_terminal("stop", "--tag", "rack-1", columns=200) as terminal:
        terminal.wait_for_text("[y/N]")
        terminal.send("\n")
        assert terminal.end() == 2
        assert "nothing was done" in terminal.text


def test_a_cloud_that_is_gone_in_the_middle_is_shown_and_can_be_left(tmp_path: Path) -> None:
    with ExitStack() as terminals:
        with simulator("--servers", "40", "--job-seconds", "90000", "90000") as exports:
            bms = Bms(exports, tmp_path)
            arguments = ["reboot", "--tag", "rack-0", "-y", "--key", "gone"]
            terminal = terminals.enter_context(bms.on_a_terminal(*arguments, columns=200))
            terminal.wait_for_text("40 asked")
            [job] = jobs_of(bms)
        terminal.wait_for_text("the cloud does not respond: ")
        terminal.interrupt_twice()
        assert terminal.end() == 130
        assert "40 not ended" in terminal.text
        assert "bms reboot --resume gone" in terminal.text
        assert (bms.run("gone")["status"], bms.run("gone")["in_flight"]) == ("paused", 40)
        saved = tmp_path / "jobs"
        saved.write_text(json.dumps({"version": 1, "job_id": job, "project_id": exports["OS_PROJECT_ID"]}) + "\n")
        watching = terminals.enter_context(bms.on_a_terminal("jobs", "watch", "--from", str(saved), columns=200))
        watching.wait_for_text("the cloud does not respond: ")


def jobs_of(bms: Bms) -> list[str]:
    """The jobs of all runs, once all that was asked for has one."""
    with closing(sqlite3.connect(bms.journal)) as connection:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            rows = connection.execute("SELECT state, job FROM bms_async_batches").fetchall()
            if {state for state, _ in rows} <= {"watching"}:
                return [job for _, job in rows]
    raise AssertionError("a batch has no job")
