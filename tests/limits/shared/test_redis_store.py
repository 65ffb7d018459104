"""Shared limits in a real Redis or Valkey: what the store does with its one connection, whatever becomes of it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.lowlevel
import pytest
from redis.asyncio.connection import Connection

from bms_async.limits.shared.messages import Answer, Question, Terms
from bms_async.limits.shared.redis import RedisStore
from bms_async.limits.shared.store import Store, StoreError
from tests.limits.shared._servers import Server, find_programs, running
from tests.support.real_clock import run_ahead

ACCOUNT = "prod-eu"
QUESTION = Question(holder="one", seq=1, terms=Terms(), limit=50, interactive=3)
AGAIN = Question(holder="one", seq=2, terms=Terms(), limit=50, ended=((0.0, 2),))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(url)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
async def store(server: Server) -> AsyncIterator[RedisStore]:
    server.command("FLUSHALL")
    async with opened(server.url) as store:
        yield store


async def ask(store: Store, question: Question = QUESTION, *, account: str = ACCOUNT) -> Answer:
    (answer,) = await store.ask(account, [("servers.stop", question)])
    return answer


def connections(server: Server) -> int:
    """How many connections of the store's the server has."""
    return str(server.command("CLIENT", "LIST")).count("name=bms_async ")


async def test_an_account_is_closed_at_first_and_open_once_an_operator_vouches_for_it(store: RedisStore) -> None:
    first = await ask(store)
    assert first.granted == 0
    assert first.closed_for == pytest.approx(135.1, abs=0.01)
    await store.open_account(ACCOUNT)
    second = await ask(store, Question(holder="two", seq=1, terms=Terms(), limit=50, interactive=3))
    assert (second.granted, second.closed_for) == (3, 0.0)


async def test_what_ends_is_counted_by_the_time_of_the_server(server: Server, store: RedisStore) -> None:
    await store.open_account(ACCOUNT)
    answer = await ask(store)
    assert server.command("TIME")[0] - answer.now == pytest.approx(0.0, abs=60.0)
    later = await ask(store, AGAIN)
    assert later.now > answer.now
    usage = await store.read(ACCOUNT)
    assert usage.now > later.now
    ledger = usage.ledgers["servers.stop"]
    ((ended, count),) = ledger.cooldowns
    assert count == 2
    assert ended == pytest.approx(later.now, abs=0.011)
    assert [holder.held for holder in ledger.holders] == [1]


async def test_several_questions_are_dealt_with_in_one_call_and_in_their_order(store: RedisStore) -> None:
    await store.open_account(ACCOUNT)
    answers = await store.ask(ACCOUNT, [("a", QUESTION), ("b", QUESTION), ("a", AGAIN), ("a", QUESTION)])
    assert [(answer.seq, answer.known, answer.granted) for answer in answers] == [
        (1, True, 3),
        (1, True, 3),
        (2, True, 0),
        (1, False, 0),
    ]
    assert {name: len(ledger.holders) for name, ledger in (await store.read(ACCOUNT)).ledgers.items()} == {
        "a": 1,
        "b": 1,
    }


async def test_asking_nothing_changes_nothing(store: RedisStore) -> None:
    assert await store.ask(ACCOUNT, []) == []
    assert (await store.read(ACCOUNT)).account is None


async def test_accounts_have_nothing_to_do_with_each_other(store: RedisStore) -> None:
    await store.open_account("one:a")
    assert (await ask(store, account="one:a")).used == 3
    other = await ask(store, account="one")
    assert (other.used, other.holders, other.closed_for > 0) == (0, 1, True)
    assert (await store.read("none")).account is None


async def test_a_server_that_lost_everything_has_the_account_closed(server: Server, store: RedisStore) -> None:
    await store.open_account(ACCOUNT)
    assert (await ask(store)).granted == 3
    server.command("FLUSHALL")
    after = await ask(store, AGAIN)
    assert (after.known, (await store.read(ACCOUNT)).ledgers["servers.stop"].holders) == (False, [])
    anew = await ask(store, Question(holder="two", seq=1, terms=Terms(), limit=50, interactive=3))
    assert anew.granted == 0
    assert anew.closed_for > 0.0


async def test_a_limit_that_was_lost_alone_closes_the_account(server: Server, store: RedisStore) -> None:
    await store.open_account(ACCOUNT)
    await store.ask(ACCOUNT, [("servers.stop", QUESTION), ("servers.start", QUESTION)])
    server.command("HDEL", f"bms_async:limits:{ACCOUNT}", "limit:servers.stop")
    lost, other = await store.ask(
        ACCOUNT, [("servers.stop", QUESTION), ("servers.start", Question(holder="one", seq=2, terms=Terms(), limit=50))]
    )
    assert lost.granted == 0
    assert lost.closed_for == pytest.approx(135.1, abs=0.01)
    assert (other.used, other.closed_for > 0) == (3, True)


