"""A batch of a durable run, from wherever its last worker left it to its end: today's fleet with a log behind it.

What it guarantees: every server that the batch still has ends in one outcome, or in a batch that follows it; and a
server that a reboot may have reached is never sent again, whichever process dies at whatever moment.

How: that a request is about to leave is logged before it does. A batch that is found so, because its worker died, may
have been accepted. It is settled by the servers' states, as one whose response was lost, and only a start or a stop is
sent again. Sending, isolation, proof by states and the making of outcomes are the parts of a `FleetRun`, with a tracker
for this batch alone. What they want to have sent again becomes batches of the log, written together with the end of
this one.

A batch that is withdrawn, since its run was paused or another worker has it, leaves no trace: the log has refused the
step, or knows it as not sent.

Rejected: a durable run as a whole, owned by one worker. A run of a million servers would wait for one process, and the
death of that one would stop all of it until the run is taken over.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVarTuple

import anyio
from anyio.abc import TaskGroup

from bms_async.errors import AuthenticationError, CallError, ClientClosedError, FleetError
from bms_async.jobs import JobHandle
from bms_async.journal import BatchState

from .batch import Batch, BatchWithdrawnError, SplitBudget
from .durable_log import BatchLog, FollowingBatch
from .following import Following
from .isolate import Isolation
from .plan import RETRY_DELAYS, AbortRule, Intake
from .proving import StateProver
from .rollout.gate import Gate
from .state_reader import StateReader
from .submit import SendBatch, Submitter
from .tracker import RunTracker

if TYPE_CHECKING:
    from .rollout.recovery import Recovery

_log = logging.getLogger("bms_async.fleet")

Ts = TypeVarTuple("Ts")

_WRITE_DELAY = 2.0
"""Seconds for which outcomes are collected before they are written: each block is a transaction."""

_PROMPT_WRITE_DELAY = 0.1
"""The same where other servers wait for the room that these leave."""


_LONGEST_DELAY = 590.0
"""Seconds after which a batch that waits for its window is looked at again; the journal knows no longer delay."""


class DurableBatch:
    """One batch of a durable run.

    Args:
        batch: The servers that have no outcome yet, and what is known of them.
        log: Where it is written down.
        action: Such as ``servers.reboot``.
        send: Sends it.
        reader: Reads states; batches of one run share it, and with it their readings.
        retry: Whether busy servers are sent again.
        verify: Whether states are read back before outcomes are known.
        splits: Into how many parts the batch that it descends from was split so far.
        prompt: Whether outcomes are written down soon, since other servers wait for the room that these leave.
        gate: Says whether it may be sent now; None where it always may.
        recovery: Makes what holds outcomes back until their servers are ready; None where nothing does.
        read_calls: Returns how many calls have read states since it was called last.
        on_answer: Called with None once the cloud has accepted it; where it could not be sent with these credentials,
            with the seconds until it is tried again.

    Attributes:
        delay: Seconds before it may be sent, if it was withdrawn since its window is closed.
        sent_or_failed: Set once it was sent, or will not be.
    """

    def __init__(
        self,
        batch: Batch,
        log: BatchLog,
        *,
        action: str,
        send: SendBatch,
        reader: StateReader,
        retry: bool,
        verify: bool,
        splits: int,
        prompt: bool = False,
        gate: Gate | None = None,
        recovery: Callable[[RunTracker], Recovery] | None = None,
        read_calls: Callable[[], int] = lambda: 0,
        on_answer: Callable[[float | None], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._send = send
        self._verifies = verify
        self._batch = batch
        self._tracker = tracker = RunTracker(action, Intake(), AbortRule(None, 1), hold=verify)
        self._following = Following(tracker, retry=retry)
        self._prover = StateProver(tracker, reader)
        self._submitter = Submitter(
            tracker,
            self._following,
            self._send_batch,
            isolation=Isolation(tracker, self._following, reader),
            prover=self._prover,
            on_job=None,
            concludes_on_close=False,
        )
        self._write_delay = _PROMPT_WRITE_DELAY if prompt else _WRITE_DELAY
        self._read_calls = read_calls
        self._gate = gate
        self._recovery = None if recovery is None else recovery(tracker)
        if self._recovery is not None:
            tracker.keep_back = self._recovery.hold
        self._on_answer = on_answer
        self._written = 0
        self._logging = anyio.Lock()
        self._is_refusal_logged = self._is_unsent = True
        self._is_being_sent = self._is_marking = False
        self._shields: set[anyio.CancelScope] = set()
        self._ends_at = math.inf
        self._withdrawn: BatchWithdrawnError | None = None
        self._postponed: FollowingBatch | None = None
        self.delay = 0.0
        self._tasks: TaskGroup
        self.sent_or_failed = anyio.Event()
        tracker.intake.adopt(batch.ids)
        tracker.start_batch(batch)
        if splits:
            batch.split_budget = SplitBudget(batches_sent=splits)

    @property
    def is_being_sent(self) -> bool:
        """Whether its request is about to leave or on its way, and its job not yet logged."""
        return self._is_marking or (self._is_being_sent and self._batch.in_doubt)

    @property
    def unready(self) -> int:
        """How many servers have their outcome held back until they are ready."""
        return 0 if self._recovery is None else self._recovery.held

    @property
    def to_verify(self) -> int:
        """How many servers have ended and wait for their state to be read back."""
        return self._tracker.to_verify

    def withdraw(self) -> None:
        """Keep the batch from being sent, if it was not, or was surely refused and waits to be sent again."""
        if self._batch.in_doubt or not self._is_unsent:
            return
        self._withdrawn = BatchWithdrawnError("withdrawn before it was sent")
        # A cancellation while it is marked as sent might come only after it was handed to the transport.
        if not self._is_marking:
            self._batch.scope.cancel()

    def hurry(self, seconds: float) -> None:
        """Give up in so many seconds what a cancellation would wait for: the process is about to end."""
        self._ends_at = anyio.current_time() + seconds
        for scope in self._shields:
            scope.deadline = self._ends_at

    def stop(self) -> None:
        """Have no server sent again: the run was cancelled or aborted."""
        self._tracker.stopping = True

    async def run(self, state: BatchState, job: JobHandle | None = None) -> None:
        """Carry the batch on to its end.

        Args:
            state: How far it is: to be sent, found as sent, or with a job.
            job: The job.

        Raises:
            BatchWithdrawnError: It is not this worker's, or not to be sent now; it has no outcome from here on.
        """
        withdrawn: BatchWithdrawnError | None = None
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._write_outcomes)
            if self._recovery is not None:
                self._tasks.start_soon(self._recovery.run)
            try:
                await self._carry_on(state, job)
                if self._recovery is not None:
                    await self._recovery.drain()
            except (BatchWithdrawnError, ClientClosedError) as error:
                withdrawn = _as_withdrawn(error)
            finally:
                self.sent_or_failed.set()
            self._tasks.cancel_scope.cancel()
        if self._postponed is not None:
            await self._log.finish((), (self._postponed,), 0)
            return
        withdrawn = withdrawn or self._withdrawn
        if withdrawn is not None:
            raise withdrawn
        await self._finish()

    async def _carry_on(self, state: BatchState, job: JobHandle | None) -> None:
        batch = self._batch
        if not batch.ids:
            # All have their outcomes, and only the end was not written down.
            return
        if state is BatchState.WAITING:
            # Without a slot of the limit, which others may need.
            self._check_gate()
            await self._submitter.send(batch, self.sent_or_failed)
            # What became of it is known from here on, and is not to be found out again.
            self._is_unsent = False
            if self._withdrawn is not None and not batch.in_doubt:
                raise self._withdrawn
        elif job is not None:
            batch.in_doubt = True
            await self._submitter.follow(job, batch)
        else:
            batch.in_doubt = True
            await self._submitter.settle(batch, _lost(self._tracker.action))
        if self._verifies and self._tracker.awaiting_verification:
            await self._prover.verify()

    async def _send_batch(
        self,
        batch: Batch,
        check_may_send: Callable[[], Awaitable[None]],
        on_send: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> JobHandle:
        before = batch.send_count

        async def before_send() -> None:
            await check_may_send()
            self._check_gate()
            await self._log_refusal()
            await self._mark_sending()

        def on_retry() -> None:
            on_refused()
            self._is_refusal_logged = False
            # At once, and not with the next request, which may wait for a minute: until then nobody knows of it.
            self._tasks.start_soon(self._log_refusal)

        self._is_being_sent = True
        try:
            job = await self._send(batch, before_send, on_send, on_retry)
            self._on_answer(None)
            # Without the job nothing could prove what became of a reboot.
            await self._to_its_end(self._log.watching, batch, job)
        except (BatchWithdrawnError, ClientClosedError):
            raise
        except Exception as error:
            if batch.send_count > before:
                await self._log_if_refused(error)
                # Another worker may be known to the cloud.
                if not isinstance(error, AuthenticationError) or error.maybe_done:
                    raise
            if not self._postpone(error):
                self._on_answer(0.0)
                raise
            batch.in_doubt = False
            raise BatchWithdrawnError("it could not be sent and is tried again later") from error
        finally:
            self._is_being_sent = False
        return job

    def _check_gate(self) -> None:
        """Check that the window of the run is open; else the batch is sent when it is.

        Raises:
            BatchWithdrawnError: It is not.
        """
        now = self._tracker.clock.now()
        if self._gate is None or self._gate.is_open(now):
            return
        why = self._gate.why_closed(now)
        if self._batch.in_doubt:
            # Its request may have arrived, so that the servers' states have to say what became of it.
            raise FleetError(f"{self._tracker.action}: the call was not repeated: {why}", code=None, server_ids=())
        self.delay = min(self._gate.seconds_closed(now), _LONGEST_DELAY)
        raise BatchWithdrawnError(why)

    async def _mark_sending(self) -> None:
        """Write down that the request is about to leave; nothing is awaited any more between this and that."""
        batch, is_first = self._batch, self._batch.started is None
        if is_first:
            batch.started = self._tracker.clock.now()
        self._is_marking = True
        try:
            await self._log.sending(batch)
        finally:
            self._is_marking = False
            if is_first:
                batch.started = None
        if self._withdrawn is not None and not batch.in_doubt:
            raise self._withdrawn

    async def _to_its_end(self, step: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> None:
        """Write something down though this is cancelled: what may be half written would be written twice, or lost."""
        with anyio.CancelScope(shield=True, deadline=self._ends_at) as scope:
            self._shields.add(scope)
            try:
                await step(*args)
            finally:
                self._shields.discard(scope)
        if scope.cancelled_caught:
            raise BatchWithdrawnError("the journal could not be written before the client was closed")

    async def _log_if_refused(self, error: Exception) -> None:
        """Write down that the cloud surely did nothing: this process may die while it finds out why."""
        if isinstance(error, CallError) and not error.maybe_done:
            self._is_refusal_logged = False
            await self._log_refusal()

    def _postpone(self, error: Exception) -> bool:
        """Have the batch tried again later, maybe by a worker whose credentials are better; False if that is over."""
        batch = self._batch
        if self._tracker.stopping or batch.unsent_attempts >= len(RETRY_DELAYS):
            return False
        delay = RETRY_DELAYS[batch.unsent_attempts]
        _log.warning(
            "%s: a batch could not be sent, and is tried again in %g s", self._tracker.action, delay, exc_info=error
        )
        batch.unsent_attempts += 1
        self._on_answer(delay)
        self._postponed = FollowingBatch(batch=batch, delay=delay)
        return True

    async def _log_refusal(self) -> None:
        async with self._logging:
            if self._is_refusal_logged:
                return
            self._is_refusal_logged = True
            try:
                await self._log.refused(self._batch)
            except BatchWithdrawnError as error:
                self._lose(error)

    async def _write_outcomes(self) -> None:
        """Write down outcomes as they become known."""
        tracker = self._tracker
        while True:
            while len(tracker.outcomes) == self._written:
                await tracker.wait_for_change()
            await anyio.sleep(self._write_delay)
            outcomes = list(tracker.outcomes.since(self._written))
            try:
                await self._to_its_end(self._log.add, outcomes)
            except BatchWithdrawnError as error:
                self._lose(error)
                return
            self._written += len(outcomes)

    def _lose(self, error: BatchWithdrawnError) -> None:
        self._withdrawn = error
        self._tasks.cancel_scope.cancel()

    async def _finish(self) -> None:
        tracker = self._tracker
        if tracker.awaiting_verification is not None:
            await tracker.release_held()
        outcomes = list(tracker.outcomes.since(self._written))
        extra_calls = tracker.extra_calls + self._read_calls()
        await self._log.finish(outcomes, self._following.take(), extra_calls)


def _as_withdrawn(error: BatchWithdrawnError | ClientClosedError) -> BatchWithdrawnError:
    if isinstance(error, BatchWithdrawnError):
        return error
    withdrawn = BatchWithdrawnError("the client was closed")
    withdrawn.__cause__ = error
    return withdrawn


def _lost(action: str) -> FleetError:
    return FleetError(
        f"{action}: the process that sent the batch ended before it noted the response, and nothing proves what became "
        "of it; read the server's own state",
        code=None,
        server_ids=(),
    )
