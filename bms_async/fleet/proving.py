"""Proof by states: what the servers' own states prove where the response of a call or its job was lost.

What it guarantees: an outcome is given only where a state proves it (R2), by the table of `evidence.infer_outcome`;
and only servers that a second attempt cannot harm are returned to be sent again, which the submitter does for a start
or a stop and never for a reboot (R3).

What was *seen* of a server since it was sent is all that counts: it was starting, stopping or being rebooted, or it
was not in the requested state. It is kept from one attempt to the next. A server that was refused because it was being
rebooted already has to be seen at rest before a reboot counts as this run's.

States are read at growing intervals: for a minute while no server is busy, since the batch may have waited in the
cloud for as long, and for half an hour while one is.

Rejected: the field `updated`. A rename changes it as well, and to compare it with the time of the call takes two
clocks that agree.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping

import anyio
import anyio.lowlevel

from bms_async.errors import ClientClosedError
from bms_async.wire import NO_RETRY, RetryPolicy

from .batch import Batch
from .evidence import REBOOTING, Evidence, ServerState, evidence_of, explain_state, infer_outcome, recheck_outcome
from .outcome import Outcome, OutcomeState, code_of_error
from .outcomes import Outcomes
from .server_reader import free, index_ids
from .sharded import Table
from .state_reader import StateReader
from .tracker import YIELD_EVERY, RunTracker

_log = logging.getLogger("bms_async.fleet")

_IDLE_TIMEOUT = 60.0
"""Seconds for which idle servers are watched: their batch may have waited in the cloud for as long."""

_BUSY_TIMEOUT = 1800.0
"""Seconds for which busy servers are watched."""

_POLL_DELAYS = (2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds between two readings; the last counts for all later ones."""

_SECONDS_A_CALL = 0.25
"""Seconds by which each call of a reading delays the next reading."""

_VERIFY_DELAYS = (0.0, 2.0, 5.0, 10.0)
"""Seconds before each reading when outcomes are verified: a state may lag behind the job that has changed it."""


