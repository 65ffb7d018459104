"""Reads ids and names of servers out of what people have in files and pipes. Pure.

A text is read as a whole or not at all: what its first line is decides how all of them are read, and a line that does
not fit refuses the text, with its number: a broken line never becomes a command for half of the servers. Rejected: to
look at each line by itself, for then a list in one line and a row of a table cannot be told apart.

Without a header a row has columns if exactly one of its cells is a UUID; else each of its cells is a server.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

import msgspec

from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.texts import strip_control_chars

from .text_lines import DELIMITERS, Line, content_lines, decode
from .words import READABLE, Word, shown

__all__ = ["parse_servers"]

_IDS: Final = ("serverid", "server", "id", "uuid", "instanceid")
_NAMES: Final = ("name", "servername")
_OTHERS: Final = frozenset({"jobid", "volumeid", "flavorid", "imageid", "projectid", "portid", "networkid", "key"})
"""Headers of what is no server."""

_SUMS: Final = ("summary", "plan")
_LISTS: Final = ("servers", "items", "serverids", "ids")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_PLAIN: Final = re.compile(r"\w[\w.:@+~-]{0,254}")
_RULE: Final = re.compile(r"\+[-=+]+\+?")
_GAP: Final = re.compile(r"\s{2,}")
_BLANK: Final = re.compile(r"\s+")
_SPACE: Final = re.compile(r"\s*")
_COMMENT: Final = re.compile(r"(?:(?<=\s)|^)#")
_BETWEEN: Final = re.compile(r"[,;\s]+")


class _Row(NamedTuple):
    number: int
    cells: Sequence[str]


def parse_servers(data: bytes, source: str) -> list[Word]:
    """Return the servers that a file or a pipe names, in its order; none if it is empty.

    Args:
        data: Its bytes.
        source: What it is called in messages, such as its path.

    Raises:
        UsageError: It cannot be read; the text says which line is to blame, and what was expected.
    """
    lines = list(content_lines(decode(data, source)))
    if not lines:
        return []
    if lines[0].text.lstrip()[0] in "[{":
        return list(_read_json(lines, source))
    if _RULE.fullmatch(lines[0].text.strip()):
        return list(_read_drawn_table(lines, source))
    return list(_read_rows(lines, source))


def _refusal(source: str, number: int, expected: str, got: str, *, unit: str = "line") -> UsageError:
    return UsageError(
        f"{strip_control_chars(source)}, {unit} {number}: expected {expected}, got {shown(got.strip())}; a file of"
        f" servers has {READABLE}"
    )


def _key(text: str) -> str:
    return re.sub(r"[\s_-]", "", text.strip().lower())


def _column_in(header: Sequence[str]) -> int | None:
    """Return which cell of a header is that of the servers; None if it is no header, or one of something else."""
    keys = [_key(cell) for cell in header]
    # What begins with the ids of jobs or volumes has their names, too.
    wanted = _IDS if keys[0] in _OTHERS else (*_IDS, *_NAMES)
    return next((keys.index(key) for key in wanted if key in keys), None)


def _read_json(lines: Sequence[Line], source: str) -> Iterator[Word]:
    text = "\n".join(line.text for line in lines)
    try:
        values = [msgspec.json.decode(text)]
    except (msgspec.DecodeError, RecursionError):
        if _decoded(lines[0].text) is not None:
            yield from _read_lists(lines, source)
            return
        values = list(_values_in(text, lines, source))
    number = 0
    for value in values:
        items = _items_in(value)
        if items is None:
            raise _refusal(source, lines[0].number, "a server with its id in JSON, or a list of these", _as_text(value))
        for item in items:
            number += 1
            found = _server_in(item)
            if found is None:
                raise _refusal(source, number, "a server id or name", _as_text(item), unit="item")
            if found:
                yield Word(found, source, number, "item")


def _read_lists(lines: Sequence[Line], source: str) -> Iterator[Word]:
    """Read lines of servers; there may be lines of JSON between them, as where two outputs went to one file."""
    for line in lines:
        content = line.text.strip()
        if content[0] not in "[{":
            for cell in _cells_of(line, source):
                yield _word(cell.strip("'"), source, line)
            continue
        value = _decoded(content)
        if value is None:
            raise _refusal(source, line.number, "JSON", content)
        for item in value if isinstance(value, list) else [value]:
            found = _server_in(item)
            if found is None:
                raise _refusal(source, line.number, "a server with its id in JSON", content)
            if found:
                yield Word(found, source, line.number)


def _decoded(text: str) -> object:
    """Return a value of JSON; None if it is none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _values_in(text: str, lines: Sequence[Line], source: str) -> Iterator[object]:
    """Iterate over values of JSON that stand behind each other, over several lines each."""
    # The standard library's, which says where a value ends, and which few commands need.
    import json

    decode, at = json.JSONDecoder().raw_decode, 0
    while at < len(text):
        try:
            value, end = decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            position = error.pos if isinstance(error, json.JSONDecodeError) else at
            line = lines[text.count("\n", 0, position)]
            raise _refusal(source, line.number, "JSON", line.text) from None
        yield value
        at = _SPACE.match(text, end).end()  # type: ignore[union-attr]  # it matches nothing, too


def _items_in(value: object) -> Sequence[object] | None:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return None
    if _server_in(value) is not None:
        return [value]
    lists = {_key(str(key)): items for key, items in value.items() if isinstance(items, list)}
    if len(lists) == 1:
        return next(iter(lists.values()))
    return next((lists[key] for key in _LISTS if key in lists), None)


