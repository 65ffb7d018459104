"""Ctrl-C and its relatives, and what can be gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from bms_async.cli.journal import read_saved
from tests.cli._helpers import PATIENCE, Bms, simulator

WAVE = 100


def add_faults(bms: Bms, *faults: dict[str, object]) -> None:
    body = json.dumps(faults).encode()
    with urllib.request.urlopen(f"{bms.exports['BMS_ENDPOINT']}/_admin/faults", data=body) as answer:
        assert answer.status == 200


def no_fault_waits(bms: Bms) -> bool:
    with urllib.request.urlopen(f"{bms.exports['BMS_ENDPOINT']}/_admin/status") as answer:
        return bool(json.load(answer)["faults_waiting"] == 0)


def test_ctrl_c_brings_the_report_saves_the_jobs_and_the_rest_can_be_gone_on_with(healthy_cloud: Bms) -> None:
    # Nothing is told of the first wave before it is interrupted, and so the second never begins.
    add_faults(healthy_cloud, {"operation": "jobs.get", "nth": 1, "fault": {"type": "Delay", "seconds": 3600.0}})
    arguments = ["stop", "--tag", "__type_baremetal", "-y", "--wave", str(WAVE)]
    with healthy_cloud.on_a_terminal(*arguments, columns=200, lines=60) as terminal:
        terminal.wait_for(lambda: f"{WAVE} asked" in terminal.text and no_fault_waits(healthy_cloud))
        terminal.send("\x03")
        assert terminal.end() == 130
        text = terminal.text
    assert "stop: 300 servers of project" in text
    assert "UNKNOWN: The job was accepted, and the run did not wait for it; it continues in the cloud." in text
    assert "SKIPPED: Nothing was done to it: the run ended before its turn." in text
    [file] = healthy_cloud.saved
    assert f"bms jobs watch --from {file}" in text
    assert f"bms stop --resume {file}" in text
    saved = read_saved(str(file))
    asked = [json.loads(job)["servers"] for job in saved.jobs]
    assert (list(map(len, asked)), len(saved.unasked)) == ([WAVE], 300 - WAVE)

    watched = healthy_cloud("jobs", "watch", "--from", str(file), "--json")
    *lines, summary = watched.json
    assert watched.code == 0
    jobs = [line for line in lines if line["type"] == "job"]
    assert [(job["status"], job["servers"]) for job in jobs] == [("SUCCESS", len(servers)) for servers in asked]
    assert sum(line["type"] == "sub_job" for line in lines) == summary["servers"] == sum(map(len, asked))
    assert summary["failed"] == 0
    assert f"bms stop --resume {file}" in watched.err
    job_id = json.loads(saved.jobs[0])["job_id"]
    shown = healthy_cloud("jobs", "show", job_id, "--json")
    number = len(asked[0])
    assert (shown.code, shown.json[0]["sub_jobs_total"], len(shown.json[0]["sub_jobs"])) == (0, number, number)
    assert f"{number} servers: {number} SUCCESS" in healthy_cloud("jobs", "show", job_id).out
    assert healthy_cloud("jobs", "watch", job_id).out.startswith(f"1 of 1 job ended: {number} servers, 0 failed")

    assert healthy_cloud("start", "--resume", str(file), "-y").code == 2
    resumed = healthy_cloud("stop", "--resume", str(file), "-y", "--wave", "300", "--json")
    *outcomes, summary = resumed.json
    assert resumed.code == 0
    assert len({each["server_id"] for each in outcomes}) == len(outcomes) == 300
    assert summary["by_state"]["SUCCEEDED"] + summary["by_state"]["UNCHANGED"] == 300
    # Those that had been asked for were watched, and not asked for again.
    assert summary["calls"] == 1
    assert not file.exists()


PRESSED = """
import asyncio, sys
from bms_async.cli.signals import run_interruptibly
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


def test_of_a_reboot_that_was_killed_is_said_that_servers_may_be_rebooted_twice(
    endless_cloud: Bms, tmp_path: Path
) -> None:
    file = tmp_path / "run"
    arguments = ["reboot", "--tag", "__type_baremetal", "-y", "--wave", str(WAVE), "--save", str(file)]
    with endless_cloud.on_a_terminal(*arguments, columns=200) as terminal:
        terminal.wait_for(
            lambda: f"{WAVE} asked" in terminal.text and file.exists() and bool(read_saved(str(file)).jobs)
        )
        terminal.process.kill()
        terminal.end()
    asked = endless_cloud("reboot", "--resume", str(file))
    assert (asked.code, "so that none is rebooted twice" in asked.err) == (2, True)


