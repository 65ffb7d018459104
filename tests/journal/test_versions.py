"""Tables of other versions, and tables that somebody altered: brought up to this version, or refused in clear words."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg  # type: ignore[import-untyped]
import pytest

from bms_async.errors import JournalError
from bms_async.journal import Journal, JournalStore, schema
from bms_async.journal import postgres as postgres_module
from bms_async.journal import sqlite as sqlite_module
from bms_async.journal.postgres import PostgresJournal
from bms_async.journal.sqlite import SqliteJournal
from bms_async.journal.transactions import runs
from tests.journal._desk import Desk, make_batch, make_block, opened

if TYPE_CHECKING:
    from tests.support.postgres import Postgres


class OwnFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def store(self) -> JournalStore:
        return SqliteJournal(self._path)

    async def alter(self, *statements: str) -> None:
        connection = sqlite3.connect(self._path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    async def set_version(self, version: int) -> None:
        await self.alter(f"PRAGMA user_version = {version}")


class OwnDatabase:
    def __init__(self, url: str) -> None:
        self._url = url

    def store(self) -> JournalStore:
        return PostgresJournal(self._url)

    async def alter(self, *statements: str) -> None:
        connection = await asyncpg.connect(self._url, ssl=False, password="unused")
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    async def set_version(self, version: int) -> None:
        await self.alter(f"UPDATE bms_async_journal SET version = {version}")


Own = OwnFile | OwnDatabase


@pytest.fixture(params=["sqlite", "postgres"])
async def own(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> AsyncIterator[Own]:
    """A journal that is this test's alone, with its tables."""
    if request.param == "sqlite":
        file = OwnFile(tmp_path / "runs.db")
        async with opened(file.store()):
            yield file
        return
    async with postgres.database() as name:
        database = OwnDatabase(postgres.url(name))
        async with opened(database.store()):
            yield database


def _release(monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
    """Let this program be of the next version, which makes these changes."""
    for module in (postgres_module, sqlite_module):
        monkeypatch.setattr(module, "SCHEMA", schema.SCHEMA + 1)
        monkeypatch.setattr(module, "MIGRATIONS", {schema.SCHEMA: statements})
    monkeypatch.setattr(sqlite_module, "_KIND", sqlite_module._KIND._replace(schema=schema.SCHEMA + 1))


async def test_a_journal_of_a_later_version_is_refused_and_left_as_it_is(own: Own) -> None:
    await own.set_version(schema.SCHEMA + 1)
    store = own.store()
    for _ in range(2):
        with pytest.raises(JournalError, match=r"expected version 1 of .*tables, got 2; update bms_async here"):
            await store.open()
    await store.aclose()
    await own.set_version(schema.SCHEMA)
    async with opened(own.store()) as again:
        await Desk(again).begin(make_batch())


async def test_a_journal_of_an_earlier_version_is_brought_up_to_this_one_with_all_that_it_has(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(own.store()) as store:
        run, _ = await Desk(store).begin(make_batch(10), key="k")
    _release(
        monkeypatch,
        "ALTER TABLE bms_async_runs ADD COLUMN colour text",
        "UPDATE bms_async_runs SET colour = 'red'",
    )
    await asyncio.gather(*(_opens(own) for _ in range(4)))
    async with opened(own.store()) as store:
        desk = Desk(store)
        assert [tuple(row) for row in await desk.sql("SELECT run_key, colour FROM bms_async_runs")] == [("k", "red")]
        await desk.check(run.id)
    monkeypatch.undo()
    with pytest.raises(JournalError, match="update bms_async here"):
        await _opens(own)


async def _opens(own: Own) -> None:
    async with opened(own.store()):
        pass


async def test_a_migration_that_fails_leaves_the_tables_as_they_were(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    _release(monkeypatch, "ALTER TABLE bms_async_runs ADD COLUMN colour text", "UPDATE nowhere SET colour = 'red'")
    with pytest.raises(JournalError, match="nowhere"):
        await _opens(own)
    monkeypatch.undo()
    async with opened(own.store()) as store:
        assert await Desk(store).sql("SELECT * FROM bms_async_runs") == []
        await Desk(store).begin(make_batch())


async def test_of_many_who_make_the_tables_at_once_all_find_them(tmp_path: Path, postgres: Postgres) -> None:
    async with postgres.database() as name:
        for make in (lambda: SqliteJournal(tmp_path / "new.db"), lambda: PostgresJournal(postgres.url(name))):
            stores: list[JournalStore] = [make() for _ in range(8)]
            await asyncio.gather(*(store.open() for store in stores))
            await Desk(stores[0]).begin(make_batch(), key="k")
            assert (await Desk(stores[1]).sql("SELECT count(*) FROM bms_async_runs"))[0][0] == 1
            for store in stores:
                await store.aclose()


ALTERED = {
    "a table is gone": "DROP TABLE bms_async_batches",
    "a column is gone": "ALTER TABLE bms_async_batches RENAME COLUMN due TO since",
    "a column more, that must have a value": "ALTER TABLE bms_async_batches ADD COLUMN x text NOT NULL DEFAULT 'x'",
    "a state that there is not": "UPDATE bms_async_batches SET state = 'nowhere', owner = 'x', lease = -1",
    "a status that there is not": "UPDATE bms_async_runs SET status = 'nowhere'",
    "a run without its row": "DELETE FROM bms_async_runs",
    "a run that was numbered anew": "UPDATE bms_async_runs SET next_batch = 0",
}
HARMLESS = {"a column more, that must have a value", "a state that there is not"}


@pytest.mark.parametrize("what", ALTERED)
async def test_tables_that_were_altered_by_hand_are_refused_at_once(own: Own, what: str) -> None:
    journal = Journal(own.store)
    await journal.open()
    try:
        desk = Desk(own.store())
        await desk.store.open()
        run, _ = await desk.begin(make_batch(10), make_batch(10))
        kept = await desk.send()
        await desk.store.aclose()
        await own.alter(ALTERED[what])

        async def uses(desk: Desk) -> None:
            await desk.run(runs.read_run, run.id)
            await desk.claim(run.id)
            await desk.finish(kept.claim, make_block(failed=5), make_batch(5))
            await desk.begin(make_batch())

        desk = Desk(await journal._connect(), desk.place, desk.owner)
        if what in HARMLESS:
            await uses(desk)
        else:
            with pytest.raises(JournalError, match="expected"):
                await uses(desk)
    finally:
        await journal.aclose()


async def test_columns_of_another_type_are_refused(postgres: Postgres) -> None:
    for column, kind in (("servers", "text"), ("due", "uuid"), ("ids", "text"), ("number", "date")):
        async with postgres.database() as name, opened(PostgresJournal(postgres.url(name))) as store:
            desk = Desk(store)
            change = f"ALTER TABLE bms_async_batches DROP COLUMN {column}, ADD COLUMN {column} {kind}"
            await postgres.run(change, database=name)
            with pytest.raises(JournalError, match="expected the tables of version 1 as this version makes them"):
                await desk.begin(make_batch())


async def test_a_version_that_was_deleted_is_refused(postgres: Postgres) -> None:
    async with postgres.database() as name:
        store = PostgresJournal(postgres.url(name))
        async with opened(store):
            await postgres.run("DELETE FROM bms_async_journal", database=name)
        with pytest.raises(JournalError, match="got no row"):
            await store.open()
        await store.aclose()
