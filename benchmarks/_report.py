"""The output of a benchmark: a table for people, JSON for comparisons."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def report(name: str, rows: Sequence[Mapping[str, object]], *, packages: Iterable[str] = ()) -> None:
    """Print rows as a table below versions and machine, and write both to ``results/<name>.json``.

    Args:
        name: The benchmark.
        rows: At least one, all with the same columns.
        packages: Other packages whose versions are printed.
    """
    about = {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        **{package: version(package) for package in ("bms-async", *packages)},
    }
    columns = list(rows[0])
    table = [columns, *([_shown(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[number]) for line in table) for number in range(len(columns))]
    print(f"\n{name}: {', '.join(f'{what} {which}' for what, which in about.items())}")
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"about": about, "rows": list(rows)}, indent=2) + "\n")


def judge(targets: Mapping[str, bool]) -> int:
    """Print which targets were met; return the exit status, 1 if one was missed."""
    for target, met in targets.items():
        print(f"{'met   ' if met else 'MISSED'} {target}", flush=True)
    return 0 if all(targets.values()) else 1


def _shown(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