@pytest.mark.parametrize(("action", "left", "in_doubt"), [("stop", 40, 0), ("reboot", 20, 20)])
def test_servers_whose_answer_was_not_waited_for_are_not_forgotten(
    tmp_path: Path, action: str, left: int, in_doubt: int
) -> None:
    file = tmp_path / "run"
    with simulator("--servers", "60", "--job-seconds", "0.2", "0.4") as exports:
        bms = Bms(exports, tmp_path)
        stuck = {"operation": f"servers.{action}", "nth": 2, "fault": {"type": "Delay", "seconds": 3600.0}}
        add_faults(bms, stuck)
        arguments = [action, "--tag", "__type_baremetal", "-y", "--wave", "20", "--save", str(file)]
        with bms.on_a_terminal(*arguments, columns=200) as terminal:
            terminal.wait_for_text("40 asked, 20 succeeded")
            terminal.send("\x03")
            assert terminal.end() == 130
            assert f"resume the run with the {left} servers left" in terminal.text
            assert ("20 servers may have been rebooted" in terminal.text) == bool(in_doubt)
        saved = read_saved(str(file))
        assert (len(saved.unasked), len(saved.in_doubt)) == (left, in_doubt)
        *outcomes, summary = bms(action, "--resume", str(file), "-y", "--json").json
        assert len({each["server_id"] for each in outcomes}) == summary["servers"] == 20 + left
        assert summary["exit_code"] == 0


def test_a_cloud_that_answers_again_is_no_longer_told_of(tmp_path: Path) -> None:
    with simulator("--servers", "40", "--job-seconds", "90000", "90000") as exports:
        bms = Bms(exports, tmp_path)
        add_faults(bms, {"operation": "jobs.get", "nth": 1, "fault": {"type": "CutBefore"}})
        with bms.on_a_terminal("stop", "--tag", "rack-0", "-y", columns=200) as terminal:
            terminal.wait_for_text("the cloud does not respond: 1 poll failed")
            terminal.wait_for(lambda: "40 asked" in terminal.text and "does not respond" not in terminal.text)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_a_pipe_ends_a_run_with_one_outcome_for_each_server(
    endless_cloud: Bms, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    arguments = ["start", "unfit id", *endless_cloud.ids("rack-1"), "-y", "--json", "--save", str(tmp_path / "run")]
    with endless_cloud.in_a_pipe(*arguments) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert json.loads(first)["state"] == "SKIPPED"
        process.send_signal(number)
        rest, err = process.communicate(timeout=PATIENCE)
    *outcomes, summary = [json.loads(line) for line in [first, *rest.splitlines()]]
    assert process.returncode == summary["exit_code"] == code
    assert len({each["server_id"] for each in outcomes}) == len(outcomes) == 41
    assert summary["interrupted"]
    assert "Traceback" not in err


def test_whoever_stops_reading_ends_a_run_in_order_and_without_complaint(endless_cloud: Bms, tmp_path: Path) -> None:
    saved = tmp_path / "run"
    arguments = ["reboot", "unfit id", *endless_cloud.ids("rack-2"), "-y", "--json", "--save", str(saved)]
    with endless_cloud.in_a_pipe(*arguments) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        assert process.wait(timeout=PATIENCE) == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


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
        with simulator("--servers", "40", "--job-seconds", "60", "70") as exports:
            bms = Bms(exports, tmp_path)
            arguments = ["reboot", "--tag", "rack-0", "-y"]
            terminal = terminals.enter_context(bms.on_a_terminal(*arguments, columns=200))
            terminal.wait_for(lambda: "40 asked" in terminal.text and bool(bms.saved))
        terminal.wait_for_text("the cloud does not respond: ")
        terminal.send("\x03")
        assert terminal.end() == 130
        assert "40 UNKNOWN" in terminal.text
        assert f"bms jobs watch --from {bms.saved[0]}" in terminal.text
        watching = terminals.enter_context(bms.on_a_terminal("jobs", "watch", "--from", str(bms.saved[0]), columns=200))
        watching.wait_for_text("the cloud does not respond: ")
