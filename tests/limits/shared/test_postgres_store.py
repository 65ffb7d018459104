"""Limits in a real PostgreSQL: who waits for whom, what a failure loses, and what is said of it."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import anyio
import asyncpg  # type: ignore[import-untyped]
import pytest

from bms_async import ConfigurationError
from bms_async import _postgres as connections
from bms_async.limits.shared import postgres as module
from bms_async.limits.shared.postgres import PostgresStore
from bms_async.limits.shared.store import StoreError
from tests.limits.shared._asking import LIMIT, TERMS, ask, opened
from tests.secrets._search import family
from tests.support.postgres import Postgres, running_postgres
from tests.support.wire import Wire

CANARY = "k4n4ry-pass"


@pytest.fixture
async def role(postgres: Postgres, database: str) -> AsyncIterator[str]:
    """A role that may do nothing but connect."""
    name = f"role_{uuid.uuid4().hex}"
    await postgres.run(f"CREATE ROLE {name} LOGIN PASSWORD '{CANARY}'")
    yield name
    await postgres.run(f"DROP OWNED BY {name}", database=database)
    await postgres.run(f"DROP ROLE {name}")


def _url_at(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


async def test_a_question_whose_commit_was_done_and_its_answer_lost_is_answered_alike_again(postgres: Postgres) -> None:
    account = uuid.uuid4().hex
    wire = Wire()
    async with wire.to(postgres.port) as port, opened(PostgresStore(_url_at(port))) as store:
        await store.open_account(account)
        wire.lose_at(b"; COMMIT", arrives=True)
        with pytest.raises((asyncpg.ConnectionDoesNotExistError, OSError)):
            await ask(store, "h", account=account, interactive=3)
    assert wire.lost == 1
    async with opened(PostgresStore(postgres.url())) as store:
        assert (await ask(store, "other", account=account)).used == 3
        repeated = await ask(store, "h", account=account, interactive=3)
        assert (repeated.granted, repeated.used) == (3, 3)


async def _stop_in_the_middle(store: PostgresStore, account: str) -> None:
    """Do what a store does until it has the lock, and no more, as a process does that is stopped."""
    where = {"account": connections.sql_text(account), "name": connections.sql_text("stop")}
    await store._connected().execute(connections.begin("READ WRITE") + module._LOCK.format(**where))


async def test_a_process_that_is_stopped_while_it_has_the_lock_loses_it(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = uuid.uuid4().hex
    monkeypatch.setattr(connections, "_IDLE_TIMEOUT", 0.1)
    async with opened(PostgresStore(postgres.url())) as stopped, opened(PostgresStore(postgres.url())) as store:
        await store.open_account(account)
        await _stop_in_the_middle(stopped, account)
        assert (await ask(store, "h", account=account, interactive=3)).granted == 3
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
            await stopped._connected().execute("COMMIT")
        await stopped.aclose()
        await stopped.open()
        assert (await ask(stopped, "other", account=account, interactive=3)).used == 6


async def test_without_that_timeout_the_others_wait_in_vain(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = uuid.uuid4().hex
    monkeypatch.setattr(connections, "_IDLE_TIMEOUT", 0)
    monkeypatch.setattr(connections, "_LOCK_TIMEOUT", 0.3)
    async with opened(PostgresStore(postgres.url())) as stopped, opened(PostgresStore(postgres.url())) as store:
        await store.open_account(account)
        await _stop_in_the_middle(stopped, account)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await ask(store, "h", account=account, interactive=3)


async def _ask_from_many_connections(postgres: Postgres) -> int:
    """Return how many slots were granted of a limit of 50."""
    account = uuid.uuid4().hex
    stores = [PostgresStore(postgres.url()) for _ in range(10)]
    try:
        for store in stores:
            await store.open()
        await stores[0].open_account(account)
        await ask(stores[0], "first", account=account)
        answers = await asyncio.gather(
            *(ask(store, f"h{number}", account=account, interactive=10) for number, store in enumerate(stores))
        )
    finally:
        for store in stores:
            await store.aclose()
    return sum(answer.granted for answer in answers)


async def test_without_the_lock_more_is_granted_than_the_limit(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _ask_from_many_connections(postgres) == LIMIT
    monkeypatch.setattr(module, "_LOCK", module._LOCK.replace("FOR UPDATE", ""))
    assert await _ask_from_many_connections(postgres) > LIMIT


async def _errors_of_first_questions_at_once(postgres: Postgres) -> int:
    """Return how many of 20 holders fail, each of which asks for another limit that is new."""
    account = uuid.uuid4().hex
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(PostgresStore(postgres.url()))) for _ in range(20)]
        asking = (ask(store, "h", account=account, limit=f"{number}") for number, store in enumerate(stores))
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
    return sum(isinstance(outcome, ConnectionError) for outcome in outcomes)


async def test_twenty_limits_of_an_account_may_be_new_at_once(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ATTEMPTS", 3)
    assert await _errors_of_first_questions_at_once(postgres) == 0
    monkeypatch.setattr(module, "_LOCK_ACCOUNT", "")
    assert await _errors_of_first_questions_at_once(postgres) > 0


async def test_the_time_is_read_after_the_lock_was_got(postgres: Postgres) -> None:
    account = uuid.uuid4().hex
    async with opened(PostgresStore(postgres.url())) as first, opened(PostgresStore(postgres.url())) as second:
        await first.open_account(account)
        await _stop_in_the_middle(first, account)
        waiting = asyncio.ensure_future(ask(second, "h", account=account))
        await _until_somebody_waits_for_a_lock(postgres)
        released = await first._connected().fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        await first._connected().execute("COMMIT")
        assert (await waiting).now >= released


async def _until_somebody_waits_for_a_lock(postgres: Postgres) -> None:
    connection = await postgres.connect()
    try:
        with anyio.fail_after(30):
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                pass
    finally:
        await connection.close()


async def test_what_was_closed_while_a_question_waited_for_the_lock_is_closed_for_it(postgres: Postgres) -> None:
    account = uuid.uuid4().hex
    async with opened(PostgresStore(postgres.url())) as first, opened(PostgresStore(postgres.url())) as second:
        await first.open_account(account)
        await ask(first, "h", account=account)
        await _stop_in_the_middle(first, account)
        waiting = asyncio.ensure_future(ask(second, "other", account=account, interactive=3))
        await _until_somebody_waits_for_a_lock(postgres)
        async with opened(PostgresStore(postgres.url())) as third:
            await ask(third, "h", account=account, limit="start", jumped=True)
        await first._connected().execute("COMMIT")
        assert (await waiting).granted == 0


async def test_nothing_of_a_transaction_stays_with_the_connection(postgres: Postgres) -> None:
    """So that a pooler may give each transaction another one."""
    account = uuid.uuid4().hex
    settings = ["lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"]
    async with opened(PostgresStore(postgres.url())) as store:
        connection = store._connected()
        before = [await connection.fetchval(f"SHOW {name}") for name in settings]
        await ask(store, "h", account=account)
        await store.read(account)
        await store.open_account(account)
        assert [await connection.fetchval(f"SHOW {name}") for name in settings] == before == ["0"] * 3
        assert await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0
        assert not connection.is_in_transaction()


async def test_a_database_with_another_isolation_by_default_is_no_other(postgres: Postgres, database: str) -> None:
    await postgres.run(f"ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'")
    await postgres.run(f"ALTER DATABASE {database} SET synchronous_commit = off")

    async def asks(holder: str) -> None:
        async with opened(PostgresStore(postgres.url(database))) as store:
            for seq in range(1, 6):
                await ask(store, holder, seq, interactive=3)

    async with opened(PostgresStore(postgres.url(database))) as store:
        await store.open_account("a")
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(asks, f"h{number}")
        await _stop_in_the_middle(store, "a")
        assert await store._connected().fetchval("SHOW synchronous_commit") == "on"


async def test_several_processes_may_make_the_tables_at_once(postgres: Postgres, database: str) -> None:
    async def opens() -> None:
        async with opened(PostgresStore(postgres.url(database))) as store:
            await store.open_account("a")
            assert (await store.read("a")).account is not None

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(opens)


async def test_a_role_that_may_make_no_tables_is_told_the_statements_and_uses_those_of_others(
    postgres: Postgres, database: str, role: str
) -> None:
    url = postgres.url(database, who=f"{role}:{CANARY}")
    with pytest.raises(StoreError, match=r"permission denied .* have their owner run: CREATE TABLE") as refused:
        async with opened(PostgresStore(url)):
            pass
    assert CANARY not in str(refused.value)
    statements = str(refused.value).partition("run: ")[2]
    await postgres.run(statements.replace("the role", role), database=database)
    async with opened(PostgresStore(url)) as store:
        await store.open_account("a")
        assert (await ask(store, "h", interactive=3)).granted == 3
        await postgres.run("REVOKE UPDATE ON bms_async_limits FROM " + role, database=database)
        with pytest.raises(StoreError, match="GRANT SELECT, INSERT, UPDATE"):
            await ask(store, "h", 2)


async def test_a_role_that_may_not_read_the_systems_id_does_without(
    postgres: Postgres, database: str, role: str
) -> None:
    await postgres.run("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC", database=database)
    await postgres.run(f"GRANT CREATE ON SCHEMA public TO {role}", database=database)
    async with opened(PostgresStore(postgres.url(database, who=f"{role}:{CANARY}"))) as store:
        await store.open_account("a")
        assert (await ask(store, "h", interactive=3)).granted == 3
        kept = (await store.read("a")).account
        assert kept is not None
        assert kept.life.startswith("00000001/")
        assert kept.life.count("/") == 1


async def test_a_table_that_was_dropped_is_made_again_when_the_store_is_opened_anew(
    postgres: Postgres, database: str
) -> None:
    async with opened(PostgresStore(postgres.url(database))) as store:
        await store.open_account("a")
        await postgres.run("DROP TABLE bms_async_limits, bms_async_accounts", database=database)
        with pytest.raises(asyncpg.UndefinedTableError):
            await ask(store, "h", interactive=3)
        await store.aclose()
        await store.open()
        assert (await ask(store, "h", interactive=3)).closed_for == pytest.approx(TERMS.closed, abs=0.01)


async def test_a_wrong_password_and_an_unknown_database_are_refused_without_the_password(
    postgres: Postgres, database: str, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"postgresql://u:{CANARY}@127.0.0.1:{closed.getsockname()[1]}/db"
    caplog.set_level(logging.DEBUG)
    for url, cause in (
        (postgres.url(database, who=f"{role}:{CANARY}-wrong"), "password authentication failed"),
        (postgres.url("nowhere", who=f"{role}:{CANARY}"), 'database "nowhere" does not exist'),
        (postgres.url(database, who=f"{role}:{CANARY}") + "?sslmode=whatever", "options that they refuse"),
        (postgres.url(database, who=f"{role}:{CANARY}") + "?whatever=1", "options that they refuse"),
        (nobody, "ConnectionRefusedError"),
        (f"postgresql://u:{CANARY}@/db?host=/nowhere", "db.host=/nowhere: FileNotFoundError"),
    ):
        store = PostgresStore(url)
        with pytest.raises((StoreError, ConnectionError), match=cause) as refused:
            await store.open()
        await store.aclose()
        assert isinstance(refused.value, ConnectionError) is ("Error" in cause)
        assert CANARY not in f"{refused.value!r} {store!r} {store.label} {caplog.text}"
        assert CANARY not in variables_of(refused.value)


def variables_of(error: BaseException) -> str:
    """What an error reporter shows of all frames but those of the test itself."""
    shown, frames = "", [frame for each in family(error) for frame, _ in traceback.walk_tb(each.__traceback__)]
    for frame in frames:
        if frame.f_code.co_filename != __file__:
            shown += repr(frame.f_locals)
    assert frames
    return shown


async def test_asyncpg_itself_shows_the_password(postgres: Postgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError) as refused:
        await asyncpg.connect(postgres.url(who=f"nobody:{CANARY}"))
    assert CANARY in variables_of(refused.value)


async def test_a_role_that_reads_only_by_default_makes_the_tables_and_writes(
    postgres: Postgres, database: str, role: str
) -> None:
    await postgres.run(f"GRANT CREATE ON SCHEMA public TO {role}", database=database)
    await postgres.run(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    async with opened(PostgresStore(postgres.url(database, who=f"{role}:{CANARY}"))) as store:
        await store.open_account("a")
        assert (await ask(store, "h", interactive=3)).granted == 3


async def test_a_name_that_the_database_cannot_store_is_refused(postgres: Postgres) -> None:
    name = f"db_{uuid.uuid4().hex}"
    await postgres.run(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    async with opened(PostgresStore(postgres.url(name))) as store:
        with pytest.raises(StoreError, match="name a database in UTF8, or another account"):
            await ask(store, "h", account="日本")
    await postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(
    "url",
    [
        f"redis://u:{CANARY}@host/0",
        f"postgresql://u:{CANARY}/x@host/db",
        f"postgresql://u:1#{CANARY}@host/db",
        f"postgresql://u:1?{CANARY}@host/db",
        f"postgresql://u:{CANARY}/db",
        f"postgresql://u@host:{CANARY}/db",
        f"postgresql://u:{CANARY}@[::1/db",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encode") as refused:
        PostgresStore(url)
    assert CANARY not in str(refused.value)
    with pytest.raises(ConfigurationError) as refused:
        connections.read_address(url)
    assert CANARY not in variables_of(refused.value)


@pytest.mark.parametrize(
    ("url", "label"),
    [
        (f"postgres://u:{CANARY}@limits.example:5433/db?password={CANARY}", "postgresql://limits.example:5433/db"),
        (f"postgresql://u:{CANARY}@[::1]:5432/db", "postgresql://[::1]:5432/db"),
        (f"postgresql://u:{CANARY}%40x@one:1,two:2/db?target_session_attrs=read-write", "postgresql://one:1,two:2/db"),
        (f"postgresql://u:{CANARY}%40x@/db?host=/run/pg&password={CANARY}", "postgresql:///db?host=/run/pg"),
    ],
)
def test_the_label_has_neither_the_user_nor_the_password(url: str, label: str) -> None:
    store = PostgresStore(url)
    assert store.label == label
    assert repr(store) == f"PostgresStore('{label}')"


async def test_a_server_that_never_answers_is_given_up_and_leaves_nothing_behind(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_CONNECT_TIMEOUT", 0.1)
    monkeypatch.setattr(connections, "_COMMAND_TIMEOUT", 0.3)
    tasks = asyncio.all_tasks()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = PostgresStore(f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/db")
        with pytest.raises(TimeoutError):
            await store.open()
        await store.aclose()
        assert asyncio.all_tasks() == tasks
    async with opened(PostgresStore(postgres.url())) as held, opened(PostgresStore(postgres.url())) as store:
        await _stop_in_the_middle(held, "held")
        with pytest.raises(TimeoutError):
            await ask(store, "h", account="held")
        await store.aclose()
        assert asyncio.all_tasks() == tasks


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


async def test_a_crash_loses_nothing_and_a_promoted_copy_is_closed(
    own_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PostgresStore(own_server.url())
    async with opened(store):
        await store.open_account("a")
        await ask(store, "h", interactive=1)
        copy = await asyncio.to_thread(own_server.copy, "copy")
        assert (await ask(store, "h", 2, interactive=LIMIT - 1)).used == LIMIT
        await asyncio.to_thread(own_server.kill)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await ask(store, "h", 3)

    standby = PostgresStore(copy.url())
    with pytest.raises(ConnectionError, match="is a standby"):
        await standby.open()
    await standby.aclose()

    await asyncio.to_thread(own_server.start)
    async with opened(store):
        answer = await ask(store, "h", 3)
        assert (answer.known, answer.used, answer.closed_for) == (True, LIMIT, 0.0)

    await asyncio.to_thread(copy.promote)
    with monkeypatch.context() as patched:
        # Without the timeline in it.
        patched.setattr(module, "_LIFE", f"'00000001' {module._LIFE.partition('8)')[2]}")
        async with opened(PostgresStore(copy.url())) as blind:
            assert (await ask(blind, "b", interactive=LIMIT)).granted > 0
    async with opened(PostgresStore(copy.url())) as promoted:
        answer = await ask(promoted, "c", interactive=LIMIT)
        assert answer.granted == 0
        assert answer.closed_for == pytest.approx(TERMS.closed, abs=0.01)