class StateProver:
    """Reads states until they prove something, or for as long as that may happen.

    Args:
        tracker: Takes the outcomes.
        reader: Reads states.
    """

    def __init__(self, tracker: RunTracker, reader: StateReader) -> None:
        self._tracker = tracker
        self._reader = reader
        # Kept from one attempt to the next, and until outcomes are verified.
        self._seen: Table[Evidence] = Table()

    async def prove(self, batch: Batch) -> list[str]:
        """Give servers of a batch their outcomes where their states prove one.

        Args:
            batch: The batch; its `error` says why its servers are unknown.

        Returns:
            Servers without an outcome that the cloud shows: it does no harm to start or stop them again. Servers that
            it does not show are left without an outcome as well.
        """
        pending = self._tracker.intake.pending
        left = {server_id for server_id in batch.remaining if pending.get(server_id) is not None}
        rebooted_before = _rebooted_before(batch)
        busy: set[str] = set()
        shown: set[str] = set()
        started = anyio.current_time()
        delays = _poll_delays()
        while left:
            calls_before = self._reader.calls
            for server_id, server_state in (await self._read_or_nothing(left)).items():
                shown.add(server_id)
                if self._conclude(server_id, server_state, batch, rebooted_before):
                    left.discard(server_id)
                (busy.add if self._is_worth_waiting_for(server_state) else busy.discard)(server_id)
            waited = anyio.current_time() - started
            if waited >= _BUSY_TIMEOUT or (waited >= _IDLE_TIMEOUT and busy.isdisjoint(left)):
                break
            await anyio.sleep(max(next(delays), (self._reader.calls - calls_before) * _SECONDS_A_CALL))
        return [server_id for server_id in batch.ids if server_id in left and server_id in shown]

    async def prove_now(self, batches: Collection[Batch]) -> None:
        """Read the states of batches that are no longer followed once, and conclude what they prove."""
        pending = self._tracker.intake.pending
        numbered = tuple(batches)
        # The index of its batch: a table of batches would have to be visited by the garbage collector.
        owners: Table[int] = Table()
        rebooted_before: set[str] = set()
        for number, batch in enumerate(numbered):
            for server_id in batch.remaining:
                owners[server_id] = number
            rebooted_before |= _rebooted_before(batch)
            await anyio.lowlevel.checkpoint()
        remaining = (server_id for batch in numbered for server_id in batch.remaining)
        ids = await index_ids(server_id for server_id in remaining if pending.get(server_id) is not None)
        states = await self._read_or_nothing(ids) if ids else {}
        for index, (server_id, server_state) in enumerate(states.items()):
            self._conclude(server_id, server_state, numbered[owners.get(server_id) or 0], rebooted_before)
            if index % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()
        await free(ids)
        await free(states)

    async def verify(self) -> None:
        """Read back the states of all servers that have ended, and record their outcomes as the states have them."""
        tracker = self._tracker
        left = tracker.awaiting_verification or Outcomes()
        for reading, delay in enumerate(_VERIFY_DELAYS, 1):
            await anyio.sleep(delay)
            if not left:
                break
            ids = await index_ids(outcome.server_id for outcome in left)
            try:
                states = await self._read(ids)
            except ClientClosedError:
                raise
            except Exception as error:  # noqa: BLE001 - credentials may raise anything
                _log.warning("%s: states cannot be read back: %s", tracker.action, type(error).__name__)
                tracker.record_fault(error)
                tracker.unverified = len(left)
                continue
            tracker.unverified = 0
            left = await self._verify_each(left, states, last=reading == len(_VERIFY_DELAYS))
            await free(ids)
            await free(states)
        await tracker.release_held()

    async def _verify_each(self, outcomes: Outcomes, states: Mapping[str, ServerState], *, last: bool) -> Outcomes:
        """Verify outcomes as far as the states allow, and return those that are left."""
        tracker = self._tracker
        left = Outcomes()
        for index, outcome in enumerate(outcomes):
            verified = self._verify(outcome, states.get(outcome.server_id), last=last)
            if verified is None:
                left.append(outcome)
            else:
                tracker.verified_count += 1
                if verified is not outcome:
                    tracker.verified[outcome.server_id] = verified
            if index % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()
        return left

    def _verify(self, outcome: Outcome, server_state: ServerState | None, *, last: bool) -> Outcome | None:
        tracker = self._tracker
        seen = Evidence.NOTHING
        if outcome.state is OutcomeState.UNKNOWN and server_state is not None:
            seen = self._record_evidence(outcome.server_id, server_state)
        state = recheck_outcome(tracker.action, outcome.state, server_state, seen, last=last)
        if state is None or state is outcome.state:
            return None if state is None else outcome
        text = "the cloud reported it as asked" if outcome.state.is_success else "its outcome was unknown"
        error = explain_state(tracker.action, outcome.server_id, server_state, text=text)
        error.__cause__ = outcome.error
        return tracker.with_state(outcome, state, error)

    def _record_evidence(self, server_id: str, server_state: ServerState) -> Evidence:
        """Add what a state shows to what was seen of a server so far, and return all of it."""
        seen = (self._seen.get(server_id) or Evidence.NOTHING) | evidence_of(self._tracker.action, server_state)
        self._seen[server_id] = seen
        return seen

    def _is_worth_waiting_for(self, server_state: ServerState) -> bool:
        """Return whether waiting may prove something: for a reboot, if it is being rebooted; else if it is busy."""
        return server_state.is_rebooting if self._tracker.action == "servers.reboot" else server_state.is_busy

    def _conclude(self, server_id: str, server_state: ServerState, batch: Batch, rebooted_before: set[str]) -> bool:
        """Give a server the outcome that its state proves; return False if it proves none."""
        if server_id in rebooted_before and server_state.is_rebooting:
            # The reboot of before may not be over yet.
            return False
        rebooted_before.discard(server_id)
        state = infer_outcome(self._tracker.action, server_state, self._record_evidence(server_id, server_state))
        if state is None:
            return False
        self._seen[server_id] = Evidence.NOTHING
        error = None
        if state is OutcomeState.FAILED:
            text = "the action was seen in progress, and the server is not as asked"
            error = explain_state(self._tracker.action, server_id, server_state, text=text)
            error.__cause__ = batch.error
        self._tracker.conclude(server_id, state, batch=batch, job_id=batch.job_id, error=error)
        return True

    async def _read_or_nothing(self, ids: Collection[str]) -> Mapping[str, ServerState]:
        try:
            # States are read again and again, so that a single call need not be retried.
            return await self._read(ids, retry=NO_RETRY)
        except ClientClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - credentials may raise anything
            _log.info("%s: states cannot be read: %s", self._tracker.action, type(error).__name__)
            self._tracker.record_fault(error)
            return {}

    async def _read(self, ids: Collection[str], *, retry: RetryPolicy | None = None) -> Mapping[str, ServerState]:
        return await self._reader.read(ids, exhaustive=True, retry=retry) or {}


def _rebooted_before(batch: Batch) -> set[str]:
    """Return the servers of a batch that the cloud refused earlier because they were being rebooted.

    A reboot seen of one of them proves nothing until the server was seen at rest: it may be the earlier one.
    """
    return {server_id for server_id, earlier in batch.earlier.items() if code_of_error(earlier.error) == REBOOTING}


def _poll_delays() -> Iterator[float]:
    yield from _POLL_DELAYS
    while True:
        yield _POLL_DELAYS[-1]
