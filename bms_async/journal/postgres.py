"""The journal in PostgreSQL: for workers on many machines.

Guarantee: what was committed outlives the process, and a crash of the server, since `synchronous_commit` is on here
whatever the server's default is. No two workers claim a batch at once.

How: each transaction is one of the journal's own, at READ COMMITTED, with every setting local to it and no prepared
statement kept, so that a pooler may give each transaction another connection (PgBouncer's transaction mode). Up to
`_CONNECTIONS` transactions run at once, so that a lease is renewed while a million servers are written down. A
transaction that got into a deadlock, or could not have a lock, is run once more.

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

from bms_async._postgres import PostgresConnection, begin, read_address
from bms_async.errors import JournalError

from .schema import MIGRATIONS, SCHEMA, TABLES
from .statements import RollBack, Row, Statement, Transaction

T = TypeVar("T")

_CONNECTIONS = 3
_ATTEMPTS = 10
"""How often a transaction is run because others were in its way."""

_NOW = "(SELECT extract(epoch FROM statement_timestamp())::float8)"
"""Read once a statement, in a subquery: PostgreSQL looks into no index for what may change from row to row."""

_PLANS = "; SET LOCAL enable_seqscan = off; SET LOCAL jit = off"
"""Each statement has an index. The planner would read a whole table until it has statistics of it, which is minutes
after a million servers were written down."""

_SERVER = "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int, current_setting('server_encoding')"
_MIN_VERSION = 12
_LOCK = 0x626D736A
"""The number of the lock that whoever makes the tables has for the length of that transaction."""

_IN_THE_WAY = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
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
            await self._make_tables(connection)

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
                    await connection.execute("ROLLBACK")
                    if not left:
                        raise
                except RollBack as ended:
                    await connection.execute("ROLLBACK")
                    return cast("T", ended.result)
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Close the connections; closing what is not open does nothing."""
        self._is_open = False
        while self._idle:
            await self._idle.pop().aclose()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        """Have a connection of one's own; one on which something failed is not used again."""
        if not self._is_open:
            raise ConnectionError(f"{self.label} is not open")
        async with self._slots:
            connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = PostgresConnection(self._address, JournalError)
                await connection.open()
            try:
                async with connection.using(), self._explaining():
                    yield connection.connected
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
        except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError) as error:
            raise JournalError(
                f"{self.label}: expected tables that this role may read and write, or may make, got {error}; have "
                "their owner grant it SELECT, INSERT, UPDATE and DELETE on the tables whose names begin with bms_async_"
            ) from error
        except _ALTERED as error:
            raise JournalError(
                f"{self.label}: expected the tables of version {SCHEMA} as this version makes them, got {error}; "
                "put back a copy of the database, or name another one"
            ) from error

    async def _close_if_not_open(self) -> None:
        # It may have been closed while a transaction ran.
        if not self._is_open:
            await self.aclose()

    async def _make_tables(self, connection: Any) -> None:
        await connection.execute(begin("READ WRITE"))
        found = (
            "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int, current_setting('server_encoding')"
        )
        is_standby, version, encoding = await connection.fetchrow(found)
        if version < _MIN_VERSION * 10_000:
            raise JournalError(f"{self.label}: expected PostgreSQL {_MIN_VERSION} or later, got {version // 10_000}")
        if encoding != "UTF8":
            raise JournalError(f"{self.label}: expected a database in UTF8, got one in {encoding}; name another one")
        if is_standby:
            raise ConnectionError(f"{self.label} is a standby, in which nothing can be written")
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
            return made, "INSERT INTO bms_async_journal (version) VALUES (0)", *TABLES
        if version > SCHEMA:
            raise JournalError(
                f"{self.label}: expected version {SCHEMA} of the journal's tables, got {version}; update bms_async here"
            )
        return [statement for found in range(version, SCHEMA) for statement in MIGRATIONS[found]]

    async def _read_version(self, connection: Any) -> int | None:
        # From the table of tables itself: a name that was looked up once in a transaction stays unknown for all of it.
        if not await connection.fetchval(
            "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = 'bms_async_journal' AND pg_table_is_visible(oid))"
        ):
            return None
        version: int | None = await connection.fetchval("SELECT max(version) FROM bms_async_journal")
        if version is None:
            raise JournalError(
                f"{self.label}: expected the version of the journal in the table bms_async_journal, got no row; put "
                "back a copy of the database, or name another one"
            )
        return version


async def _run(connection: Any, transaction: Transaction[T], *, writes: bool) -> T:
    await connection.execute(begin("READ WRITE" if writes else "READ ONLY") + _PLANS)
    try:
        statement = next(transaction)
        while True:
            statement = transaction.send(await _execute(connection, statement))
    except StopIteration as end:
        result = end.value
    await connection.execute("COMMIT")
    return cast("T", result)


async def _execute(connection: Any, statement: Statement) -> Sequence[Row]:
    sql = _translate(statement.sql)
    if statement.rows is not None:
        await connection.executemany(sql, statement.rows)
        return ()
    rows: Sequence[Row] = await connection.fetch(sql, *statement.values)
    return rows


@cache
def _translate(sql: str) -> str:
    return sql.replace("bms_now()", _NOW).replace("bms_wall()", _NOW).replace("bms_floor(", "floor(")
