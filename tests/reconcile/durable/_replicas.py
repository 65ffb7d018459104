"""Replicas of a reconciler on one journal, on the virtual clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio

from bms_async import BmsClient
from bms_async.reconcile.durable_memory import DurableMemory
from bms_async.reconcile.ports import DesiredRow
from tests.runs._virtual import Site


def wishes(*servers: str, status: str | None = "ACTIVE", attempts: int = 0) -> list[DesiredRow]:
    retry_at, reason = (123.5, "busy") if attempts else (None, None)
    return [
        DesiredRow(server_id=server, status=status, attempts=attempts, retry_at=retry_at, retry_reason=reason)
        for server in servers
    ]


class Reader:
    """What a replica knows by reading the journal.

    Attributes:
        bms: Its client.
        memory: Its memory.
        known: The states by server.
        pages: How many rows each page had.
        revision: That of the last page.
        has_all: Whether all that was there at the beginning has been read.
        changed: Set with each page.
    """

    def __init__(self, bms: BmsClient, name: str = "power") -> None:
        self.bms = bms
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


def asked(site: Site) -> Counter[str]:
    """How often the cloud was asked for each server, by its own books."""
    return Counter(server_id for job in site.cloud.jobs for server_id in job.server_ids)


def hook(bms: BmsClient, at: str, when: str, then: Callable[[], Awaitable[object]]) -> None:
    """Have something happen before or after the journal of a client has run a transaction for the first time.

    Args:
        bms: The client.
        at: The name of the transaction.
        when: ``before`` or ``after``.
        then: What happens; what it raises reaches whoever asked.
    """
    journal: Any = bms.runs._journal
    run = journal.run
    has_happened = False

    async def hooked(transaction: Any, *args: Any, **options: Any) -> Any:
        nonlocal has_happened
        is_due = not has_happened and _name(transaction) == at
        has_happened = has_happened or is_due
        if is_due and when == "before":
            await then()
        result = await run(transaction, *args, **options)
        if is_due and when == "after":
            await then()
        return result

    journal.run = hooked


def cut(bms: BmsClient, *transactions: str) -> None:
    """Have the journal of a client never answer some transactions again."""
    journal: Any = bms.runs._journal
    run = journal.run

    async def never(transaction: Any, *args: Any, **options: Any) -> Any:
        if _name(transaction) in transactions:
            await anyio.sleep_forever()
        return await run(transaction, *args, **options)

    journal.run = never


@contextmanager
def journal_away(bms: BmsClient) -> Iterator[None]:
    """Have the database of a client be away for the length of a block."""
    store: Any = bms.runs._journal._store
    run = store.run

    async def fail(*_: object, **__: object) -> None:
        raise ConnectionError("the database is away")

    store.run = fail
    try:
        yield
    finally:
        store.run = run


def _name(transaction: Any) -> str:
    name: str = getattr(transaction, "func", transaction).__name__
    return name
