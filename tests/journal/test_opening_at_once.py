"""Many processes that make the tables of one database in the same moment."""

from __future__ import annotations

import anyio

from bms_async.journal.postgres import PostgresJournal
from tests.support.postgres import Postgres


async def test_of_many_that_make_the_tables_at_once_all_find_them(postgres: Postgres, database: str) -> None:
    stores = [PostgresJournal(postgres.url(database)) for _ in range(8)]
    async with anyio.create_task_group() as tasks:
        for store in stores:
            tasks.start_soon(store.open)
    for store in stores:
        await store.aclose()
