"""Files that have a server and something about it in each line, such as its new name.

They are read as files of servers are: UTF-8 or UTF-16, any line ends, and tabs, semicolons or commas between cells.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import NamedTuple

from bms_async.cli.selection.ids import read_bytes
from bms_async.cli.selection.text_lines import DELIMITERS, content_lines, decode
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.texts import strip_control_chars

__all__ = ["Row", "read_rows"]

_SHOWN = 60
_SERVER = frozenset({"id", "server", "server_id"})


class Row(NamedTuple):
    """A line of such a file.

    Attributes:
        where: The file and the line, for errors.
        server: The server.
        values: What is said about it.
    """

    where: str
    server: str
    values: Sequence[str]


def read_rows(option: str, file: str, *, names: Sequence[str], example: str, optional: int = 0) -> list[Row]:
    """Return the lines of a file; comments, empty lines and a heading are left out.

    Args:
        option: The option that names the file.
        file: The file; ``-`` for standard input.
        names: The names of the columns behind the server's, as a heading may have them.
        example: A line as it has to be.
        optional: How many of the columns at the end may be missing.

    Raises:
        UsageError: The file cannot be read, a line is not as it has to be, or there is none.
    """
    label = f"{option} {file}"
    lines = list(content_lines(decode(read_bytes(option, file), label)))
    if not lines:
        raise UsageError(f"{label}: nothing is in it; expected lines such as {example}")
    delimiter = next((mark for mark in DELIMITERS if mark in lines[0].text), ",")
    reader = csv.reader((line.text for line in lines), delimiter=delimiter, strict=True)
    rows, most = list[Row](), 1 + len(names)
    try:
        for index, cells in enumerate(reader):
            row, where = [cell.strip() for cell in cells], f"{label}, line {lines[reader.line_num - 1].number}"
            if not any(row):
                continue
            heading = [cell.lower() for cell in row]
            if not index and heading[0] in _SERVER and heading[1:] == list(names[: len(row) - 1]):
                continue
            while len(row) > most - optional and not row[-1]:
                row.pop()
            if not most - optional <= len(row) <= most or not all(row):
                got = strip_control_chars(delimiter.join(cells)[:_SHOWN])
                raise UsageError(f"{where}: expected a line such as {example}; got {got}")
            rows.append(Row(where, row[0], row[1:]))
    except csv.Error:
        line = lines[min(reader.line_num, len(lines)) - 1]
        raise UsageError(f"{label}, line {line.number}: expected cells whose quotes are closed") from None
    if not rows:
        raise UsageError(f"{label}: nothing is in it but a heading; expected lines such as {example}")
    return rows
