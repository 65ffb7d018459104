"""The work of a power action on a plain OpenStack cloud: one call a server, and one listing that shows how all end.

What it guarantees: a reboot is called again only if the cloud has surely refused it (R3), and every outcome rests on
what the cloud answered or on what a state, read afterwards, proves (R2).

How: the engine of ``each`` makes the calls, as many at once as their limit and their latency need. A server that the
cloud has accepted is followed by the run's `NativeWatch`, and costs neither a task nor a call of its own. A refusal
that does not say why is settled by a look at the server, and looks share one reading. Where the answer of a start or a
stop was lost the server is looked at, and called again if nothing has happened; a reboot is followed in doubt, and
UNKNOWN unless it is seen under way.

Rejected: to wait for each server by `wait_for`: a GET a server every few seconds. And to skip servers that are as asked
before they are called: one more reading of all, and a state that may have changed by then.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Final

import anyio
import anyio.lowlevel

from bms_async.api.nova.server_operations import ACTION_BODIES, REBOOT
from bms_async.errors import BmsError, CallError, ConflictError, NotFoundError
from bms_async.fleet.batch import Batch
from bms_async.fleet.call_probe import CallProbe
from bms_async.fleet.call_work import CallWork
from bms_async.fleet.options import RunOptions
from bms_async.fleet.outcome import OutcomeState
from bms_async.fleet.source import IdSource
from bms_async.fleet.tracker import YIELD_EVERY, RunTracker
from bms_async.fleet.walk import Walk
from bms_async.session import Session
from bms_async.wire import Operation

from .followed import OnEnd
from .listing import Listing, is_of_gateway
from .looks import Looks
from .refusal import Next, judge_state, says_busy, says_locked
from .verdict import NativeState, Sight, vanished
from .watch import NativeWatch

_MAX_LOST: Final = 2
"""How often a start or a stop whose answer was lost is called again."""


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
            follow=self._follow_accepted,
        )
        self._session = session
        self._operation = operation
        self._listing = listing
        self._watch = NativeWatch(session, lane=options.lane, listing=listing, on_fault=tracker.record_fault)
        self._looks = Looks(listing, tracker.record_fault)
        self._sent_at: dict[str, float] = {}

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
                    self._follow_in_doubt(server_id, partial(self._on_last_reading, server_id, batch))
        await self._watch.read_once()

    async def _act(self, server_id: str) -> None:
        def note_sent() -> None:
            self._sent_at.setdefault(server_id, self._tracker.loop_time())

        await self._session.call(
            self._operation,
            path={"server_id": server_id},
            body=ACTION_BODIES[self._operation.name],
            on_send=note_sent,
        )

    def _follow_accepted(self, server_id: str, on_end: OnEnd) -> None:
        self._tracker.accepted += 1
        sent_at = self._sent_at.pop(server_id, None)
        self._watch.follow(server_id, self._operation.name, on_end, sent_at=sent_at)

    def _follow_in_doubt(self, server_id: str, on_end: OnEnd, *, seen: Sight = Sight.NOTHING) -> None:
        sent_at = self._sent_at.pop(server_id, None)
        self._watch.follow(server_id, self._operation.name, on_end, sent_at=sent_at, in_doubt=True, seen=seen)

    def _on_error(self, batch: Batch, error: Exception, probe: CallProbe) -> None:
        """Give a server its outcome by its refusal, or find out by its state what the call came to."""
        server_id = batch.ids[0]
        if isinstance(error, NotFoundError) and not is_of_gateway(error):
            self._sent_at.pop(server_id, None)
            batch.in_doubt = False
            self._conclude(batch, *vanished(self._operation.name, server_id, error))
        elif isinstance(error, CallError) and error.maybe_done and probe.changes:
            self._on_lost(batch, error)
        elif isinstance(error, ConflictError):
            self._sent_at.pop(server_id, None)
            self._on_refused(batch, error)
        else:
            self._sent_at.pop(server_id, None)
            super()._on_error(batch, error, probe)

    def _on_lost(self, batch: Batch, error: CallError) -> None:
        server_id = batch.ids[0]
        batch.error = error
        if self._operation is not REBOOT:
            self._looks.ask(server_id, partial(self._on_look, batch, error))
        elif batch.earlier:
            # It was refused before since something was done to it: a reboot that is seen now may be that.
            self._sent_at.pop(server_id, None)
            self._conclude(batch, OutcomeState.UNKNOWN, error)
        else:
            self._follow_in_doubt(server_id, partial(self._on_doubt_end, batch, error))

    def _on_refused(self, batch: Batch, error: ConflictError) -> None:
        server_id = batch.ids[0]
        batch.in_doubt = False
        batch.was_in_doubt = batch.is_in_doubt(server_id)
        batch.error = error
        if says_busy(error):
            state = OutcomeState.UNKNOWN if batch.was_in_doubt else OutcomeState.FAILED
            self._call_again(batch, state, error)
        elif says_locked(error) and self._operation is REBOOT:
            self._conclude(batch, OutcomeState.FAILED, error)
        else:
            self._looks.ask(server_id, partial(self._on_look, batch, error))

    def _on_look(self, batch: Batch, cause: CallError, state: NativeState | None, failure: Exception | None) -> None:
        server_id = batch.ids[0]
        in_doubt = batch.default_state is OutcomeState.UNKNOWN
        if failure is not None:
            self._sent_at.pop(server_id, None)
            self._conclude(batch, OutcomeState.UNKNOWN if in_doubt else OutcomeState.FAILED, cause)
            return
        mask = self._session.with_masked_text
        what, outcome, error = judge_state(self._operation.name, server_id, state, cause, in_doubt=in_doubt, mask=mask)
        if what is Next.FOLLOW:
            self._follow_in_doubt(server_id, partial(self._on_doubt_end, batch, cause), seen=Sight.UNDER_WAY)
            return
        self._sent_at.pop(server_id, None)
        if what is Next.AGAIN:
            self._call_again(batch, outcome, error)
        else:
            self._conclude(batch, outcome, error)

    def _call_again(self, batch: Batch, state: OutcomeState, error: BmsError | None) -> None:
        """Call a server again later; where that cannot be, it has its outcome."""
        server_id = batch.ids[0]
        earlier = batch.earlier.get(server_id)
        may_retry = not (batch.in_doubt and earlier is not None and earlier.deferrals >= _MAX_LOST)
        self._scheduler.defer_or_conclude(server_id, batch, state, error, may_retry=may_retry)
        self._tracker.open_batches.discard(batch)

    def _on_doubt_end(self, batch: Batch, lost: CallError, state: OutcomeState, error: BmsError | None) -> None:
        if error is not None and error.__cause__ is None:
            error.__cause__ = lost
        self._conclude(batch, state, error)

    def _on_last_reading(self, server_id: str, batch: Batch, state: OutcomeState, error: BmsError | None) -> None:
        if state is not OutcomeState.UNKNOWN:
            self._tracker.conclude(server_id, state, batch=batch, error=error)
