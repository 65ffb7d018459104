"""Shared limits in PostgreSQL.

Guarantee: each question is dealt with in a transaction that holds the lock of its limit's row from before the time is
read until the commit, so that the questions of one limit are dealt with one after another, in the order of their times.

How: the lock is taken in a statement of its own, since a statement sees the database as it was when it began. The next
one reads the server's time, its life and both states. What all limits of an account have in common is written only if
it is still as it was read; otherwise the question is dealt with anew, with that locked too. A commit whose answer is
lost does no harm: the question is repeated, and its number shows that it was dealt with.

The life is the timeline, which each promotion of a standby changes, with the database's id and, where the role may read
it, the system's. It is read in each transaction, because a pooler may have changed the server meanwhile. A crash of the
server does not change it, and loses nothing that was committed: `synchronous_commit` is on here, whatever the server's
default is. Where an operator puts back a copy of the disk, the timeline is the same and the state is old: empty both
tables then, which closes all accounts for as long as earlier calls can count.

A process that is stopped in the middle of a transaction holds the others up for as long as `begin` allows, 5 s; then
the server ends its session. A pooler may give each transaction another connection (PgBouncer's transaction mode).

Rejected: to write a limit only if it is still as it was read. With 13 waiting processes more than half of the attempts
failed then, and some processes got nothing while others got three times their part. Serializable transactions fail so
too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has annotations, but is not marked as typed

from bms_async._postgres import PostgresConnection, begin, read_address, sql_bytes, sql_text
from bms_async.redaction import SecretStr

from .ledger import deal, open_account
from .messages import Account, Answer, Question
from .store import AccountUsage, StoreError, decode_account, decode_ledger, encode, usage_of

_TABLES = """
CREATE TABLE IF NOT EXISTS bms_async_accounts (name text PRIMARY KEY, state bytea NOT NULL);
CREATE TABLE IF NOT EXISTS bms_async_limits (
    account text NOT NULL, name text NOT NULL, state bytea NOT NULL, PRIMARY KEY (account, name)
);
"""

_ATTEMPTS = 10
"""How often a question is dealt with anew because another process changed the account meanwhile."""

_LIFE = """
substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
|| '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_SYSTEM = "|| '/' || (SELECT system_identifier FROM pg_control_system())"

# In each of these the life is one of the two above, and every other value is hexadecimal or a parameter.
_LOCK = """;
INSERT INTO bms_async_limits VALUES ({account}, {name}, '') ON CONFLICT DO NOTHING;
SELECT FROM bms_async_limits WHERE account = {account} AND name = {name} FOR UPDATE
"""
_LOCK_ACCOUNT = "; SELECT FROM bms_async_accounts WHERE name = {account} FOR UPDATE"
_READ = """
SELECT a.state AS account, l.state AS ledger, extract(epoch FROM clock_timestamp())::float8 AS now, {life} AS life
FROM bms_async_limits l LEFT JOIN bms_async_accounts a ON a.name = l.account
WHERE l.account = $1 AND l.name = $2
"""
_WRITE = "UPDATE bms_async_limits SET state = {state} WHERE account = {account} AND name = {name}; COMMIT"
_READ_ALL = """
SELECT a.state AS account, l.name, l.state AS ledger,
    extract(epoch FROM clock_timestamp())::float8 AS now, {life} AS life
FROM (SELECT) one
LEFT JOIN bms_async_accounts a ON a.name = $1
LEFT JOIN bms_async_limits l ON l.account = $1
"""
_READ_ACCOUNT = """
SELECT (SELECT state FROM bms_async_accounts WHERE name = $1) AS account,
    extract(epoch FROM clock_timestamp())::float8 AS now, {life} AS life
"""
_ADD_ACCOUNT = "INSERT INTO bms_async_accounts VALUES ($1, $2) ON CONFLICT DO NOTHING"
_CHANGE_ACCOUNT = "UPDATE bms_async_accounts SET state = $2 WHERE name = $1 AND state = $3"


