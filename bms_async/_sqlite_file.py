"""A SQLite file that processes share: made, opened, checked, and no other than the one that the others have.

Everything here blocks, and is called by one thread at a time.

A file is known by the device and the number that the system has for it while it is open, since a deleted file keeps its
number as long as somebody has it open. Afterwards the number may be another file's, so the file also has a random id of
its own in it, which is compared when it is opened again.

SQLite counts the locks of a process in its memory, which a forked child inherits without the locks: the child would
take a file of its parent's for locked, and the parent, as the last one that seems to have it open, would delete the log
that the child writes to. So a fork waits until no transaction is under way, and the child closes what it inherited
before anything else, which only forgets the count.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TypeVar, TypeVarTuple
from weakref import WeakSet

from bms_async._files import sync_folder
from bms_async._sqlite_tables import (
    SqliteKind,
    check_schema,
    make_tables,
    migrate_tables,
    read_value,
    transaction,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_BUSY_TIMEOUT = 2.0
"""Seconds for which a transaction waits for those of other processes."""

_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}
"""The last one where a table is not as this program made it."""

_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR}
_FORBIDDEN_REMEDY = "correct the permissions, or name another path"


class SqliteFile:
    """A SQLite database that other processes may have open too.

    Args:
        path: Where it is.
        kind: What it is for.

    Attributes:
        path: Where it is.
        losses: How often it was noticed that there was another file in its place before.
    """

    def __init__(self, path: Path, kind: SqliteKind) -> None:
        self.path = path
        self._kind = kind
        self.losses = 0
        self._connection: sqlite3.Connection | None = None
        self._place: tuple[int, int] | None = None
        self._id: str | None = None
        self._level = ""
        self._keeps_commits = False
        # Held while SQLite works, so that nobody forks then.
        self._lock = threading.RLock()
        _files.add(self)

    def explaining(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function that uses the file.

        Args:
            function: The function.
            *args: Its arguments.

        Raises:
            sqlite3.Error: It failed.
            OSError: The same.
            Exception: It failed, and trying again will not help; the kind's error.
        """
        try:
            with self._lock:
                return function(*args)
        except OSError as error:
            if error.errno in _FORBIDDEN:
                self._refuse(
                    "a file that may be read and written, in a folder that may be written", error, _FORBIDDEN_REMEDY
                )
            raise
        except sqlite3.Error as error:
            code = primary_code(error)
            if code in _DAMAGED:
                # SQLite finds the log of a file by its path, and so reads another file's once this one was replaced.
                if self._place is not None:
                    self._check_place()
                self._refuse("a SQLite database that is whole", error)
            if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY} and not self._may_be_used():
                self._refuse(
                    "a file that may be read and written, in a folder that may be written", error, _FORBIDDEN_REMEDY
                )
            raise

    def open(self) -> None:
        """Open the file, and make it with its folder where it is missing, for this user only.

        Raises:
            sqlite3.Error: It could not be opened now.
            OSError: The same.
            Exception: It is no such file, or one of a later version; the kind's error.
        """
        self.close()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not self.path.exists()
        # No descriptor of our own: closing it would release the locks that SQLite has on the file.
        connection = self._connection = sqlite3.connect(
            self.path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        if is_new:
            self.path.chmod(0o600)
            sync_folder(self.path.parent)
        self._place = self._find_place()
        make_tables(connection, self._kind)
        if read_value(connection, "PRAGMA application_id") != self._kind.application:
            self._refuse("a database of bms_async", ValueError("one of another program"))
        migrate_tables(connection, self._kind)
        check_schema(self.path, connection, self._kind)
        row = connection.execute("SELECT id FROM file").fetchone()
        if row is None:
            self._refuse("a file with an id", ValueError("one whose id was deleted"))
        found = row[0]
        if self._id not in {None, found}:
            self.losses += 1
        self._id = found
        self._level = ""
        self._keeps_commits = read_value(connection, "PRAGMA journal_mode") == "wal"
        self._check_place()

    def close(self) -> None:
        """Close the file; closing what is not open does nothing."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def hold(self) -> None:
        """Wait until no transaction is under way, and let none begin."""
        self._lock.acquire()

    def go_on(self) -> None:
        """Let transactions begin again."""
        self._lock.release()

    def close_inherited(self) -> None:
        """Close the file in a child process, in which there is neither its user's thread nor a lock on the file."""
        self._lock = threading.RLock()
        with suppress(sqlite3.Error):
            self.close()

    def sync(self, *, always: bool) -> None:
        """Say whether the next commits have to outlive a loss of power.

        Args:
            always: Whether they have to. If not, they still outlive the process.
        """
        # Only a write-ahead log stays whole without it.
        level = "FULL" if always or not self._keeps_commits else "NORMAL"
        if level != self._level and self._connection is not None:
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._level = level

    @contextmanager
    def transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        """Begin a transaction, and commit it, or roll it back if the body fails.

        Args:
            kind: ``IMMEDIATE`` to write, ``DEFERRED`` to read.

        Raises:
            OSError: The file was deleted or replaced meanwhile.
        """
        connection = self._connection
        if connection is None:
            raise ConnectionError(f"{self._kind.what} {self.path} could not be opened")
        with transaction(connection, kind):
            yield connection
        # After the commit: what was granted in a lost file is not given to anybody.
        self._check_place()

    def _find_place(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_dev, found.st_ino

    def _check_place(self) -> None:
        """Check that the file that is open is still the one that other processes find."""
        try:
            found: tuple[int, int] | None = self._find_place()
        except FileNotFoundError:
            found = None
        if found != self._place:
            self.losses += 1
            raise FileNotFoundError(
                f"{self._kind.what} {self.path} was deleted or replaced while it was in use; it is opened anew"
            )

    def _refuse(self, expected: str, error: Exception, remedy: str | None = None) -> NoReturn:
        raise self._kind.error(
            f"{self._kind.what} {self.path}: expected {expected}, got {type(error).__name__}: {error}; "
            f"{remedy or self._kind.remedy}"
        ) from error

    def _may_be_used(self) -> bool:
        # The folder too, because SQLite makes more files beside this one.
        if self.path.is_dir() or not os.access(self.path.parent, os.W_OK | os.X_OK):
            return False
        return not self.path.exists() or os.access(self.path, os.R_OK | os.W_OK)


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary code of an error; 0 where the module itself raised it.

    Args:
        error: The error.
    """
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


_files: WeakSet[SqliteFile] = WeakSet()
_held: list[SqliteFile] = []
_forking = threading.Lock()


def _hold_all() -> None:
    _forking.acquire()
    for file in list(_files):
        file.hold()
        _held.append(file)


def _let_all_go_on() -> None:
    while _held:
        _held.pop().go_on()
    _forking.release()


def _close_all_inherited() -> None:
    while _held:
        _held.pop().close_inherited()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_all, after_in_parent=_let_all_go_on, after_in_child=_close_all_inherited)
