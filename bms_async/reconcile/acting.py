"""Acting and remembering in this process alone: fleet runs, and a memory that ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from bms_async.fleet import Fleet
from bms_async.fleet.outcome import Outcome
from bms_async.fleet.rollout.rollout import Rollout

from .ports import DesiredPage, DesiredRow, ReconcileAction

_MAX_PAGES = 4
"""How many pages of wishes wait to be read; more wait to be written."""


class ProcessActor:
    """Acts by fleet runs of this client, which end with it.

    Args:
        fleet: Begins the runs.
        rollout: How each run walks through its servers; None for all at once.
    """

    def __init__(self, fleet: Fleet, rollout: Rollout | None = None) -> None:
        self._fleet = fleet
        self._rollout = rollout

    async def act(self, action: ReconcileAction, ids: Sequence[str], on_outcome: Callable[[Outcome], None]) -> None:
        """Ask servers, and return once each has its outcome; a run that is left sends nothing more."""
        begin = self._fleet.start if action == "servers.start" else self._fleet.stop
        # A server that is busy is tried again after a reading, by what is desired then.
        async with begin(tuple(ids), retry_transient=False, rollout=self._rollout) as run:
            async for outcome in run:
                on_outcome(outcome)

    @asynccontextmanager
    async def resume(
        self,
        on_begin: Callable[[ReconcileAction, Sequence[str]], None],  # noqa: ARG002 - nothing outlives a process
        on_outcome: Callable[[Outcome], None],  # noqa: ARG002
    ) -> AsyncIterator[None]:
        """Follow nothing: there is no earlier leader."""
        yield


class ProcessMemory:
    """Hands desired states on, and keeps none."""

    def __init__(self) -> None:
        self._pages: asyncio.Queue[DesiredPage] = asyncio.Queue(_MAX_PAGES)
        self._revision = 0

    @property
    def is_durable(self) -> bool:
        """Whether anything outlives the process: no."""
        return False

    async def save(self, rows: Sequence[DesiredRow]) -> int:
        """Hand desired states on, and return their revision."""
        self._revision += 1
        await self._pages.put(DesiredPage(rows=rows, revision=self._revision))
        return self._revision

    async def save_attempts(self, rows: Sequence[DesiredRow]) -> None:
        """Keep nothing: there is no next leader."""

    async def changes(self) -> AsyncGenerator[DesiredPage]:
        """Yield what is handed on."""
        yield DesiredPage(rows=(), revision=0)
        while True:
            yield await self._pages.get()

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[None]:
        """Lead at once, and for good."""
        yield
