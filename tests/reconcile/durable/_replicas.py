"""Replicas of a reconciler on one journal, on the virtual clock: what they have read, and what they do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio

from bms_async import BmsClient, ClientClosedError, LeadershipLostError, Outcome
from bms_async.reconcile.durable_actor import DurableActor
from bms_async.reconcile.durable_memory import DurableMemory
from bms_async.reconcile.ports import DesiredRow, ReconcileAction
from bms_async.runs import DurableOptions
from tests.runs._virtual import Site
from tests.support.virtual_clock import advance


def wishes(*servers: str, status: str | None = "ACTIVE", attempts: int = 0) -> list[DesiredRow]:
    retry_at, reason = (123.5, "busy") if attempts else (None, None)
    return [
        DesiredRow(server_id=server, status=status, attempts=attempts, retry_at=retry_at, retry_reason=reason)
        for server in servers
    ]


class Reader:
    """What a replica knows by reading the journal.

    Attributes:
        memory: Its memory.
        known: The states by server.
        pages: How many rows each page had.
        revision: That of the last page.
        has_all: Whether all that was there at the beginning has been read.
        changed: Set with each page.
    """

    def __init__(self, bms: BmsClient, name: str = "power") -> None:
        self.memory = DurableMemory(bms.runs.led_by(name))
        self.known: dict[str, DesiredRow] = {}
        self.pages: list[int] = []
        self.revision = 0
        self.has_all = False
        self.changed = anyio.Event()

    @property
    def statuses(self) -> dict[str, str | None]:
        return {server: row.status for server, row in self.known.items()}

    async def read(self) -> None:
        async for page in self.memory.changes():
            self.pages.append(len(page.rows))
            self.revision = page.revision
            self.has_all = self.has_all or not page.rows
            for row in page.rows:
                if row.status is None:
                    self.known.pop(row.server_id, None)
                else:
                    self.known[row.server_id] = row
            self.changed.set()
            self.changed = anyio.Event()

    async def wait_for(self, revision: int) -> None:
        while self.revision < revision or not self.has_all:
            await self.changed.wait()

    async def save(self, rows: Sequence[DesiredRow]) -> None:
        await self.wait_for(await self.memory.save(rows))


@asynccontextmanager
async def reading(*readers: Reader) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        for reader in readers:
            tasks.start_soon(reader.read)
        for reader in readers:
            await reader.wait_for(0)
        yield
        tasks.cancel_scope.cancel()


class Leader:
    """A reconciler in its simplest form: it asks each server that it reads as not stopped, and that is not under way.

    Attributes:
        runs: Its runs.
        under_way: The servers that have no outcome yet.
        found: The servers that an earlier leader had sent.
        outcomes: All that came.
        terms: How often it has led.
        is_closed: Whether its client was closed.
    """

    def __init__(self, bms: BmsClient) -> None:
        self._bms = bms
        self.runs = bms.runs.led_by("power")
        self.memory = DurableMemory(self.runs)
        self.actor = DurableActor(self.runs, DurableOptions(retry_transient=False))
        self.under_way: set[str] = set()
        self.found: list[str] = []
        self.outcomes: list[Outcome] = []
        self.terms = 0
        self.is_closed = False

    async def work(self, most_terms: float = math.inf) -> None:
        """Lead whenever it may, until the client is closed."""
        try:
            await self._work(most_terms)
        except* ClientClosedError:
            self.is_closed = True

    async def _work(self, most_terms: float) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read)
            while self.terms < most_terms:
                with suppress(LeadershipLostError):
                    async with self.memory.lead(), self.actor.resume(self._note_found, self._note):
                        self.terms += 1
                        await self._reconcile()
                self.under_way.clear()

    async def _read(self) -> None:
        async for _ in self.memory.changes():
            pass

    async def _reconcile(self) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                before = len(self.outcomes)
                running = [
                    server.id
                    async for server in self._bms.servers.list()
                    if server.status == "ACTIVE" and not server.task_state
                ]
                known = {outcome.server_id for outcome in self.outcomes[before:]} | self.under_way
                if ids := [server_id for server_id in running if server_id not in known]:
                    self.under_way.update(ids)
                    tasks.start_soon(self._act, ids)
                await anyio.sleep(2.0)

    async def _act(self, ids: list[str]) -> None:
        with suppress(LeadershipLostError):
            await self.actor.act("servers.stop", ids, self._note)

    def _note_found(self, action: ReconcileAction, ids: Sequence[str]) -> None:
        self.found += ids
        self.under_way.update(ids)

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.under_way.discard(outcome.server_id)


async def stopped(site: Site, leader: Leader) -> None:
    """Wait until a leader has led, all servers are off, and nothing is under way."""
    while not leader.terms or leader.under_way or len(site.cloud.off) < len(site.ids):
        await advance(0.5)


def asked(site: Site) -> Counter[str]:
    """How often the cloud was asked for each server, by its own books."""
    return Counter(server_id for job in site.cloud.jobs for server_id in job.server_ids)


def hook(leader: Leader, at: str, when: str, then: Any) -> None:
    """Have something happen before or after a leader's journal has run a transaction for the first time.

    Args:
        leader: The leader.
        at: The name of the transaction.
        when: ``before`` or ``after``.
        then: What happens; it is awaited, and what it raises reaches whoever asked.
    """
    journal: Any = leader.runs.journal
    run = journal.run
    has_happened = False

    async def hooked(transaction: Any, *args: Any, **options: Any) -> Any:
        nonlocal has_happened
        is_due = not has_happened and getattr(transaction, "func", transaction).__name__ == at
        has_happened = has_happened or is_due
        if is_due and when == "before":
            await then()
        result = await run(transaction, *args, **options)
        if is_due and when == "after":
            await then()
        return result

    journal.run = hooked
