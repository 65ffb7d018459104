"""The journal alone, as workers and readers use it: every step of a batch, without the cloud's part."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from benchmarks._durable_process import Done, Plan, Work
from bms_async import Outcome, OutcomeState
from bms_async.fleet.outcome import make_outcome
from bms_async.fleet.packed import unpack_batch
from bms_async.journal import Claim, Journal, KeptBatch, NewBatch, NewRun, pack_ids, unpack_ids
from bms_async.journal.stores import find_journal
from bms_async.journal.transactions.claims import claim_waiting, renew, take_over
from bms_async.journal.transactions.runs import begin_run, find_run
from bms_async.runs.batch_log import JournalLog
from bms_async.runs.options import CheckedOptions
from bms_async.runs.run import DurableRun
from bms_async.runs.skipping import skip_unsendable

PLACE = "https://bms.example.com|bbf1946d374b44a0a2a95533562ba954"
STOP, OTHERS = "servers.stop", ("servers.start", "servers.reboot")
SECONDS = 1200
"""What 1000 batches take at the documented limit."""

HELD = 80
"""Batches that a worker holds at a time, if a job takes some 100 s."""

KEY = "benchmark"


def random_ids(count: int) -> list[str]:
    """Return random UUIDs."""
    drawn = secrets.token_bytes(16 * count)
    return [str(UUID(bytes=drawn[at : at + 16], version=4)) for at in range(0, len(drawn), 16)]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Journal]:
    """Open a journal."""
    journal = Journal(find_journal("store", url))
    await journal.open()
    try:
        yield journal
    finally:
        await journal.aclose()


async def write_run(journal: Journal, plan: Plan, *, key: str = KEY, place: str = PLACE) -> None:
    """Write a run down with all of its batches, of whatever size they are."""
    await write_batches(journal, plan, [random_ids(plan.servers) for _ in range(plan.batches)], key=key, place=place)


async def write_batches(
    journal: Journal, plan: Plan, chunks: Sequence[list[str]], *, key: str = KEY, place: str = PLACE
) -> None:
    """Write a run down with these batches."""
    batches = [NewBatch(ids=pack_ids(chunk), servers=plan.servers) for chunk in chunks]
    options = CheckedOptions().kept().encode()
    run = NewRun(id=secrets.token_hex(16), place=place, key=key, action=STOP, options=options, digest=key)
    await journal.run(begin_run, run, batches, [])


async def claim(journal: Journal, owner: str, place: str = PLACE) -> KeptBatch | None:
    """Claim a batch, as a worker does for its next call."""
    found = await journal.run(claim_waiting, place, [STOP], owner, None)
    return found[0] if found else None


async def begin_batch(journal: Journal, kept: KeptBatch) -> JournalLog:
    """Note that a batch is sent, and then its job."""
    batch = unpack_batch(unpack_ids(kept.ids), kept.details)
    log = JournalLog(journal, kept.claim, kept.sequence)
    await log.sending(batch)
    await log.watching(batch, cast("Any", SimpleNamespace(id=secrets.token_hex(16))))
    return log


def outcomes_of(ids: list[str]) -> list[Outcome]:
    """Return outcomes as a job's end makes them."""
    now, job = datetime.now(UTC), secrets.token_hex(16)
    return [
        make_outcome(
            server_id,
            OutcomeState.SUCCEEDED,
            job_id=job,
            sub_job_id=secrets.token_hex(16),
            attempts=1,
            started=now,
            ended=now,
        )
        for server_id in ids
    ]


async def _hold(journal: Journal, owner: str, count: int) -> list[Claim]:
    """Claim so many batches, and bring them to where their jobs are watched."""
    held: list[Claim] = []
    for _ in range(count):
        kept = await claim(journal, owner)
        assert kept is not None
        await begin_batch(journal, kept)
        held.append(kept.claim)
    return held


@asynccontextmanager
async def contender(plan: Plan) -> AsyncIterator[Work]:
    """Do one part of what a worker or a reader does with the journal."""
    async with opened(plan.url) as journal:
        owner, ids, held = secrets.token_hex(8), random_ids(plan.servers), list[Claim]()
        outcomes = outcomes_of(ids)

        async def steps(done: Done) -> None:
            """Carry batches on to their end, one after another, until none is left."""
            while (kept := await claim(journal, owner)) is not None:
                log = await begin_batch(journal, kept)
                await log.finish(outcomes, (), 0)
                done.count += 1

        async def whole(done: Done) -> None:
            """Write batches down, and carry them on to their end."""
            await write_batches(journal, plan, [ids] * plan.batches)
            await steps(done)

        async def looking(done: Done) -> None:
            """Do what a worker does meanwhile, whose batches wait for slots and jobs."""
            for second in range(plan.batches * SECONDS // 1000):
                assert not await journal.run(claim_waiting, PLACE, OTHERS, owner, None)
                if second % 2 == 0:
                    assert not await journal.run(take_over, PLACE, owner, 20, None)
                    await skip_unsendable(journal, owner, run=None, place=PLACE)
                if second % 5 == 0:
                    await journal.run(renew, owner, held)
                done.count += 1

        async def reading(done: Done) -> None:
            """Read what is new after each step, in vain but for the last; then all outcomes."""
            kept = await journal.run(find_run, PLACE, KEY, writes=False)
            assert kept is not None
            run = DurableRun(journal, kept)
            for _ in range(3 * plan.batches):
                assert not await run.read_blocks(kept.number)
            async for _ in run:
                done.count += 1

        if plan.name == "looking":
            held += await _hold(journal, owner, min(HELD, plan.batches - 1))
        yield {"steps": steps, "whole": whole, "looking": looking, "reading": reading}[plan.name]
