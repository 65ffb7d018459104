"""What is known of each server of a run: the one place where outcomes are made."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from types import TracebackType
from typing import TYPE_CHECKING

import anyio.lowlevel
import msgspec

from bms_async.errors import BmsError, ForeignCodeError

from .batch import Batch
from .clock import Clock
from .outcome import Outcome, OutcomeState, make_outcome
from .outcomes import Outcomes
from .plan import AbortRule, Intake

if TYPE_CHECKING:
    from .hook_events import RunHookEvents

_log = logging.getLogger("bms_async.fleet")

YIELD_EVERY = 500
"""How many ids are dealt with before others get their turn."""


class RunTracker:
    """Keeps a run's servers, each until it has its one outcome, and what is counted of them.

    Attributes:
        outcomes: Those that are told.
        awaiting_verification: Those that have ended and are to be verified before they are told; None where nothing is.
        judged: What those are that were verified so far.
        open_batches: The batches that still have servers without an end.
        in_flight: How many servers are in a batch and have not ended.
        stopping: Whether nothing more is asked for.
        why_skipped: What those are told that are skipped; None where the run is cancelled or aborted.
        timed_out: Whether that is so because the run's time was over: what is under way is looked at once more.
        aborted: Why that is so, if too many servers failed.
        source_exhausted: Whether the source of ids has told them all.
        error: What broke that is not a server's: raised to whoever waits, once all has ended.
        extra_calls: How many calls were made to find out what no job told.
        unverified: How many outcomes could not be verified; None where none was to be.
        wake: Set when the next batch may be due.
        hook_events: Tells the hooks of each outcome; None where there are none.
    """

    def __init__(self, action: str, intake: Intake, abort: AbortRule, *, hold: bool) -> None:
        self.action = action
        self.intake = intake
        self.clock = Clock(asyncio.get_running_loop())
        self.hook_events: RunHookEvents | None = None
        self.outcomes = Outcomes()
        self.awaiting_verification: deque[Outcome] | None = deque() if hold else None
        self.judged: dict[str, Outcome] = {}
        self.by_state = dict.fromkeys(OutcomeState, 0)
        self.by_code: Counter[str] = Counter()
        self.open_batches: set[Batch] = set()
        self.in_flight = self.submitted = self.accepted = 0
        self.stopping = self.source_exhausted = self.timed_out = False
        self.why_skipped: BmsError | None = None
        self.aborted: str | None = None
        self.error: BaseException | None = None
        self._error_trace: TracebackType | None = None
        self.wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._abort = abort
        self._ended = self._bad = 0

        self.extra_calls = 0
        self.unverified: int | None = 0 if hold else None

    @property
    def is_over(self) -> bool:
        """Whether every server that came in has ended, and no more come."""
        return self.source_exhausted and not self.intake.ready and not self.in_flight

    def admit(self, value: object) -> None:
        """Take an id in."""
        refused = self.intake.admit(value)
        if refused is not None:
            name, error = refused
            self.record(make_outcome(name, OutcomeState.SKIPPED, error=error, ended=self.clock.now()))
            self.wake.set()

    def start_batch(self, batch: Batch) -> None:
        """Note that servers have left the intake for a batch."""
        self.open_batches.add(batch)
        self.in_flight += len(batch.ids)

    def conclude(
        self,
        server_id: str,
        state: OutcomeState,
        *,
        batch: Batch | None = None,
        job_id: str | None = None,
        sub_job_id: str | None = None,
        error: BmsError | None = None,
    ) -> None:
        """Give a server its outcome, unless it has one or never came in."""
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
        )
        if batch is not None:
            self.in_flight -= 1
        if state is not OutcomeState.SKIPPED:
            self._ended += 1
            self._bad += state.is_failure
            if self._bad and not self.stopping:
                self._consider_aborting()
        if self.awaiting_verification is not None and state in _VERIFIABLE:
            self.awaiting_verification.append(outcome)
        else:
            self.record(outcome)
        self.wake.set()

    def conclude_batch(
        self, batch: Batch, state: OutcomeState, error: BmsError | None = None, *, job_id: str | None = None
    ) -> None:
        """Give all servers of a batch that have none an outcome; those that were put off keep what they were told."""
        for server_id in batch.remaining:
            past = batch.earlier.get(server_id)
            if past is not None and state is OutcomeState.SKIPPED:
                # The cloud has refused it, and that says more than that nothing became of the next try.
                self.conclude(
                    server_id, past.state, batch=batch, job_id=past.job_id, sub_job_id=past.sub_job_id, error=past.error
                )
            else:
                self.conclude(server_id, state, batch=batch, job_id=job_id, error=error)
        self.open_batches.discard(batch)

    def record(self, outcome: Outcome) -> None:
        """Make an outcome known for good."""
        self.outcomes.append(outcome)
        self.by_state[outcome.state] += 1
        if not outcome.state.is_success:
            self.by_code[outcome.reason] += 1
        if self.hook_events is not None:
            self.hook_events.on_outcome(outcome)
        self.notify()

    async def release_held(self) -> None:
        """Tell what was held back, as it was verified."""
        held = deque(self.awaiting_verification or ())
        self.awaiting_verification = held
        while held:
            for _ in range(min(YIELD_EVERY, len(held))):
                outcome = held.popleft()
                self.record(self.judged.pop(outcome.server_id, outcome))
            await anyio.lowlevel.checkpoint()
        self.awaiting_verification = None

    def with_state(self, outcome: Outcome, state: OutcomeState, error: BmsError | None) -> Outcome:
        """Return an outcome as its server's own state has it."""
        if state is outcome.state:
            return outcome
        fields = msgspec.structs.asdict(outcome) | {"state": state, "error": error}
        return make_outcome(**fields)

    async def skip_unasked(self) -> None:
        """Once nothing more will be asked for, skip what never came to the cloud."""
        for batch in [batch for batch in self.open_batches if not batch.in_doubt]:
            self.conclude_batch(batch, batch.default_state, batch.error or self.why_skipped)
            await anyio.lowlevel.checkpoint()
        while ids := self.intake.take():
            for server_id in ids:
                self.conclude(server_id, OutcomeState.SKIPPED, error=self.why_skipped)
            await anyio.lowlevel.checkpoint()

    def stop(self) -> None:
        """Ask for nothing more, also not for what waits for its turn."""
        self.stopping = True
        for batch in self.open_batches:
            if not batch.in_doubt:
                batch.scope.cancel()
        self.wake.set()

    def record_error(self, error: BaseException) -> None:
        """Keep what broke, for whoever waits; the first counts."""
        if self.error is None:
            self.error = error
            self._error_trace = error.__traceback__

    def raise_error(self) -> None:
        """Raise what broke, with the traceback that it came with: one error is raised to all who wait."""
        if self.error is not None:
            # Each raise adds to the traceback of an error, which would hold the frames of all waiters.
            raise self.error.with_traceback(self._error_trace)

    def record_fault(self, error: Exception) -> None:
        """Keep what a call ended in, if it is the fault of code that was handed over, such as credentials."""
        if isinstance(error, ForeignCodeError) or not isinstance(error, BmsError):
            _log.error("%s: code that was handed over broke a call", self.action, exc_info=error)
            self.record_error(error)

    async def wait_for_change(self) -> None:
        """Wait until an outcome is told, or the run has ended."""
        await self._changed.wait()

    def notify(self) -> None:
        """Wake everybody who waits for outcomes."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _consider_aborting(self) -> None:
        self.aborted = self._abort.reason_to_abort(bad=self._bad, ended=self._ended)
        if self.aborted is not None:
            self.stop()


_VERIFIABLE = frozenset({OutcomeState.SUCCEEDED, OutcomeState.UNCHANGED, OutcomeState.UNKNOWN})
