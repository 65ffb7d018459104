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

All work is done by one thread, which `aclose` ends.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from bms_async._clock import boot_id, namespace_offset, steady_time
from bms_async._sqlite_file import SqliteFile
from bms_async._sqlite_thread import SqliteThread

from .ledger import deal, open_account
from .messages import VERSION, Account, Answer, Ledger, Question, Terms
from .sqlite_kind import SHARED_LIMITS
from .store import AccountUsage, decode_account, decode_ledger, encode, usage_of


class SqliteStore:
    """A store of shared limits in a file.

    Args:
        path: The file. It is made with its folder where it is missing, for this user only.
        trust_new: Whether an account that the file does not know is open at once: true for the file that every program
            of this machine shares its limits in, since whatever was sent would be known there.
    """

    def __init__(self, path: str | os.PathLike[str], *, trust_new: bool = False) -> None:
        self._file = SqliteFile(Path(path).expanduser().absolute(), SHARED_LIMITS)
        self._trust_new = trust_new
        self._thread = SqliteThread(self._file, what=SHARED_LIMITS.what, name="bms_async limits")
        # What is below is the worker's.
        self._life = ""
        self._offset = 0.0
        self._synced: set[str] = set()
        # The accounts that were closed because a file was lost, with the number of the loss.
        self._closed: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"SqliteStore({str(self._file.path)!r}, trust_new={self._trust_new})"

    @property
    def label(self) -> str:
        """The path of the file."""
        return str(self._file.path)

    async def open(self) -> None:
        """Open the file, and make it where it is missing.

        Raises:
            StoreError: It is no file for shared limits, or not one that may be read and written.
            sqlite3.Error: It could not be opened now.
            OSError: The same.
        """
        await self._thread.open(self._open)

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
        return await self._thread.run(self._ask, account, questions) if questions else []

    async def read(self, account: str) -> AccountUsage:
        """Read what is kept of an account; nothing is changed.

        Args:
            account: Its name.

        Raises:
            StoreError: The file cannot be used any more.
            sqlite3.Error: The file is busy.
            OSError: The file was deleted or replaced.
        """
        return await self._thread.run(self._read, account)

    async def open_account(self, account: str) -> None:
        """Open an account at once: an operator vouches that no earlier call of it counts any more.

        Args:
            account: Its name.

        Raises:
            StoreError: The file cannot be used any more.
            sqlite3.Error: The file is busy, the disk is full.
            OSError: The file was deleted or replaced.
        """
        await self._thread.run(self._open_account, account)

    async def aclose(self) -> None:
        """Close the file, and end the thread; closing what is not open does nothing."""
        await self._thread.aclose()

    def _open(self) -> None:
        self._file.open()
        self._synced.clear()
        self._life, self._offset = boot_id(), namespace_offset()

    def _now(self) -> float:
        return steady_time() - self._offset

    def _ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        self._file.sync(always=account not in self._synced or not self._life)
        answers = []
        with self._file.transaction("IMMEDIATE") as connection:
            now = self._now()
            kept = _read_account(connection, account)
            # Limits without their account are what is left of one that was lost.
            has_limits = kept is None and _has_limits(connection, account)
            state = self._live_on(kept, account, questions[0][1].terms, now, has_limits=has_limits)
            for name, question in questions:
                ledger = _read_ledger(connection, account, name)
                state, ledger, answer = deal(state, ledger, question, name=name, now=now, life=self._life)
                _write_ledger(connection, account, name, ledger)
                answers.append(answer)
            if state is not None and state != kept:
                _write_account(connection, account, state)
        self._note_written(account)
        return answers

    def _live_on(
        self, kept: Account | None, account: str, terms: Terms, now: float, *, has_limits: bool
    ) -> Account | None:
        """Return an account as it is in this life of the machine and of the file; None if it is new to both."""
        if kept is not None and kept.life != self._life:
            # All earlier calls were sent before the machine came up, which was at 0 on this clock.
            kept = Account(VERSION, self._life, now, terms.closed)
        if self._closed.get(account, 0) < self._file.losses:
            return replace(kept or Account(VERSION, self._life, now, now), closed_until=now + terms.closed)
        if kept is None and self._trust_new and not has_limits:
            return Account(VERSION, self._life, now, now)
        return kept

    def _note_written(self, account: str) -> None:
        self._synced.add(account)
        self._closed[account] = self._file.losses

    def _read(self, account: str) -> AccountUsage:
        with self._file.transaction("DEFERRED") as connection:
            kept = _read_account(connection, account)
            rows = connection.execute("SELECT name, state FROM limits WHERE account = ?", (account,)).fetchall()
            now = self._now()
        return usage_of(kept, rows, now=now, life=self._life)

    def _open_account(self, account: str) -> None:
        self._file.sync(always=account not in self._synced or not self._life)
        with self._file.transaction("IMMEDIATE") as connection:
            kept = _read_account(connection, account)
            _write_account(connection, account, open_account(kept, now=self._now(), life=self._life))
        self._note_written(account)


def _read_account(connection: sqlite3.Connection, account: str) -> Account | None:
    row = connection.execute("SELECT state FROM accounts WHERE name = ?", (account,)).fetchone()
    return None if row is None else decode_account(row[0])


def _write_account(connection: sqlite3.Connection, account: str, state: Account) -> None:
    connection.execute("INSERT OR REPLACE INTO accounts (name, state) VALUES (?, ?)", (account, encode(state)))


def _has_limits(connection: sqlite3.Connection, account: str) -> bool:
    return connection.execute("SELECT 1 FROM limits WHERE account = ?", (account,)).fetchone() is not None


def _read_ledger(connection: sqlite3.Connection, account: str, name: str) -> Ledger | None:
    row = connection.execute("SELECT state FROM limits WHERE account = ? AND name = ?", (account, name)).fetchone()
    return None if row is None else decode_ledger(row[0])


def _write_ledger(connection: sqlite3.Connection, account: str, name: str, ledger: Ledger) -> None:
    connection.execute(
        "INSERT INTO limits (account, name, state) VALUES (?, ?, ?) "
        "ON CONFLICT (account, name) DO UPDATE SET state = excluded.state",
        (account, name, encode(ledger)),
    )
