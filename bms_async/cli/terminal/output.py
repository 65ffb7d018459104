"""Writes results to standard output: lines of JSON, columns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import Enum

import msgspec

from bms_async.redaction import MaskedStr

from .cells import cell_len, padded
from .texts import strip_control_chars

__all__ = [
    "TableWriter",
    "format_cell",
    "is_terminal",
    "json_line",
    "terminal_width",
    "write",
    "write_aside",
]

_FIRST_ROWS = 100


def json_line(value: object) -> str:
    """Return one line of JSON, with its newline."""
    return msgspec.json.encode(value, enc_hook=_to_text).decode() + "\n"


def _to_text(value: object) -> str:
    if isinstance(value, MaskedStr):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write(text: str) -> None:
    """Write to standard output, and flush."""
    sys.stdout.write(text)
    sys.stdout.flush()


async def write_aside(text: str) -> None:
    """Write to standard output in a thread: a slow reader must not block the event loop.

    The text is written even if the caller is cancelled, which has taken it from its buffer already.
    """
    import anyio.to_thread

    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(write, text)


def format_cell(value: object) -> str:
    """Return a value as text for a column."""
    if isinstance(value, datetime):
        value = value.strftime("%Y-%m-%d %H:%M")
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, Enum):
        # An unknown member of an integer enum has its number as name.
        value = value.name
    elif isinstance(value, Iterable) and not isinstance(value, str):
        # An empty mapping is shown like None.
        value = ", ".join(map(str, value))
    return "-" if value is None or value == "" else strip_control_chars(str(value))


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def terminal_width() -> int:
    """Return the width of standard output; where it is not a terminal, that of COLUMNS, which `watch` sets, or 80."""
    try:
        return max(20, os.get_terminal_size(sys.stdout.fileno()).columns)
    except (OSError, ValueError):
        typed = os.environ.get("COLUMNS", "")
        return max(20, int(typed)) if typed.isascii() and typed.isdigit() else 80


class TableWriter:
    """Writes rows as they come: aligned under a header on a terminal, else separated by tabs and without a header.

    The first rows determine the widths of the columns; a longer value later shifts the rest of its row.

    Args:
        names: The names of the columns.
        right: Columns that are aligned to the right.
        keep: Columns that are shown on any terminal; of the others, as many as have room. None shows all.
        out: Receives each row.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        right: Iterable[str] = (),
        keep: int | None = None,
        out: Callable[[str], object] | None = None,
    ) -> None:
        self._names = names
        self._keep = len(names) if keep is None else keep
        self._right = frozenset(right)
        self._out = out or sys.stdout.write
        self._pending: list[list[str]] | None = [] if is_terminal() else None
        self._widths: list[int] | None = None

    def add(self, *values: object) -> None:
        """Write a row."""
        row = [format_cell(value) for value in values]
        if self._pending is None and self._widths is None:
            self._out("\t".join("" if cell == "-" else cell for cell in row) + "\n")
        elif self._pending is None:
            self._out(self._align(row))
        else:
            self._pending.append(row)
            if len(self._pending) >= _FIRST_ROWS:
                self.flush()

    def flush(self) -> None:
        """Write the rows that were held back to determine the widths."""
        rows, self._pending = self._pending, None
        if rows:
            head = [name.upper().replace("_", " ") for name in self._names]
            self._widths = [max(map(cell_len, column)) for column in zip(head, *rows, strict=True)]
            room = terminal_width()
            while len(self._widths) > self._keep and sum(self._widths) + 3 * (len(self._widths) - 1) > room:
                self._widths.pop()
            for row in (head, *rows):
                self._out(self._align(row))

    def _align(self, row: list[str]) -> str:
        cells = [
            padded(cell, width, right=name in self._right)
            # Columns without room have no width.
            for cell, width, name in zip(row, self._widths or (), self._names, strict=False)
        ]
        return "   ".join(cells).rstrip() + "\n"
