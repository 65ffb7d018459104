"""Rows of any command, in the form and with the columns that were asked for.

Guarantee: all forms take the same options and show the same data; a row is written as soon as its form allows, and
only ``--sort`` holds all rows. How: a command describes its columns once, as a `Table`, and hands its rows to a
`RowWriter`. Rejected: a printer for each command and form, of which each had its own gaps.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Final, Generic, NamedTuple, TypeVar

from .exit import UsageError
from .forms import OutputOptions
from .output import is_terminal, terminal_width, write, write_aside
from .plain import plain
from .sorting import SortedRows
from .texts import strip_control_chars
from .writers import Csv, Ids, JsonArray, JsonLines, Tabs, TextTable, Writer, Yaml

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

__all__ = ["RowWriter", "Table", "write_record", "write_rows", "write_rows_aside"]

_PIECE: Final = 50
_DESCENDING: Final = (":desc", ":asc")


class Table(NamedTuple, Generic[T]):
    """The columns of a command.

    Attributes:
        columns: The value of each column; all that can be asked for.
        usual: The columns that are shown unless others are asked for.
        ids: What other commands take of a row; None for a row without it.
        fields: The object of a row in JSON and YAML, unless columns are asked for.
        right: Columns that are aligned to the right.
        keep: How many of the usual columns are shown on any terminal, if not all have room.
    """

    columns: Mapping[str, Callable[[T], object]]
    usual: Sequence[str]
    ids: Callable[[T], str | None]
    fields: Callable[[T], object]
    right: frozenset[str] = frozenset()
    keep: int | None = None

    def choose(self, text: str | None) -> Sequence[str]:
        """Return the columns that were asked for.

        Args:
            text: Names with commas between them; None for the usual columns.

        Raises:
            UsageError: There is no such column.
        """
        if text is None:
            return self.usual
        names = [name.strip().lower().replace("-", "_") for name in text.split(",") if name.strip()]
        unknown = [name for name in names if name not in self.columns]
        if unknown or not names:
            raise UsageError(f"--columns {strip_control_chars(text)}: {self._missing(unknown)}")
        return names

    def sorted_rows(self, text: str) -> SortedRows[T]:
        """Return what brings rows into the order that was asked for.

        Args:
            text: A column, with ``-`` before it or ``:desc`` behind it for the reverse order.

        Raises:
            UsageError: There is no such column.
        """
        name = text.strip().lower()
        descending = name.startswith("-") or name.endswith(":desc")
        for suffix in _DESCENDING:
            name = name.removesuffix(suffix)
        name = name.removeprefix("-").replace("-", "_")
        if name not in self.columns:
            raise UsageError(f"--sort {strip_control_chars(text)}: {self._missing([name] if name else [])}")
        return SortedRows(self.columns[name], descending=descending)

    def over(self, row: Callable[[S], T], fields: Callable[[S], object]) -> Table[S]:
        """Return the same columns for something that has such a row in it.

        Args:
            row: Returns the row.
            fields: Returns the object in JSON.
        """

        def of(get: Callable[[T], R]) -> Callable[[S], R]:
            return lambda item: get(row(item))

        columns = {name: of(get) for name, get in self.columns.items()}
        return Table[S](columns, self.usual, of(self.ids), fields, self.right, self.keep)

    def _missing(self, unknown: Sequence[str]) -> str:
        known = f"the columns are {', '.join(self.columns)}"
        if not unknown:
            return f"no column is named; {known}"
        return f"there is no column {strip_control_chars(', '.join(unknown))}; {known}"


class RowWriter(Generic[T]):
    """Writes rows in the form that was asked for.

    Args:
        table: The columns.
        options: What was asked for.
        out: Receives the text; standard output by default.
        is_single: Whether there is one row, which is no list in JSON and YAML.
        limit: How many rows at most.

    Attributes:
        has_objects: Whether whole objects are written, and not columns.

    Raises:
        UsageError: The options name a column that does not exist, or contradict each other.
    """

    def __init__(
        self,
        table: Table[T],
        options: OutputOptions,
        *,
        out: Callable[[str], object] = write,
        is_single: bool = False,
        limit: int | None = None,
    ) -> None:
        names, self._out, self._limit = table.choose(options.columns), out, limit
        self._count = 0
        self._sorted = None if options.sort is None else table.sorted_rows(options.sort)
        getters = [table.columns[name] for name in names]
        self._row: Callable[[T], object]
        if options.form == "ids":
            if options.columns is not None:
                raise UsageError("-o ids prints ids only; leave out --columns")
            self._row = table.ids
        elif not options.json:
            self._row = lambda item: [get(item) for get in getters]
        elif options.columns is None:
            self._row = table.fields
        else:
            self._row = lambda item: {name: plain(get(item)) for name, get in zip(names, getters, strict=True)}
        self._writer = _make_writer(table, names, options, is_single=is_single)
        self.has_objects = options.json and options.columns is None

    @property
    def is_full(self) -> bool:
        """Whether no further row would be written."""
        return self._sorted is None and self._limit is not None and self._count >= self._limit

    def add(self, item: T) -> None:
        """Write a row, or hold it for the order."""
        if self._sorted is None:
            self._count += 1
            self._write(self._writer.add(self._row(item)))
        else:
            self._sorted.add(item)

    def add_object(self, fields: Mapping[str, object]) -> None:
        """Write something that is no row, such as a summary: in JSON and YAML, unless columns were asked for.

        Args:
            fields: What it is.
        """
        if self.has_objects:
            self._write(self._writer.add(fields))

    def break_off(self) -> None:
        """Write what is held back, of rows of which others are missing; those that wait for their order are dropped."""
        self._write(self._writer.end(is_whole=False))

    def finish(self) -> None:
        """Write the rest, and the end; a summary comes before it, and after `in_order`."""
        for _ in self.rest():
            pass

    def rest(self) -> Iterator[None]:
        """Write the rest, and the end, in small pieces; the caller may do something else in between."""
        yield from self.in_order()
        self._write(self._writer.end())
        yield

    def in_order(self) -> Iterator[None]:
        """Write rows that were held for their order, in small pieces; the caller may do something else in between."""
        held, self._sorted = self._sorted or (), None
        for item in islice(held, self._limit):
            self._count += 1
            self._write(self._writer.add(self._row(item)))
            if self._count % _PIECE == 0:
                yield

    def _write(self, text: str) -> None:
        if text:
            self._out(text)


def write_rows(table: Table[T], options: OutputOptions, items: Iterable[T], *, is_single: bool = False) -> int:
    """Write rows that are at hand, and return their number.

    Args:
        table: The columns.
        options: What was asked for.
        items: The rows.
        is_single: Whether there is one row, which is no list in JSON and YAML.

    Raises:
        UsageError: As of `RowWriter`.
    """
    pending, count = list[str](), 0
    rows = RowWriter(table, options, out=pending.append, is_single=is_single)
    for item in items:
        rows.add(item)
        count += 1
    rows.finish()
    write("".join(pending))
    return count


def write_record(fields: Mapping[str, object], options: OutputOptions, *, name: str | None = None) -> None:
    """Write the one thing that a command has to say.

    Args:
        fields: What it is; each is a column, except for its type.
        options: What was asked for.
        name: The field that other commands take; None for none.

    Raises:
        UsageError: As of `RowWriter`.
    """
    columns = {field: itemgetter(field) for field in fields if field != "type"}
    table = Table[Mapping[str, object]](
        columns=columns, usual=tuple(columns), ids=lambda row: str(row[name]) if name else None, fields=lambda row: row
    )
    write_rows(table, options, [fields], is_single=True)


async def write_rows_aside(
    table: Table[T], options: OutputOptions, items: AsyncIterable[T], *, limit: int | None = None
) -> int:
    """Write rows as they come, in a thread, and return their number.

    Args:
        table: The columns.
        options: What was asked for.
        items: The rows.
        limit: How many rows at most.

    Raises:
        UsageError: As of `RowWriter`.
    """
    pending, count = list[str](), 0
    rows = RowWriter(table, options, out=pending.append, limit=limit)

    async def write_pending() -> None:
        text = "".join(pending)
        pending.clear()
        if text:
            await write_aside(text)

    try:
        if limit != 0:
            async for item in items:
                rows.add(item)
                count += 1
                if count % _PIECE == 0:
                    await write_pending()
                if rows.is_full:
                    break
    except BaseException:
        # What has come is written, whatever the next page ended with.
        rows.break_off()
        await write_pending()
        raise
    for _ in rows.rest():
        await write_pending()
    return count


def _make_writer(table: Table[T], names: Sequence[str], options: OutputOptions, *, is_single: bool) -> Writer:
    whole: Mapping[str | None, Callable[[], Writer]] = {
        "ids": Ids,
        "jsonl": JsonLines,
        "json": lambda: JsonArray(is_single=is_single),
        "yaml": lambda: Yaml(is_single=is_single),
        "csv": lambda: Csv(None if options.header is False else names, for_terminal=is_terminal()),
    }
    if options.form in whole:
        return whole[options.form]()
    if options.form is None and not is_terminal():
        return Tabs(names if options.header else None)
    keep = len(names) if options.columns is not None or table.keep is None else table.keep
    has_header = options.header is not False
    is_cut = options.columns is None
    return TextTable(names, header=has_header, right=table.right, keep=keep, width=terminal_width, is_cut=is_cut)
