"""Transactions of the journal, asked for in few words; and what its rows have to say whatever was asked."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar, TypeVarTuple

from bms_async.journal import (
    BatchState,
    Block,
    Claim,
    Counts,
    JournalStore,
    KeptBatch,
    KeptRun,
    NewBatch,
    NewBlock,
    NewPlan,
    NewRun,
    RunStatus,
    Step,
    pack_ids,
)
from bms_async.journal.statements import Row, Statement, Transaction, ask
from bms_async.journal.transactions import claims, plans, runs, steps

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ENDING = ("cancelled", "aborted")
"""The states of a run in which what was never sent is claimed to be skipped, whatever its wave."""

ACTIONS = ("servers.reboot", "servers.stop")


def make_ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def make_batch(servers: int = 10, **fields: float | bytes) -> NewBatch:
    return NewBatch(ids=pack_ids(make_ids(servers)), servers=servers, **fields)  # type: ignore[arg-type]


def make_block(**counts: int) -> NewBlock:
    return NewBlock(counts=Counts(**counts), body=b"%d outcomes" % sum(counts.values()))


def make_plan(servers: int = 10) -> NewPlan:
    return NewPlan(ids=pack_ids(make_ids(servers)), servers=servers, details=b"groups")


class Desk:
    """Asks a store of the journal; all of a desk is in one place, so that desks can share a database."""

    def __init__(self, store: JournalStore, place: str | None = None, owner: str = "") -> None:
        self.store = store
        self.place = place or uuid.uuid4().hex
        self.owner = owner or f"owner of {self.place}"

    def another(self, store: JournalStore | None = None) -> Desk:
        """The desk of another worker in the same place."""
        return Desk(store or self.store, self.place, uuid.uuid4().hex)

    async def run(self, transaction: Callable[[*Ts], Transaction[T]], *args: *Ts, writes: bool = True) -> T:
        return await self.store.run(partial(transaction, *args), writes=writes)

    async def sql(self, sql: str, *values: str | float | None) -> Sequence[Row]:
        """What somebody does by hand."""
        return await self.run(ask, sql, *values)

    async def begin(
        self,
        *batches: NewBatch,
        key: str | None = None,
        run: str | None = None,
        refused: Sequence[NewBlock] = (),
        plan: Sequence[NewPlan] = (),
        wave: int | None = None,
        abort_above: float | None = None,
        abort_sample: int = 1,
        place: str | None = None,
        action: str = "servers.reboot",
    ) -> tuple[KeptRun, bool]:
        new = NewRun(
            id=run or uuid.uuid4().hex,
            place=place or self.place,
            key=key or uuid.uuid4().hex,
            action=action,
            options=b"options",
            digest="digest",
            wave=wave,
            abort_above=abort_above,
            abort_sample=abort_sample,
        )
        return await self.run(runs.begin_run, new, batches, refused, plan)

    async def read(self, run: str) -> KeptRun:
        kept = await self.run(runs.read_run, run, writes=False)
        assert kept is not None
        return kept

    async def claim(self, run: str | None = None) -> list[KeptBatch]:
        return await self.run(claims.claim_waiting, self.place, ACTIONS, self.owner, run)

    async def claim_one(self, run: str | None = None) -> KeptBatch:
        (kept,) = await self.claim(run)
        return kept

    async def take_over(self, run: str | None = None, limit: int = 20) -> list[KeptBatch]:
        return await self.run(claims.take_over, self.place, self.owner, limit, run)

    async def claim_unsendable(self, run: str | None = None) -> list[KeptBatch]:
        return await self.run(claims.claim_unsendable, run, self.place, self.owner, 20)

    async def renew(self, *kept: Claim, unready: Sequence[int] = ()) -> dict[tuple[str, int], tuple[int, RunStatus]]:
        return await self.run(claims.renew, self.owner, kept, unready)

    async def hand_back_one(self, claim: Claim, delay: float = 0.0) -> None:
        await self.run(claims.hand_back_one, claim, delay)

    async def hand_back(self) -> None:
        await self.run(claims.hand_back, self.owner)

    async def set_status(self, run: str, status: RunStatus) -> KeptRun | None:
        return await self.run(runs.set_status, run, status)

    async def mark_sending(self, claim: Claim, *, is_first: bool = True, details: bytes = b"sent") -> Step:
        return await self.run(partial(steps.mark_sending, is_first=is_first), claim, details)

    async def mark_waiting(self, claim: Claim) -> Step:
        return await self.run(steps.mark_waiting, claim, b"refused")

    async def mark_watching(self, claim: Claim, job: str = "job") -> Step:
        return await self.run(steps.mark_watching, claim, job)

    async def claim_plan(self, run: str | None = None) -> KeptBatch | None:
        return await self.run(plans.claim_plan, self.place, self.owner, run)

    async def release(self, claim: Claim, sequence: int, servers: int = 2) -> Step:
        return await self.run(plans.release, claim, sequence, make_batch(servers))

    async def add(self, claim: Claim, sequence: int, block: NewBlock) -> Step:
        return await self.run(steps.add_outcomes, claim, sequence, block)

    async def finish(self, claim: Claim, block: NewBlock, *children: NewBatch, splits: int = 0) -> Step:
        return await self.run(partial(steps.finish, splits=splits), claim, block, children)

    async def merge(self, kept: Sequence[KeptBatch]) -> Step:
        first, *others = kept
        servers = sum(each.servers for each in kept)
        ids = pack_ids(make_ids(servers))
        return await self.run(steps.merge, first.claim, [other.claim for other in others], ids, b"merged", servers)

    async def send(self, run: str | None = None) -> KeptBatch:
        """Claim a batch, and bring it to where its job is watched."""
        kept = await self.claim_one(run)
        assert await self.mark_sending(kept.claim) is Step.MADE
        assert await self.mark_watching(kept.claim) is Step.MADE
        return kept

    async def blocks(self, run: str, since: int = 0) -> list[Block]:
        return await self.run(steps.read_blocks, run, since, 1000, writes=False)

    async def expire(self, claim: Claim) -> None:
        """Let the lease of a batch be over."""
        await self.sql(
            "UPDATE bms_async_batches SET lease = bms_now() - 1 WHERE run = $1 AND number = $2",
            claim.run,
            claim.number,
        )

    async def state(self, claim: Claim) -> tuple[BatchState, str | None, int]:
        """The state, the owner and the fence of a batch."""
        ((state, owner, fence),) = await self.sql(
            "SELECT state, owner, fence FROM bms_async_batches WHERE run = $1 AND number = $2", claim.run, claim.number
        )
        assert isinstance(fence, int)
        return BatchState(str(state)), None if owner is None else str(owner), fence

    async def everything(self, run: str) -> list[tuple[object, ...]]:
        """All rows of a run, to see that nothing was changed."""
        return await self.run(_read_everything, run)

    async def check(self, run: str) -> None:
        """Check that the run's own row says what the rows of its batches and outcomes say."""
        broken = await self.run(find_broken_laws, run)
        assert not broken, broken


