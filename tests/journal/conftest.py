"""The two stores of the journal: a file, and a database that the tests of a process share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bms_async.journal import JournalStore
from bms_async.journal.postgres import PostgresJournal
from bms_async.journal.sqlite import SqliteJournal
from tests.journal._desk import Desk, opened

if TYPE_CHECKING:
    from tests.support.postgres import Postgres

_TABLES = ("plans", "outcomes", "batches", "runs", "desired", "reconcilers")
EACH = ["sqlite", "postgres"]


@pytest.fixture(scope="session")
def one_database(postgres: Postgres) -> str:
    """A database with the tables, which is made once for all tests of a process."""

    async def make() -> str:
        await postgres.run("CREATE DATABASE journal")
        async with opened(PostgresJournal(postgres.url("journal"))):
            return postgres.url("journal")

    return asyncio.run(make())


@pytest.fixture
async def shared_database(postgres: Postgres, one_database: str) -> AsyncIterator[str]:
    """The address of a database whose tables are empty."""
    yield one_database
    await postgres.run(*(f"DELETE FROM bms_async_{name}" for name in _TABLES), database="journal")


@pytest.fixture(params=EACH)
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], JournalStore]:
    """Makes stores of one journal, as several processes have them."""
    if request.param == "sqlite":
        return lambda: SqliteJournal(tmp_path / "runs.db")
    url: str = request.getfixturevalue("shared_database")
    return lambda: PostgresJournal(url)


@pytest.fixture
async def desk(make_store: Callable[[], JournalStore]) -> AsyncIterator[Desk]:
    """A worker at either store; a test has a journal of its own."""
    async with opened(make_store()) as store:
        yield Desk(store)
