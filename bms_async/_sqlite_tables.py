"""The tables of a SQLite file that processes share: which there are, how they are made, and how they are migrated.

Tables are made, or brought up to the version of this program, in one immediate transaction that looks again at what
there is: of two processes that open a file at once one does it, and a process that is killed meanwhile leaves the file
as it was. Rejected: `executescript`, which commits what was begun before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_OWN_TABLE = """
CREATE TABLE IF NOT EXISTS file (id TEXT NOT NULL);
INSERT INTO file SELECT hex(randomblob(16)) WHERE NOT EXISTS (SELECT 1 FROM file);
"""

_IS_EMPTY = "SELECT user_version = 0 AND NOT EXISTS (SELECT 1 FROM sqlite_master) FROM pragma_user_version"
"""In one statement, because another process may be making the tables."""


class SqliteKind(NamedTuple):
    """What a file is for, and which tables it has.

    Attributes:
        what: What errors call it, before its path.
        application: The id in its header by which a database of another program is known.
        schema: The version of its tables; at least 1.
        tables: The statements that make them where they are missing; they are run in a transaction.
        error: What is raised where trying again does not help; it takes a text.
        migrate: Brings tables of an earlier version, which it is given, up to this one. It is called in a transaction
            that notes the new version afterwards, so it neither commits nor calls ``executescript``: `run_script` does
            what that does. None if there was no earlier version.
        remedy: What to do about a file that cannot be used, for errors.
    """

    what: str
    application: int
    schema: int
    tables: str
    error: type[Exception]
    migrate: Callable[[sqlite3.Connection, int], None] | None = None
    remedy: str = "name another path, or repair or delete the file while no program uses it"


def run_script(connection: sqlite3.Connection, script: str) -> None:
    """Run statements one after another in the transaction that is under way.

    Args:
        connection: The connection.
        script: The statements, with semicolons between them.

    Raises:
        sqlite3.Error: One of them failed.
    """
    statement = ""
    *parts, last = script.split(";")
    for part in parts:
        statement += f"{part};"
        # A semicolon may be in a text, a trigger or a comment.
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute(statement + last)


def check_schema(path: Path, connection: sqlite3.Connection, kind: SqliteKind) -> None:
    """Check that a file has the tables of this version.

    Args:
        path: Where it is, for errors.
        connection: A connection to it.
        kind: What it is for.

    Raises:
        Exception: It has those of another one; the kind's error.
    """
    version = read_value(connection, "PRAGMA user_version")
    if version != kind.schema:
        # An earlier one can be here only if nothing brings it up to this one.
        advice = "update bms_async here" if int(version) > kind.schema else "name another path"
        raise kind.error(f"{kind.what} {path}: expected version {kind.schema} of its tables, got {version}; {advice}")


def make_tables(connection: sqlite3.Connection, kind: SqliteKind) -> None:
    """Make the tables of a file that has none; of another it changes nothing.

    Args:
        connection: A connection to it.
        kind: What it is for.
    """
    if not read_value(connection, _IS_EMPTY):
        return
    read_value(connection, "PRAGMA journal_mode = WAL")
    with transaction(connection, "IMMEDIATE"):
        # Another process may have done it meanwhile.
        if read_value(connection, _IS_EMPTY):
            run_script(connection, _OWN_TABLE + kind.tables)
            connection.execute(f"PRAGMA application_id = {kind.application}")
            connection.execute(f"PRAGMA user_version = {kind.schema}")


def migrate_tables(connection: sqlite3.Connection, kind: SqliteKind) -> None:
    """Bring tables of an earlier version up to this one.

    Args:
        connection: A connection to the file.
        kind: What it is for.
    """
    if kind.migrate is None or int(read_value(connection, "PRAGMA user_version")) >= kind.schema:
        return
    with transaction(connection, "IMMEDIATE"):
        # Another process may have done it meanwhile.
        found = int(read_value(connection, "PRAGMA user_version"))
        if found < kind.schema:
            kind.migrate(connection, found)
            connection.execute(f"PRAGMA user_version = {kind.schema}")


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    """Begin a transaction, and commit it, or roll it back if the body fails.

    Args:
        connection: The connection.
        kind: ``IMMEDIATE`` to write, ``DEFERRED`` to read.
    """
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def read_value(connection: sqlite3.Connection, statement: str) -> int | str:
    """Return the first value of a statement's first row.

    Args:
        connection: The connection.
        statement: The statement.
    """
    value: int | str = connection.execute(statement).fetchone()[0]
    return value