def _server_in(item: object) -> str | None:
    """Return the server of an item of JSON; empty if it is the sum of a run or a plan, and None if it is no server."""
    if isinstance(item, dict):
        fields = {_key(str(key)): value for key, value in item.items()}
        named = (fields.get(key) for key in (*_IDS, *_NAMES))
        found = next((value for value in named if value and not isinstance(value, dict)), None)
        if found is None and fields.get("type") in _SUMS:
            return ""
        item = found
    return item if isinstance(item, str) and Word(item).may_be_name else None


def _as_text(item: object) -> str:
    return item if isinstance(item, str) else msgspec.json.encode(item).decode()


def _read_drawn_table(lines: Sequence[Line], source: str) -> Iterator[Word]:
    """Read a table that is drawn with ``+---+`` and ``|``."""
    rows: list[_Row] = []
    for line in lines:
        content = line.text.strip()
        if _RULE.fullmatch(content):
            continue
        if not content.startswith("|") or not content.endswith("|"):
            raise _refusal(source, line.number, "a row of the table", content)
        rows.append(_Row(line.number, [cell.strip() for cell in content[1:-1].split("|")]))
    if not rows:
        return
    column = _column_in(rows[0].cells)
    if column is None:
        raise _refusal(source, rows[0].number, "a column ID or Name", " ".join(rows[0].cells))
    for row in rows[1:]:
        if len(row.cells) != len(rows[0].cells):
            raise _refusal(source, row.number, "a row of the table", "|".join(row.cells))
        # A row without an id goes on with the other cells of the row above it.
        if row.cells[column]:
            yield Word(row.cells[column], source, row.number)


def _read_rows(lines: Sequence[Line], source: str) -> Iterator[Word]:
    """Read columns, or servers in a row."""
    first = _without_comment(lines[0].text)
    delimiter = next((mark for mark in DELIMITERS if mark in first), None)
    apart = _GAP if _GAP.search(first.strip()) else _BLANK
    rows = _rows_of(lines, delimiter, apart, source)
    head = next(rows)
    ids = sum(1 for cell in head.cells if _UUID.fullmatch(cell))
    column = None if ids else _column_in(head.cells)
    if column is not None:
        if len(head.cells) > 1:
            # In a table a name may have a blank and a # in it.
            rows = _rows_of(lines[1:], delimiter, apart, source, has_comments=False)
        yield from _read_column(head, column, rows, source, may_shift=delimiter is None)
    elif len(head.cells) == 1 or ids == len(head.cells) or (not ids and delimiter != "\t"):
        yield from _read_lists(lines, source)
    elif ids == 1:
        for row in chain([head], rows):
            yield _only_id(row, source)
    else:
        expected = "one id a line" if ids else "a header, or one id a line"
        raise _refusal(source, head.number, expected, " ".join(head.cells))


def _read_column(head: _Row, column: int, rows: Iterable[_Row], source: str, *, may_shift: bool) -> Iterator[Word]:
    for row in rows:
        is_whole = len(row.cells) == len(head.cells) or (may_shift and column == 0)
        if not is_whole or not Word(row.cells[column]).may_be_name:
            raise _refusal(source, row.number, f"the columns {', '.join(head.cells)[:60]}", " ".join(row.cells))
        yield Word(row.cells[column], source, row.number)


def _only_id(row: _Row, source: str) -> Word:
    found = [cell for cell in row.cells if _UUID.fullmatch(cell)]
    if len(found) != 1:
        raise _refusal(source, row.number, "one id, as in the lines before", " ".join(row.cells))
    return Word(found[0], source, row.number)


def _rows_of(
    lines: Sequence[Line], delimiter: str | None, apart: re.Pattern[str], source: str, *, has_comments: bool = True
) -> Iterator[_Row]:
    if not has_comments and delimiter is None:
        return (_Row(line.number, apart.split(line.text.strip())) for line in lines)
    if delimiter is None:
        return (_Row(line.number, apart.split(_without_comment(line.text).strip())) for line in lines)
    return _rows_between(lines, delimiter, source, has_comments=has_comments)


def _rows_between(lines: Sequence[Line], delimiter: str, source: str, *, has_comments: bool = True) -> Iterator[_Row]:
    texts = (_without_comment(line.text) if has_comments else line.text for line in lines)
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            yield _Row(lines[reader.line_num - 1].number, [cell.strip() for cell in cells])
    except csv.Error:
        # It names the last line where a quote is left open; the one that opens it is not known.
        line = lines[min(reader.line_num, len(lines)) - 1]
        raise _refusal(source, line.number, "cells whose quotes are closed", line.text) from None


def _cells_of(line: Line, source: str) -> Sequence[str]:
    """Return the servers of a line that has them alone, between commas or blanks."""
    text = _without_comment(line.text).strip()
    if '"' not in text:
        return [cell for cell in _BETWEEN.split(text) if cell]
    delimiter = next((mark for mark in DELIMITERS if mark in text), " ")
    return [cell for row in _rows_between([line], delimiter, source) for cell in row.cells if cell]


def _without_comment(text: str) -> str:
    """Return a line up to its first ``#`` that is not in quotes; within a word, such as a name, it begins none."""
    if "#" not in text:
        return text
    parts, end = text.split('"'), 0
    for index, part in enumerate(parts):
        found = _COMMENT.search(part) if index % 2 == 0 else None
        if found is not None:
            return text[: end + found.start()]
        end += len(part) + 1
    return text


def _word(text: str, source: str, line: Line) -> Word:
    is_quoted = '"' in line.text and Word(text).may_be_name
    if not (is_quoted or _PLAIN.fullmatch(text)):
        raise _refusal(source, line.number, "a server id or name", text)
    return Word(text, source, line.number)
