"""What a connection to PostgreSQL keeps: nothing behind a pooler, and else statements and settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bms_async.journal import Journal
from bms_async.journal.postgres import PostgresJournal
from bms_async.journal.transactions.runs import read_run
from tests.journal._desk import Desk, make_batch, make_block, opened
from tests.support.listener import Listener
from tests.support.postgres import Postgres

SETTINGS = {
    "lock_timeout": "7s",
    "statement_timeout": "8s",
    "idle_in_transaction_session_timeout": "5s",
    "enable_seqscan": "off",
    "jit": "off",
}
_KEY = b"K\0\0\0\x0c"
"""How the message begins that has the number of the server's process."""


class Pooler:
    """A way to a server that gives out a number of its own, as a pooler does.

    Attributes:
        is_one: Whether it does; else it is only a way.
        connections: How many there were.
    """

    def __init__(self, *, is_one: bool) -> None:
        self.is_one = is_one
        self.connections = 0

    @asynccontextmanager
    async def before(self, postgres: Postgres) -> AsyncIterator[tuple[str, Listener]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            there, back = await asyncio.open_connection("127.0.0.1", postgres.port)
            try:
                asking = asyncio.ensure_future(_carry(reader, back))
                greeting, process = await there.readuntil(_KEY), await there.readexactly(4)
                writer.write(greeting + (b"\x7f\xff\xff\xff" if self.is_one else process))
                await _carry(there, writer)
                await asking
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                back.close()

        async with Listener(serve) as listener:
            yield f"postgresql://postgres@127.0.0.1:{listener.port}/journal?sslmode=disable", listener


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.write_eof()


async def _work(store: PostgresJournal) -> Any:
    """Carry batches on, and return the connection that was used."""
    desk = Desk(store)
    await desk.begin(make_batch(10), make_batch(10))
    await desk.finish((await desk.send()).claim, make_block(succeeded=10))
    await desk.merge([await desk.claim_one()])
    await desk.take_over()
    (idle,) = store._idle
    assert not idle.connected.is_in_transaction()
    assert await idle.connected.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    return idle


async def _kept(connection: Any) -> tuple[int, dict[str, str]]:
    """How many statements a connection keeps, and its settings."""
    count = await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")
    return count, {name: await connection.fetchval(f"SHOW {name}") for name in SETTINGS}


@pytest.mark.usefixtures("shared_database")
async def test_nothing_of_a_transaction_stays_with_a_connection_behind_a_pooler(postgres: Postgres) -> None:
    """So that a pooler may give each transaction another one."""
    pooler = Pooler(is_one=True)
    async with pooler.before(postgres) as (url, _), opened(PostgresJournal(url)) as store:
        assert isinstance(store, PostgresJournal)
        idle = await _work(store)
        assert not idle.is_direct
        count, settings = await _kept(idle.connected)
        assert count == 0
        assert settings == dict(zip(SETTINGS, ("0", "0", "0", "on", "on"), strict=True))
        assert await idle.connected.fetchval("SHOW synchronous_commit") == "on"
        assert pooler.connections == 2, "it was looked for with the first one, which kept nothing either"
        await asyncio.gather(*(Desk(store).blocks("none") for _ in range(3)))
        assert pooler.connections == 4, "it is looked for once"


@pytest.mark.usefixtures("shared_database")
async def test_a_connection_to_the_server_itself_keeps_statements_and_settings(postgres: Postgres) -> None:
    way = Pooler(is_one=False)
    async with way.before(postgres) as (url, _), opened(PostgresJournal(url)) as store:
        assert isinstance(store, PostgresJournal)
        idle = await _work(store)
        assert idle.is_direct
        count, settings = await _kept(idle.connected)
        assert count > 10
        assert settings == SETTINGS
        assert way.connections == 1


@pytest.mark.usefixtures("shared_database")
async def test_a_pooler_that_comes_between_later_is_found(postgres: Postgres) -> None:
    pooler = Pooler(is_one=False)
    async with pooler.before(postgres) as (url, listener):
        store = PostgresJournal(url)
        journal = Journal(lambda: store)
        await journal.open()
        try:
            assert (await _work(store)).is_direct
            pooler.is_one = True
            listener.cut()
            await journal.run(read_run, "none", writes=False)
            (idle,) = store._idle
            assert not idle.is_direct
        finally:
            await journal.aclose()


async def test_a_statement_that_the_server_does_not_know_any_more_is_none_to_rely_on(shared_database: str) -> None:
    store = PostgresJournal(shared_database)
    journal = Journal(lambda: store)
    await journal.open()
    try:
        idle = await _work(store)
        await journal.run(read_run, "none", writes=False)
        await idle.connected.execute("DEALLOCATE ALL")
        await journal.run(read_run, "none", writes=False)
        (idle,) = store._idle
        assert not idle.is_direct
    finally:
        await journal.aclose()


async def test_a_statement_is_prepared_anew_once_a_table_was_altered(postgres: Postgres, database: str) -> None:
    async with opened(PostgresJournal(postgres.url(database))) as store:
        desk = Desk(store)
        run, _ = await desk.begin(*(make_batch(1) for _ in range(3)))
        await desk.claim_one()
        await postgres.run("ALTER TABLE bms_async_batches ALTER COLUMN parts TYPE integer", database=database)
        assert (await desk.claim_one()).claim.number == 1
        await desk.check(run.id)


NOTHING = "SELECT 0"
LOOKS: dict[str, Callable[[Desk], Awaitable[object]]] = {
    "to claim": lambda desk: desk.claim(),
    "to take over": lambda desk: desk.take_over(),
    "to skip": lambda desk: desk.claim_unsendable(),
    "to read": lambda desk: desk.blocks("none"),
}


@pytest.mark.parametrize("name", LOOKS)
async def test_a_look_in_vain_is_one_question(shared_database: str, name: str) -> None:
    async with opened(PostgresJournal(shared_database)) as store:
        assert isinstance(store, PostgresJournal)
        (idle,) = store._idle
        asked: list[str] = []
        idle.connected.add_query_logger(lambda query: asked.append(query.query))
        assert not await LOOKS[name](Desk(store))
        # asyncpg says what was asked with the loop's next pass.
        assert await idle.connected.fetchval(NOTHING) == 0
        assert len([query for query in asked if query != NOTHING]) == 1, asked
