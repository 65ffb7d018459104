"""Replicas of a reconciler on one journal, on the virtual clock: what they have read, and what they were handed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from bms_async import BmsClient
from bms_async.reconcile.durable import DurableMemory
from bms_async.reconcile.ports import DesiredRow


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
            assert page.revision >= self.revision
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
