"""A reconciler of a simulated cloud, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from bms_async import Backoff, BmsClient, Hook, PowerChange, Reconciler, Rollout
from bms_async.testing import CloudSettings, SimulatedCloud, advance

RESYNC = 30.0
JOB = 20.0
"""Seconds that the longest job takes."""


class Kept(NamedTuple):
    """A reconciler, its client and its cloud."""

    power: Reconciler
    cloud: SimulatedCloud
    bms: BmsClient

    @property
    def ids(self) -> list[str]:
        return self.cloud.ids

    def arrived(self, *operations: str) -> int:
        return sum(map(self.cloud.arrived, operations))

    @property
    def acted(self) -> int:
        """How many calls have started or stopped servers."""
        return self.arrived("servers.start", "servers.stop")


@asynccontextmanager
async def keeping(
    *,
    resync: float = RESYNC,
    backoff: Backoff = Backoff(60.0, jitter=0.0),  # noqa: B008 - it is frozen
    wave_size: int = 200,
    rollout: Rollout | None = None,
    hooks: Hook | None = None,
    job_seconds: tuple[float, float] = (5.0, JOB),
    **settings: Any,
) -> AsyncIterator[Kept]:
    """Yield an open reconciler; what is no option of it is the cloud's."""
    cloud = SimulatedCloud(CloudSettings(job_seconds=job_seconds, **settings), clock=asyncio.get_running_loop().time)
    async with (
        cloud.client(hooks=hooks) as bms,
        bms.reconciler(resync=resync, backoff=backoff, wave_size=wave_size, rollout=rollout) as power,
    ):
        yield Kept(power, cloud, bms)


async def collect(changes: AsyncIterator[PowerChange], into: list[PowerChange]) -> None:
    async for change in changes:
        into.append(change)  # noqa: PERF401 - what was read counts also where this is cancelled


def kinds(changes: Iterable[PowerChange], server_id: str) -> list[str]:
    """The conditions that a server had, one after another, without those that are equal to the one before."""
    names = [type(change.condition).__name__ for change in changes if change.server_id == server_id]
    return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]


async def wait_until_busy(kept: Kept, server_id: str) -> None:
    """Wait until a job is at work on a server."""
    while kept.cloud.server(server_id).action is None:
        await advance(0.5)
