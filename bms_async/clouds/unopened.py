"""The run of a cloud that is not there: each of its servers is SKIPPED, with the reason (R2)."""

from __future__ import annotations

from collections.abc import Collection

import anyio

from bms_async.errors import BmsError
from bms_async.fleet.batch import Batch
from bms_async.fleet.options import OnOutcome, RunOptions
from bms_async.fleet.run import FleetRun
from bms_async.fleet.source import IdSource, Servers
from bms_async.fleet.tracker import RunTracker
from bms_async.fleet.walk import ServerSource, Walk


def make_skipping_run(action: str, servers: Servers, error: BmsError, on_outcome: OnOutcome | None) -> FleetRun:
    """Return a run that reads its servers and skips each; the caller has to start it.

    Args:
        action: The requested action.
        servers: The servers.
        error: Why nothing can be sent.
        on_outcome: As for any run; None for none.
    """
    options = RunOptions(on_outcome=on_outcome)

    def make_work(tracker: RunTracker, source: IdSource) -> _SkippingWork:
        return _SkippingWork(tracker, source, Walk(tracker, source, options, _no_reader, str), error)

    return FleetRun(action, servers, make_work, options)


def _no_reader() -> ServerSource:
    raise NotImplementedError("a run without a rollout reads no servers")


class _SkippingWork:
    """Skips all servers of a run.

    Attributes:
        walk: Never asked for anything but the servers.
        extra_calls: None were made.
    """

    extra_calls = 0

    def __init__(self, tracker: RunTracker, source: IdSource, walk: Walk, error: BmsError) -> None:
        self._tracker = tracker
        self._source = source
        self.walk = walk
        tracker.skip_error = error

    async def carry_out(self) -> None:
        """Read the source, and skip what it gives."""
        tracker = self._tracker
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._source.read)
            while not tracker.source_exhausted or tracker.intake.ready:
                await tracker.wake.wait()
                tracker.wake.clear()
                await self.drain()
                self._source.resume()

    def stop(self) -> None:
        """Read no more."""
        self._source.scope.cancel()

    async def drain(self, *, unknown: list[Batch] | None = None) -> None:
        """Skip the servers that were read."""
        if unknown is None:
            await self._tracker.skip_unasked(self.walk.feed.pop_waiting)

    async def read_states(self, batches: Collection[Batch]) -> None:
        """Read nothing: nothing was sent."""

    async def release(self) -> None:
        """Release nothing: no outcome was held back."""
