"""What a SQLite file of shared limits is known by, and which tables it has."""

from __future__ import annotations

from bms_async._sqlite_tables import SqliteKind

from .store import StoreError

SHARED_LIMITS = SqliteKind(
    what="the file of shared limits",
    application=0x626D7361,
    schema=1,
    tables="""
CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS limits (
    account TEXT NOT NULL, name TEXT NOT NULL, state BLOB NOT NULL, PRIMARY KEY (account, name)
);
""",
    error=StoreError,
)
"""The state of an account and of each of its limits, as bytes."""
