"""The journal in a SQLite file: for all programs of one machine, without a server.

Guarantee: what was committed outlives the process and a loss of power, since each commit is synced. Transactions that
write run one after another.

How: the file is used by one thread, so that the event loop is never held (R9). Leases are counted on the machine's
steady clock, which goes on in sleep; one that was granted before the machine came up is longer than any can be and
counts for nothing, or is over within a minute.

Rejected: the weaker sync that the limits have. They close after a loss of power, while here a batch that was noted as
sent, and is forgotten, would be a server that is rebooted twice.
"""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from bms_async._clock import namespace_offset, own_clock, steady_time
from bms_async._sqlite_file import SqliteFile
from bms_async._sqlite_tables import SqliteKind
from bms_async._sqlite_thread import SqliteThread
from bms_async.errors import JournalError

from .records import COPY_ADVICE
from .schema import MIGRATIONS, SCHEMA, TABLES
from .statements import SKIP_LOCKED, RollBack, Row, Statement, Transaction, Value

T = TypeVar("T")

_MIN_SQLITE = (3, 35)
"""The first version in which a statement that changes rows returns them."""

_ALTERED = (sqlite3.IntegrityError, msgspec.ValidationError, ValueError, TypeError)
"""Where a table was altered by hand, a value in it, or a row is missing."""


class SqliteJournal:
    """A journal in a file.

    Args:
        path: The file. It is made with its folder where it is missing, for this user only.
        now: The clock that leases are counted on, in seconds; by default that of a virtual loop, else the machine's.
        wall: The time of day, in seconds since 1970; by default the same.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        now: Callable[[], float] | None = None,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self._file = SqliteFile(Path(path).expanduser().absolute(), _KIND)
        self._thread = SqliteThread(self._file, what=_KIND.what, name="bms_async journal")
        self._clock, self._wall = now, wall
        self._offset = 0.0
        self._has_functions: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"SqliteJournal({str(self._file.path)!r})"

    @property
    def label(self) -> str:
        """The path of the file."""
        return str(self._file.path)

    async def open(self) -> None:
        """Open the file, and make it or bring it up to this version where that is needed.

        Raises:
            JournalError: It is no journal, or not one that may be read and written.
            sqlite3.Error: It could not be opened now.
            OSError: The same.
        """
        if not self._thread.is_open:
            virtual = own_clock(asyncio.get_running_loop())
            self._clock, self._wall = self._clock or virtual, self._wall or virtual
        await self._thread.open(self._open)

    async def run(self, make: Callable[[], Transaction[T]], *, writes: bool = True) -> T:
        """Run a transaction.

        Args:
            make: Begins it.
            writes: Whether it changes anything.

        Raises:
            JournalError: The file cannot be used as it is.
            sqlite3.Error: The file is busy, the disk is full.
            OSError: The file was deleted or replaced.
        """
        return await self._thread.run(self._run, make, "IMMEDIATE" if writes else "DEFERRED")

    async def aclose(self) -> None:
        """Close the file, and end the thread; closing what is not open does nothing."""
        await self._thread.aclose()

    def _open(self) -> None:
        if sqlite3.sqlite_version_info < _MIN_SQLITE:
            expected = ".".join(map(str, _MIN_SQLITE))
            raise JournalError(
                f"{_KIND.what} {self._file.path}: expected SQLite {expected} or later, got {sqlite3.sqlite_version}; "
                "use a newer Python, or a journal in PostgreSQL"
            )
        self._offset = namespace_offset()
        self._file.open()

    def _now(self) -> float:
        now: float = steady_time() - self._offset
        return now

    def _run(self, make: Callable[[], Transaction[T]], kind: str) -> T:
        self._file.sync(always=True)
        try:
            with self._file.transaction(kind) as connection:
                if connection is not self._has_functions:
                    connection.create_function("bms_now", 0, self._clock or self._now)
                    connection.create_function("bms_wall", 0, self._wall or time.time)
                    connection.create_function("bms_floor", 1, math.floor)
                    self._has_functions = connection
                return _run_statements(connection, make())
        except RollBack as ended:
            return cast("T", ended.result)
        except _ALTERED as error:
            raise JournalError(
                f"{_KIND.what} {self._file.path}: expected what this version writes, got {error}; {COPY_ADVICE}"
            ) from error


def _run_statements(connection: sqlite3.Connection, transaction: Transaction[T]) -> T:
    try:
        statement = next(transaction)
        while True:
            statement = transaction.send(_execute(connection, statement))
    except StopIteration as end:
        return cast("T", end.value)


def _execute(connection: sqlite3.Connection, statement: Statement) -> Sequence[Row]:
    sql = _translate(statement.sql)
    if statement.rows is not None:
        connection.executemany(sql, map(_named, statement.rows))
        return ()
    rows: list[Row] = connection.execute(sql, _named(statement.values)).fetchall()
    return rows


@cache
def _translate(sql: str) -> str:
    return sql.replace(SKIP_LOCKED, "")


def _named(values: Sequence[Value]) -> dict[str, Value]:
    return {str(number): value for number, value in enumerate(values, 1)}


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    for found in range(version, SCHEMA):
        for statement in MIGRATIONS[found]:
            connection.execute(statement)


_KIND = SqliteKind(
    what="the journal",
    application=0x626D736A,
    schema=SCHEMA,
    tables=";\n".join(TABLES) + ";",
    error=JournalError,
    migrate=_migrate,
    # Whoever deletes it forgets which servers were sent.
    remedy=COPY_ADVICE,
)
