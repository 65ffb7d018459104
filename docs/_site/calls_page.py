"""The page of all calls, ``docs/calls.md``, generated from the table of operations.

::

    python -m docs._site.calls_page            # write it
    python -m docs._site.calls_page --check    # end with 1 when it is stale
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bms_async.api import operations
from bms_async.api.identity import CREATE_TOKEN
from bms_async.wire import Operation
from docs._site.generated import update

PAGE = Path(__file__).resolve().parents[1] / "calls.md"

COMMAND = "python -m docs._site.calls_page"

_HEAD = f"""\
# Every call

All {{count}} calls that the SDK makes. A limit is the number of calls a minute that the API reference allows (table
2-2) and that `Limits()` keeps to; an empty cell means that none is documented. Safety says whether a call is sent again
when its response was lost: `read` and `idempotent` calls are, `unsafe` ones never are. The docstring of each method has
the details.

This page is generated from the code by `{COMMAND}`; edit the definitions, not the page.
"""

_CHAPTERS = {
    "4": ("BMS calls", "The service's own, under `/v1`; they go to `endpoint`."),
    "5": ("Native OpenStack calls", "Nova's, under `/v2.1`; they go to `compute_endpoint`."),
    "7": ("Calls that only the permissions name", "Chapter 7 lists actions, and with them calls found nowhere else."),
    "A": (
        "Identity calls",
        "Tokens, and the projects of an account; they go to `identity_endpoint`, and tokens to the `auth_url`.",
    ),
}
_TABLES = {"3": "A"}
"""Chapters whose calls are listed in the table of another one."""

_MADE_BY = {CREATE_TOKEN.name: "PasswordAuth"}
"""The class that makes a call which no client method makes."""

_COLUMNS = ("Call", "Method", "Request", "Limit", "Safety", "Chapter", "IAM action")


def render(calls: Iterable[Operation[Any]]) -> str:
    """Return the page.

    Args:
        calls: In the order of the table rows.

    Raises:
        ValueError: A call belongs to a chapter that has no table.
    """
    tables: dict[str, list[Operation[Any]]] = {chapter: [] for chapter in _CHAPTERS}
    for call in calls:
        chapter = call.chapter.partition(".")[0]
        chapter = _TABLES.get(chapter, chapter)
        if chapter not in tables:
            raise ValueError(f"{call.name}: chapter {call.chapter} has no table; add it to _CHAPTERS")
        tables[chapter].append(call)
    parts = [_HEAD.format(count=sum(map(len, tables.values())))]
    for chapter, rows in tables.items():
        if rows:
            title, text = _CHAPTERS[chapter]
            lines = [_row(_COLUMNS), _row(["---"] * len(_COLUMNS)), *map(_row_of, rows)]
            parts.append(f"## {title}\n\n{text}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _row_of(call: Operation[Any]) -> str:
    return _row(
        (
            call.title.replace("|", "\\|"),
            f"`{call.name}`, by `{_MADE_BY[call.name]}`" if call.name in _MADE_BY else f"`bms.{call.name}`",
            f"`{call.method} {call.path}`",
            "" if call.limit is None else str(call.limit),
            call.safety.value,
            call.chapter,
            "" if call.permission is None else f"`{call.permission}`",
        )
    )


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None, *, page: Path = PAGE) -> int:
    """Write the page or, with ``--check``, compare it; return the exit status.

    Args:
        arguments: Those of the command line.
        page: The file.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write docs/calls.md from the table of operations.")
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 when the page is stale")
    check = parser.parse_args(arguments).check
    if not page.parent.is_dir():
        sys.stderr.write(f"{page.parent} is not a folder: run this in a checkout, which has docs/\n")
        return 2
    return update(page, render(operations()), check=check, command=COMMAND)


if __name__ == "__main__":
    raise SystemExit(main())
