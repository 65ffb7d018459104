"""Rows as text, in each form. Each writer returns the text of a row as soon as it can.

A list that breaks off leaves the array of ``json`` open, so that no program takes it for a whole one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Final, Protocol

import msgspec

from .cells import cell_len, cut, padded
from .output import format_cell, json_line
from .texts import strip_control_chars
from .yaml_text import escape_unprintable, yaml_document, yaml_item

__all__ = ["Csv", "Ids", "JsonArray", "JsonLines", "Tabs", "TextTable", "Writer", "Yaml", "csv_cell", "is_formula"]

_FIRST_ROWS = 100
_LEAST = 8
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Writer(Protocol):
    """Makes text of rows."""

    def add(self, row: object) -> str:
        """Return the text that is ready once a row has come."""

    def end(self, *, is_whole: bool = True) -> str:
        """Return the rest.

        Args:
            is_whole: Whether all rows came.
        """


class JsonLines:
    """A JSON object a line."""

    def add(self, row: object) -> str:
        """Return its line."""
        return escape_unprintable(json_line(row))

    def end(self, *, is_whole: bool = True) -> str:  # noqa: ARG002 - each line is whole
        """Return nothing."""
        return ""


class JsonArray:
    """One array with an object a line.

    Args:
        is_single: Whether there is one row, which is the document.
    """

    def __init__(self, *, is_single: bool = False) -> None:
        self._is_single = is_single
        self._count = 0

    def add(self, row: object) -> str:
        """Return its line."""
        line = escape_unprintable(json_line(row))
        self._count += 1
        if self._is_single:
            return line
        return f"{'[' if self._count == 1 else ','}\n{line[:-1]}"

    def end(self, *, is_whole: bool = True) -> str:
        """Return the end of the array; a part of it has none."""
        if self._is_single or not (is_whole or self._count):
            return ""
        if not is_whole:
            return "\n"
        return "\n]\n" if self._count else "[]\n"


class Yaml:
    """One list in YAML.

    Args:
        is_single: Whether there is one row, which is the document.
    """

    def __init__(self, *, is_single: bool = False) -> None:
        self._text = yaml_document if is_single else yaml_item
        self._is_empty = not is_single

    def add(self, row: object) -> str:
        """Return its item."""
        self._is_empty = False
        # Dates and masked texts become what they are in JSON.
        return self._text(msgspec.json.decode(json_line(row)))

    def end(self, *, is_whole: bool = True) -> str:
        """Return the list, if it has no item."""
        return "[]\n" if self._is_empty and is_whole else ""


class Ids:
    """An id a line."""

    def add(self, row: object) -> str:
        """Return its line; none for a row without an id."""
        return f"{strip_control_chars(str(row))}\n" if row else ""

    def end(self, *, is_whole: bool = True) -> str:  # noqa: ARG002 - each line is whole
        """Return nothing."""
        return ""


class Tabs:
    """Cells with tabs between them, for `cut` and `awk`.

    Args:
        names: The header; None for none.
    """

    def __init__(self, names: Sequence[str] | None) -> None:
        self._head = "" if names is None else "\t".join(names) + "\n"

    def add(self, row: object) -> str:
        """Return its line."""
        head, self._head = self._head, ""
        cells = map(format_cell, _cells(row))
        return head + "\t".join("" if cell == "-" else cell for cell in cells) + "\n"

    def end(self, *, is_whole: bool = True) -> str:  # noqa: ARG002 - each line is whole
        """Return the header, if no row came."""
        return self._head


class Csv:
    r"""CSV as of RFC 4180: lines end with CR LF, and a cell has quotes where it needs them.

    A text that a spreadsheet would take for a formula has an apostrophe before it; numbers have none.

    Args:
        names: The header; None for none.
        for_terminal: Whether control characters are replaced.
    """

    def __init__(self, names: Sequence[str] | None, *, for_terminal: bool = False) -> None:
        self._for_terminal = for_terminal
        self._head = "" if names is None else _csv_line(names)

    def add(self, row: object) -> str:
        """Return its line."""
        head, self._head = self._head, ""
        cells = [csv_cell(cell) for cell in _cells(row)]
        return head + _csv_line([strip_control_chars(cell) for cell in cells] if self._for_terminal else cells)

    def end(self, *, is_whole: bool = True) -> str:  # noqa: ARG002 - each line is whole
        """Return the header, if no row came."""
        return self._head


def csv_cell(value: object) -> str:
    """Return a value as a cell of CSV: data, where `format_cell` is for the eye."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping | list | tuple):
        is_flat = not isinstance(value, Mapping) and not any(isinstance(item, Mapping | list | tuple) for item in value)
        text = ", ".join(map(str, value)) if is_flat else json_line(value)[:-1]
    else:
        text = str(value)
    return f"'{text}" if is_formula(text) else text


def is_formula(text: str) -> bool:
    """Return whether a spreadsheet may take a text for a formula; it skips blanks in front of one."""
    return text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA)


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()


class TextTable:
    """Aligned columns. The first rows determine the widths; a longer cell later shifts the rest of its row.

    Args:
        names: The names of the columns.
        header: Whether the names are above them.
        right: Columns that are aligned to the right.
        keep: How many columns are shown on any terminal; of the others, as many as have room.
        width: Returns the width of a line in cells.
        is_cut: Whether the widest cells are cut where the columns that are kept have no room either; ids are not.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        header: bool,
        right: frozenset[str],
        keep: int,
        width: Callable[[], int],
        is_cut: bool = False,
    ) -> None:
        self._names = names
        self._head = [[name.upper().replace("_", " ") for name in names]] if header else []
        self._right = right
        self._keep = keep
        self._width = width
        self._is_cut = is_cut
        self._cut: int | None = None
        self._first: list[list[str]] | None = []
        self._widths: list[int] = []

    def add(self, row: object) -> str:
        """Return its line, if the widths are known."""
        cells = list(map(format_cell, _cells(row)))
        if self._first is None:
            return self._align(cells)
        self._first.append(cells)
        return self.end() if len(self._first) >= _FIRST_ROWS else ""

    def end(self, *, is_whole: bool = True) -> str:  # noqa: ARG002 - each line is whole
        """Return the rows that were held back, with the header; nothing if there is none."""
        rows, self._first = self._first, None
        if not rows:
            return ""
        rows = [*self._head, *rows]
        self._widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        room = self._width()
        while len(self._widths) > self._keep and sum(self._widths) + 3 * (len(self._widths) - 1) > room:
            self._widths.pop()
        over = sum(self._widths) + 3 * (len(self._widths) - 1) - room
        if self._is_cut and over > 0 and len(self._widths) > 1:
            self._cut = max(range(1, len(self._widths)), key=self._widths.__getitem__)
            self._widths[self._cut] = max(_LEAST, self._widths[self._cut] - over)
        return "".join(map(self._align, rows))

    def _align(self, row: Sequence[str]) -> str:
        cells = [
            padded(cut(cell, width) if index == self._cut else cell, width, right=name in self._right)
            # Columns without room have no width.
            for index, (cell, width, name) in enumerate(zip(row, self._widths, self._names, strict=False))
        ]
        return "   ".join(cells).rstrip() + "\n"


def _cells(row: object) -> Sequence[object]:
    return row if isinstance(row, list) else [row]
