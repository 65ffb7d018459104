"""How long `import bms_async` takes, against `import httpx, msgspec`, each in fresh processes.

    python benchmarks/import_time.py [RUNS]

The two alternate, so that whatever else the machine does falls on both. The bound is on the import itself; the whole
process, interpreter included, is told beside it. Ends with 1 when the ratio of the medians is above the bound.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

BOUND = 1.5
RUNS = 15
RESULTS = Path(__file__).with_name("results") / "import_time.json"
IMPORTS = {"bms_async": "import bms_async", "httpx, msgspec": "import httpx, msgspec"}
PROGRAM = "import time; begun = time.perf_counter(); {}; print(time.perf_counter() - begun)"


def run(statement: str) -> tuple[float, float]:
    """Return the seconds that the import took, and those that the whole process took."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(statement)], capture_output=True, text=True, timeout=60, check=True
    )
    return float(done.stdout), time.perf_counter() - begun


def main(runs: int = RUNS) -> int:
    """Measure, tell, write down; return the exit status."""
    for statement in IMPORTS.values():
        run(statement)  # the first one compiles, and reads from a cold disk
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in IMPORTS}
    for _ in range(runs):
        for name, statement in IMPORTS.items():
            taken[name].append(run(statement))

    rows = {}
    for name, pairs in taken.items():
        imports, processes = zip(*pairs, strict=True)
        rows[name] = {
            "import_min_ms": 1000 * min(imports),
            "import_median_ms": 1000 * statistics.median(imports),
            "process_min_ms": 1000 * min(processes),
            "process_median_ms": 1000 * statistics.median(processes),
        }
    ours, theirs = rows.values()
    ratios = {column: ours[column] / theirs[column] for column in ours}
    ratio = ratios["import_median_ms"]

    print(f"{runs} runs each, Python {platform.python_version()}, milliseconds")
    print(f"{'':16}{'import min':>12}{'median':>12}{'process min':>14}{'median':>12}")
    for name, row in rows.items():
        low, median, process_low, process_median = row.values()
        print(f"{name:16}{low:12.1f}{median:12.1f}{process_low:14.1f}{process_median:12.1f}")
    low, median, process_low, process_median = ratios.values()
    print(f"{'ratio':16}{low:12.2f}{median:12.2f}{process_low:14.2f}{process_median:12.2f}")
    print(f"bound {BOUND}: {'kept' if ratio <= BOUND else 'BROKEN'}")

    RESULTS.parent.mkdir(exist_ok=True)
    result = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "runs": runs,
        "bound": BOUND,
        "ratio": round(ratio, 3),
        "imports": {name: {key: round(value, 2) for key, value in row.items()} for name, row in rows.items()},
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if ratio <= BOUND else 1


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))
