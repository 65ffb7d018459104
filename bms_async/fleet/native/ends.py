"""What became of the call of a server of a plain OpenStack cloud: how it is accepted, refused, or lost.

What it guarantees: a reboot is called again only if the cloud has surely refused it (R3), and every outcome rests on
what the cloud answered or on what a state, read afterwards, proves (R2).

How: a server that the cloud has accepted is followed by the run's `NativeWatch`. A refusal that does not say why is
settled by a look at the server. Where the answer of a start or a stop was lost the server is looked at, and called
again if nothing has happened; a reboot is followed in doubt, and UNKNOWN unless it is seen under way.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from bms_async.api.nova.server_operations import ACTION_BODIES, REBOOT
from bms_async.errors import BmsError, CallError, ClientClosedError, ConflictError, NotFoundError
from bms_async.fleet.batch import Batch
from bms_async.fleet.call_ends import CallEnds
from bms_async.fleet.call_probe import CallProbe
from bms_async.fleet.outcome import OutcomeState
from bms_async.fleet.scheduler import BatchScheduler
from bms_async.fleet.tracker import RunTracker
from bms_async.session import Session
from bms_async.wire import Operation

from .followed import OnEnd
from .listing import is_of_gateway
from .looks import Looks
from .refusal import Next, judge_state, says_busy, says_locked
from .verdict import NativeState, Sight, vanished
from .watch import NativeWatch

_MAX_LOST: Final = 2
"""How often a start or a stop whose answer was lost is called again."""


class NativeEnds(CallEnds):
    """Makes the calls, and gives each server its outcome.

    Args:
        tracker: The run's.
        scheduler: Takes servers that are to be called again.
        session: Makes the calls.
        operation: The action.
        watch: Follows servers.
        looks: Looks at servers.
    """

    def __init__(  # noqa: PLR0917 - what a run is made of
        self,
        tracker: RunTracker,
        scheduler: BatchScheduler,
        session: Session,
        operation: Operation[None],
        watch: NativeWatch,
        looks: Looks,
    ) -> None:
        super().__init__(tracker, scheduler, on_job=None, keeps_results=False, follow=self._follow_accepted)
        self._session = session
        self._operation = operation
        self._watch = watch
        self._looks = looks
        self._sent_at: dict[str, float] = {}

    async def act(self, server_id: str) -> None:
        """Ask for the action on a server.

        Raises:
            CallError: The cloud refused, or nothing is known.
        """

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

    def follow_in_doubt(self, server_id: str, on_end: OnEnd, *, seen: Sight = Sight.NOTHING) -> None:
        """Follow a server whose answer was lost."""
        sent_at = self._sent_at.pop(server_id, None)
        self._watch.follow(server_id, self._operation.name, on_end, sent_at=sent_at, in_doubt=True, seen=seen)

    def on_error(self, batch: Batch, error: Exception, probe: CallProbe) -> None:
        """Give a server its outcome by its refusal, or find out by its state what the call came to."""
        server_id = batch.ids[0]
        if isinstance(error, NotFoundError) and not is_of_gateway(error):
            self._sent_at.pop(server_id, None)
            batch.in_doubt = False
            self.conclude(batch, *vanished(self._operation.name, server_id, error))
        elif isinstance(error, CallError) and error.maybe_done:
            self._on_lost(batch, error)
        elif isinstance(error, ConflictError):
            self._sent_at.pop(server_id, None)
            self._on_refused(batch, error)
        elif probe.changes and not isinstance(error, CallError | ClientClosedError):
            # Credentials or the transport broke after an answer was lost: this error says nothing of that call.
            self._sent_at.pop(server_id, None)
            self.conclude(batch, OutcomeState.UNKNOWN, self._as_bms_error(batch, error))
        else:
            self._sent_at.pop(server_id, None)
            super().on_error(batch, error, probe)

    def _on_lost(self, batch: Batch, error: CallError) -> None:
        server_id = batch.ids[0]
        batch.error = error
        if self._operation is not REBOOT:
            self._looks.ask(server_id, partial(self._on_look, batch, error))
        elif batch.earlier:
            # It was refused before since something was done to it: a reboot that is seen now may be that.
            self._sent_at.pop(server_id, None)
            self.conclude(batch, OutcomeState.UNKNOWN, error)
        else:
            self.follow_in_doubt(server_id, partial(self._on_doubt_end, batch, error))

    def _on_refused(self, batch: Batch, error: ConflictError) -> None:
        server_id = batch.ids[0]
        batch.in_doubt = False
        batch.was_in_doubt = batch.is_in_doubt(server_id)
        batch.error = error
        if says_busy(error):
            state = OutcomeState.UNKNOWN if batch.was_in_doubt else OutcomeState.FAILED
            self._call_again(batch, state, error)
        elif says_locked(error) and self._operation is REBOOT:
            self.conclude(batch, OutcomeState.FAILED, error)
        else:
            self._looks.ask(server_id, partial(self._on_look, batch, error))

    def _on_look(self, batch: Batch, cause: CallError, state: NativeState | None, failure: Exception | None) -> None:
        server_id = batch.ids[0]
        in_doubt = batch.default_state is OutcomeState.UNKNOWN
        if failure is not None:
            self._sent_at.pop(server_id, None)
            self.conclude(batch, OutcomeState.UNKNOWN if in_doubt else OutcomeState.FAILED, cause)
            return
        mask = self._session.with_masked_text
        what, outcome, error = judge_state(self._operation.name, server_id, state, cause, in_doubt=in_doubt, mask=mask)
        if what is Next.FOLLOW:
            self.follow_in_doubt(server_id, partial(self._on_doubt_end, batch, cause), seen=Sight.UNDER_WAY)
            return
        self._sent_at.pop(server_id, None)
        if what is Next.AGAIN:
            self._call_again(batch, outcome, error)
        else:
            self.conclude(batch, outcome, error)

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
        self.conclude(batch, state, error)
