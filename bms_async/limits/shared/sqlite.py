"""Shared limits in a SQLite file: for all programs of one machine, without a server.

Guarantee: the rule book runs in an immediate transaction, so that no two processes deal with an account at once. A
process that is killed loses nothing that it committed.

How: the time is the machine's, and the life is its boot id. A power loss may take the last commits along, since they
are not synced. But then the machine has come up anew, everything that was sent was sent before that, and the account
stays closed until the machine has been up for as long as such calls can count. A machine that is up for longer is open
at once. Only the first question of an account is synced, so that the file knows the account after a power loss too.
Where the system has no boot id, each commit is synced; there the clock starts again near 0, and a time that was set
back only keeps slots longer.

A file that is deleted or replaced while it is in use is noticed with the next question, which fails. In the new file
this store then closes each account once, because others may still have slots of the lost one.

What it cannot bear: a process that is stopped in the middle of a transaction, which holds up all others until it goes
on or ends; and a network file system, whose machines have each their own boot id and would close the account in turn.

All work is done by one thread, which `aclose` ends. Rejected: a thread a question, since to see that it has ended the
loop spins for up to the 5 ms after which Python makes threads take turns: 4 ms a question where it takes 0.2 ms.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar, TypeVarTuple

import anyio

from bms_async._files import sync_folder
from bms_async._threads import run_in_thread

from .clock import boot_id, namespace_offset, steady_time
from .ledger import deal, open_account
from .messages import VERSION, Account, Answer, Ledger, Question, Terms
from .store import AccountUsage, StoreError, decode_account, decode_ledger, encode

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_APPLICATION = 0x626D7361
"""The id in the file's header by which a database of another program is told from this one."""

_SCHEMA = 1
"""The version of the tables."""

