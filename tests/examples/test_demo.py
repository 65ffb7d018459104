"""`examples/demo.py`, as `make demo` runs it, with fewer servers."""

from __future__ import annotations

import re
import signal
import subprocess

from tests.examples.processes import ENDLESS, ROOT, running

PROGRAM = str(ROOT / "examples" / "demo.py")


def test_the_demo_ends_each_run_and_shows_the_books_of_the_cloud() -> None:
    with running(PROGRAM, "--servers", "200", "--job-seconds", "0.1", "0.3") as program:
        assert program.end() == 0
    for action in ("stop", "start", "reboot"):
        assert f"$ bms {action} --tag __type_baremetal --yes" in program.lines
        assert [line for line in program.lines if re.match(rf"{action}: 200 servers of project .* succeeded", line)]
        assert f"servers.{action:12}       1        50        0" in program.lines
    assert [line for line in program.lines if re.match(r"jobs\.get +\d+ +2,000 +0", line)]
    assert [line for line in program.errors if "BMS.0006" in line]


def test_ctrl_c_ends_it() -> None:
    with running(PROGRAM, "--servers", "20", *ENDLESS) as program:
        program.line_with("$ bms stop")
        program.line_with("20 asked")
        assert program.kill(signal.SIGINT) == 130


def test_make_demo_runs_it() -> None:
    shown = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "examples/demo.py" in shown


def test_its_help_says_how_it_ends() -> None:
    with running(PROGRAM, "--help") as program:
        assert (program.end(), program.errors) == (0, [])
    assert "Exit codes: 0" in " ".join(program.lines)
