"""A SQLite file that processes share: how its tables are made, and brought up to another version."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from bms_async import _sqlite_tables as sqlite_tables
from bms_async._sqlite_file import SqliteFile
from bms_async._sqlite_tables import SqliteKind, check_schema, run_script


class NoSuchFileError(Exception):
    """What this kind of file raises where trying again does not help."""


FIRST = SqliteKind(
    what="the file of things",
    application=0x7E57,
    schema=1,
    tables="CREATE TABLE things (name TEXT);",
    error=NoSuchFileError,
)


def _add_colors(connection: sqlite3.Connection, found: int) -> None:
    run_script(connection, f"ALTER TABLE things ADD COLUMN color TEXT; UPDATE things SET color = 'of version {found}';")


SECOND = FIRST._replace(schema=2, tables="CREATE TABLE things (name TEXT, color TEXT);", migrate=_add_colors)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "things.db"


@contextmanager
def opened(path: Path, kind: SqliteKind) -> Iterator[SqliteFile]:
    file = SqliteFile(path, kind)
    try:
        file.explaining(file.open)
        yield file
    finally:
        file.close()


def run(file: SqliteFile, statement: str) -> list[tuple[object, ...]]:
    def work() -> list[tuple[object, ...]]:
        with file.transaction("IMMEDIATE") as connection:
            return connection.execute(statement).fetchall()

    return file.explaining(work)


def kept(path: Path) -> list[tuple[object, ...]]:
    """Return the version and the columns that a file has, and its rows, as another program finds them."""
    with closing(sqlite3.connect(path)) as connection:
        columns = connection.execute("SELECT name FROM pragma_table_info('things')").fetchall()
        return [*connection.execute("PRAGMA user_version"), *columns, *connection.execute("SELECT * FROM things")]


@pytest.fixture
def earlier(path: Path) -> Path:
    """A file that an earlier program left."""
    with opened(path, FIRST) as file:
        run(file, "INSERT INTO things VALUES ('one')")
    return path


def test_a_file_of_an_earlier_version_is_brought_up_to_this_one_and_keeps_what_it_has(earlier: Path) -> None:
    for _ in range(2):
        with opened(earlier, SECOND) as file:
            assert run(file, "SELECT * FROM things") == [("one", "of version 1")]
    assert kept(earlier) == [(2,), ("name",), ("color",), ("one", "of version 1")]


def test_a_new_file_has_the_tables_of_this_version_and_is_not_migrated(path: Path) -> None:
    with opened(path, SECOND) as file:
        run(file, "INSERT INTO things VALUES ('one', 'red')")
    assert kept(path) == [(2,), ("name",), ("color",), ("one", "red")]


@pytest.mark.parametrize("failure", [sqlite3.OperationalError("database is locked"), KeyboardInterrupt()])
def test_a_migration_that_does_not_come_to_its_end_leaves_the_file_as_it_was(
    earlier: Path, failure: BaseException
) -> None:
    def fail(connection: sqlite3.Connection, found: int) -> None:
        _add_colors(connection, found)
        raise failure

    before = kept(earlier)
    with pytest.raises(type(failure)), opened(earlier, SECOND._replace(migrate=fail)):
        pass
    assert kept(earlier) == before
    with opened(earlier, SECOND) as file:
        assert run(file, "SELECT * FROM things") == [("one", "of version 1")]


def test_a_migration_by_executescript_would_stay_behind_when_it_fails(earlier: Path) -> None:
    def fail(connection: sqlite3.Connection, found: int) -> None:
        connection.executescript("ALTER TABLE things ADD COLUMN color TEXT")
        raise sqlite3.OperationalError("database is locked")

    before = kept(earlier)
    with pytest.raises(sqlite3.OperationalError), opened(earlier, SECOND._replace(migrate=fail)):
        pass
    assert kept(earlier) != before


def test_of_two_that_find_an_earlier_version_at_once_one_migrates(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_another_begin_first(earlier, SECOND, monkeypatch)
    with opened(earlier, SECOND) as file:
        assert run(file, "SELECT * FROM things") == [("one", "of version 1")]


def test_of_two_that_find_no_tables_at_once_the_later_program_is_not_undone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_another_begin_first(path, SECOND, monkeypatch)
    with pytest.raises(NoSuchFileError, match="update bms_async here"), opened(path, FIRST):
        pass
    assert kept(path) == [(2,), ("name",), ("color",)]


def let_another_begin_first(path: Path, kind: SqliteKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have another program open the file just before the first transaction on it begins."""
    begin = sqlite_tables.transaction

    def begin_later(connection: sqlite3.Connection, access: str) -> AbstractContextManager[None]:
        monkeypatch.setattr(sqlite_tables, "transaction", begin)
        with opened(path, kind):
            pass
        return begin(connection, access)

    monkeypatch.setattr(sqlite_tables, "transaction", begin_later)


