"""Finding out from the servers' own states what no answer and no job tells."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping

import anyio
import anyio.lowlevel

from bms_async.errors import ClientClosedError
from bms_async.wire import NO_RETRY, RetryPolicy

from .batch import Batch
from .evidence import REBOOTING, Glimpse, Seen, explain_state, prove, sight, verify
from .outcome import Outcome, OutcomeState, code_of_error
from .state_reader import StateReader
from .tracker import AT_A_TIME, Books

_log = logging.getLogger("bms_async.fleet")

_QUIET = 60.0
"""Seconds after which a server that is at nothing is given up: its batch may have waited in the cloud for that long."""

_BUSY = 1800.0
"""Seconds for which a server that is busy is watched."""

_LOOKS = (2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds between two looks; the last counts for all later ones."""

_SECONDS_A_CALL = 0.25
"""Seconds that each call of a look puts off the next one."""

_VERIFYING = (0.0, 2.0, 5.0, 10.0)
"""Seconds before each look when outcomes are verified: a state may lag behind the job that has changed it."""


class Settler:
    """Reads states until they prove something, or it is no use.

    Args:
        books: Where the outcomes go.
        reader: What reads states.
    """

    def __init__(self, books: Books, reader: StateReader) -> None:
        self._books = books
        self._reader = reader
        # Kept from one try to the next, and until outcomes are verified; only of those that were once looked at.
        self._seen: dict[str, Seen] = {}

    async def settle(self, batch: Batch) -> list[str]:
        """Give those servers of a batch an outcome of which the cloud told nothing.

        Args:
            batch: The batch; its `error` is why nothing was told.

        Returns:
            The servers that are shown and prove nothing: they have no outcome yet. It does no harm to start or stop
            them again. Others that prove nothing have none either.
        """
        unsettled = self._books.intake.unsettled
        left = {server_id for server_id in batch.staying if unsettled.get(server_id) is not None}
        others = _rebooted_by_others(batch)
        busy: set[str] = set()
        shown: set[str] = set()
        begun = anyio.current_time()
        looks = _delays()
        while left:
            before = self._reader.calls
            for server_id, glimpse in (await self._look(left)).items():
                shown.add(server_id)
                if self._conclude(server_id, glimpse, batch, others):
                    left.discard(server_id)
                (busy.add if self._is_worth_waiting_for(glimpse) else busy.discard)(server_id)
            waited = anyio.current_time() - begun
            if waited >= _BUSY or (waited >= _QUIET and busy.isdisjoint(left)):
                break
            await anyio.sleep(max(next(looks), (self._reader.calls - before) * _SECONDS_A_CALL))
        return [server_id for server_id in batch.ids if server_id in left and server_id in shown]

    async def settle_at_once(self, batches: Collection[Batch]) -> None:
        """Look once at the servers of batches that are not watched any more, and conclude what that proves."""
        unsettled = self._books.intake.unsettled
        owners: dict[str, Batch] = {}
        others: set[str] = set()
        for batch in batches:
            owners |= {server_id: batch for server_id in batch.staying if unsettled.get(server_id) is not None}
            others |= _rebooted_by_others(batch)
            await anyio.lowlevel.checkpoint()
        states = await self._look(owners) if owners else {}
        for place, (server_id, glimpse) in enumerate(states.items()):
            self._conclude(server_id, glimpse, owners[server_id], others)
            if place % AT_A_TIME == 0:
                await anyio.lowlevel.checkpoint()

    async def verify(self) -> None:
        """Read back the states of all that have ended, and tell their outcomes as the states have them."""
        books = self._books
        pending = {outcome.server_id: outcome for outcome in books.held or ()}
        for number, delay in enumerate(_VERIFYING, 1):
            await anyio.sleep(delay)
            if not pending:
                break
            last = number == len(_VERIFYING)
            try:
                states = await self._read(pending)
            except ClientClosedError:
                raise
            except Exception as error:  # noqa: BLE001 - credentials may raise anything
                _log.warning("%s: states cannot be read back: %s", books.action, type(error).__name__)
                books.keep_fault(error)
                books.unverified = len(pending)
                continue
            books.unverified = 0
            for place, outcome in enumerate(list(pending.values())):
                verdict = self._verify(outcome, states.get(outcome.server_id), last=last)
                if verdict is not None:
                    books.judged[outcome.server_id] = verdict
                    del pending[outcome.server_id]
                if place % AT_A_TIME == 0:
                    await anyio.lowlevel.checkpoint()
        await books.release()

    def _verify(self, outcome: Outcome, glimpse: Glimpse | None, *, last: bool) -> Outcome | None:
        books = self._books
        seen = Seen.NOTHING
        if outcome.state is OutcomeState.UNKNOWN and glimpse is not None:
            seen = self._note(outcome.server_id, glimpse)
        state = verify(books.action, outcome.state, glimpse, seen, last=last)
        if state is None or state is outcome.state:
            return None if state is None else outcome
        text = "the cloud said that it is as asked" if outcome.state.is_good else "nothing told what became of it"
        error = explain_state(books.action, outcome.server_id, glimpse, text=text)
        error.__cause__ = outcome.error
        return books.replace(outcome, state, error)

    def _note(self, server_id: str, glimpse: Glimpse) -> Seen:
        """Remember what a look shows, and return all that was seen of a server so far."""
        seen = self._seen.get(server_id, Seen.NOTHING) | sight(self._books.action, glimpse)
        self._seen[server_id] = seen
        return seen

    def _is_worth_waiting_for(self, glimpse: Glimpse) -> bool:
        """Whether it may still prove something: a reboot, once it is being rebooted; else whatever is busy."""
        return glimpse.is_rebooting if self._books.action == "servers.reboot" else glimpse.is_busy

    def _conclude(self, server_id: str, glimpse: Glimpse, batch: Batch, others: set[str]) -> bool:
        """Give a server the outcome that its state proves; False if it proves none."""
        if server_id in others and glimpse.is_rebooting:
            # It was so before it was asked for, and that may not be over yet.
            return False
        others.discard(server_id)
        state = prove(self._books.action, glimpse, self._note(server_id, glimpse))
        if state is None:
            return False
        del self._seen[server_id]
        why = None
        if state is OutcomeState.FAILED:
            text = "it was seen at what it was asked for, and is not as asked"
            why = explain_state(self._books.action, server_id, glimpse, text=text)
            why.__cause__ = batch.error
        self._books.conclude(server_id, state, batch=batch, job_id=batch.job_id, error=why)
        return True

    async def _look(self, ids: Collection[str]) -> Mapping[str, Glimpse]:
        try:
            # Who looks again and again need not try again.
            return await self._read(ids, retry=NO_RETRY)
        except ClientClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - credentials may raise anything
            _log.info("%s: states cannot be read: %s", self._books.action, type(error).__name__)
            self._books.keep_fault(error)
            return {}

    async def _read(self, ids: Collection[str], *, retry: RetryPolicy | None = None) -> Mapping[str, Glimpse]:
        return await self._reader.read(ids, at_any_price=True, retry=retry) or {}


def _rebooted_by_others(batch: Batch) -> set[str]:
    """Return the servers of a batch that were being rebooted when the cloud refused them, before they were asked again.

    A reboot that is seen of one of them proves nothing until it was seen at rest: it may be the one of before.
    """
    return {server_id for server_id, past in batch.past.items() if code_of_error(past.error) == REBOOTING}


def _delays() -> Iterator[float]:
    yield from _LOOKS
    while True:
        yield _LOOKS[-1]
