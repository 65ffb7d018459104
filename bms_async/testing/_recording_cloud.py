"""A cloud that records its calls, and whose servers a test can change without a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from bms_async.simulator import Cloud, CloudSettings, Server
from bms_async.simulator.core.jobs import BatchJob
from bms_async.simulator.core.servers import Action, PowerAction

__all__ = ["ArrivedCall", "RecordingCloud", "SimulatedJob"]


class ArrivedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that arrived at the cloud.

    Attributes:
        operation: The operation's name, such as ``servers.stop``.
        nth: The number of the call within its operation, from 1.
        at: When it arrived, in seconds of the cloud's clock.
        refused: Whether the cloud's limit refused it with 429; a planned `Throttled` does not count here.
    """

    operation: str
    nth: int
    at: float
    refused: bool


class SimulatedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A power job in the cloud, whether or not its response reached a client.

    Attributes:
        id: Its id.
        action: ``start``, ``stop`` or ``reboot``.
        server_ids: Its servers, in the order of the request.
        accepted: When, in seconds of the cloud's clock.
        status: ``INIT``, ``RUNNING``, ``SUCCESS`` or ``FAIL``.
        failed: How many of its sub-jobs have failed so far.
    """

    id: str
    action: str
    server_ids: tuple[str, ...]
    accepted: float
    status: str
    failed: int


class RecordingCloud(Cloud):
    """A cloud that records its calls and its power jobs."""

    def __init__(self, settings: CloudSettings | None, clock: Callable[[], float]) -> None:
        super().__init__(settings, clock)
        self._calls: list[ArrivedCall] = []
        self._accepted: list[tuple[BatchJob, tuple[str, ...]]] = []

    @property
    def calls(self) -> list[ArrivedCall]:
        """The calls that arrived, in order."""
        return list(self._calls)

    def arrive(self, operation: str) -> tuple[int, float]:
        """Count a call, and record it."""
        nth, wait = super().arrive(operation)
        self._calls.append(ArrivedCall(operation=operation, nth=nth, at=self.now(), refused=wait > 0.0))
        return nth, wait

    def act(self, action: PowerAction, server_ids: Sequence[str]) -> BatchJob:
        """Accept a batch, and record its job."""
        job = super().act(action, server_ids)
        self._accepted.append((job, tuple(server_ids)))
        return job

    def power_jobs(self) -> list[SimulatedJob]:
        """Return the power jobs as of now, in the order of their acceptance."""
        now = self.now()
        for job, _ in self._accepted:
            job.advance(now)
        return [
            SimulatedJob(
                id=job.id,
                action=job.action,
                server_ids=server_ids,
                accepted=job.accepted,
                status=job.status(),
                failed=job.failed,
            )
            for job, server_ids in self._accepted
        ]

    def force_action(self, server: Server, action: Action) -> None:
        """Set a server to its state after an action, without a job; work in progress on it continues."""
        server.advance(self.now())
        kept = server.action, server.task, server.work
        counts = server.starts, server.stops
        server.end(action, self.now(), done=True)
        server.action, server.task, server.work = kept
        server.starts, server.stops = counts
        if action == "start" and server.action is None:
            self.availability.note_back(server.id, self.now())

    def remove(self, server: Server) -> None:
        """Remove a server at once."""
        server.advance(self.now())
        server.end("delete", self.now(), done=True)
        self._inventory.remove(server)
        self.volumes = {volume: owner for volume, owner in self.volumes.items() if owner != server.id}
