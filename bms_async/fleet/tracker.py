"""The run tracker: the one place where outcomes are made, and so where R2 is kept.

What it guarantees: every id that was admitted gets exactly one outcome, whatever fails and in whatever order.

How: all ids are in one table, `Intake.pending`, until they have their outcome. `conclude` makes an outcome only by
taking the id out of that table, so that a second one for the same id is dropped. Nothing is forgotten either: a server
is in the intake, in an open batch or among the deferred ones, and at the end of a batch or of the run whatever is left
there is concluded with its default state.

An outcome is made by `conclude` and becomes known by `record`. In between it may be held back to be verified.

Rejected: an outcome by each task that follows a batch, merged at the end. Two tasks may know of the same server, after
a batch was split or a server was deferred, and a task that is cancelled reports nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, cast

import anyio.lowlevel
import msgspec

from bms_async.errors import BmsError, ForeignCodeError
from bms_async.models import BriefServer, CreatedServer, Server

from .batch import Batch
from .clock import Clock
from .outcome import Outcome, OutcomeState, make_outcome
from .outcomes import Outcomes
from .plan import AbortRule, Intake
from .sharded import Table

if TYPE_CHECKING:
    from .hook_events import RunHookEvents

_log = logging.getLogger("bms_async.fleet")

SERVER_TYPES = (Server, BriefServer, CreatedServer)
"""What a source may give in the place of an id."""

YIELD_EVERY = 500
"""How many ids are handled between two yields to the event loop."""


class RunTracker:
    """Keeps a run's servers, each until it has its one outcome, and counts them.

    Attributes:
        clock: The time of day.
        loop_time: Returns the loop's time, also in a callback that no task runs.
        outcomes: The outcomes that are known.
        awaiting_verification: Outcomes that are held back until they are verified; None where none is to be.
        verified_count: How many of those were verified so far.
        verified: Of those, the ones whose state says something else, by server.
        open_batches: The batches that have servers without an outcome.
        in_flight: How many servers are in a batch and have no outcome.
        stopping: Whether no further batch is sent.
        skip_error: The error of servers that are skipped; None where the run is cancelled or aborted.
        timed_out: Whether the run is stopping because of its `total_timeout`.
        aborted: The reason, if it is stopping because too many servers failed.
        source_exhausted: Whether the source has given all its ids.
        source_error: Why the source ended before it had given all of them; None as long as it has not.
        error: The first error that is not a server's; raised to all waiters once all servers have ended.
        extra_calls: How many parts of refused batches were sent.
        unverified: How many outcomes could not be verified; None where none was to be.
        wake: Set when the next batch may be due.
        on_server: Called with each server of the source that is more than an id.
        keep_back: Asked to keep an outcome back until its server is well again; returns whether it does, and then calls
            `end` for it later.
        on_end: Called when a server of a batch has its outcome.
        on_change: Called at each change, beside the waiters; None for nothing.
        hook_events: Emits the hook events of the run; None where there are no hooks.
    """

    def __init__(self, action: str, intake: Intake, abort: AbortRule, *, hold: bool) -> None:
        self.action = action
        self.intake = intake
        loop = asyncio.get_running_loop()
        self.clock = Clock(loop)
        self.loop_time = loop.time
        self.hook_events: RunHookEvents | None = None
        self.outcomes = Outcomes()
        self.awaiting_verification: Outcomes | None = Outcomes() if hold else None
        self.verified_count = self._released = 0
        self.verified: Table[Outcome] = Table()
        self.by_state = dict.fromkeys(OutcomeState, 0)
        self.by_code: Counter[str] = Counter()
        self.open_batches: set[Batch] = set()
        self.in_flight = self.submitted = self.accepted = 0
        self.stopping = self.source_exhausted = self.timed_out = False
        self.skip_error: BmsError | None = None
        self.aborted: str | None = None
        self.error: BaseException | None = None
        self.source_error: Exception | None = None
        self._error_trace: TracebackType | None = None
        self.wake = asyncio.Event()
        self.keep_back: Callable[[Outcome, Batch], bool] | None = None
        self.on_server: Callable[[Server], None] | None = None
        self.on_end: Callable[[Outcome, Batch], None] | None = None
        self.on_change: Callable[[], None] | None = None
        self._changed = asyncio.Event()
        self._abort = abort
        self._ended = self._failed = 0
        self.extra_calls = 0
        self.unverified: int | None = 0 if hold else None

    @property
    def to_verify(self) -> int:
        """How many outcomes are held back."""
        return 0 if self.awaiting_verification is None else len(self.awaiting_verification) - self._released

    def admit(self, value: object) -> None:
        """Admit an id, or a server; an invalid id gets its outcome, SKIPPED."""
        # By its type: an attribute of a foreign object may raise.
        if issubclass(type(value), SERVER_TYPES):
            server = cast("Server | BriefServer | CreatedServer", value)
            if self.on_server is not None and isinstance(server, Server):
                self.on_server(server)
            value = server.id
        invalid = self.intake.admit(value)
        if invalid is not None:
            name, error = invalid
            self.record(make_outcome(name, OutcomeState.SKIPPED, error=error, ended=self.clock.now()))
            self.wake.set()

    def start_batch(self, batch: Batch) -> None:
        """Open a batch of servers that have left the intake."""
        self.open_batches.add(batch)
        self.in_flight += len(batch.ids)

    def withdraw_batch(self, batch: Batch) -> None:
        """Close a batch that was not sent; its servers go back to where they came from."""
        self.open_batches.discard(batch)
        self.in_flight -= len(batch.ids)

    def conclude(
        self,
        server_id: str,
        state: OutcomeState,
        *,
        batch: Batch | None = None,
        job_id: str | None = None,
        sub_job_id: str | None = None,
        error: BmsError | None = None,
        result: object = None,
    ) -> None:
        """Give a server its outcome, unless it has one already or was never admitted."""
        known = self.intake.mark_done(server_id)
        if known is None:
            return
        outcome = make_outcome(
            known,
            state,
            job_id=job_id,
            sub_job_id=sub_job_id,
            error=error,
            attempts=batch.attempts_of(known) if batch else 0,
            started=batch.started_for(known) if batch else None,
            ended=self.clock.now(),
            result=result,
        )
        if batch is not None and self.keep_back is not None and self.keep_back(outcome, batch):
            return
        self.end(outcome, batch)

    def end(self, outcome: Outcome, batch: Batch | None) -> None:
        """Count an outcome that holds nothing up any more.

        Args:
            outcome: The outcome.
            batch: The batch of its server; None if it was in none.
        """
        state = outcome.state
        if batch is not None:
            self.in_flight -= 1
            if self.on_end is not None:
                self.on_end(outcome, batch)
        if state is not OutcomeState.SKIPPED:
            self._ended += 1
            self._failed += state.is_failure
            if self._failed and not self.stopping:
                self._consider_aborting()
        if self.awaiting_verification is not None and state in _VERIFIABLE:
            self.awaiting_verification.append(outcome)
        else:
            self.record(outcome)
        self.wake.set()

    def conclude_batch(
        self, batch: Batch, state: OutcomeState, error: BmsError | None = None, *, job_id: str | None = None
    ) -> None:
        """Give the remaining servers of a batch their outcome; an earlier attempt's takes the place of SKIPPED."""
        for server_id in batch.remaining:
            earlier = batch.earlier.get(server_id)
            if earlier is not None and state is OutcomeState.SKIPPED:
                # Its refusal says more than that it was not sent again.
                self.conclude(
                    server_id,
                    earlier.state,
                    batch=batch,
                    job_id=earlier.job_id,
                    sub_job_id=earlier.sub_job_id,
                    error=earlier.error,
                )
            else:
                self.conclude(server_id, state, batch=batch, job_id=job_id, error=error)
        self.open_batches.discard(batch)

    def record(self, outcome: Outcome) -> None:
        """Add an outcome to those that are known; it is final."""
        self.outcomes.append(outcome)
        self.by_state[outcome.state] += 1
        if not outcome.state.is_success:
            self.by_code[outcome.reason] += 1
        if self.hook_events is not None:
            self.hook_events.on_outcome(outcome)
        self.notify()

    async def release_held(self) -> None:
        """Record the outcomes that were held back, as they were verified."""
        held = self.awaiting_verification
        while held is not None and self._released < len(held):
            for outcome in islice(held.since(self._released), YIELD_EVERY):
                self._released += 1
                self.record(self.verified.get(outcome.server_id) or outcome)
            await anyio.lowlevel.checkpoint()
        self.awaiting_verification = None
        self.verified = Table()

    def with_state(self, outcome: Outcome, state: OutcomeState, error: BmsError | None) -> Outcome:
        """Return an outcome with another state, which its server's own state proves."""
        if state is outcome.state:
            return outcome
        fields = msgspec.structs.asdict(outcome) | {"state": state, "error": error}
        return make_outcome(**fields)

    async def skip_unasked(self, pop_waiting: Callable[[int], Sequence[str]]) -> None:
        """Skip the servers that the cloud never got; no batch is sent any more.

        Args:
            pop_waiting: Removes and returns so many of those that wait; none if none does.
        """
        for batch in [batch for batch in self.open_batches if not batch.in_doubt]:
            self.conclude_batch(batch, batch.default_state, batch.error or self.skip_error)
            await anyio.lowlevel.checkpoint()
        while ids := pop_waiting(YIELD_EVERY):
            for server_id in ids:
                self.conclude(server_id, OutcomeState.SKIPPED, error=self.skip_error)
            await anyio.lowlevel.checkpoint()

    def stop(self) -> None:
        """Send no further batch, and cancel those that wait to be sent."""
        self.stopping = True
        for batch in self.open_batches:
            if not batch.in_doubt:
                batch.scope.cancel()
        self.wake.set()

    def record_error(self, error: BaseException) -> None:
        """Keep an error for the waiters; the first counts."""
        if self.error is None:
            self.error = error
            self._error_trace = error.__traceback__

    def raise_error(self) -> None:
        """Raise the error that was kept, with its original traceback: the same one is raised to all waiters."""
        if self.error is not None:
            # Each raise adds to the traceback, which would then hold the frames of all waiters.
            raise self.error.with_traceback(self._error_trace)

    def record_fault(self, error: Exception) -> None:
        """Keep the error of a call if the fault is in foreign code, such as credentials."""
        if isinstance(error, ForeignCodeError) or not isinstance(error, BmsError):
            _log.error("%s: foreign code broke a call", self.action, exc_info=error)
            self.record_error(error)

    async def wait_for_change(self) -> None:
        """Wait until there is a new outcome, or the run has ended."""
        await self._changed.wait()

    def notify(self) -> None:
        """Wake all waiters."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if self.on_change is not None:
            self.on_change()

    def abort(self, reason: str) -> None:
        """Send no further batch: too many servers failed, or a canary did."""
        self.aborted = reason
        self.stop()

    def _consider_aborting(self) -> None:
        reason = self._abort.reason_to_abort(failed=self._failed, ended=self._ended)
        if reason is not None:
            self.abort(reason)


_VERIFIABLE = frozenset({OutcomeState.SUCCEEDED, OutcomeState.UNCHANGED, OutcomeState.UNKNOWN})
