"""Isolation: finds the servers that a batch was refused for, so that the others can go on.

The cloud refuses a batch as a whole and does not say which server it means. What this guarantees: the refusal becomes
the outcome of a server only if it applies to it, and one bad server in a thousand keeps no other from being sent.

Where the refusal may be about a server, states are read. A server that is in the requested state already is UNCHANGED,
a busy one is deferred, and one that the cloud does not show is FAILED if the code says so. A locked or faulty server
need not be the cause: all of one kind are sent together as a batch of their own, and what the cloud says of that batch
applies to each. Servers that show no cause are sent again. Where states cannot be read or show no cause, the batch is
bisected.

All of it is bounded: states are read twice for a server, and a batch is split into 240 parts at most, or 24 where the
code may be about the whole request. Whatever is left then is FAILED with the refusal.

Rejected: to bisect only, which needs 20 calls of the 50 a minute for one server in a thousand, where one call that
reads states will do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import anyio

from bms_async.errorcodes import Remedy
from bms_async.errors import ApiError, CallError, ClientClosedError

from .batch import Batch
from .evidence import RefusalCause, ServerState, code_of, explain_state, partition_by_cause
from .outcome import OutcomeState, concerns_one_server, is_transient, judge_refusal, may_concern_one_server, remedy_of
from .requeue import Requeue
from .state_reader import StateReader
from .tracker import RunTracker

_log = logging.getLogger("bms_async.fleet")

_SETTLE_DELAY = 5.0
"""Seconds between a refusal as busy and the reading of states, since an action that has just begun may not show."""

_MAX_JOINT_DEFERRALS = 3
"""How often busy servers are deferred together before states are read to find those that still are."""

_MAX_STATE_READS = 2
"""How often states are read for one and the same server because its batch was refused."""

_MAX_SPLITS = 240
"""How many parts a refused batch is split into at most, where the code is about a server."""

_MAX_SPLITS_VAGUE = 24
"""The same where the code may be about the whole request: enough to find one server in a thousand."""


class Isolation:
    """Handles refused batches.

    Args:
        tracker: Takes the outcomes.
        scheduler: Takes the parts of a batch.
        reader: Reads states.
    """

    def __init__(self, tracker: RunTracker, scheduler: Requeue, reader: StateReader) -> None:
        self._tracker = tracker
        self._scheduler = scheduler
        self._reader = reader

    async def handle_refusal(self, batch: Batch, error: CallError) -> None:
        """Give the servers of a refused batch their outcomes, or have them sent again.

        Args:
            batch: The batch; the cloud certainly did not act on it.
            error: The refusal.
        """
        ids = batch.remaining
        batch.error = error
        applies_to_all = (
            len(ids) == 1
            or _applies_to_each(batch, error)
            or self._tracker.stopping
            or not may_concern_one_server(error)
        )
        if applies_to_all or not isinstance(error, ApiError):
            self._conclude_refused(batch, error)
            return
        if is_transient(error) and self._defer_together(batch, error):
            return
        if is_transient(error):
            await anyio.sleep(_SETTLE_DELAY)
        states = await self._read(batch)
        if states is None or not self._handle_states(batch, states, error):
            self._bisect(batch, error)

    def _handle_states(self, batch: Batch, states: Mapping[str, ServerState], refusal: ApiError) -> bool:
        """Handle each server by what its state shows; False if none shows a cause."""
        clear, by_cause = partition_by_cause(self._tracker.action, batch.remaining, states)
        if is_transient(refusal) and RefusalCause.ALREADY_SO in by_cause:
            # A server with an action that has just begun is refused for it, and may not show it yet.
            by_cause[RefusalCause.SEEMINGLY_SO] = by_cause.pop(RefusalCause.ALREADY_SO)
        for cause, ids in by_cause.items():
            self._handle_cause(batch, cause, ids, states, refusal)
        if by_cause and clear and not self._tracker.stopping:
            self._scheduler.requeue(batch.split_off(clear))
        return bool(by_cause)

    def _defer_together(self, batch: Batch, error: CallError) -> bool:
        """Defer servers together that were all busy the last time; False if that has been done often enough."""
        ids = batch.remaining
        if not all(
            server_id in batch.earlier and batch.earlier[server_id].deferrals <= _MAX_JOINT_DEFERRALS
            for server_id in ids
        ):
            return False
        for server_id in ids:
            self._scheduler.defer_or_conclude(server_id, batch, _failed_or_unknown(batch, server_id), error)
        return True

    async def _read(self, batch: Batch) -> Mapping[str, ServerState] | None:
        if batch.state_reads >= _MAX_STATE_READS:
            return None
        try:
            states = await self._reader.read(batch.remaining)
        except ClientClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - credentials may raise anything
            batch.state_reads = _MAX_STATE_READS
            self._tracker.record_fault(error)
            _log.info(
                "%s: states cannot be read, so the batch is bisected: %s", self._tracker.action, type(error).__name__
            )
            return None
        batch.state_reads += states is not None
        return states

    def _handle_cause(
        self, batch: Batch, cause: RefusalCause, ids: list[str], states: Mapping[str, ServerState], refusal: ApiError
    ) -> None:
        tracker = self._tracker
        not_found = cause is RefusalCause.MISSING and remedy_of(refusal) is Remedy.NOT_FOUND
        if cause in _UNCERTAIN_CAUSES or (cause is RefusalCause.MISSING and not not_found):
            if not tracker.stopping:
                self._scheduler.requeue(batch.split_off(ids, shared_cause=cause))
            return
        for server_id in ids:
            if cause is RefusalCause.ALREADY_SO:
                tracker.conclude(server_id, OutcomeState.UNCHANGED, batch=batch)
            elif not_found:
                tracker.conclude(server_id, _failed_or_unknown(batch, server_id), batch=batch, error=refusal)
            else:
                server_state = states.get(server_id)
                error = explain_state(
                    tracker.action,
                    server_id,
                    server_state,
                    text=f"busy, and the cloud refused its batch ({refusal})",
                    code=code_of(tracker.action, cause, server_state),
                )
                error.__cause__ = refusal
                self._scheduler.defer_or_conclude(server_id, batch, _failed_or_unknown(batch, server_id), error)

    def _bisect(self, batch: Batch, error: CallError) -> None:
        ids = batch.remaining
        max_splits = _MAX_SPLITS if concerns_one_server(error) else _MAX_SPLITS_VAGUE
        used = batch.split_budget.batches_sent if batch.split_budget is not None else 0
        if self._tracker.stopping or used + 2 > max_splits:
            self._conclude_refused(batch, error)
            return
        middle = len(ids) // 2
        for half in (ids[:middle], ids[middle:]):
            self._scheduler.requeue(batch.split_off(half))

    def _conclude_refused(self, batch: Batch, error: CallError) -> None:
        ids = batch.remaining
        judged = judge_refusal(self._tracker.action, error, 1 if _applies_to_each(batch, error) else len(ids))
        for server_id in ids:
            state = _failed_or_unknown(batch, server_id) if judged is OutcomeState.FAILED else judged
            self._scheduler.defer_or_conclude(server_id, batch, state, error, may_retry=is_transient(error))


_UNCERTAIN_CAUSES = (RefusalCause.LOCKED, RefusalCause.FAULTY, RefusalCause.SEEMINGLY_SO)
"""States that may be the cause and need not be: the servers of one kind are sent as a batch of their own."""


def _applies_to_each(batch: Batch, error: CallError) -> bool:
    """Return whether a refusal applies to each server of a batch, since all are suspected of the same cause."""
    if batch.shared_cause is None:
        return False
    # "Already as asked" applies to all only if the states of all look so.
    return batch.shared_cause is RefusalCause.SEEMINGLY_SO or remedy_of(error) is not Remedy.ALREADY_THERE


def _failed_or_unknown(batch: Batch, server_id: str) -> OutcomeState:
    """Return the state of a refused server: UNKNOWN if an earlier attempt, whose response was lost, may have worked."""
    return OutcomeState.UNKNOWN if batch.is_in_doubt(server_id) else OutcomeState.FAILED
