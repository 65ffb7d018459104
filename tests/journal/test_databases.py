"""A journal in a database that does not fit or may not be used: said in clear words, and never with the password."""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from bms_async import ConfigurationError, Runs
from bms_async.errors import JournalError
from bms_async.journal import Journal
from bms_async.journal import postgres as module
from bms_async.journal.postgres import PostgresJournal
from bms_async.journal.transactions.runs import read_run
from tests.journal._desk import Desk, make_batch, opened
from tests.support.postgres import Postgres, running_postgres

CANARY = "k4n4ry-pass"


@pytest.fixture
async def role(postgres: Postgres, database: str) -> AsyncIterator[str]:
    """A role that may do nothing but connect."""
    name = f"role_{uuid.uuid4().hex}"
    await postgres.run(f"CREATE ROLE {name} LOGIN PASSWORD '{CANARY}'")
    yield name
    await postgres.run(f"DROP OWNED BY {name}", database=database)
    await postgres.run(f"DROP ROLE {name}")


async def _refused(store: PostgresJournal, match: str) -> str:
    with pytest.raises(JournalError, match=match) as refused:
        async with opened(store):
            pass
    return str(refused.value)


async def test_a_role_without_rights_is_refused_and_uses_the_tables_of_others_once_it_may(
    postgres: Postgres, database: str, role: str
) -> None:
    url = postgres.url(database, who=f"{role}:{CANARY}")
    text = await _refused(PostgresJournal(url), "permission denied .* grant it SELECT, INSERT, UPDATE and DELETE")
    assert CANARY not in text
    async with opened(PostgresJournal(postgres.url(database))):
        pass
    await _refused(PostgresJournal(url), "permission denied for table bms_async_journal")
    await postgres.run(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}", database=database
    )
    async with opened(PostgresJournal(url)) as store:
        desk = Desk(store)
        await desk.begin(make_batch())
        kept = await desk.send()
        await postgres.run(f"REVOKE UPDATE ON bms_async_batches FROM {role}", database=database)
        with pytest.raises(JournalError, match="permission denied for table bms_async_batches"):
            await desk.mark_watching(kept.claim)


async def test_no_password_is_shown_whatever_fails(
    postgres: Postgres,
    database: str,
    role: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    # Where no certificates are.
    monkeypatch.setenv("HOME", str(tmp_path))
    for url, cause in (
        (postgres.url(database, who=f"{role}:{CANARY}-wrong"), "password authentication failed"),
        (postgres.url("nowhere", who=f"{role}:{CANARY}"), 'database "nowhere" does not exist'),
        (postgres.url(database, who=f"{role}:{CANARY}") + "?sslmode=whatever", "options that they refuse"),
        (postgres.url(database, who=f"{role}:{CANARY}") + "?sslmode=verify-full", "sslrootcert=FILE"),
        (f"postgresql://u:{CANARY}@127.0.0.1:1/db", "ConnectionRefusedError"),
    ):
        runs = Runs(url)
        with pytest.raises(JournalError, match=cause) as refused:
            await runs.journal.open(patience=0.0)
        assert CANARY not in f"{refused.value!r} {runs!r} {runs.label} {caplog.text}"


async def test_a_database_in_another_encoding_is_refused(postgres: Postgres) -> None:
    options = "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    async with postgres.database(options) as name:
        await _refused(PostgresJournal(postgres.url(name)), "expected a database in UTF8, got one in LATIN1")


async def test_a_server_that_is_too_old_is_refused(
    postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MIN_VERSION", 99)
    await _refused(PostgresJournal(postgres.url(database)), r"expected PostgreSQL 99 or later, got \d\d")


async def test_a_database_with_other_defaults_is_no_other(postgres: Postgres, database: str) -> None:
    for setting in ("default_transaction_isolation = 'serializable'", "default_transaction_read_only = on"):
        await postgres.run(f"ALTER DATABASE {database} SET {setting}")
    await postgres.run(f"ALTER DATABASE {database} SET synchronous_commit = off")
    async with opened(PostgresJournal(postgres.url(database))) as store:
        desk = Desk(store)
        run, _ = await desk.begin(make_batch())
        assert await desk.sql("SHOW transaction_isolation") == [("read committed",)]
        assert await desk.sql("SHOW synchronous_commit") == [("on",)]
        await desk.check(run.id)


async def test_a_standby_is_not_written_to_and_is_used_once_it_leads() -> None:
    with running_postgres() as server:
        async with opened(PostgresJournal(server.url())) as store:
            run, _ = await Desk(store).begin(make_batch(10))
        standby = server.copy("standby")
        store = PostgresJournal(standby.url())
        with pytest.raises(ConnectionError, match="is a standby, in which nothing can be written"):
            await store.open()
        journal = Journal(lambda: store)
        server.kill()
        standby.promote()
        await journal.open()
        kept = await journal.run(read_run, run.id)
        assert kept is not None
        assert kept.servers == 10
        await journal.aclose()


async def test_a_journal_without_its_extra_is_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    monkeypatch.delitem(sys.modules, "bms_async.journal.postgres")
    monkeypatch.delitem(sys.modules, "bms_async._postgres")
    with pytest.raises(ConfigurationError, match=r"bms-async\[postgres\]") as refused:
        Runs(f"postgresql://ops:{CANARY}@db.example/bms")
    assert CANARY not in str(refused.value)


async def test_an_address_that_is_none_is_refused_and_not_quoted() -> None:
    for url in (f"redis://u:{CANARY}@host/0", f"postgresql://u:1#{CANARY}@host/db", f"mysql://u:{CANARY}@host/db"):
        with pytest.raises(ConfigurationError) as refused:
            Runs(url)
        assert CANARY not in str(refused.value)


async def test_transactions_at_once_have_connections_of_their_own_and_no_more_than_three(
    postgres: Postgres, shared_database: str
) -> None:
    async with opened(PostgresJournal(shared_database)) as store:
        desk = Desk(store)
        run, _ = await desk.begin(*(make_batch(1) for _ in range(20)))
        await asyncio.gather(*(desk.claim_one() for _ in range(20)))
        await desk.check(run.id)
        connection = await asyncpg.connect(shared_database, ssl=False, password="unused")
        try:
            count = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = 'journal' AND application_name = 'bms_async'"
            )
        finally:
            await connection.close()
    assert 1 <= count <= 3
