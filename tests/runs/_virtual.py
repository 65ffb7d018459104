"""Durable runs on the virtual clock: a cloud, a journal in a file, and any number of clients on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from bms_async import BmsClient, ClientClosedError, Runs
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.support.virtual_clock import run_patiently

T = TypeVar("T")


class Site:
    """A cloud, and clients that share a journal.

    Attributes:
        cloud: The cloud.
    """

    def __init__(self, stack: AsyncExitStack, folder: Path, settings: CloudSettings) -> None:
        self.cloud = SimulatedCloud(settings)
        self._stack = stack
        self._address = f"sqlite://{folder}/runs.db"

    @property
    def ids(self) -> list[str]:
        """The ids of all servers."""
        return self.cloud.ids

    async def client(self, **options: Any) -> BmsClient:
        """Open one more client, as another process would."""
        return await self._stack.enter_async_context(self.cloud.client(runs=Runs(self._address), **options))

    async def worker(self, **options: Any) -> BmsClient:
        """Open one more client, and have it work."""
        client = await self.client(**options)
        await self.works(client)
        return client

    async def works(self, client: BmsClient) -> None:
        """Have a client work."""
        await self._stack.enter_async_context(client.runs.work())

    def calls(self, operation: str) -> int:
        """How many calls of an operation came."""
        counts = self.cloud.cloud.call_counts().operations.get(operation)
        return 0 if counts is None else counts.arrived


def at_a_site(folder: Path, main: Callable[[Site], Awaitable[T]], **settings: Any) -> T:
    """Run something at a site of its own, on the virtual clock.

    Args:
        folder: Where the journal is.
        main: What is run.
        **settings: The cloud's.
    """

    async def run() -> T:
        async with _site(
            folder, CloudSettings(**{"servers": 30, "seed": 5, "job_seconds": (2, 8), **settings})
        ) as site:
            return await main(site)

    return run_patiently(run)


@asynccontextmanager
async def _site(folder: Path, settings: CloudSettings) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(stack, folder, settings)


async def kill(client: BmsClient) -> None:
    """End a client as a process ends that is killed: nothing more is written down, and its requests are cut."""

    async def dead(*_: object, **__: object) -> None:
        raise ClientClosedError("killed")

    async def at_once() -> None:
        return

    runs: Any = client.runs
    runs._runs.journal.run = dead
    for worker in runs._workers.values():
        worker.drain = at_once
    await client.aclose()
