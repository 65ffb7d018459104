"""Results on standard output: plain values, lines of JSON, columns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum

import anyio
import anyio.to_thread
import msgspec

from bms_async.models import Model
from bms_async.redaction import MaskedStr

from .cells import cell_len, padded

__all__ = [
    "TableWriter",
    "duration",
    "format_cell",
    "is_terminal",
    "json_line",
    "plain",
    "pluralize",
    "strip_control_chars",
    "terminal_width",
    "write",
    "write_aside",
]

_FIRST_ROWS = 100
_HOUR = 3600


def plain(value: object) -> object:
    """Return a model as dicts, lists and texts under Python's names; what is absent is left out, secrets are hidden."""
    if isinstance(value, Model):
        return {name: plain(each) for name, each in value.__rich_repr__()}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value.value if isinstance(value, Enum) else value


def json_line(value: object) -> str:
    """Return one line of JSON, with its end."""
    return msgspec.json.encode(value, enc_hook=_tell).decode() + "\n"


def _tell(value: object) -> str:
    if isinstance(value, MaskedStr):
        return str(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON can hold")


def write(text: str) -> None:
    """Write to standard output, and let whoever reads it have it now."""
    sys.stdout.write(text)
    sys.stdout.flush()


async def write_aside(text: str) -> None:
    """Write to standard output while the loop goes on: a slow reader must not hold up a run.

    The text is written also where the caller is cancelled: it was taken from what waits, and nobody writes it later.
    """
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(write, text)


def strip_control_chars(text: str) -> str:
    """Return a text of the cloud's without what would move a cursor or begin another column."""
    # A text of its own, for the cloud's may hold a secret that is masked when it is told.
    text = str(text)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def duration(seconds: float) -> str:
    """Return a time as people read it: ``0:07``, ``12:30``, ``1:02:05``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, _HOUR)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def pluralize(count: int, of: str) -> str:
    """Return ``1 server``, ``2 servers``."""
    return f"{count:,} {of}{'' if count == 1 else 's'}"


def format_cell(value: object) -> str:
    """Return a value as it stands in a column."""
    if isinstance(value, datetime):
        value = value.strftime("%Y-%m-%d %H:%M")
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, Enum):
        # An unknown member of an enum of numbers has its number for a name.
        value = value.name
    elif isinstance(value, Iterable) and not isinstance(value, str):
        # An empty mapping is as good as none.
        value = ", ".join(map(str, value))
    return "-" if value is None or value == "" else strip_control_chars(str(value))


def is_terminal() -> bool:
    """Whether standard output is one."""
    return sys.stdout.isatty()


def terminal_width() -> int:
    """Return how wide standard output is; 80 where it is no terminal."""
    try:
        return max(20, os.get_terminal_size(sys.stdout.fileno()).columns)
    except (OSError, ValueError):
        return 80


class TableWriter:
    """Writes rows as they come: aligned under a header on a terminal, else with tabs between and no header.

    The first rows tell how wide the columns are; a longer value later moves the rest of its row.

    Args:
        names: What the columns are called.
        right: Which of them are figures.
        keep: How many are shown however narrow the terminal is; as many of the others as have room. None shows all.
        out: Where rows go.
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
        self._waiting: list[list[str]] | None = [] if is_terminal() else None
        self._widths: list[int] | None = None

    def add(self, *values: object) -> None:
        """Write a row."""
        row = [format_cell(value) for value in values]
        if self._waiting is None and self._widths is None:
            self._out("\t".join("" if each == "-" else each for each in row) + "\n")
        elif self._waiting is None:
            self._out(self._align(row))
        else:
            self._waiting.append(row)
            if len(self._waiting) >= _FIRST_ROWS:
                self.flush()

    def flush(self) -> None:
        """Write what waits for more rows."""
        rows, self._waiting = self._waiting, None
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
            padded(each, width, right=name in self._right)
            # Those that have no room have no width.
            for each, width, name in zip(row, self._widths or (), self._names, strict=False)
        ]
        return "   ".join(cells).rstrip() + "\n"
