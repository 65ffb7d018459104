"""The workers of durable runs: clients of their own on one journal, which are killed, closed or stand still.

A worker that is killed writes nothing down any more, and its requests are cut, as with a process that is gone. What it
had begun to write may still be written.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio

from bms_async import BmsClient, ClientClosedError, DurableRun, FleetReport, Outcome, Runs
from tests.simulation.scenario import Death, RunFleet, Scenario

_READ_AT_ONCE = 7


class KeptFleet:
    """A durable run with the face of a fleet run, as far as users of a scenario look at it."""

    def __init__(self, run: DurableRun, look: Callable[[], Awaitable[DurableRun]]) -> None:
        self.run = run
        self._look = look
        self.report: FleetReport | None = None

    def __await__(self) -> Any:
        return self._await().__await__()

    async def _await(self) -> FleetReport:
        return await (await self._look())

    def __aiter__(self) -> Any:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Outcome]:
        """Read by a cursor, as one who is interrupted again and again: nothing is missed, and nothing comes twice."""
        run = await self._look()
        cursor: str | None = None
        while True:
            outcomes = run.outcomes(since=cursor)
            count = 0
            async for outcome in outcomes:
                yield outcome
                count += 1
                if count == _READ_AT_ONCE:
                    break
            if count < _READ_AT_ONCE:
                return
            cursor = outcomes.cursor

    async def cancel(self) -> None:
        """Cancel it."""
        await self.run.cancel()


class Worker:
    """One process."""

    def __init__(self, client: BmsClient, runs: Runs) -> None:
        self.client = client
        self.runs = runs
        self.stack = AsyncExitStack()

    async def open(self, *, works: bool) -> None:
        await self.stack.enter_async_context(self.client)
        if works:
            await self.stack.enter_async_context(self.client.runs.work())

    async def close(self) -> None:
        await self.client.aclose()
        await self.stack.aclose()

    async def kill(self) -> None:
        async def nothing(*_: object, **__: object) -> None:
            raise ClientClosedError("killed")

        async def at_once() -> None:
            return

        journal: Any = self.runs.journal
        journal.run = nothing
        for worker in self.client.runs._workers.values():
            worker.drain = at_once  # type: ignore[method-assign]
        await self.close()

    async def stall(self, seconds: float) -> None:
        journal: Any = self.runs.journal
        run = journal.run
        ends = anyio.current_time() + seconds

        async def late(*args: Any, **named: Any) -> Any:
            await anyio.sleep_until(ends)
            return await run(*args, **named)

        journal.run = late
        await anyio.sleep(seconds)
        if journal.run is late:
            journal.run = run


class Workers:
    """All of them, and who only looks."""

    def __init__(self, scenario: Scenario, make: Callable[[Runs], BmsClient]) -> None:
        self._scenario = scenario
        self._make = make
        self._folder = tempfile.TemporaryDirectory(prefix="simulated runs ")
        self._alive: dict[int, Worker] = {}
        self.all: list[Worker] = []
        self.observer = self._new()
        self.troubled: list[tuple[float, float]] = []

    def _new(self) -> Worker:
        runs = Runs(f"sqlite://{self._folder.name}/runs.db")
        worker = Worker(self._make(runs), runs)
        self.all.append(worker)
        return worker

    async def open(self) -> None:
        await self.observer.open(works=False)
        for number in range(self._scenario.workers):
            self._alive[number] = worker = self._new()
            # The first works on what it has begun; with others there, somebody works on all else.
            await worker.open(works=number > 0 or any(_is_detached(deed) for deed in self._scenario.deeds))

    async def die(self, death: Death, now: Callable[[], float]) -> None:
        """Let a worker die, and have another one in its place."""
        await anyio.sleep(death.at)
        worker = self._alive.get(death.worker)
        if worker is None:
            return
        began = now()
        if death.kind == "stalls":
            self.troubled.append((began, began + death.seconds))
            await worker.stall(death.seconds)
            return
        del self._alive[death.worker]
        if death.kind == "killed":
            self.troubled.append((began, began))
            await worker.kill()
        else:
            await worker.close()
        await anyio.sleep(death.seconds)
        if death.worker not in self._alive:
            self._alive[death.worker] = successor = self._new()
            await successor.open(works=True)

    async def begin(self, deed: RunFleet, key: str, ids: Any, options: dict[str, Any]) -> KeptFleet:
        """Begin a durable run."""
        assert deed.durable is not None
        worker = self._alive.get(0)
        beginner = self.observer if worker is None else worker
        start: Any = getattr(beginner.client.runs, deed.action)
        # Whoever is alone and begins nothing more is in the end the successor of one that has died.
        run = await start(ids, key=key, detach=deed.durable.detach or worker is None, **options)

        async def look() -> DurableRun:
            return await self.observer.client.runs.get(key)

        return KeptFleet(run if worker is None else await look(), look)

    @property
    def clients(self) -> list[BmsClient]:
        """The clients of all that there ever were."""
        return [worker.client for worker in self.all]

    async def close(self) -> None:
        """Close all."""
        for worker in self.all:
            await worker.close()
        self._folder.cleanup()


def _is_detached(deed: object) -> bool:
    return isinstance(deed, RunFleet) and deed.durable is not None and deed.durable.detach
