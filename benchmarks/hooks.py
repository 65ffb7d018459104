"""The cost of hooks and of OpenTelemetry in a call, beside a call without them: without hooks it should be nothing.

    python -m benchmarks.hooks [RUNS]

All kinds take turns in one process, in short stretches, and the differences are taken stretch by stretch; this is
repeated in several processes. The transport answers from memory, without the cost and the noise of a socket: the
figures are what a real call pays on top as well. The exit status is 1 if a target was missed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from benchmarks._hooked import KINDS, PLAIN, UNUSED
from benchmarks._report import judge, report

RUNS = 5
PACKAGES = ("opentelemetry-api", "opentelemetry-sdk", "msgspec", "anyio")
MAX_UNUSED = 2.0
MAX_EMPTY = 0.5


def run() -> dict[str, list[float]]:
    """Return the figures of one process: for each kind the µs of CPU a call, stretch by stretch."""
    command = [sys.executable, "-m", "benchmarks._hooked"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    figures: dict[str, list[float]] = json.loads(done.stdout)
    return figures


def main(runs: int = RUNS) -> int:
    """Measure, print and save; return the exit status."""
    everything = [run() for _ in range(runs)]
    cpu = {name: statistics.median(each for run in everything for each in run[name]) for name in KINDS}
    above = {
        name: statistics.median(
            each - plain for run in everything for each, plain in zip(run[name], run[PLAIN], strict=True)
        )
        for name in KINDS
    }
    report(
        "hooks",
        [
            {
                "client": name,
                "CPU us a call": round(cpu[name], 1),
                "on top, us": round(above[name], 2),
                "ratio": round(1 + above[name] / cpu[PLAIN], 3),
            }
            for name in KINDS
        ],
        packages=PACKAGES,
    )
    empty = above["an empty hook"] / cpu[PLAIN]
    return judge(
        {
            f"without hooks a call costs {above[UNUSED]:.2f} us more, at most {MAX_UNUSED:g}": above[UNUSED]
            <= MAX_UNUSED,
            f"an empty hook costs {empty:.2f} of a call's own CPU, at most {MAX_EMPTY:g}": empty <= MAX_EMPTY,
        }
    )


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))
