"""A connection to a PostgreSQL database that others write to as well, through a pooler or not.

Guarantee: no error, label or variable of an error's frames shows the password; a process that stops in the middle of a
transaction holds others up for `_IDLE_TIMEOUT` at most; what was committed outlives a crash of the server; and nothing
that a command left behind is alive once the connection is closed.

How: an error of asyncpg's while connecting is replaced by one of our own, since its frames hold the password in plain
variables. All settings are of the transaction (`begin`), and no statement is kept, so a pooler may give each
transaction another connection (PgBouncer's transaction mode). A connection on which something failed, or was cancelled,
is aborted rather than closed, because an answer may still be on its way.

Where no pooler is between, settings and prepared statements may be the connection's (`Session`). The process that
answers has to be the one whose number was given at start-up: a pooler gives a number that it made up, since it cannot
know which process of the server will answer. Each connection is asked for that. Rejected: to trust the address, behind
which somebody may put a pooler later; and to try a statement and see, which leaves it behind in another's connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit

import anyio
import asyncpg  # type: ignore[import-untyped]  # it has annotations, but is not marked as typed

from bms_async.errors import ConfigurationError
from bms_async.redaction import SecretStr

_IDLE_TIMEOUT = 5.0
"""Seconds after which the server ends a transaction whose process does not go on."""

_LOCK_TIMEOUT = 7.0
_STATEMENT_TIMEOUT = 8.0
_COMMAND_TIMEOUT = 10.0
"""Seconds after which a command is given up by this side; the server does so earlier."""

_STATEMENTS = 100
_STATEMENT_LIFETIME = 60
"""Seconds after which a statement is prepared anew: its plan may be of when the tables were empty."""

_CONNECT_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 1.0

_NOT_LET_IN = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
_BAD_OPTIONS = (asyncpg.UndefinedObjectError, asyncpg.CantChangeRuntimeParamError, asyncpg.InvalidParameterValueError)

# Of a statement that another process of the server has, or not.
_ELSEWHERE = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)

_HOSTS = re.compile(r"(\[[\w:.%]+\]|[\w.%-]*)(:\d+)?(,(\[[\w:.%]+\]|[\w.%-]*)(:\d+)?)*", re.ASCII)


class PostgresAddress(NamedTuple):
    """Where a database is, and how it lets us in.

    Attributes:
        url: The address.
        label: The same without user, password and options.
        settings: What each connection sets at the server.
    """

    url: SecretStr
    label: str
    settings: Mapping[str, str]


def read_address(url: str) -> PostgresAddress:
    """Check the address of a database.

    Args:
        url: The database, ``postgresql://user:password@host:5432/database``. Special characters in it have to be
            percent-encoded. Whatever asyncpg knows may follow, such as ``?sslmode=verify-full``.

    Raises:
        ConfigurationError: It is no such address; the error shows nothing of it.
    """
    url = SecretStr(url)
    parts = _try_split(url)
    if parts is None:
        # The address is not quoted, since it has the password in it.
        raise ConfigurationError(
            "the address of the store: expected postgresql://user:password@host:5432/database, got something else; "
            "percent-encode special characters in the user and the password"
        )
    options = parse_qs(parts.query)
    place = "&".join(f"{name}={options[name][-1]}" for name in ("host", "port", "dbname") if name in options)
    hosts = parts.netloc.rpartition("@")[2]
    return PostgresAddress(
        url=url,
        label=f"postgresql://{hosts}{parts.path}{'?' if place else ''}{place}",
        settings={} if "application_name" in options else {"application_name": "bms_async"},
    )


class Session:
    """What the connections to an address have for as long as they live, if no pooler is between.

    Args:
        settings: Settings beside those of `begin`.

    Attributes:
        is_pooled: Whether a pooler was found, so that nobody has to look for one again.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._more = settings
        self.is_pooled = False

    def look(self, process: int) -> str:
        """Return a query with one row, and these settings as its effect, if this process of the server answers it.

        Args:
            process: Its number.
        """
        settings = {**_settings(), "default_transaction_isolation": "read committed", **self._more}
        made = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
        return f"SELECT {made} WHERE pg_backend_pid() = {process}"


