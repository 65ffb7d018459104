"""What each guard of the journal's statements is for: without it, what it guards against comes about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import asyncpg  # type: ignore[import-untyped]

from bms_async.journal import BatchState, JournalStore, KeptBatch, Step
from bms_async.journal.postgres import PostgresJournal, _translate
from bms_async.journal.statements import SKIP_LOCKED, Row, Statement, Transaction
from bms_async.journal.transactions import steps
from tests.journal._desk import Desk, make_batch, make_block, opened

T = TypeVar("T")


class Mutated:
    """A store that runs other statements than it is given."""

    def __init__(self, store: JournalStore, change: Callable[[str], str]) -> None:
        self._store, self._change = store, change
        self.label, self.open, self.aclose = store.label, store.open, store.aclose

    async def run(self, make: Callable[[], Transaction[T]], *, writes: bool = True) -> T:
        return await self._store.run(lambda: self.mutate(make()), writes=writes)

    def mutate(self, transaction: Transaction[T]) -> Generator[Statement, Sequence[Row], T]:
        rows: Sequence[Row] | None = None
        try:
            while True:
                statement = transaction.send(rows) if rows is not None else next(transaction)
                rows = yield statement._replace(sql=self._change(statement.sql))
        except StopIteration as end:
            result: T = end.value
            return result


def instead(old: str, new: str) -> Callable[[str], str]:
    return lambda sql: sql.replace(old, new)


MINE = "owner = $3 AND fence = $4"


async def _work_under_an_old_fence(desk: Desk) -> Step:
    """A worker takes its own batch over, and still has a task with the claim from before."""
    await desk.begin(make_batch(10))
    old = (await desk.send()).claim
    await desk.expire(old)
    (new,) = await desk.take_over()
    assert (new.claim.owner, new.claim.fence) == (old.owner, old.fence + 1)
    return await desk.finish(old, make_block(unknown=10))


async def test_without_the_fence_a_worker_works_against_itself(desk: Desk) -> None:
    assert await _work_under_an_old_fence(desk) is Step.LOST
    mutant = Mutated(desk.store, instead(MINE, "owner = $3 AND CAST($4 AS bigint) > 0"))
    assert await _work_under_an_old_fence(Desk(mutant)) is Step.MADE


async def _send_what_another_has(desk: Desk) -> tuple[Step, BatchState]:
    """Whoever stood still for longer than its lease marks a batch that another one is about to send."""
    await desk.begin(make_batch(10))
    kept = await desk.claim_one()
    await desk.expire(kept.claim)
    other = desk.another()
    await other.take_over()
    await other.claim_one()
    step = await desk.mark_sending(kept.claim)
    return step, (await desk.state(kept.claim))[0]


async def test_without_owner_and_fence_two_workers_send_a_batch(desk: Desk) -> None:
    assert await _send_what_another_has(desk) == (Step.LOST, BatchState.WAITING)
    mutant = Mutated(desk.store, instead(MINE, "CAST($3 AS text) <> '' AND CAST($4 AS bigint) > 0"))
    assert await _send_what_another_has(Desk(mutant)) == (Step.MADE, BatchState.SENDING)


@asynccontextmanager
async def _at_once(url: str, old: str, new: str) -> AsyncIterator[list[Desk]]:
    """Eight workers, each at a connection of its own, whose statements are changed."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(PostgresJournal(url))) for _ in range(8)]
        desk = Desk(stores[0])
        yield [desk.another(Mutated(store, instead(old, new))) for store in stores]


async def _claim_at_once(desks: list[Desk]) -> list[KeptBatch]:
    return [kept for each in await asyncio.gather(*(desk.claim() for desk in desks)) for kept in each]


WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted"


async def _claimed_beside_another(url: str, new: str) -> tuple[bool, int]:
    """Whether a claim waits for another worker that is claiming the first batch, and the batch that it gets."""
    connection = await asyncpg.connect(url, ssl=False, password="unused")
    try:
        async with opened(PostgresJournal(url)) as store:
            desk = Desk(Mutated(store, instead(SKIP_LOCKED, new)))
            run, _ = await desk.begin(make_batch(1), make_batch(1))
            await connection.execute("BEGIN")
            claims = "UPDATE bms_async_batches SET owner = 'another', fence = 1 WHERE run = $1 AND number = 0"
            await connection.execute(claims, run.id)
            claiming = asyncio.ensure_future(desk.claim_one())
            waits = False
            while not claiming.done() and not waits:
                waits = await connection.fetchval(WAITS) > 0
            await connection.execute("COMMIT")
            return waits, (await claiming).claim.number
    finally:
        await connection.close()


