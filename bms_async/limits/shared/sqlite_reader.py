"""Looks into a SQLite file of shared limits, without an event loop: for a command that shows it and ends."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from bms_async._clock import boot_id, namespace_offset, steady_time
from bms_async._sqlite_tables import check_schema

from .messages import VERSION, Account, Terms
from .sqlite_kind import SHARED_LIMITS
from .store import AccountUsage, StoreError, decode_account, usage_of

_PATIENCE = 2.0
"""Seconds for which other processes may keep the file locked."""


def read_file(path: Path, account: str) -> AccountUsage:
    """Read what a file keeps of an account; neither the file nor its folder is made or changed.

    Args:
        path: The file; nothing is kept in one that does not exist.
        account: The name of the account.

    Raises:
        StoreError: It is no file of shared limits.
        sqlite3.Error: It cannot be read now.
        OSError: The same.
    """
    now = steady_time() - namespace_offset()
    if not path.exists():
        return AccountUsage(account=None, ledgers={}, now=now)
    with closing(_connect(path)) as connection:
        try:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                # Another process has only just made it.
                return AccountUsage(account=None, ledgers={}, now=now)
            _check(path, connection)
            row = connection.execute("SELECT state FROM accounts WHERE name = ?", (account,)).fetchone()
            rows = connection.execute("SELECT name, state FROM limits WHERE account = ?", (account,)).fetchall()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise StoreError(f"the file of shared limits {path}: expected a SQLite database, got {error}") from error
    kept, life = decode_account(None if row is None else row[0]), boot_id()
    if kept is not None and kept.life != life:
        # What the next question will make of it: all earlier calls were sent before the machine came up, at 0.
        kept, rows = Account(VERSION, life, now, Terms().closed), []
    return usage_of(kept, rows, now=now, life=life)


def _connect(path: Path) -> sqlite3.Connection:
    # A connection that may write takes away again what SQLite makes beside the file for each reader.
    may_write = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)
    address = f"{path.absolute().as_uri()}?mode={'rw' if may_write else 'ro'}"
    connection = sqlite3.connect(address, uri=True, timeout=_PATIENCE, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _check(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != SHARED_LIMITS.application:
        raise StoreError(
            f"the file of shared limits {path}: expected a database of bms_async, got one of another program; "
            "name another path"
        )
    check_schema(path, connection, SHARED_LIMITS)
