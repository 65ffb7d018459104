"""Running a program in a Python of its own, where nothing was imported before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.support.machine import patience


def run_program(program: str, environment: Mapping[str, str], *, without: tuple[str, ...]) -> str:
    """Return what a program prints; it must end well and say nothing on standard error, warnings included.

    Args:
        program: Its text.
        environment: Variables beside those that there are.
        without: How those begin that it must not see.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=ours | dict(environment),
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
