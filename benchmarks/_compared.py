"""Two checkouts of the client, above their transports, in processes that take turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from benchmarks._samples import (
    ACCESS_KEY,
    JOB_ID,
    PROJECT,
    RESPONSE_HEADERS,
    SECRET_KEY,
    TOKEN,
    job_document,
)

_SCRIPT = Path(__file__).with_name("_above.py")
_HERE = Path(__file__).parents[1]
_CALLS = 200

SUBJECTS: dict[str, dict[str, Any]] = {
    "a running job": {"running": True, "keys": None},
    "a running job, signed": {"running": True, "keys": [ACCESS_KEY, SECRET_KEY]},
    "an ended job": {"running": False, "keys": None},
}
"""What the calls get and how they authenticate."""


class Measured:
    """A process with one checkout, which measures a slice whenever it is asked."""

    def __init__(self, checkout: Path, subject: dict[str, Any]) -> None:
        given = {
            "body": job_document(1, running=subject["running"]).decode(),
            "headers": RESPONSE_HEADERS,
            "project": PROJECT,
            "job": JOB_ID,
            "token": TOKEN,
            "keys": subject["keys"],
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT), json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def slice(self) -> float:
        """Return the seconds of CPU of one call."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{_CALLS}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline()) / _CALLS


def compare(base: Path | None, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each subject: the µs of CPU above the transport, and how many times the other checkout's.

    Args:
        base: The other checkout; None for none.
        rounds: How often each has its turn.
    """
    rows = []
    for name, subject in SUBJECTS.items():
        with ExitStack() as stack:
            ours = stack.enter_context(Measured(_HERE, subject))
            theirs = stack.enter_context(Measured(base, subject)) if base else None
            # The first slices import, compile and fill caches.
            pairs = [(ours.slice(), theirs.slice() if theirs else None) for _ in range(rounds + 2)][2:]
        mine, others = [pair[0] for pair in pairs], [pair[1] for pair in pairs if pair[1] is not None]
        ratios = [mine / other for mine, other in zip(mine, others, strict=False)]
        rows.append(
            {
                "above the transport": name,
                "CPU us a call": round(1e6 * statistics.median(mine), 1),
                "before": round(1e6 * statistics.median(others), 1) if others else "-",
                "before = 1": round(statistics.median(ratios), 2) if ratios else "-",
            }
        )
    return rows
