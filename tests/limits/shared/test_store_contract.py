"""What every store of shared limits does, tried with each of them."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import anyio
import msgspec
import pytest

from bms_async.limits.shared.ledger import count_used
from bms_async.limits.shared.messages import VERSION, Account, Terms
from bms_async.limits.shared.postgres import PostgresStore
from bms_async.limits.shared.sqlite import SqliteStore
from bms_async.limits.shared.store import Store, StoreError, decode_account, encode
from tests.limits.shared._asking import LIMIT, TERMS, ask, opened, question
from tests.limits.shared._memory import MemoryState, MemoryStore
from tests.support.postgres import Postgres

EACH = ["memory", "postgres", "sqlite"]


class Place(Protocol):
    """What several stores keep their limits in together."""

    def store(self) -> Store: ...

    async def get(self, account: str) -> bytes:
        """The bytes that are kept of an account."""
        ...

    async def put(self, account: str, data: bytes) -> None:
        """Change the bytes that are kept of an account."""
        ...

    async def lose(self, account: str, limit: str) -> None:
        """Delete what is kept of a limit, and nothing else."""
        ...


class InMemory:
    def __init__(self) -> None:
        self.state = MemoryState()

    def store(self) -> Store:
        return MemoryStore(self.state)

    async def get(self, account: str) -> bytes:
        return self.state.accounts[account]

    async def put(self, account: str, data: bytes) -> None:
        self.state.accounts[account] = data

    async def lose(self, account: str, limit: str) -> None:
        del self.state.limits[account, limit]


class InSqlite:
    def __init__(self, path: Path) -> None:
        self.path = path

    def store(self) -> Store:
        return SqliteStore(self.path)

    async def get(self, account: str) -> bytes:
        rows = await asyncio.to_thread(self._run, "SELECT state FROM accounts WHERE name = ?", account)
        data: bytes = rows[0][0]
        return data

    async def put(self, account: str, data: bytes) -> None:
        await asyncio.to_thread(self._run, "UPDATE accounts SET state = ? WHERE name = ?", data, account)

    async def lose(self, account: str, limit: str) -> None:
        await asyncio.to_thread(self._run, "DELETE FROM limits WHERE account = ? AND name = ?", account, limit)

    def _run(self, statement: str, *values: object) -> list[tuple[bytes]]:
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()


class InPostgres:
    def __init__(self, server: Postgres) -> None:
        self.server = server

    def store(self) -> Store:
        return PostgresStore(self.server.url())

    async def get(self, account: str) -> bytes:
        connection = await self.server.connect()
        try:
            data: bytes = await connection.fetchval("SELECT state FROM bms_async_accounts WHERE name = $1", account)
            return data
        finally:
            await connection.close()

    async def put(self, account: str, data: bytes) -> None:
        await self._run("UPDATE bms_async_accounts SET state = $2 WHERE name = $1", account, data)

    async def lose(self, account: str, limit: str) -> None:
        await self._run("DELETE FROM bms_async_limits WHERE account = $1 AND name = $2", account, limit)

    async def _run(self, statement: str, *values: object) -> None:
        connection = await self.server.connect()
        try:
            await connection.execute(statement, *values)
        finally:
            await connection.close()


@pytest.fixture(params=EACH)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kinds: dict[str, Callable[[], Place]] = {
        "memory": InMemory,
        "sqlite": lambda: InSqlite(tmp_path / "limits.db"),
        "postgres": lambda: InPostgres(request.getfixturevalue("postgres")),
    }
    return kinds[request.param]()


@pytest.fixture
def account() -> str:
    """An account of this test alone, whose name no store may take for a part of its language."""
    return f"it's \"\\ü {uuid.uuid4().hex} {{x}} %s $1 ; --"


async def test_a_new_account_is_closed_until_an_operator_opens_it(place: Place, account: str) -> None:
    async with opened(place.store()) as store, opened(place.store()) as operator:
        closed = await ask(store, "h", account=account, interactive=3)
        assert (closed.known, closed.granted) == (True, 0)
        assert closed.closed_for == pytest.approx(TERMS.closed, abs=0.01)
        await operator.open_account(account)
        answer = await ask(store, "h", 2, account=account, interactive=3)
        assert (answer.granted, answer.closed_for) == (3, 0.0)


async def test_an_account_may_be_opened_before_its_first_use(place: Place, account: str) -> None:
    async with opened(place.store()) as store:
        await store.open_account(account)
        assert (await ask(store, "h", account=account, interactive=3)).granted == 3


async def test_a_question_that_is_repeated_is_dealt_with_once_and_answered_alike(place: Place, account: str) -> None:
    async with opened(place.store()) as store:
        await store.open_account(account)
        first = await ask(store, "h", account=account, interactive=3)
    async with opened(place.store()) as again:
        repeated = await ask(again, "h", account=account, interactive=3)
    assert (first.granted, repeated.granted, repeated.used) == (3, 3, 3)


async def test_a_question_that_comes_after_a_later_one_changes_nothing(place: Place, account: str) -> None:
    async with opened(place.store()) as store:
        await store.open_account(account)
        await ask(store, "h", account=account, interactive=3)
        await ask(store, "h", 2, account=account)
        late = await ask(store, "h", 1, account=account, interactive=3, unused=3)
        assert not late.known
        assert (await ask(store, "h", 3, account=account)).used == 3


async def test_a_holder_that_is_not_known_any_more_is_sent_away(place: Place, account: str) -> None:
    async with opened(place.store()) as store:
        await store.open_account(account)
        answer = await ask(store, "h", 7, account=account, interactive=3)
    assert (answer.known, answer.granted) == (False, 0)


async def test_accounts_and_limits_do_not_mix(place: Place, account: str) -> None:
    async with opened(place.store()) as store:
        for name in (account, account + "2"):
            await store.open_account(name)
            for limit in ("start", "stop"):
                answer = await ask(store, "h", account=name, limit=limit, interactive=LIMIT)
                assert (answer.granted, answer.used) == (LIMIT, LIMIT)


async def test_a_limit_that_was_lost_alone_closes_the_account(place: Place, account: str) -> None:
    async with opened(place.store()) as store:
        await store.open_account(account)
        for limit in ("start", "stop"):
            assert (await ask(store, "h", account=account, limit=limit, interactive=LIMIT)).granted == LIMIT
        await place.lose(account, "stop")
        assert (await ask(store, "anew", account=account, limit="third")).closed_for == 0.0
        answer = await ask(store, "anew", account=account, interactive=LIMIT)
        assert answer.granted == 0
        assert answer.closed_for == pytest.approx(TERMS.closed, abs=0.01)
        assert (await ask(store, "h", 2, account=account, limit="start")).used == LIMIT


async def test_several_questions_are_answered_in_their_order(place: Place, account: str) -> None:
    async with opened(place.store()) as store:
        await store.open_account(account)
        assert await store.ask(account, []) == []
        limits = ["stop", "start", "it's"]
        answers = await store.ask(
            account, [(name, question("h", interactive=wanted)) for wanted, name in enumerate(limits, start=1)]
        )
        assert [answer.granted for answer in answers] == [1, 2, 3]
        usage = await store.read(account)
        assert {name: count_used(ledger) for name, ledger in usage.ledgers.items()} == {
            "stop": 1,
            "start": 2,
            "it's": 3,
        }


async def test_reading_changes_nothing_and_shows_who_holds_what(place: Place, account: str) -> None:
    async with opened(place.store()) as store, opened(place.store()) as reader:
        unknown = await reader.read(account)
        assert (unknown.account, unknown.ledgers) == (None, {})
        await store.open_account(account)
        answer = await ask(store, "h", account=account, interactive=3)
        before = await place.get(account)
        usage = await reader.read(account)
        assert await place.get(account) == before
        assert usage.account == decode_account(before)
        assert [(holder.id, holder.held) for holder in usage.ledgers["stop"].holders] == [("h", 3)]
        assert answer.now <= usage.now


async def test_askers_on_connections_of_their_own_get_no_more_than_the_limit(place: Place, account: str) -> None:
    granted: list[int] = []

    async def asks(holder: str) -> None:
        async with opened(place.store()) as store:
            granted.extend(
                [(await ask(store, holder, seq, account=account, interactive=10)).granted for seq in range(1, 9)]
            )

    async with opened(place.store()) as store:
        await store.open_account(account)
        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(asks, f"h{number}")
        usage = await store.read(account)
    assert sum(granted) == LIMIT
    assert count_used(usage.ledgers["stop"]) == LIMIT


@pytest.mark.parametrize("is_first", [True, False], ids=["new-account", "other-life"])
async def test_askers_that_find_an_account_of_no_known_past_at_once_agree_on_it(
    place: Place, account: str, is_first: bool
) -> None:
    # So long that no machine has been up for it.
    terms = Terms(lease=1e9)
    if not is_first:
        async with opened(place.store()) as store:
            await ask(store, "h", account=account)
            await place.put(account, encode(Account(VERSION, "another", 0.0, 0.0)))

    async def asks(number: int) -> None:
        async with opened(place.store()) as store:
            answer = await ask(store, "h", account=account, limit=f"limit-{number}", interactive=1, terms=terms)
            assert (answer.known, answer.granted) == (True, 0)

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(asks, number)
    async with opened(place.store()) as store:
        assert len((await store.read(account)).ledgers) == 6


async def test_a_store_that_lives_another_life_closes_the_account_and_forgets_its_limits(
    place: Place, account: str
) -> None:
    terms = Terms(lease=1e9)
    async with opened(place.store()) as store:
        await store.open_account(account)
        await ask(store, "h", account=account, interactive=3)
        kept = decode_account(await place.get(account))
        assert kept is not None
        await place.put(account, encode(Account(VERSION, "another", kept.since, kept.closed_until)))
        usage = await store.read(account)
        assert (usage.account, usage.ledgers) == (None, {})
        assert not (await ask(store, "h", 2, account=account, interactive=3, terms=terms)).known
        answer = await ask(store, "anew", account=account, interactive=3, terms=terms)
    assert (answer.granted, answer.used) == (0, 0)
    assert answer.closed_for > 0


async def test_the_state_of_a_later_version_is_refused_and_left_alone(place: Place, account: str) -> None:
    async with opened(place.store()) as store:
        await store.open_account(account)
        later = msgspec.msgpack.encode([VERSION + 1, "life", 0.0, 0.0, "more"])
        await place.put(account, later)
        for attempt in (ask(store, "h", account=account), store.read(account), store.open_account(account)):
            with pytest.raises(StoreError, match=f"expected version {VERSION} .* got {VERSION + 1}; update"):
                await attempt
        assert await place.get(account) == later


async def test_a_state_that_is_not_readable_is_refused(place: Place, account: str) -> None:
    async with opened(place.store()) as store:
        await store.open_account(account)
        for data in (b"\xc1", b"\x94\x01\xa1\xff\x00\x00", b""):
            await place.put(account, data)
            with pytest.raises(StoreError, match="not readable"):
                await ask(store, "h", account=account)
            await store.aclose()
            await store.open()


async def test_a_store_can_be_closed_twice_and_opened_again(place: Place, account: str) -> None:
    store = place.store()
    await store.aclose()
    with pytest.raises(ConnectionError, match="not open"):
        await ask(store, "h", account=account)
    async with opened(store):
        await store.open_account(account)
    await store.aclose()
    async with opened(store):
        assert (await ask(store, "h", account=account, interactive=1)).granted == 1


async def test_closing_after_a_question_that_was_cancelled_leaves_nothing_behind(place: Place, account: str) -> None:
    threads = threading.active_count()
    tasks = asyncio.all_tasks()
    store = place.store()
    await store.open()
    await store.open_account(account)
    for steps in range(12):
        task = asyncio.get_running_loop().create_task(ask(store, "h", account=account, interactive=3))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await store.aclose()
        assert asyncio.all_tasks() == tasks
        assert threading.active_count() == threads
        await store.open()
    assert (await ask(store, "h", account=account, interactive=3)).used == 3
    await store.aclose()