_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS limits (
    account TEXT NOT NULL, name TEXT NOT NULL, state BLOB NOT NULL, PRIMARY KEY (account, name)
);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_SCHEMA};
COMMIT;
"""

_IS_EMPTY = "SELECT user_version = 0 AND NOT EXISTS (SELECT 1 FROM sqlite_master) FROM pragma_user_version"
"""In one statement, because another process may be making the tables."""

_BUSY_TIMEOUT = 2.0
"""Seconds for which a transaction waits for those of other processes."""

_ATTEMPTS = 20
_PAUSE = 0.05
"""Seconds between attempts to open the file. SQLite does not wait where two processes make a new file at once."""


class SqliteStore:
    """A store of shared limits in a file.

    Args:
        path: The file. It is made with its folder where it is missing, for this user only.
        trust_new: Whether an account that the file does not know is open at once: true for the file that every program
            of this machine shares its limits in, since whatever was sent would be known there.
    """

    def __init__(self, path: str | os.PathLike[str], *, trust_new: bool = False) -> None:
        self._path = Path(path).expanduser().absolute()
        self._trust_new = trust_new
        self._worker: ThreadPoolExecutor | None = None
        # What is below is the worker's.
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._life = ""
        self._offset = 0.0
        self._synced = ""
        self._keeps_commits = False
        self._known: set[str] = set()
        # Whether an earlier file was lost, and the accounts that were closed for it.
        self._lost = False
        self._closed: set[str] = set()

    def __repr__(self) -> str:
        return f"SqliteStore({str(self._path)!r}, trust_new={self._trust_new})"

    @property
    def label(self) -> str:
        """The path of the file."""
        return str(self._path)

    async def open(self) -> None:
        """Open the file, and make it where it is missing.

        Raises:
            StoreError: It is no file for shared limits, or not one that may be read and written.
            sqlite3.Error: It could not be opened now.
            OSError: The same.
        """
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="bms_async limits")
        for left in reversed(range(_ATTEMPTS)):
            try:
                await self._run(self._open)
            except sqlite3.OperationalError as error:
                if not left or _code(error) != sqlite3.SQLITE_BUSY:
                    raise
            else:
                return
            await anyio.sleep(_PAUSE)

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        """Have questions dealt with, all of them in one transaction.

        Args:
            account: The name of the account.
            questions: The name of the limit, and the question, of each.

        Raises:
            StoreError: The file cannot be used any more.
            sqlite3.Error: The file is busy, the disk is full.
            OSError: The file was deleted or replaced.
        """
        return await self._run(self._ask, account, questions) if questions else []

    async def read(self, account: str) -> AccountUsage:
        """Read what is kept of an account; nothing is changed.

        Args:
            account: Its name.

        Raises:
            StoreError: The file cannot be used any more.
            sqlite3.Error: The file is busy.
            OSError: The file was deleted or replaced.
        """
        return await self._run(self._read, account)

    async def open_account(self, account: str) -> None:
        """Open an account at once: an operator vouches that no earlier call of it counts any more.

        Args:
            account: Its name.

        Raises:
            StoreError: The file cannot be used any more.
            sqlite3.Error: The file is busy, the disk is full.
            OSError: The file was deleted or replaced.
        """
        await self._run(self._open_account, account)

    async def aclose(self) -> None:
        """Close the file, and end the thread; closing what is not open does nothing."""
        worker, self._worker = self._worker, None
        if worker is not None:
            # What a cancelled caller left behind ends before it.
            worker.submit(self._close)
            await run_in_thread(worker.shutdown)

    async def _run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        if self._worker is None:
            raise ConnectionError(f"the file of shared limits {self._path} is not open")
        # By way of the loop, because a virtual clock in tests does not advance while its executors work.
        work = partial(self._explaining, function, *args)
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _explaining(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        try:
            return function(*args)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR}:
                self._refuse("a file that may be read and written, in a folder that may be written", error)
            raise
        except sqlite3.Error as error:
            code = _code(error)
            if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
                self._refuse("a SQLite database that is whole", error)
            if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY} and not self._may_be_used():
                self._refuse("a file that may be read and written, in a folder that may be written", error)
            raise

    def _refuse(self, expected: str, error: Exception) -> NoReturn:
        raise StoreError(
            f"the file of shared limits {self._path}: expected {expected}, got {type(error).__name__}: {error}; name "
            "another path, or repair or delete the file while no program uses it"
        ) from error

    def _may_be_used(self) -> bool:
        # The folder too, because SQLite makes more files beside this one.
        if self._path.is_dir() or not os.access(self._path.parent, os.W_OK | os.X_OK):
            return False
        return not self._path.exists() or os.access(self._path, os.R_OK | os.W_OK)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> None:
        self._close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not self._path.exists()
        # No descriptor of our own: closing it would release the locks that SQLite has on the file.
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        self._connection = connection
        if is_new:
            self._path.chmod(0o600)
            sync_folder(self._path.parent)
        identity = self._find_identity()
        if _value(connection, _IS_EMPTY):
            _value(connection, "PRAGMA journal_mode = WAL")
            connection.executescript(_TABLES)
        if _value(connection, "PRAGMA application_id") != _APPLICATION:
            self._refuse("a database of bms_async", ValueError("one of another program"))
        version = _value(connection, "PRAGMA user_version")
        if version != _SCHEMA:
            raise StoreError(
                f"the file of shared limits {self._path}: expected version {_SCHEMA} of its tables, got {version}; "
                "update bms_async here"
            )
        self._lost = self._lost or (self._identity is not None and identity != self._identity)
        self._identity = identity
        self._known.clear()
        self._synced = ""
        self._keeps_commits = _value(connection, "PRAGMA journal_mode") == "wal"
        self._life, self._offset = boot_id(), namespace_offset()
        self._check_place()

    def _find_identity(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_dev, found.st_ino

    def _check_place(self) -> None:
        """Check that the file that is open is still the one that other processes find."""
        try:
            found: tuple[int, int] | None = self._find_identity()
        except FileNotFoundError:
            found = None
        if found != self._identity:
            raise FileNotFoundError(
                f"the file of shared limits {self._path} was deleted or replaced while it was in use; it is opened anew"
            )

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        if connection is None:
            raise ConnectionError(f"the file of shared limits {self._path} could not be opened")
        connection.execute(f"BEGIN {kind}")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
        # After the commit: what was granted in a lost file is not given to anybody.
        self._check_place()

    def _sync(self, account: str) -> None:
        """Have the next commit synced, unless a power loss may take it along."""
        level = "NORMAL" if account in self._known and self._life and self._keeps_commits else "FULL"
        if level != self._synced and self._connection is not None:
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._synced = level

    def _now(self) -> float:
        return steady_time() - self._offset

    def _ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        self._sync(account)
        answers = []
        with self._transaction("IMMEDIATE") as connection:
            now = self._now()
            kept = _read_account(connection, account)
            state = self._live_on(kept, account, questions[0][1].terms, now)
            for name, question in questions:
                ledger = _read_ledger(connection, account, name)
                state, ledger, answer = deal(state, ledger, question, now=now, life=self._life)
                _write_ledger(connection, account, name, ledger)
                answers.append(answer)
            if state is not None and state != kept:
                _write_account(connection, account, state)
        self._note_written(account)
        return answers

    def _live_on(self, kept: Account | None, account: str, terms: Terms, now: float) -> Account | None:
        """Return an account as it is in this life of the machine and of the file; None if it is new to both."""
        if kept is not None and kept.life != self._life:
            # All earlier calls were sent before the machine came up, which was at 0 on this clock.
            kept = Account(VERSION, self._life, now, terms.closed)
        if self._lost and account not in self._closed:
            since = now if kept is None else kept.since
            return Account(VERSION, self._life, since, now + terms.closed)
        if kept is None and self._trust_new:
            return Account(VERSION, self._life, now, now)
        return kept

    def _note_written(self, account: str) -> None:
        self._known.add(account)
        if self._lost:
            self._closed.add(account)

    def _read(self, account: str) -> AccountUsage:
        with self._transaction("DEFERRED") as connection:
            kept = _read_account(connection, account)
            rows = connection.execute("SELECT name, state FROM limits WHERE account = ?", (account,)).fetchall()
            now = self._now()
        if kept is None or kept.life != self._life:
            return AccountUsage(account=None, ledgers={}, now=now)
        ledgers = {name: decode_ledger(data) for name, data in rows}
        return AccountUsage(
            account=kept,
            ledgers={name: ledger for name, ledger in ledgers.items() if ledger and ledger.since == kept.since},
            now=now,
        )

    def _open_account(self, account: str) -> None:
        self._sync(account)
        with self._transaction("IMMEDIATE") as connection:
            kept = _read_account(connection, account)
            _write_account(connection, account, open_account(kept, now=self._now(), life=self._life))
        self._note_written(account)


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary code of an error; 0 where the module itself raised it."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _value(connection: sqlite3.Connection, statement: str) -> int | str:
    value: int | str = connection.execute(statement).fetchone()[0]
    return value


def _read_account(connection: sqlite3.Connection, account: str) -> Account | None:
    row = connection.execute("SELECT state FROM accounts WHERE name = ?", (account,)).fetchone()
    return None if row is None else decode_account(row[0])


def _write_account(connection: sqlite3.Connection, account: str, state: Account) -> None:
    connection.execute("INSERT OR REPLACE INTO accounts (name, state) VALUES (?, ?)", (account, encode(state)))


def _read_ledger(connection: sqlite3.Connection, account: str, name: str) -> Ledger | None:
    row = connection.execute("SELECT state FROM limits WHERE account = ? AND name = ?", (account, name)).fetchone()
    return None if row is None else decode_ledger(row[0])


def _write_ledger(connection: sqlite3.Connection, account: str, name: str, ledger: Ledger) -> None:
    connection.execute(
        "INSERT INTO limits (account, name, state) VALUES (?, ?, ?) "
        "ON CONFLICT (account, name) DO UPDATE SET state = excluded.state",
        (account, name, encode(ledger)),
    )
