"""The work of a power action on a plain OpenStack cloud: one call a server, and one listing that shows how all end.

The engine of ``each`` makes the calls, as many at once as their limit and their latency need. A server that the cloud
has accepted costs neither a task nor a call of its own. Looks at servers share one reading.

Rejected: to wait for each server by `wait_for`: a GET a server every few seconds. And to skip servers that are as asked
before they are called: one more reading of all, and a state that may have changed by then.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import anyio
import anyio.lowlevel

from bms_async.errors import BmsError
from bms_async.fleet.batch import Batch
from bms_async.fleet.call_work import CallWork
from bms_async.fleet.options import RunOptions
from bms_async.fleet.outcome import OutcomeState
from bms_async.fleet.source import IdSource
from bms_async.fleet.tracker import YIELD_EVERY, RunTracker
from bms_async.fleet.walk import Walk
from bms_async.session import Session
from bms_async.wire import Operation

from .ends import NativeEnds
from .listing import Listing
from .looks import Looks
from .watch import NativeWatch


class NativeWork(CallWork):
    """Calls a power action for each server, and follows all of them by one listing.

    Args:
        tracker: The run's.
        source: The source of ids.
        walk: How the fleet is walked through.
        session: Makes the calls.
        listing: Reads states; its calls are the run's extra calls.
        operation: The action.
        options: The run's options.
        max_workers: How many calls may be under way at once.
    """

    def __init__(  # noqa: PLR0917 - what a run is made of
        self,
        tracker: RunTracker,
        source: IdSource,
        walk: Walk,
        session: Session,
        listing: Listing,
        operation: Operation[None],
        options: RunOptions,
        *,
        max_workers: int,
    ) -> None:
        super().__init__(
            tracker,
            source,
            walk,
            self._act,
            options,
            max_workers=max_workers,
            keeps_results=False,
            # What waits for a token or for its next try was never asked for (R2).
            only_calls=True,
        )
        self._listing = listing
        self._watch = NativeWatch(session, lane=options.lane, listing=listing, on_fault=tracker.record_fault)
        self._looks = Looks(listing, tracker.record_fault)
        self._ends: NativeEnds = NativeEnds(tracker, self._scheduler, session, operation, self._watch, self._looks)

    @property
    def extra_calls(self) -> int:
        """How many calls were made only to read states."""
        return self._listing.pages + self._listing.reads

    async def carry_out(self) -> None:
        """Read the source, call the action for each server and follow all of them to their ends."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch.run)
            tasks.start_soon(self._looks.run)
            await super().carry_out()
            tasks.cancel_scope.cancel()

    async def read_states(self, batches: Collection[Batch]) -> None:
        """Read once what has changed, and conclude what that proves of servers that are no longer followed."""
        for index, batch in enumerate(batches, 1):
            if index % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()
            for server_id in batch.remaining:
                if server_id not in self._watch and self._tracker.intake.pending.get(server_id) is not None:
                    self._ends.follow_in_doubt(server_id, partial(self._on_last_reading, server_id, batch))
        await self._watch.read_once()

    async def _act(self, server_id: str) -> None:
        await self._ends.act(server_id)

    def _on_last_reading(self, server_id: str, batch: Batch, state: OutcomeState, error: BmsError | None) -> None:
        if state is not OutcomeState.UNKNOWN:
            self._tracker.conclude(server_id, state, batch=batch, error=error)
