"""PostgreSQL's answer gets lost: what was committed and what was not are the same for who asks again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import asyncpg  # type: ignore[import-untyped]
import pytest

from bms_async import _postgres as connections
from bms_async.journal import Claim, Journal, NewBatch, Step
from bms_async.journal.postgres import PostgresJournal
from bms_async.journal.statements import Transaction, ask
from tests.journal._desk import Desk, make_batch, make_block
from tests.support.postgres import Postgres, running_postgres
from tests.support.wire import Wire

T = TypeVar("T")

COMMIT = b"COMMIT\0"
"""The whole statement: each transaction begins with READ COMMITTED."""

CHILDREN = [make_batch(5, rank=0), make_batch(5, rank=0)]


class AskingAgain:
    """The journal as a store, which asks again by itself."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.label, self.open, self.aclose = journal.label, journal.open, journal.aclose

    async def run(self, make: Callable[[], Transaction[T]], *, writes: bool = True) -> T:
        return await self._journal.run(make, writes=writes)


@asynccontextmanager
async def asking_again(url: str) -> AsyncIterator[Desk]:
    journal = Journal(lambda: PostgresJournal(url))
    await journal.open()
    try:
        yield Desk(AskingAgain(journal))
    finally:
        await journal.aclose()


@asynccontextmanager
async def behind(wire: Wire, postgres: Postgres, database: str) -> AsyncIterator[Desk]:
    async with wire.to(postgres.port) as port, asking_again(f"postgresql://postgres@127.0.0.1:{port}/{database}") as it:
        yield it


async def _ends(desk: Desk, claim: Claim, children: list[NewBatch]) -> Step:
    return await desk.finish(claim, make_block(failed=10 - 5 * len(children)), *children, splits=len(children))


STEPS: dict[str, Callable[[Desk, Claim], Awaitable[Step]]] = {
    "waiting": lambda desk, claim: desk.mark_waiting(claim),
    "watching": lambda desk, claim: desk.mark_watching(claim),
    "outcomes": lambda desk, claim: desk.add(claim, 1, make_block(succeeded=4)),
    "end": lambda desk, claim: _ends(desk, claim, []),
    "split": lambda desk, claim: _ends(desk, claim, CHILDREN),
}


@pytest.mark.parametrize("arrives", [True, False], ids=["committed", "not committed"])
@pytest.mark.parametrize("name", STEPS)
async def test_a_step_whose_commit_was_not_confirmed_is_written_down_once(
    postgres: Postgres, shared_database: str, name: str, arrives: bool
) -> None:
    wire = Wire()
    async with behind(wire, postgres, "journal") as desk:
        run, _ = await desk.begin(make_batch(10))
        claim = (await desk.claim_one()).claim
        await desk.mark_sending(claim)
        wire.lose_at(COMMIT, arrives=arrives)
        assert await STEPS[name](desk, claim) is Step.MADE
        assert wire.lost == 1
        await desk.check(run.id)
        rows = await desk.everything(run.id)
        assert await STEPS[name](desk, claim) is Step.MADE
        assert await desk.everything(run.id) == rows


@pytest.mark.parametrize("arrives", [True, False], ids=["committed", "not committed"])
async def test_a_run_whose_commit_was_not_confirmed_is_begun_once(
    postgres: Postgres, shared_database: str, arrives: bool
) -> None:
    wire = Wire()
    async with behind(wire, postgres, "journal") as desk:
        wire.lose_at(COMMIT, arrives=arrives)
        run, is_new = await desk.begin(*(make_batch(10) for _ in range(3)))
        assert wire.lost == 1
        assert is_new
        await desk.check(run.id)
        ((count,),) = await desk.sql("SELECT count(*) FROM bms_async_runs")
        assert count == 1


async def test_a_claim_whose_answer_was_lost_is_free_once_its_lease_is_over(
    postgres: Postgres, shared_database: str
) -> None:
    wire = Wire()
    async with behind(wire, postgres, "journal") as desk:
        run, _ = await desk.begin(make_batch(10), make_batch(10))
        wire.lose_at(COMMIT, arrives=True)
        kept = await desk.claim_one()
        assert wire.lost == 1
        assert kept.claim.number == 1
        await desk.renew(kept.claim)
        await desk.sql("UPDATE bms_async_batches SET lease = lease - 16 WHERE run = $1", run.id)
        await desk.renew(kept.claim)
        assert await desk.take_over() == []
        assert (await desk.claim_one()).claim.number == 0


async def test_a_connection_that_is_lost_in_the_middle_of_a_transaction_leaves_nothing_of_it(
    postgres: Postgres, shared_database: str
) -> None:
    wire = Wire()
    async with behind(wire, postgres, "journal") as desk:
        wire.lose_at(b"INSERT INTO bms_async_batches", arrives=True)
        run, _ = await desk.begin(make_batch(10))
        assert wire.lost == 1
        await desk.check(run.id)


async def test_a_server_that_crashes_and_comes_back_is_asked_again_and_has_what_was_committed() -> None:
    with running_postgres() as server:
        async with asking_again(server.url()) as desk:
            run, _ = await desk.begin(make_batch(10))
            kept = await desk.claim_one()
            assert await desk.mark_sending(kept.claim) is Step.MADE
            rows = await desk.everything(run.id)
            server.kill()
            watching = asyncio.ensure_future(desk.mark_watching(kept.claim))
            reading = asyncio.ensure_future(desk.read(run.id))
            await asyncio.to_thread(server.start)
            assert await watching is Step.MADE
            assert (await reading).servers == 10
            assert rows != await desk.everything(run.id)
            await desk.check(run.id)


async def test_a_transaction_whose_process_stands_still_holds_nobody_up(
    shared_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_IDLE_TIMEOUT", 0.1)
    stopped = await asyncpg.connect(shared_database, ssl=False, password="unused")
    try:
        async with asking_again(shared_database) as desk:
            run, _ = await desk.begin(make_batch(10))
            kept = await desk.claim_one()
            await stopped.execute(connections.begin("READ WRITE"))
            await stopped.execute("SELECT 1 FROM bms_async_runs WHERE id = $1 FOR UPDATE", run.id)
            assert await desk.mark_sending(kept.claim) is Step.MADE
    finally:
        await stopped.close()


async def test_a_transaction_in_a_deadlock_is_made_once_more(shared_database: str) -> None:
    async with asking_again(shared_database) as desk:
        first, _ = await desk.begin(make_batch(1), key="0")
        second, _ = await desk.begin(make_batch(1), key="1")
        begun = asyncio.Barrier(2)

        def locks(*runs: str) -> Transaction[int]:
            for run in runs:
                yield from ask("UPDATE bms_async_runs SET submitted = submitted + 1 WHERE id = $1", run)
                yield from ask("SELECT pg_sleep(0.05)")
            return len(runs)

        async def run(*ids: str) -> int:
            await begun.wait()
            return await desk.run(locks, *ids)

        assert sum(await asyncio.gather(run(first.id, second.id), run(second.id, first.id))) == 4
        assert (await desk.read(first.id)).submitted == (await desk.read(second.id)).submitted == 2
