"""A process that is killed between a submit and its answer: the next one accounts for every server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.simulator.test_simulator_process import running
from tests.support.machine import patience
from tests.support.plain_http import plain_client

ROOT = Path(__file__).parents[2]


def begin(cloud: dict[str, Any], saved: Path) -> subprocess.Popen[str]:
    arguments = [cloud["address"], cloud["project_id"], cloud["token"], str(saved)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fleet._killed_run", *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_after_kill_9_between_submit_and_answer_a_new_process_accounts_for_every_server(tmp_path: Path) -> None:
    saved = tmp_path / "jobs"
    with running("--servers", "2500", "--job-seconds", "0.2", "0.6") as simulator:
        assert simulator.stdout
        cloud = json.loads(simulator.stdout.readline())
        with plain_client(cloud["address"]) as admin:
            # The second batch is taken, and its answer does not come while the process lives.
            late = {"operation": "servers.stop", "nth": 2, "fault": {"type": "Delay", "seconds": 600}}
            assert admin.post("/_admin/faults", json=[late]).status_code == 200
            with begin(cloud, saved) as first:
                assert first.stdout
                assert [first.stdout.readline() for _ in range(2)] == ["saved\n"] * 2
                first.send_signal(signal.SIGKILL)
                assert first.wait(patience(60.0)) == -signal.SIGKILL
            assert admin.get("/_admin/calls").json()["operations"]["servers.stop"]["arrived"] == 3
            kept = [json.loads(line) for line in saved.read_text().splitlines()]
            known = {server_id for each in kept for server_id in each["servers"]}
            lost = 2500 - len(known)
            assert lost in (500, 1000)
            with begin(cloud, saved) as second:
                out, _ = second.communicate(timeout=patience(60.0))
            assert second.returncode == 0
            report = json.loads(out.splitlines()[-1])
            outcomes = report["outcomes"]
            assert len({outcome["server_id"] for outcome in outcomes}) == len(outcomes) == 2500
            states = Counter((outcome["state"], outcome["server_id"] in known) for outcome in outcomes)
            # Those of the batch without an answer are asked for again, and are stopped already.
            assert states == {("SUCCEEDED", True): 2500 - lost, ("UNCHANGED", False): lost}
            assert report["unverified"] == 0
            assert admin.get("/_admin/servers").json() == {"ACTIVE": 0, "SHUTOFF": 2500, "HARD_REBOOT": 0}
