"""Clients that stand for replicas on other machines: each with its own journal open, all on one virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from bms_async import BmsClient, Runs
from bms_async.journal.sqlite import SqliteJournal
from bms_async.testing import SimulatedCloud

WALL = 1_800_000_000.0


def runs_of(path: Path) -> Runs:
    """A journal whose leases and times of day are those of the running loop."""
    loop = asyncio.get_running_loop()
    runs = Runs(f"sqlite://{path}")
    make = partial(SqliteJournal, path, now=loop.time, wall=lambda: WALL + loop.time())
    runs._make = runs.journal._make = make
    return runs


def replica_of(cloud: SimulatedCloud, path: Path, **options: Any) -> BmsClient:
    """A client with a journal, whose own clock is the loop's too."""
    bms = cloud.client(runs=runs_of(path), **options)
    bms.runs._leaders.clock = anyio.current_time
    board = getattr(bms._watcher, "board", None)
    if board is not None:
        board.clock = anyio.current_time
    return bms


@asynccontextmanager
async def replicas(cloud: SimulatedCloud, path: Path, count: int) -> AsyncIterator[list[BmsClient]]:
    """Some of them, open."""
    clients: list[BmsClient] = []
    try:
        for bms in [replica_of(cloud, path) for _ in range(count)]:
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