@pytest.mark.parametrize(("kind", "advice"), [(FIRST, "update bms_async here"), (SECOND, "name another path")])
def test_a_version_that_this_program_cannot_use_is_refused_and_left_alone(
    path: Path, kind: SqliteKind, advice: str
) -> None:
    with opened(path, SECOND if kind is FIRST else FIRST):
        pass
    before = kept(path)
    expected = f"the file of things .*things.db: expected version {kind.schema} of its tables, got .; {advice}"
    with pytest.raises(NoSuchFileError, match=expected), opened(path, kind._replace(migrate=None)):
        pass
    with pytest.raises(NoSuchFileError, match=expected), closing(sqlite3.connect(path)) as connection:
        check_schema(path, connection, kind)
    assert kept(path) == before


def test_a_file_of_another_kind_is_refused(earlier: Path) -> None:
    with pytest.raises(NoSuchFileError, match="one of another program"), opened(earlier, FIRST._replace(application=7)):
        pass


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ("ALTER TABLE things RENAME COLUMN name TO title", "OperationalError: no such column: name"),
        ("ALTER TABLE things RENAME TO others", "OperationalError: no such table: things"),
        ("DROP TABLE file", "OperationalError: no such table: file"),
        ("DELETE FROM file", "ValueError: one whose id was deleted"),
    ],
)
def test_tables_that_were_altered_by_hand_are_refused_and_named(earlier: Path, statement: str, cause: str) -> None:
    with closing(sqlite3.connect(earlier)) as connection:
        connection.executescript(statement)
    expected = f"the file of things .*, got {cause}; name another path"
    with pytest.raises(NoSuchFileError, match=expected), opened(earlier, FIRST) as file:
        run(file, "SELECT name FROM things")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("INSERT INTO things VALUES ('a;b'); INSERT INTO things VALUES ('c')", ["a;b", "c"]),
        (
            """
            CREATE TRIGGER more AFTER INSERT ON things WHEN NEW.name = 'a' BEGIN INSERT INTO things VALUES ('b'); END;
            INSERT INTO things VALUES ('a'); -- a note; with a semicolon
            """,
            ["a", "b"],
        ),
        ("", []),
    ],
)
def test_a_script_is_run_statement_by_statement_in_the_transaction_that_is_under_way(
    path: Path, script: str, expected: list[str]
) -> None:
    with opened(path, FIRST) as file, file.transaction("IMMEDIATE") as connection:
        run_script(connection, script)
        assert connection.in_transaction
        assert connection.execute("SELECT name FROM things").fetchall() == [(name,) for name in expected]


def test_a_script_that_breaks_off_is_refused(path: Path) -> None:
    with (
        opened(path, FIRST) as file,
        pytest.raises(sqlite3.OperationalError, match="unrecognized token"),
        file.transaction("IMMEDIATE") as connection,
    ):
        run_script(connection, "SELECT 'a;")
