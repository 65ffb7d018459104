"""Files that have a server and something about it in each line, such as its new name."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from bms_async.cli.selection.id_files import decode
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.files import read_bounded, read_file
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
    try:
        text = decode(read_bounded(sys.stdin.buffer) if file == "-" else read_file(file), label)
        rows = list(_read(io.StringIO(text, newline=""), label, names, example, optional))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{label}: it cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not rows:
        raise UsageError(f"{label}: nothing is in it; expected lines such as {example}")
    return rows


def _read(lines: Iterable[str], label: str, names: Sequence[str], example: str, optional: int) -> Iterator[Row]:
    most = 1 + len(names)
    reader = csv.reader("\n" if line.lstrip().startswith("#") else line for line in lines)
    is_first = True
    for cells in reader:
        row = [cell.strip() for cell in cells]
        if not any(row):
            continue
        heading = [cell.lower() for cell in row]
        if is_first and heading[0] in _SERVER and heading[1:] == list(names[: len(row) - 1]):
            is_first = False
            continue
        is_first = False
        while len(row) > most - optional and not row[-1]:
            row.pop()
        where = f"{label}, line {reader.line_num}"
        if not most - optional <= len(row) <= most or not all(row):
            got = strip_control_chars(",".join(cells)[:_SHOWN])
            raise UsageError(f"{where}: expected a line such as {example}; got {got}")
        yield Row(where, row[0], row[1:])