def find_broken_laws(run: str) -> Transaction[list[str]]:
    """What of a run contradicts itself."""
    (of_run,) = yield from ask(
        "SELECT servers, open_batches, unsent, in_flight, number, next_batch, "
        "succeeded + unchanged + failed + unknown_count + skipped, wave, status, (ended IS NOT NULL) "
        "FROM bms_async_runs WHERE id = $1",
        run,
    )
    servers, open_batches, unsent, in_flight, number, next_batch, counted, wave, status, has_ended = of_run
    batches = yield from ask(
        "SELECT state, servers, is_counted, owner, number FROM bms_async_batches WHERE run = $1 ORDER BY number", run
    )
    blocks = yield from ask("SELECT number, servers FROM bms_async_outcomes WHERE run = $1 ORDER BY number", run)
    opened = [batch for batch in batches if batch[0] != "done"]
    flying = sum(_int(batch[1]) for batch in opened if batch[2])
    laws = {
        "each server waits, is sent, is watched or has its outcome": servers
        == sum(_int(batch[1]) for batch in batches) + sum(_int(block[1]) for block in blocks),
        "outcomes are counted": counted == sum(_int(block[1]) for block in blocks),
        "blocks are numbered": [block[0] for block in blocks] == list(range(1, _int(number) + 1)),
        "open batches are counted": open_batches == len(opened),
        "waiting batches are counted": unsent == sum(batch[0] == "waiting" for batch in opened),
        "servers in flight are counted": in_flight == flying,
        "no more are in flight than a wave has": wave is None or flying <= _int(wave) or status in ENDING,
        "what is sent has been counted": all(batch[2] for batch in opened if batch[0] not in ("waiting", "planning")),
        "what is sent has an owner": all(
            batch[3] is not None for batch in opened if batch[0] not in ("waiting", "planning")
        ),
        "what is done has none": all(batch[3] is None for batch in batches if batch[0] == "done"),
        "batches are numbered": [batch[4] for batch in batches] == list(range(_int(next_batch))),
        "a run ends with its last batch": bool(has_ended) == (not opened),
    }
    return [law for law, holds in laws.items() if not holds]


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _read_everything(run: str) -> Transaction[list[tuple[object, ...]]]:
    found: list[tuple[object, ...]] = []
    for table, column in (("runs", "id"), ("batches", "run"), ("outcomes", "run")):
        order = "" if table == "runs" else " ORDER BY number"
        rows = yield Statement(f"SELECT * FROM bms_async_{table} WHERE {column} = $1{order}", (run,))
        found += [tuple(row) for row in rows]
    return found


@asynccontextmanager
async def opened(store: JournalStore) -> AsyncIterator[JournalStore]:
    try:
        await store.open()
        yield store
    finally:
        await store.aclose()
