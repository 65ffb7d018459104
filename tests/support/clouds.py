"""A client of a simulated cloud, in one process and on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from bms_async import BmsClient, Limits, Patience, RetryPolicy, Runs
from bms_async.simulator import Cloud
from bms_async.testing import CloudSettings, SimulatedCloud
from bms_async.testing._client import client_of
from bms_async.wire import DEFAULT_RETRY

__all__ = ["Simulated", "client_of", "simulated"]


class Simulated(NamedTuple):
    bms: BmsClient
    cloud: Cloud

    @property
    def ids(self) -> list[str]:
        return list(self.cloud.servers)

    def arrived(self, operation: str) -> int:
        """How many calls of an operation the cloud has counted."""
        book = self.cloud.call_counts().operations.get(operation)
        return book.arrived if book else 0


@asynccontextmanager
async def simulated(
    *,
    limits: Limits | None = None,
    runs: Runs | None = None,
    retry: RetryPolicy | None = DEFAULT_RETRY,
    timeout: float = 60.0,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
    **settings: Any,
) -> AsyncIterator[Simulated]:
    """Yield a client and the cloud that it talks to; both live on the running loop's clock, and show the same time."""
    simulator = SimulatedCloud(CloudSettings(**settings), clock=asyncio.get_running_loop().time)
    client = simulator.client(limits=limits, runs=runs, retry=retry, timeout=timeout, patience=patience)
    async with client as bms:
        yield Simulated(bms, simulator.cloud)
