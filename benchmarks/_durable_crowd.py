"""Many workers on one journal: as fast as they can, and at the rate of real ones."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from benchmarks._durable_journal import OTHERS, PLACE, begin_batch, claim, opened, outcomes_of, random_ids
from benchmarks._durable_process import Done, Plan, Work
from bms_async.journal import Claim, Journal, NewBatch, NewRun, pack_ids
from bms_async.journal.statements import Transaction
from bms_async.journal.transactions.claims import claim_waiting, renew, take_over
from bms_async.journal.transactions.runs import begin_run
from bms_async.runs.batch_log import JournalLog
from bms_async.runs.options import CheckedOptions
from bms_async.runs.skipping import skip_unsendable

CALL_EVERY = 60 / 50
"""Seconds between two calls of a project at the documented limit."""

JOB = 20.0
_WRITTEN_AT_ONCE = 100


def place_of(number: int) -> str:
    """Return the name of a place."""
    return f"{PLACE}{number}"


async def write_runs(url: str, *, runs: int, batches: int, servers: int, places: int = 1) -> None:
    """Write many runs down, in turn for each place."""
    ids = random_ids(servers)
    batch, options = NewBatch(ids=pack_ids(ids), servers=servers), CheckedOptions().kept().encode()

    def some(numbers: range) -> Transaction[None]:
        for number in numbers:
            run = NewRun(
                id=secrets.token_hex(16),
                place=place_of(number % places),
                key=f"run-{number}",
                action="servers.stop",
                options=options,
                digest="",
            )
            yield from begin_run(run, [batch] * batches, [])

    async with opened(url) as journal:
        for start in range(0, runs, _WRITTEN_AT_ONCE):
            await journal.run(some, range(start, min(runs, start + _WRITTEN_AT_ONCE)))


@asynccontextmanager
async def contender(plan: Plan) -> AsyncIterator[Work]:
    """Claim as fast as it goes, or be many workers."""
    async with opened(plan.url) as journal:

        async def claims(done: Done) -> None:
            """Claim one batch after another."""
            owner, ends_at = secrets.token_hex(8), time.perf_counter() + plan.seconds
            while (began := time.perf_counter()) < ends_at:
                if await claim(journal, owner, place_of(0)) is not None:
                    done.count += 1
                    done.taken.append(time.perf_counter() - began)

        async def crowd(done: Done) -> None:
            """Be workers at the rate of real ones; count their transactions."""
            first, places, workers = (int(word) for word in plan.name.split()[1:])
            # The workers of a project share its limit.
            every = CALL_EVERY * workers / places
            with suppress(TimeoutError):
                async with asyncio.timeout(plan.seconds), asyncio.TaskGroup() as tasks:
                    for number in range(first, first + plan.workers):
                        tasks.create_task(_Worker(journal, place_of(number % places), every, done).work())

        yield claims if plan.name == "claims" else crowd


class _Worker:
    """One that makes the transactions of a real worker, at its rate."""

    def __init__(self, journal: Journal, place: str, every: float, done: Done) -> None:
        self._journal = journal
        self._place = place
        self._every = every
        self._done = done
        self._owner = secrets.token_hex(8)
        self._held: dict[tuple[str, int], Claim] = {}

    async def work(self) -> None:
        """Work until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for every, act in ((1.0, self._look), (2.0, self._look_after), (5.0, self._renew)):
                tasks.create_task(_repeat(every, act))

            async def carry_on() -> None:
                began = time.perf_counter()
                kept = await claim(self._journal, self._owner, self._place)
                self._done.count += 1
                if kept is not None:
                    self._done.taken.append(time.perf_counter() - began)
                    self._held[kept.claim.run, kept.claim.number] = kept.claim
                    log = await begin_batch(self._journal, kept)
                    self._done.count += 2
                    tasks.create_task(end(kept.claim, log))

            async def end(claim: Claim, log: JournalLog) -> None:
                await asyncio.sleep(JOB)
                await log.finish(outcomes_of(random_ids(2)), (), 0)
                del self._held[claim.run, claim.number]
                self._done.count += 1

            tasks.create_task(_repeat(self._every, carry_on))

    async def _look(self) -> None:
        await self._journal.run(claim_waiting, self._place, OTHERS, self._owner, None)
        self._done.count += 1

    async def _look_after(self) -> None:
        await self._journal.run(take_over, self._place, self._owner, 20, None)
        await skip_unsendable(self._journal, self._owner, run=None, place=self._place)
        self._done.count += 2

    async def _renew(self) -> None:
        await self._journal.run(renew, self._owner, list(self._held.values()))
        self._done.count += 1


async def _repeat(every: float, act: Callable[[], Awaitable[None]]) -> None:
    """Act again and again, at other moments than the others do, and not more often where that takes long."""
    await asyncio.sleep(every * secrets.randbelow(1000) / 1000)
    while True:
        began = time.perf_counter()
        await act()
        await asyncio.sleep(max(0.0, every - (time.perf_counter() - began)))