class PostgresStore:
    """A store of shared limits in a PostgreSQL database.

    The role needs ``SELECT``, ``INSERT`` and ``UPDATE`` on two tables, and ``CREATE`` on their schema where they are
    missing.

    Args:
        url: The database, ``postgresql://user:password@host:5432/database``. Special characters in it have to be
            percent-encoded. Whatever asyncpg knows may follow, such as ``?sslmode=verify-full``.

    Raises:
        ConfigurationError: It is no such address.
    """

    def __init__(self, url: str) -> None:
        url = SecretStr(url)
        self._connection = PostgresConnection(read_address(url), StoreError)
        self._life = _LIFE

    def __repr__(self) -> str:
        return f"PostgresStore({self.label!r})"

    @property
    def label(self) -> str:
        """The address without user, password and options."""
        return self._connection.label

    async def open(self) -> None:
        """Connect, and make the tables where they are missing.

        Raises:
            StoreError: The server refuses this role, or has no tables and lets it make none.
            OSError: The server cannot be reached now, or is a standby.
            Exception: It did not do what it was asked for now.
        """
        await self._connection.open()
        async with self._explaining():
            found = await self._look()
            if found["is_standby"]:
                raise ConnectionError(f"{self.label} is a standby, in which nothing can be written")
            if found["missing"]:
                # Of two processes that make a table at once, one fails.
                with suppress(asyncpg.UniqueViolationError, asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError):
                    await self._connected().execute(f"{begin('READ WRITE')}; {_TABLES} COMMIT")
                await self._connected().execute("ROLLBACK")
            self._life = _LIFE + (_SYSTEM if found["has_system"] else "")

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        """Have questions dealt with, each in a transaction of its own.

        Args:
            account: The name of the account.
            questions: The name of the limit, and the question, of each.

        Raises:
            StoreError: The role may not do this, or the state is of a later version.
            Exception: The server did not do it now, or did and its answer was lost.
        """
        async with self._explaining():
            return [await self._ask(account, name, question) for name, question in questions]

    async def read(self, account: str) -> AccountUsage:
        """Read what is kept of an account; nothing is changed.

        Args:
            account: Its name.

        Raises:
            StoreError: The role may not do this, or the state is of a later version.
            Exception: The server did not do it now.
        """
        async with self._explaining():
            connection = self._connected()
            await connection.execute(begin("READ ONLY"))
            rows = await connection.fetch(_READ_ALL.format(life=self._life), account)
            await connection.execute("COMMIT")
            first, ledgers = rows[0], ((row["name"], row["ledger"] or None) for row in rows)
            return usage_of(decode_account(first["account"]), ledgers, now=first["now"], life=first["life"])

    async def open_account(self, account: str) -> None:
        """Open an account at once: an operator vouches that no earlier call of it counts any more.

        Args:
            account: Its name.

        Raises:
            StoreError: The role may not do this, or the state is of a later version.
            Exception: The server did not do it now.
        """
        async with self._explaining():
            connection = self._connected()
            for _ in range(_ATTEMPTS):
                await connection.execute(begin("READ WRITE"))
                row = await connection.fetchrow(_READ_ACCOUNT.format(life=self._life), account)
                kept = decode_account(row["account"])
                opened = open_account(kept, now=row["now"], life=row["life"])
                if await self._replace(account, row["account"], opened):
                    await connection.execute("COMMIT")
                    return
                await connection.execute("ROLLBACK")
            raise self._too_many_conflicts(account)

    async def aclose(self) -> None:
        """Close the connection; closing what is not open does nothing."""
        await self._connection.aclose()

    def _connected(self) -> Any:
        return self._connection.connected

    async def _look(self) -> Any:
        await self._connected().execute(begin("READ ONLY"))
        found = await self._connected().fetchrow(
            "SELECT pg_is_in_recovery() AS is_standby, "
            "to_regclass('bms_async_accounts') IS NULL OR to_regclass('bms_async_limits') IS NULL AS missing, "
            "has_function_privilege('pg_control_system()', 'EXECUTE') AS has_system"
        )
        await self._connected().execute("COMMIT")
        return found

    async def _ask(self, account: str, name: str, question: Question) -> Answer:
        connection = self._connected()
        where = {"account": sql_text(account), "name": sql_text(name)}
        for attempt in range(_ATTEMPTS):
            # Others that changed it in between are kept from it; all take these locks in the same order.
            lock = _LOCK + _LOCK_ACCOUNT if attempt else _LOCK
            await connection.execute(begin("READ WRITE") + lock.format(**where))
            row = await connection.fetchrow(_READ.format(life=self._life), account, name)
            kept = decode_account(row["account"])
            # The row is made empty, to have one that can be locked.
            ledger = decode_ledger(row["ledger"] or None)
            dealt = deal(kept, ledger, question, name=name, now=row["now"], life=row["life"])
            if dealt.account == kept or await self._replace(account, row["account"], dealt.account):
                await connection.execute(_WRITE.format(state=sql_bytes(encode(dealt.ledger)), **where))
                return dealt.answer
            await connection.execute("ROLLBACK")
        raise self._too_many_conflicts(account)

    async def _replace(self, account: str, kept: bytes | None, state: Account) -> bool:
        """Write an account; return False if another process has written it since it was read."""
        values = (account, encode(state)) if kept is None else (account, encode(state), kept)
        status = await self._connected().execute(_ADD_ACCOUNT if kept is None else _CHANGE_ACCOUNT, *values)
        return bool(status.endswith(" 1"))

    def _too_many_conflicts(self, account: str) -> ConnectionError:
        return ConnectionError(f"{self.label}: other processes changed the account {account!r} {_ATTEMPTS} times")

    @asynccontextmanager
    async def _explaining(self) -> AsyncIterator[None]:
        """Turn what trying again does not help against into a `StoreError`."""
        try:
            async with self._connection.using():
                yield
        except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError) as error:
            raise StoreError(
                f"{self.label}: expected two tables that this role may read and write, or may make, got {error}; have "
                f"their owner run: {' '.join(_TABLES.split())} GRANT SELECT, INSERT, UPDATE ON bms_async_accounts, "
                "bms_async_limits TO the role"
            ) from error
        except asyncpg.DataError as error:
            raise StoreError(
                f"{self.label}: expected a database that can store the account's name, got {error}; name a database "
                "in UTF8, or another account"
            ) from error