async def test_a_server_that_lost_its_scripts_is_given_the_script_again(server: Server, store: RedisStore) -> None:
    await store.open_account(ACCOUNT)
    server.command("SCRIPT", "FLUSH")
    assert (await ask(store)).granted == 3
    assert connections(server) == 1


async def test_a_connection_that_was_cut_is_not_opened_again_before_open(server: Server, store: RedisStore) -> None:
    await store.open_account(ACCOUNT)
    before = await ask(store)
    server.command("CLIENT", "KILL", "TYPE", "normal")
    for _ in range(2):
        with pytest.raises(ConnectionError, match="redis://127"):
            await ask(store)
    assert connections(server) == 0
    await store.open()
    assert connections(server) == 1
    # The question is repeated as it was, and so is what it was given.
    assert (await ask(store)).granted == before.granted == 3
    assert (await store.read(ACCOUNT)).ledgers["servers.stop"].holders[0].held == 3


async def test_redis_py_would_connect_again_unseen(server: Server) -> None:
    connection = Connection(host="127.0.0.1", port=server.port)
    await connection.connect()  # type: ignore[no-untyped-call]
    await connection.disconnect()
    await connection.send_command("PING")
    assert await connection.read_response() == b"PONG"
    await connection.disconnect()


async def test_even_a_connection_that_came_back_unseen_knows_its_servers_life(valkey: Server) -> None:
    valkey.command("FLUSHALL")
    async with opened(valkey.url) as store:
        await store.open_account(ACCOUNT)
        store._life = "another"
        assert store._connection is not None
        await store._connection.disconnect()
        await store._connection.connect()  # type: ignore[no-untyped-call]
        assert (await ask(store)).granted == 3


@pytest.mark.parametrize("name", find_programs())
async def test_a_server_that_was_started_again_lives_another_life_even_if_it_kept_everything(name: str) -> None:
    with running(find_programs()[name], "--appendonly", "yes", "--appendfsync", "always") as server:
        async with opened(server.url) as store:
            await store.open_account(ACCOUNT)
            assert [answer.granted for answer in await store.ask(ACCOUNT, [("a", QUESTION), ("b", QUESTION)])] == [3, 3]
            server.restart()
            with pytest.raises(ConnectionError):
                await ask(store)
            await store.open()
            assert server.command("EXISTS", f"bms_async:limits:{ACCOUNT}") == 1
            usage = await store.read(ACCOUNT)
            assert (usage.account, usage.ledgers) == (None, {})
            (again,) = await store.ask(ACCOUNT, [("a", AGAIN)])
            assert not again.known
            assert list((await store.read(ACCOUNT)).ledgers) == ["a"]
            assert await closed_for(store) > 0.0


async def test_without_the_life_such_a_server_would_be_trusted(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(find_programs()["valkey"], "--appendonly", "yes", "--appendfsync", "always") as server:
        async with opened(server.url) as store:
            await store.open_account(ACCOUNT)
            await ask(store)
            life = store._life
            server.kill()
            server.start()
            await store.open()
            store._life = life
            assert (await ask(store, AGAIN)).known


async def test_a_server_that_stands_still_is_noticed_and_left_at_once(server: Server, store: RedisStore) -> None:
    await store.open_account(ACCOUNT)
    server.pause()
    try:
        for waiting in (ask(store), store.open()):
            with pytest.raises(TimeoutError, match="expected an answer within 5 s, got none"):
                await passing_quickly(waiting)
    finally:
        server.resume()
    await store.open()
    assert (await ask(store)).granted == 3


@pytest.mark.parametrize("steps", range(1, 6))
async def test_a_question_that_was_cancelled_leaves_no_answer_behind(
    server: Server, store: RedisStore, steps: int
) -> None:
    await store.open_account(ACCOUNT)
    server.pause()
    try:
        asking = asyncio.create_task(ask(store))
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        asking.cancel()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        # At once, and not when the answer would have been late.
        assert asking.cancelled()
    finally:
        server.resume()
    with pytest.raises(ConnectionError):
        await ask(store)
    await store.open()
    assert (await store.ask(ACCOUNT, [("other", QUESTION)]))[0].used == 3
    assert (await ask(store)).granted == 3


async def test_opening_may_be_cancelled_at_any_step_and_leaves_nothing(server: Server) -> None:
    before = str(server.command("CLIENT", "LIST")).count("addr=")
    store, is_cancelled = RedisStore(server.url), True
    step = 0
    while is_cancelled:
        step += 1
        opening = asyncio.create_task(store.open())
        for _ in range(step):
            await anyio.lowlevel.checkpoint()
        opening.cancel()
        (result,) = await asyncio.gather(opening, return_exceptions=True)
        is_cancelled = isinstance(result, asyncio.CancelledError)
        if is_cancelled:
            assert store._connection is None
    assert step > 5
    await store.aclose()
    gc.collect()
    # What was cut off before it had a name is closed by the server as soon as it sees that.
    while str(server.command("CLIENT", "LIST")).count("addr=") > before:
        await anyio.lowlevel.checkpoint()


async def test_closing_leaves_no_connection_and_may_be_done_twice(server: Server, store: RedisStore) -> None:
    await store.aclose()
    await store.aclose()
    assert connections(server) == 0
    with pytest.raises(ConnectionError, match="opened first"):
        await ask(store)


async def test_no_server_is_an_error_that_passes(valkey: Server) -> None:
    with running(find_programs()["valkey"]) as server:
        url = server.url
    with pytest.raises(ConnectionError, match=f"{url}: Error 111|{url}: .*refused"):
        await RedisStore(url).open()


async def test_a_replica_and_a_full_memory_are_errors_that_pass(server: Server, store: RedisStore) -> None:
    for words, back in (
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("CONFIG", "SET", "min-replicas-to-write", "1"), ("CONFIG", "SET", "min-replicas-to-write", "0")),
    ):
        server.command(*words)
        try:
            with pytest.raises(ConnectionError, match="redis://127"):
                await ask(store)
        finally:
            server.command(*back)
        assert connections(server) == 0
        await store.open()
        assert (await ask(store)).known


