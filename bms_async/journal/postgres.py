"""The journal in PostgreSQL: for workers on many machines.

Guarantee: what was committed outlives the process, and a crash of the server, since `synchronous_commit` is on here
whatever the server's default is. No two workers claim a batch at once.

How: each transaction is one of the journal's own, at READ COMMITTED. Up to `_CONNECTIONS` of them run at once, so that
a lease is renewed while a million servers are written down. A transaction that got into a deadlock, or could not have a
lock, is run once more.

Behind a pooler every setting is local to the transaction, and no prepared statement is kept, so that each transaction
may have another connection (PgBouncer's transaction mode). Where the connection is surely the server's own, settings
and statements are kept with it, which halves what a batch costs. And what a transaction reads before it changes or
locks anything is read before it begins. At READ COMMITTED that is the same, since each statement sees what is committed
when it starts; and a worker that looks for work in vain asks once instead of three times.

Rejected: advisory locks and LISTEN, which belong to a session; and serializable transactions, which fail more often the
more workers there are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, TypeVar, cast

import anyio
import asyncpg  # type: ignore[import-untyped]  # it has annotations, but is not marked as typed
import msgspec

from bms_async._postgres import PostgresConnection, Session, begin, read_address
from bms_async.errors import JournalError

from .records import COPY_ADVICE
from .schema import MIGRATIONS, POSTGRES_ONLY, SCHEMA, TABLES
from .statements import RollBack, Row, Statement, Transaction

T = TypeVar("T")

_CONNECTIONS = 3
_ATTEMPTS = 10
"""How often a transaction is run because others were in its way."""

_NOW = "(SELECT extract(epoch FROM statement_timestamp())::float8)"
"""Read once a statement, in a subquery: PostgreSQL looks into no index for what may change from row to row."""

_PLANS = {"enable_seqscan": "off", "jit": "off"}
"""Each statement has an index. The planner would read a whole table until it has statistics of it, which is minutes
after a million servers were written down."""

_SERVER = "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int, current_setting('server_encoding')"
_HAS_TABLES = "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = 'bms_async_journal' AND pg_table_is_visible(oid))"
"""From the rows themselves, since a session that has looked a name up remembers for a while that there is none."""

_MIN_VERSION = 12
_LOCK = 0x626D736A
"""The number of the lock that whoever makes the tables has for the length of that transaction."""

_IN_THE_WAY = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    # Somebody has altered a table, and asyncpg has forgotten all prepared statements.
    asyncpg.InvalidCachedStatementError,
)
_ALTERED = (
    asyncpg.SyntaxOrAccessError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    msgspec.ValidationError,
    # Of asyncpg where a column has another type, and of a transaction where a row is missing.
    ValueError,
    TypeError,
)


class PostgresJournal:
    """A journal in a PostgreSQL database, of version 12 or later.

    The role needs ``SELECT``, ``INSERT``, ``UPDATE`` and ``DELETE`` on the tables, and ``CREATE`` on their schema where
    they are missing.

    Args:
        url: The database, ``postgresql://user:password@host:5432/database``. Special characters in it have to be
            percent-encoded. Whatever asyncpg knows may follow, such as ``?sslmode=verify-full``.

    Raises:
        ConfigurationError: It is no such address.
    """

    def __init__(self, url: str) -> None:
        self._address = read_address(url)
        self._session = Session(_PLANS)
        self._idle: list[PostgresConnection] = []
        self._slots = anyio.Semaphore(_CONNECTIONS)
        self._is_open = False

    def __repr__(self) -> str:
        return f"PostgresJournal({self._address.label!r})"

    @property
    def label(self) -> str:
        """The address without user, password and options."""
        return self._address.label

    async def open(self) -> None:
        """Connect, and make the tables or bring them up to this version where that is needed.

        Raises:
            JournalError: The server refuses this role, or has no tables and lets it make none.
            OSError: The server cannot be reached now, or is a standby.
            Exception: It did not do what it was asked for now.
        """
        self._is_open = True
        async with self._connection() as connection:
            await self._make_tables(connection.connected)

    async def run(self, make: Callable[[], Transaction[T]], *, writes: bool = True) -> T:
        """Run a transaction; once more from its beginning if other transactions were in its way.

        Args:
            make: Begins it.
            writes: Whether it changes anything.

        Raises:
            JournalError: The tables are not as this version makes them, or the role may not use them.
            Exception: The server did not do it now, or did and its answer was lost.
        """
        for left in reversed(range(_ATTEMPTS)):
            async with self._connection() as connection:
                try:
                    return await _run(connection, make(), writes=writes)
                except _IN_THE_WAY:
                    await _roll_back(connection)
                    if not left:
                        raise
                except RollBack as ended:
                    await _roll_back(connection)
                    return cast("T", ended.result)
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Close the connections; closing what is not open does nothing."""
        self._is_open = False
        while self._idle:
            await self._idle.pop().aclose()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[PostgresConnection]:
        """Have a connection of one's own; one on which something failed is not used again."""
        if not self._is_open:
            raise ConnectionError(f"{self.label} is not open")
        async with self._slots:
            connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = PostgresConnection(self._address, JournalError, self._session)
                await connection.open()
            try:
                async with connection.using(), self._explaining():
                    yield connection
            except BaseException:
                await connection.aclose()
                raise
            self._idle.append(connection)
            await self._close_if_not_open()

    @asynccontextmanager
    async def _explaining(self) -> AsyncIterator[None]:
        """Say what is to be done where asking again does not help."""
        try:
            yield
        except asyncpg.DuplicatePreparedStatementError:
            # It says nothing of the tables, and is the connection's to explain.
            raise
        except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError) as error:
            raise JournalError(
                f"{self.label}: expected tables that this role may read and write, or may make, got {error}; have "
                "their owner grant it SELECT, INSERT, UPDATE and DELETE on the tables whose names begin with bms_async_"
            ) from error
        except _ALTERED as error:
            raise JournalError(
                f"{self.label}: expected the tables of version {SCHEMA} as this version makes them, got {error}; "
                f"{COPY_ADVICE}"
            ) from error

    async def _close_if_not_open(self) -> None:
        # It may have been closed while a transaction ran.
        if not self._is_open:
            await self.aclose()

    async def _make_tables(self, connection: Any) -> None:
        is_standby, server, encoding = await connection.fetchrow(_SERVER)
        if server < _MIN_VERSION * 10_000:
            raise JournalError(f"{self.label}: expected PostgreSQL {_MIN_VERSION} or later, got {server // 10_000}")
        if encoding != "UTF8":
            raise JournalError(f"{self.label}: expected a database in UTF8, got one in {encoding}; name another one")
        if is_standby:
            raise ConnectionError(f"{self.label} is a standby, in which nothing can be written")
        await connection.execute(begin("READ WRITE"))
        version = await self._read_version(connection)
        if version != SCHEMA:
            # Of two processes that do this at once, the later one finds it done.
            await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
            for statement in self._statements_from(await self._read_version(connection)):
                await connection.execute(statement)
            await connection.execute("UPDATE bms_async_journal SET version = $1", SCHEMA)
        await connection.execute("COMMIT")

    def _statements_from(self, version: int | None) -> Sequence[str]:
        if version is None:
            made = "CREATE TABLE bms_async_journal (version bigint NOT NULL)"
            return made, "INSERT INTO bms_async_journal (version) VALUES (0)", *TABLES, *POSTGRES_ONLY
        if version > SCHEMA:
            raise JournalError(
                f"{self.label}: expected version {SCHEMA} of the journal's tables, got {version}; update bms_async here"
            )
        return [statement for found in range(version, SCHEMA) for statement in MIGRATIONS[found]]

    async def _read_version(self, connection: Any) -> int | None:
        if not await connection.fetchval(_HAS_TABLES):
            return None
        version: int | None = await connection.fetchval("SELECT max(version) FROM bms_async_journal")
        if version is None:
            raise JournalError(
                f"{self.label}: expected the version of the journal in the table bms_async_journal, got no row; put "
                "back a copy of the database, or name another one"
            )
        return version