async def test_without_passing_over_locked_rows_claimers_wait_for_each_other(shared_database: str) -> None:
    assert await _claimed_beside_another(shared_database, SKIP_LOCKED) == (False, 1)
    assert await _claimed_beside_another(shared_database, "FOR UPDATE OF b") == (True, 1)


async def test_without_locked_rows_a_claimer_takes_the_batch_of_another(shared_database: str) -> None:
    assert await _claimed_beside_another(shared_database, "") == (True, 0)


WAVE = "(wave IS NULL OR $2 = 0 OR in_flight + $2 <= wave)"


async def _most_in_flight(url: str, new: str, rounds: int) -> int:
    """How many servers of a wave of 10 were in flight, after so many rounds of claims, or once that was too many."""
    most = 0
    async with _at_once(url, WAVE, new) as desks:
        while most <= 10 and (rounds := rounds - 1) >= 0:
            run, _ = await desks[0].begin(*(make_batch(10) for _ in range(8)), wave=10)
            found = await _claim_at_once(desks)
            most = max(most, (await desks[0].read(run.id)).in_flight)
            assert len(found) == (await desks[0].read(run.id)).in_flight / 10
            await desks[0].sql("UPDATE bms_async_runs SET status = 'paused' WHERE id = $1", run.id)
    return most


async def test_a_wave_that_is_counted_before_the_row_is_locked_is_exceeded(shared_database: str) -> None:
    assert await _most_in_flight(shared_database, WAVE, 4) == 10
    assert await _most_in_flight(shared_database, "CAST($2 AS bigint) >= 0", 100) > 10


async def _half(connection: asyncpg.Connection, transaction: Transaction[Step]) -> None:
    """Do all of a transaction but its commit."""
    await connection.execute("BEGIN")
    rows: Sequence[Row] | None = None
    while True:
        try:
            statement = transaction.send(rows) if rows is not None else next(transaction)
        except StopIteration:
            return
        rows = await connection.fetch(_translate(statement.sql), *statement.values)


async def _seen_in_order(url: str, change: Callable[[str], str]) -> list[int]:
    """The numbers of blocks in the order in which a reader sees them, one of whose writers is slow to commit."""
    connection = await asyncpg.connect(url, ssl=False, password="unused")
    try:
        async with opened(PostgresJournal(url)) as store:
            mutant = Mutated(store, change)
            desk = Desk(mutant)
            run, _ = await desk.begin(make_batch(1), make_batch(1))
            slow, quick = await desk.send(), await desk.send()
            await _half(connection, mutant.mutate(steps.add_outcomes(slow.claim, 1, make_block(succeeded=1))))
            adding = asyncio.ensure_future(desk.add(quick.claim, 1, make_block(succeeded=1)))
            while not adding.done() and not await connection.fetchval(WAITS):
                pass
            seen = [block.number for block in await desk.blocks(run.id)]
            await connection.execute("COMMIT")
            assert await adding is Step.MADE
            return seen + [block.number for block in await desk.blocks(run.id, seen[-1] if seen else 0)]
    finally:
        await connection.close()


def _from_a_sequence(sql: str) -> str:
    if not sql.startswith("UPDATE bms_async_runs SET succeeded"):
        return sql
    unused = " + ".join(f"CAST(${number} AS bigint)" for number in range(2, 13))
    return (
        "SELECT nextval('bms_async_numbers'), abort_above, abort_sample, 0::bigint, 0::bigint, 0::bigint "
        f"FROM bms_async_runs WHERE id = $1 AND {unused} >= 0"
    )


async def test_a_number_from_a_sequence_lets_a_reader_pass_over_a_block(shared_database: str) -> None:
    assert await _seen_in_order(shared_database, lambda sql: sql) == [1, 2]
    async with opened(PostgresJournal(shared_database)) as store:
        await Desk(store).sql("CREATE SEQUENCE bms_async_numbers")
    assert await _seen_in_order(shared_database, _from_a_sequence) == [2]
