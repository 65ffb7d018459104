"""Finding the servers that a batch was refused for, so that the others can go on."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import anyio

from bms_async.errorcodes import Remedy
from bms_async.errors import ApiError, CallError, ClientClosedError

from .batch import Batch
from .evidence import RefusalCause, ServerState, code_of, explain_state, partition_by_cause
from .outcome import OutcomeState, concerns_one_server, is_transient, judge_refusal, may_concern_one_server, remedy_of
from .scheduler import BatchScheduler
from .state_reader import StateReader
from .tracker import RunTracker

_log = logging.getLogger("bms_async.fleet")

_SETTLE_DELAY = 5.0
"""Seconds to wait before states are read, where a server was refused because it is just being changed."""

_MAX_JOINT_DEFERRALS = 3
"""How often servers that were busy together are put off together, before it is asked which of them still are."""

_MAX_STATE_READS = 2
"""How often states are read for one and the same server because its batch was refused."""

_MAX_SPLITS = 240
"""How many batches a refused one is parted into at most, where the refusal is about a server."""

_MAX_SPLITS_VAGUE = 24
"""The same where it may be about the request as a whole: enough to find one server in a thousand."""


class Isolation:
    """Deals with refused batches.

    Args:
        tracker: Where outcomes go.
        scheduler: Where the parts of a batch go.
        reader: What reads states.
    """

    def __init__(self, tracker: RunTracker, scheduler: BatchScheduler, reader: StateReader) -> None:
        self._tracker = tracker
        self._scheduler = scheduler
        self._reader = reader

    async def handle_refusal(self, batch: Batch, error: CallError) -> None:
        """Give the servers of a refused batch their outcomes, or have them asked for again.

        Args:
            batch: The batch; the cloud did surely not act on it.
            error: The refusal.
        """
        ids = batch.remaining
        batch.error = error
        whole = (
            len(ids) == 1
            or _applies_to_each(batch, error)
            or self._tracker.stopping
            or not may_concern_one_server(error)
        )
        if whole or not isinstance(error, ApiError):
            self._conclude_refused(batch, error)
            return
        if is_transient(error) and self._defer_together(batch, error):
            return
        if is_transient(error):
            # What a server has just been told to do does not show at once.
            await anyio.sleep(_SETTLE_DELAY)
        states = await self._read(batch)
        if states is not None:
            innocent, suspects = partition_by_cause(self._tracker.action, ids, states)
            if is_transient(error) and RefusalCause.ALREADY_SO in suspects:
                # One that has just been told to do something is refused for it, and does not show it yet.
                suspects[RefusalCause.SEEMINGLY_SO] = suspects.pop(RefusalCause.ALREADY_SO)
            if suspects:
                for why, suspected in suspects.items():
                    self._handle_cause(batch, why, suspected, states, error)
                if innocent and not self._tracker.stopping:
                    self._scheduler.requeue(batch.split_off(innocent))
                return
        self._bisect(batch, error)

    def _defer_together(self, batch: Batch, error: CallError) -> bool:
        """Have servers wait on together that were busy the last time: one of them still is, or some are."""
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
        if batch.readings >= _MAX_STATE_READS:
            return None
        try:
            states = await self._reader.read(batch.remaining)
        except ClientClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - credentials may raise anything
            batch.readings = _MAX_STATE_READS
            self._tracker.record_fault(error)
            _log.info("%s: states cannot be read, so halves are tried: %s", self._tracker.action, type(error).__name__)
            return None
        batch.readings += states is not None
        return states

    def _handle_cause(
        self, batch: Batch, why: RefusalCause, ids: list[str], states: Mapping[str, ServerState], refusal: ApiError
    ) -> None:
        tracker = self._tracker
        unknown = why is RefusalCause.MISSING and remedy_of(refusal) is Remedy.NOT_FOUND
        if why in _TO_BE_TRIED or (why is RefusalCause.MISSING and not unknown):
            # It is not sure that these are why: what the cloud says of them alone is.
            if not tracker.stopping:
                self._scheduler.requeue(batch.split_off(ids, shared_cause=why))
            return
        for server_id in ids:
            if why is RefusalCause.ALREADY_SO:
                tracker.conclude(server_id, OutcomeState.UNCHANGED, batch=batch)
            elif unknown:
                tracker.conclude(server_id, _failed_or_unknown(batch, server_id), batch=batch, error=refusal)
            else:
                server_state = states.get(server_id)
                error = explain_state(
                    tracker.action,
                    server_id,
                    server_state,
                    text=f"busy, and the cloud refused its batch ({refusal})",
                    code=code_of(tracker.action, why, server_state),
                )
                error.__cause__ = refusal
                self._scheduler.defer_or_conclude(server_id, batch, _failed_or_unknown(batch, server_id), error)

    def _bisect(self, batch: Batch, error: CallError) -> None:
        ids = batch.remaining
        most = _MAX_SPLITS if concerns_one_server(error) else _MAX_SPLITS_VAGUE
        if self._tracker.stopping or (batch.split_budget is not None and batch.split_budget.batches_sent + 2 > most):
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


_TO_BE_TRIED = (RefusalCause.LOCKED, RefusalCause.FAULTY, RefusalCause.SEEMINGLY_SO)
"""What may speak against a server and need not; what the cloud says of all such servers together tells."""


def _applies_to_each(batch: Batch, error: CallError) -> bool:
    """Tell whether what is said of a batch is said of each of its servers, which are suspects of one kind."""
    if batch.shared_cause is None:
        return False
    # That a server already is so holds for another only if that one looks so too.
    return batch.shared_cause is RefusalCause.SEEMINGLY_SO or remedy_of(error) is not Remedy.ALREADY_THERE


def _failed_or_unknown(batch: Batch, server_id: str) -> OutcomeState:
    """What a server is that was refused: an earlier try of which no answer came may have been taken."""
    return OutcomeState.UNKNOWN if batch.is_in_doubt(server_id) else OutcomeState.FAILED
