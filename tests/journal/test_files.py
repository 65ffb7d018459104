"""A journal in a file that is full, locked, lost or forbidden: a clear error or a second attempt, and nothing lost."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from bms_async import _sqlite_file
from bms_async.errors import JournalError
from bms_async.journal import Journal, Step
from bms_async.journal.sqlite import SqliteJournal
from bms_async.journal.statements import Transaction, ask
from bms_async.journal.transactions.runs import list_runs
from tests.journal._desk import Desk, make_batch, make_block, opened

SHORT = 0.3
"""Seconds for which a journal is asked again where that cannot help."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@asynccontextmanager
async def journal_of(path: Path) -> AsyncIterator[tuple[Journal, SqliteJournal]]:
    store = SqliteJournal(path)
    journal = Journal(lambda: store)
    await journal.open()
    try:
        yield journal, store
    finally:
        await journal.aclose()


async def _count(journal: Journal) -> int:
    return len(await journal.run(lambda: list_runs(None, is_open=None, after=None, limit=10), writes=False))


async def test_a_full_disk_is_said_and_what_was_written_down_stays(path: Path) -> None:
    async with opened(SqliteJournal(path)) as store:
        desk = Desk(store)
        run, _ = await desk.begin(make_batch(1000))
        kept = await desk.send()
        limit = await desk.sql("PRAGMA page_count")
        await desk.sql(f"PRAGMA max_page_count = {limit[0][0]!r}")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            await desk.begin(*(make_batch(1000) for _ in range(50)))
        rows = await desk.everything(run.id)
        assert await desk.sql("SELECT count(*) FROM bms_async_runs") == [(1,)]
        await desk.sql("PRAGMA max_page_count = 100000")
        assert await desk.everything(run.id) == rows
        assert await desk.finish(kept.claim, make_block(succeeded=1000)) is Step.MADE
        await desk.check(run.id)


async def test_a_disk_that_stays_full_ends_in_an_error_that_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def connect_to_little_room(*args: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)  # type: ignore[call-overload]
        connection.execute("PRAGMA max_page_count = 60")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_to_little_room)
    async with journal_of(path) as (journal, _):
        with pytest.raises(JournalError, match=r"disk is full.*that there is room on its disk"):
            await journal.run(lambda: _fill(200_000), patience=SHORT)
        assert await _count(journal) == 0


def _fill(size: int) -> Transaction[None]:
    yield from ask("CREATE TABLE filling AS SELECT randomblob($1) AS x", size)


async def test_a_file_that_another_process_writes_to_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sqlite_file, "_BUSY_TIMEOUT", 0.01)
    async with journal_of(path) as (journal, _):
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="database is locked"):
            await journal.run(lambda: ask("DELETE FROM bms_async_runs"), patience=0.0)
        assert await _count(journal) == 0, "reading waits for nobody"
        released = threading.Timer(0.1, other.execute, ["COMMIT"])
        released.start()
        assert await journal.run(lambda: ask("DELETE FROM bms_async_runs RETURNING id")) == []
        released.join()
        other.close()


async def test_many_processes_write_to_one_file_without_losing_a_step(path: Path) -> None:
    async with opened(SqliteJournal(path)) as store:
        desk = Desk(store)
        run, _ = await desk.begin(*(make_batch(1) for _ in range(40)))

        async def work() -> None:
            async with opened(SqliteJournal(path)) as own:
                worker = desk.another(own)
                while found := await worker.claim():
                    await worker.mark_sending(found[0].claim)
                    assert await worker.finish(found[0].claim, make_block(succeeded=1)) is Step.MADE

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(work)
        assert (await desk.read(run.id)).counts.succeeded == 40
        await desk.check(run.id)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_file_that_is_lost_while_it_is_used_is_noticed(path: Path, how: str) -> None:
    async with journal_of(path) as (journal, _):
        desk = Desk(await journal._connect())
        await desk.begin(make_batch())
        await asyncio.to_thread(path.rename, path.with_suffix(".old"))
        if how == "replaced":
            async with opened(SqliteJournal(path)):
                pass
        # In the file that is there now nothing is known, and nobody is given what was written to the other one.
        with pytest.raises(FileNotFoundError, match="deleted or replaced while it was in use"):
            await desk.begin(make_batch())
        assert await _count(journal) == 0


async def test_the_file_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    before = await asyncio.to_thread(path.read_bytes)
    with pytest.raises(JournalError, match=r"expected a database of bms_async, got .* one of another program"):
        async with opened(SqliteJournal(path)):
            pass
    assert await asyncio.to_thread(path.read_bytes) == before


async def test_a_file_that_is_none_of_sqlites_is_refused(path: Path) -> None:
    await asyncio.to_thread(path.write_bytes, b"no database " * 1000)
    # To delete it would be to forget what was sent.
    with pytest.raises(JournalError, match=r"expected a SQLite database that is whole.*put back a copy") as caught:
        async with opened(SqliteJournal(path)):
            pass
    assert "delete" not in str(caught.value)


async def test_a_sqlite_that_is_too_old_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 34, 1))
    with pytest.raises(JournalError, match=r"expected SQLite 3\.35 or later"):
        async with opened(SqliteJournal(path)):
            pass
    assert not await asyncio.to_thread(path.exists)


async def test_a_file_that_may_only_be_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(SqliteJournal(path)):
        pass
    connect = sqlite3.connect

    def connect_to_read(*args: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)  # type: ignore[call-overload]
        connection.execute("PRAGMA query_only = ON")
        return connection

    # The tests may run as root, who may write everywhere.
    monkeypatch.setattr(sqlite3, "connect", connect_to_read)
    monkeypatch.setattr(os, "access", lambda *args: False)
    async with opened(SqliteJournal(path)) as store:
        # A copy that is put back would be no better, and has servers rebooted that were rebooted since.
        with pytest.raises(
            JournalError, match=r"expected a file that may be read and written.*; correct the permissions"
        ):
            await Desk(store).begin(make_batch())


async def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(JournalError, match="in a folder that may be written"):
        async with opened(SqliteJournal(tmp_path / "new" / "runs.db")):
            pass


async def test_the_file_is_this_users_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "runs.db"
    async with opened(SqliteJournal(path)):
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_leases_are_counted_on_the_clock_that_the_store_is_given(path: Path) -> None:
    now = 100.0
    async with opened(SqliteJournal(path, now=lambda: now, wall=lambda: 1e9)) as store:
        desk = Desk(store)
        run, _ = await desk.begin(make_batch())
        assert run.created == 1e9
        await desk.send()
        now = 114.9
        assert await desk.another().take_over() == []
        now = 115.1
        assert len(await desk.another().take_over()) == 1
        now = 5.0
        assert len(await desk.another().take_over()) == 1, "a lease from before the machine came up again"
