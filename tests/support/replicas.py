"""Clients that stand for replicas on other machines: each with its own journal open, all on one virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from bms_async import BmsClient, Runs
from bms_async.testing import SimulatedCloud


@asynccontextmanager
async def replicas(cloud: SimulatedCloud, path: Path, count: int) -> AsyncIterator[list[BmsClient]]:
    """Some of them, open."""
    clients: list[BmsClient] = []
    try:
        for _ in range(count):
            bms = cloud.client(runs=Runs(f"sqlite://{path}"))
            clients.append(bms)
            await bms.__aenter__()
        yield clients
    finally:
        for bms in clients:
            await bms.aclose()


def cut_off(bms: BmsClient) -> None:
    """Have the journal never answer this client again, as if its process stood still as far as others can see."""

    async def never(*_: Any, **__: Any) -> Any:
        await anyio.sleep_forever()

    assert bms.runs._runs is not None
    bms.runs._runs.journal.run = never  # type: ignore[method-assign, assignment]