@pytest.mark.parametrize(
    ("field", "data", "says"),
    [
        ("account", b"\x94\x02\xa4life\x01\x02", "BMSLATER 2; update bms_async here"),
        ("account", b"\xc1", "BMSUNREADABLE account; name another database"),
        ("account", b"\x91\xa1a", "name another database"),
        ("limit:servers.stop", b"", "BMSUNREADABLE limit; name another database"),
    ],
)
async def test_a_state_that_cannot_be_read_is_left_as_it_is(
    server: Server, store: RedisStore, field: str, data: bytes, says: str
) -> None:
    key = f"bms_async:limits:{ACCOUNT}"
    with server.client() as client:
        client.hset(key, field, data)
        with pytest.raises(StoreError, match=says):
            await ask(store)
        await store.open()
        if field == "account":
            with pytest.raises(StoreError, match=r"version|readable"):
                await store.read(ACCOUNT)
        assert client.hgetall(key) == {field.encode(): data}


async def test_a_key_of_somebody_else_is_left_as_it_is(server: Server, store: RedisStore) -> None:
    server.command("SET", f"bms_async:limits:{ACCOUNT}", "theirs")
    with pytest.raises(StoreError, match="something else is kept under the account's key"):
        await ask(store)
    assert server.command("GET", f"bms_async:limits:{ACCOUNT}") == b"theirs"


async def test_databases_have_nothing_to_do_with_each_other(server: Server, store: RedisStore) -> None:
    await store.open_account(ACCOUNT)
    async with opened(f"valkey://127.0.0.1:{server.port}/3") as other:
        assert (await other.read(ACCOUNT)).account is None
        assert other.label == f"valkey://127.0.0.1:{server.port}/3"
    with pytest.raises(StoreError, match="name a database that the server has"):
        await RedisStore(f"redis://127.0.0.1:{server.port}/999").open()


@pytest.mark.parametrize("name", find_programs())
async def test_a_socket_of_the_machine_leads_there_too(name: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with running(find_programs()[name], "--unixsocket", str(path)):
        async with opened(f"unix://{path}") as store:
            assert store.label == f"unix://{path}?db=0"
            await store.open_account(ACCOUNT)
            assert (await ask(store)).granted == 3


async def test_a_server_that_may_drop_the_account_is_warned_of_once(
    server: Server, store: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "bms_async.limits")
    await store.open()
    assert caplog.records == []
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        await store.open()
        await store.open()
    finally:
        server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    (record,) = caplog.records
    assert "choose noeviction or a volatile policy" in record.getMessage()


async def passing_quickly(work: Coroutine[Any, Any, object]) -> None:
    """Wait for what only the loop's clock ends."""
    task = asyncio.create_task(work)
    while not task.done():
        run_ahead(1.0)
        await asyncio.wait([task], timeout=0.01)
    await task


async def closed_for(store: Store) -> float:
    return (await ask(store, Question(holder="new", seq=1, terms=Terms(), limit=50))).closed_for
