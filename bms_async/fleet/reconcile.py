"""Finding out from the servers' own states what no answer and no job tells."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping

import anyio
import anyio.lowlevel

from bms_async.errors import ClientClosedError
from bms_async.wire import NO_RETRY, RetryPolicy

from .batch import Batch
from .evidence import REBOOTING, Evidence, ServerState, evidence_of, explain_state, infer_outcome, verify
from .outcome import Outcome, OutcomeState, code_of_error
from .state_reader import StateReader
from .tracker import YIELD_EVERY, RunTracker

_log = logging.getLogger("bms_async.fleet")

_IDLE_TIMEOUT = 60.0
"""Seconds after which a server that is at nothing is given up: its batch may have waited in the cloud for that long."""

_BUSY_TIMEOUT = 1800.0
"""Seconds for which a server that is busy is watched."""

_POLL_DELAYS = (2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds between two looks; the last counts for all later ones."""

_SECONDS_A_CALL = 0.25
"""Seconds that each call of a look puts off the next one."""

_VERIFY_DELAYS = (0.0, 2.0, 5.0, 10.0)
"""Seconds before each look when outcomes are verified: a state may lag behind the job that has changed it."""


class Reconciler:
    """Reads states until they prove something, or it is no use.

    Args:
        tracker: Where the outcomes go.
        reader: What reads states.
    """

    def __init__(self, tracker: RunTracker, reader: StateReader) -> None:
        self._tracker = tracker
        self._reader = reader
        # Kept from one try to the next, and until outcomes are verified; only of those that were once looked at.
        self._seen: dict[str, Evidence] = {}

    async def reconcile(self, batch: Batch) -> list[str]:
        """Give those servers of a batch an outcome of which the cloud told nothing.

        Args:
            batch: The batch; its `error` is why nothing was told.

        Returns:
            The servers that are shown and prove nothing: they have no outcome yet. It does no harm to start or stop
            them again. Others that prove nothing have none either.
        """
        unsettled = self._tracker.intake.pending
        left = {server_id for server_id in batch.remaining if unsettled.get(server_id) is not None}
        others = _rebooted_by_others(batch)
        busy: set[str] = set()
        shown: set[str] = set()
        begun = anyio.current_time()
        looks = _delays()
        while left:
            before = self._reader.calls
            for server_id, server_state in (await self._look(left)).items():
                shown.add(server_id)
                if self._conclude(server_id, server_state, batch, others):
                    left.discard(server_id)
                (busy.add if self._is_worth_waiting_for(server_state) else busy.discard)(server_id)
            waited = anyio.current_time() - begun
            if waited >= _BUSY_TIMEOUT or (waited >= _IDLE_TIMEOUT and busy.isdisjoint(left)):
                break
            await anyio.sleep(max(next(looks), (self._reader.calls - before) * _SECONDS_A_CALL))
        return [server_id for server_id in batch.ids if server_id in left and server_id in shown]

    async def reconcile_now(self, batches: Collection[Batch]) -> None:
        """Look once at the servers of batches that are not watched any more, and conclude what that proves."""
        unsettled = self._tracker.intake.pending
        owners: dict[str, Batch] = {}
        others: set[str] = set()
        for batch in batches:
            owners |= {server_id: batch for server_id in batch.remaining if unsettled.get(server_id) is not None}
            others |= _rebooted_by_others(batch)
            await anyio.lowlevel.checkpoint()
        states = await self._look(owners) if owners else {}
        for place, (server_id, server_state) in enumerate(states.items()):
            self._conclude(server_id, server_state, owners[server_id], others)
            if place % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()

    async def verify(self) -> None:
        """Read back the states of all that have ended, and tell their outcomes as the states have them."""
        tracker = self._tracker
        pending = {outcome.server_id: outcome for outcome in tracker.awaiting_verification or ()}
        for number, delay in enumerate(_VERIFY_DELAYS, 1):
            await anyio.sleep(delay)
            if not pending:
                break
            last = number == len(_VERIFY_DELAYS)
            try:
                states = await self._read(pending)
            except ClientClosedError:
                raise
            except Exception as error:  # noqa: BLE001 - credentials may raise anything
                _log.warning("%s: states cannot be read back: %s", tracker.action, type(error).__name__)
                tracker.record_fault(error)
                tracker.unverified = len(pending)
                continue
            tracker.unverified = 0
            for place, outcome in enumerate(list(pending.values())):
                verdict = self._verify(outcome, states.get(outcome.server_id), last=last)
                if verdict is not None:
                    tracker.judged[outcome.server_id] = verdict
                    del pending[outcome.server_id]
                if place % YIELD_EVERY == 0:
                    await anyio.lowlevel.checkpoint()
        await tracker.release_held()

    def _verify(self, outcome: Outcome, server_state: ServerState | None, *, last: bool) -> Outcome | None:
        tracker = self._tracker
        seen = Evidence.NOTHING
        if outcome.state is OutcomeState.UNKNOWN and server_state is not None:
            seen = self._note(outcome.server_id, server_state)
        state = verify(tracker.action, outcome.state, server_state, seen, last=last)
        if state is None or state is outcome.state:
            return None if state is None else outcome
        text = "the cloud said that it is as asked" if outcome.state.is_success else "nothing told what became of it"
        error = explain_state(tracker.action, outcome.server_id, server_state, text=text)
        error.__cause__ = outcome.error
        return tracker.with_state(outcome, state, error)

    def _note(self, server_id: str, server_state: ServerState) -> Evidence:
        """Remember what a look shows, and return all that was seen of a server so far."""
        seen = self._seen.get(server_id, Evidence.NOTHING) | evidence_of(self._tracker.action, server_state)
        self._seen[server_id] = seen
        return seen

    def _is_worth_waiting_for(self, server_state: ServerState) -> bool:
        """Whether it may still prove something: a reboot, once it is being rebooted; else whatever is busy."""
        return server_state.is_rebooting if self._tracker.action == "servers.reboot" else server_state.is_busy

    def _conclude(self, server_id: str, server_state: ServerState, batch: Batch, others: set[str]) -> bool:
        """Give a server the outcome that its state proves; False if it proves none."""
        if server_id in others and server_state.is_rebooting:
            # It was so before it was asked for, and that may not be over yet.
            return False
        others.discard(server_id)
        state = infer_outcome(self._tracker.action, server_state, self._note(server_id, server_state))
        if state is None:
            return False
        del self._seen[server_id]
        why = None
        if state is OutcomeState.FAILED:
            text = "it was seen at what it was asked for, and is not as asked"
            why = explain_state(self._tracker.action, server_id, server_state, text=text)
            why.__cause__ = batch.error
        self._tracker.conclude(server_id, state, batch=batch, job_id=batch.job_id, error=why)
        return True

    async def _look(self, ids: Collection[str]) -> Mapping[str, ServerState]:
        try:
            # Who looks again and again need not try again.
            return await self._read(ids, retry=NO_RETRY)
        except ClientClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - credentials may raise anything
            _log.info("%s: states cannot be read: %s", self._tracker.action, type(error).__name__)
            self._tracker.record_fault(error)
            return {}

    async def _read(self, ids: Collection[str], *, retry: RetryPolicy | None = None) -> Mapping[str, ServerState]:
        return await self._reader.read(ids, exhaustive=True, retry=retry) or {}


def _rebooted_by_others(batch: Batch) -> set[str]:
    """Return the servers of a batch that were being rebooted when the cloud refused them, before they were asked again.

    A reboot that is seen of one of them proves nothing until it was seen at rest: it may be the one of before.
    """
    return {server_id for server_id, past in batch.earlier.items() if code_of_error(past.error) == REBOOTING}


def _delays() -> Iterator[float]:
    yield from _POLL_DELAYS
    while True:
        yield _POLL_DELAYS[-1]