async def _run(connection: PostgresConnection, transaction: Transaction[T], *, writes: bool) -> T:
    asked, has_begun = connection.connected, False
    try:
        statement = next(transaction)
        while True:
            if not has_begun and not (connection.is_direct and _only_reads(statement.sql)):
                await asked.execute(_begin(writes=writes, is_direct=connection.is_direct))
                has_begun = True
            statement = transaction.send(await _execute(asked, statement))
    except StopIteration as end:
        result = end.value
    if has_begun:
        await asked.execute("COMMIT")
    return cast("T", result)


def _begin(*, writes: bool, is_direct: bool) -> str:
    plans = "" if is_direct else "".join(f"; SET LOCAL {name} = {value}" for name, value in _PLANS.items())
    return begin("READ WRITE" if writes else "READ ONLY", is_direct=is_direct) + plans


async def _roll_back(connection: PostgresConnection) -> None:
    if connection.connected.is_in_transaction():
        await connection.connected.execute("ROLLBACK")


async def _execute(asked: Any, statement: Statement) -> Sequence[Row]:
    sql = _translate(statement.sql)
    if statement.rows is not None:
        await asked.executemany(sql, statement.rows)
        return ()
    rows: Sequence[Row] = await asked.fetch(sql, *statement.values)
    return rows


@cache
def _translate(sql: str) -> str:
    return sql.replace("bms_now()", _NOW).replace("bms_wall()", _NOW).replace("bms_floor(", "floor(")


@cache
def _only_reads(sql: str) -> bool:
    """Return whether a statement changes and locks nothing."""
    return sql.startswith("SELECT ") and "FOR UPDATE" not in sql
