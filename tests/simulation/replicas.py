"""Replicas of a reconciler: clients of their own on one journal, which are killed or closed, and have successors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from bms_async import Backoff, BmsClient, ClientClosedError, NotSyncedError, Reconciler, Rollout, Runs
from tests.simulation.wants import Loss, Reconcile
from tests.simulation.workers import Worker

_PATIENCE = 60.0


@dataclass(slots=True)
class Replica:
    """One process, and its reconciler."""

    worker: Worker
    power: Reconciler
    left: anyio.Event


async def written(power: Reconciler) -> None:
    """Wait until what was said to a reconciler is written down, or its process is gone."""
    with suppress(NotSyncedError, ClientClosedError):
        await power.synced([], timeout=_PATIENCE)


class Replicas:
    """All of them.

    Args:
        deed: The reconciler.
        make: Makes a client on a journal.
        on_life: Called with each reconciler that has been opened; says what is desired.

    Attributes:
        saying: Held while something is said: who says two things to two processes cannot know which comes first.
        alive: Those that are there, by number.
        clients: The clients of all that there ever were.
    """

    def __init__(
        self, deed: Reconcile, make: Callable[[Runs], BmsClient], *, on_life: Callable[[Reconciler], None]
    ) -> None:
        self._deed = deed
        self._make = make
        self._on_life = on_life
        self._folder = tempfile.TemporaryDirectory(prefix="simulated replicas ")
        self.alive: dict[int, Replica] = {}
        self.clients: list[BmsClient] = []
        self.saying = anyio.Lock()

    @property
    def any(self) -> Replica | None:
        """One that is there, None if there is none."""
        return next(iter(self.alive.values()), None)

    async def open(self, number: int, tasks: TaskGroup) -> None:
        """Open one of them.

        Args:
            number: Which.
            tasks: Where it lives.
        """
        runs = Runs(f"sqlite://{self._folder.name}/runs.db")
        worker = Worker(self._make(runs), runs)
        self.clients.append(worker.client)
        await worker.open(works=False)
        base, cap = self._deed.backoff
        power = worker.client.reconciler(
            resync=self._deed.resync,
            backoff=Backoff(base, cap),
            wave_size=self._deed.wave_size,
            rollout=None if self._deed.room is None else Rollout(max_unavailable=self._deed.room),
        )
        replica = Replica(worker, power, anyio.Event())
        opened = anyio.Event()
        tasks.start_soon(self._live, replica, opened)
        await opened.wait()
        self.alive[number] = replica
        async with self.saying:
            if not replica.left.is_set():
                self._on_life(power)
                await written(power)

    async def _live(self, replica: Replica, opened: anyio.Event) -> None:
        try:
            async with replica.power:
                opened.set()
                await replica.left.wait()
        except ClientClosedError:
            return
        finally:
            opened.set()

    async def lose(self, loss: Loss, tasks: TaskGroup) -> None:
        """Lose one of them, and have another one in its place after a while."""
        replica = self.alive.get(loss.replica)
        if replica is None:
            return
        if loss.kind == "stalls":
            await replica.worker.stall(loss.seconds)
            return
        del self.alive[loss.replica]
        if loss.kind == "killed":
            await replica.worker.kill()
            replica.left.set()
        else:
            replica.left.set()
            await replica.worker.close()
        await anyio.sleep(loss.seconds)
        await self.open(loss.replica, tasks)

    async def close(self) -> None:
        """Close all."""
        for replica in self.alive.values():
            replica.left.set()
            await replica.worker.close()
        self._folder.cleanup()