class PostgresConnection:
    """A connection to a database. One task uses it at a time.

    Args:
        address: The database.
        error: What is raised where trying again does not help; it takes a text.
        session: What it has for as long as it lives, if no pooler is between; None for nothing.

    Attributes:
        is_direct: Whether it has that.
    """

    def __init__(self, address: PostgresAddress, error: type[Exception], session: Session | None = None) -> None:
        self._address = address
        self._error = error
        self._session = session
        self.is_direct = False
        self._connection: Any = None
        self._is_sound = False

    def __repr__(self) -> str:
        return f"PostgresConnection({self.label!r})"

    @property
    def label(self) -> str:
        """The address without user, password and options."""
        return self._address.label

    @property
    def connected(self) -> Any:
        """What asyncpg has for it.

        Raises:
            ConnectionError: It is not open.
        """
        if self._connection is None:
            raise ConnectionError(f"{self.label} is not open")
        return self._connection

    async def open(self) -> None:
        """Connect; not while something uses the connection.

        Raises:
            OSError: The server cannot be reached now.
            Exception: The server refuses this role, or the address; the error that was given.
        """
        self._is_sound = self.is_direct = False
        session = self._session
        if session is not None and not session.is_pooled:
            self._connection = await self._connect(_STATEMENTS)
            self.is_direct = await self._look(session)
            if self.is_direct:
                return
            session.is_pooled = True
            await self.aclose()
        self._connection = await self._connect(0)
        self._is_sound = True

    @asynccontextmanager
    async def using(self) -> AsyncIterator[None]:
        """Do something with the connection; if that fails or is cancelled, the connection is not sound any more.

        Raises:
            OSError: The connection was lost.
            Exception: The server is too old; the error that was given.
        """
        self._is_sound = False
        try:
            yield
        except asyncpg.UndefinedFunctionError as error:
            raise self._error(f"{self.label}: expected PostgreSQL 10 or later, got {error}") from error
        except _ELSEWHERE as error:
            if self._session is not None:
                self._session.is_pooled = True
            raise ConnectionError(f"{self.label}: expected what this connection has prepared, got {error}") from error
        except asyncpg.InternalClientError as error:
            # What asyncpg says of a connection that was lost between two commands.
            raise ConnectionError(f"{self.label}: the connection was lost") from error
        self._is_sound = True

    async def aclose(self) -> None:
        """Close the connection; closing what is not open does nothing."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not self._is_sound:
            # Of a command that was given up, which asyncpg asks the server to cancel; it lets nobody wait for them.
            cancelling = {*getattr(connection, "_cancellations", ())}
            connection.terminate()
            if cancelling:
                with anyio.CancelScope(shield=True):
                    await asyncio.wait(cancelling)
            return
        # Where the server does not answer, asyncpg has aborted the connection.
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=_CLOSE_TIMEOUT)

    async def _look(self, session: Session) -> bool:
        """Return whether no pooler is between; by a simple query, of which nothing is prepared."""
        connection = self._connection
        try:
            async with self.using():
                # Of a server that is too old to know a setting; whoever uses it says so.
                with suppress(asyncpg.UndefinedObjectError):
                    return str(await connection.execute(session.look(connection.get_server_pid()))) == "SELECT 1"
        except BaseException:
            await self.aclose()
            raise
        return False

    async def _connect(self, statements: int) -> Any:
        """Connect; what is raised keeps nothing of asyncpg's alive, whose variables hold the password."""
        try:
            return await asyncpg.connect(
                self._address.url,
                timeout=_CONNECT_TIMEOUT,
                command_timeout=_COMMAND_TIMEOUT,
                statement_cache_size=statements,
                max_cached_statement_lifetime=_STATEMENT_LIFETIME,
                server_settings=self._address.settings,
            )
        except _NOT_LET_IN as error:
            failure: Exception = self._error(
                f"{self.label}: expected a database that lets this role in, got {error}; correct the address"
            )
        except (asyncpg.ClientConfigurationError, *_BAD_OPTIONS):
            # What is said may quote the address.
            failure = self._error(
                f"{self.label}: expected an address that asyncpg and the server can read, got options that they "
                "refuse; correct them (sslmode=verify-full needs sslrootcert=FILE, or ~/.postgresql/root.crt)"
            )
        except TimeoutError:
            failure = TimeoutError(f"{self.label}: expected an answer within {_CONNECT_TIMEOUT:g} s, got none")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            failure = ConnectionError(f"{self.label}: {type(error).__name__}: {error}")
        raise failure


def begin(access: Literal["READ WRITE", "READ ONLY"], *, is_direct: bool = False) -> str:
    """Return how a transaction begins; isolation is named, because a database may have another default.

    Args:
        access: What it does.
        is_direct: Whether the connection has a `Session`, and all settings by that.
    """
    settings = {} if is_direct else _settings()
    return "; ".join(
        (
            f"BEGIN ISOLATION LEVEL READ COMMITTED, {access}",
            *(f"SET LOCAL {name} = {value}" for name, value in settings.items()),
        )
    )


def _settings() -> dict[str, str]:
    return {
        "lock_timeout": f"{_LOCK_TIMEOUT * 1000:.0f}",
        "statement_timeout": f"{_STATEMENT_TIMEOUT * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{_IDLE_TIMEOUT * 1000:.0f}",
        "synchronous_commit": "on",
    }


def sql_bytes(data: bytes) -> str:
    """Return an expression for bytes; hexadecimal, so that nothing in it can be SQL, whatever the server's settings.

    Args:
        data: The bytes.
    """
    return f"decode('{data.hex()}', 'hex')"


def sql_text(text: str) -> str:
    """Return an expression for a text, in which nothing can be SQL.

    Args:
        text: The text.
    """
    return f"convert_from({sql_bytes(text.encode())}, 'UTF8')"


def _try_split(url: str) -> SplitResult | None:
    """Return the parts of an address; None if it is none, with no error whose frames have the password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    rest = f"{parts.path}{parts.query}"
    is_none = (
        parts.scheme not in {"postgresql", "postgres"}
        or parts.fragment
        or "@" in parts.path
        or ("@" in rest and "@" not in parts.netloc)
        or not _HOSTS.fullmatch(parts.netloc.rpartition("@")[2])
    )
    return None if is_none else parts
