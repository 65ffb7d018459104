"""Finding out from the servers' own states what no answer and no job tells."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime

import anyio
import anyio.lowlevel

from bms_async.errors import BmsError, CallError
from bms_async.wire import NO_RETRY, RetryPolicy

from .batch import Batch
from .books import AT_A_TIME, Books
from .evidence import Glimpse, explain_state, moved_since, prove, verify
from .outcome import Outcome, OutcomeState
from .states import StateReader

_log = logging.getLogger("bms_async.fleet")

_QUIET = 60.0
"""Seconds after which a server that does not move is given up: its batch may have waited in the cloud for that long."""

_MOVING = 1800.0
"""Seconds for which a server that moves is watched."""

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

    async def settle(self, batch: Batch, error: BmsError, *, job_id: str | None = None) -> list[str]:
        """Give those servers of a batch an outcome of which the cloud told nothing.

        Args:
            batch: The batch.
            error: Why nothing was told.
            job_id: Its job, if it came to one.

        Returns:
            The servers that rest and are not as asked, so that it does no harm to ask again. Others that prove nothing
            have no outcome yet either.
        """
        unsettled = self._books.intake.unsettled
        left = {server_id for server_id in batch.staying if unsettled.get(server_id) is not None}
        moved: set[str] = set()
        first: dict[str, datetime | None] = {}
        begun = anyio.current_time()
        looks = _delays()
        while left:
            before = self._reader.calls
            states = await self._look(left)
            for server_id, glimpse in states.items():
                if self._sees_moving(batch, glimpse, first.setdefault(server_id, glimpse.updated)):
                    moved.add(server_id)
                state = prove(self._books.action, glimpse, moved=server_id in moved)
                if state is not None:
                    self._prove(batch, glimpse, state, error, job_id)
                    left.discard(server_id)
            waited = anyio.current_time() - begun
            if waited >= _MOVING or (waited >= _QUIET and moved.isdisjoint(left)):
                break
            await anyio.sleep(max(next(looks), (self._reader.calls - before) * _SECONDS_A_CALL))
        return [server_id for server_id in batch.ids if server_id in left and server_id in first]

    async def verify(self) -> None:
        """Read back the states of all that have ended, and tell their outcomes as the states have them."""
        books = self._books
        held = books.held or ()
        judged: dict[str, Outcome] = {}
        pending = {outcome.server_id: outcome for outcome in held}
        for number, delay in enumerate(_VERIFYING, 1):
            await anyio.sleep(delay)
            if not pending:
                break
            last = number == len(_VERIFYING)
            try:
                states = await self._read(pending)
            except CallError as error:
                _log.warning("%s: states cannot be read back: %s", books.action, type(error).__name__)
                books.unverified = len(pending)
                continue
            books.unverified = 0
            for place, outcome in enumerate(list(pending.values())):
                verdict = self._verify(outcome, states.get(outcome.server_id), last=last)
                if verdict is not None:
                    judged[outcome.server_id] = verdict
                    del pending[outcome.server_id]
                if place % AT_A_TIME == 0:
                    await anyio.lowlevel.checkpoint()
        await books.release(judged)

    def _verify(self, outcome: Outcome, glimpse: Glimpse | None, *, last: bool) -> Outcome | None:
        books = self._books
        moved = glimpse is not None and moved_since(glimpse, outcome.started, ahead=books.ahead)
        state = verify(books.action, outcome.state, glimpse, moved=moved, last=last)
        if state is None or state is outcome.state:
            return None if state is None else outcome
        text = "the cloud said that it is as asked" if outcome.state.is_good else "nothing told what became of it"
        error = explain_state(books.action, outcome.server_id, glimpse, text=text)
        error.__cause__ = outcome.error
        return books.replace(outcome, state, error)

    def _sees_moving(self, batch: Batch, glimpse: Glimpse, updated: datetime | None) -> bool:
        busy = glimpse.is_rebooting if self._books.action == "servers.reboot" else glimpse.is_busy
        if busy or glimpse.updated != updated:
            return True
        return moved_since(glimpse, batch.started_for(glimpse.id), ahead=self._books.ahead)

    def _prove(self, batch: Batch, glimpse: Glimpse, state: OutcomeState, error: BmsError, job_id: str | None) -> None:
        why = None
        if state is OutcomeState.FAILED:
            text = "it has changed since it was asked for, and is not as asked"
            why = explain_state(self._books.action, glimpse.id, glimpse, text=text)
            why.__cause__ = error
        self._books.conclude(glimpse.id, state, batch=batch, job_id=job_id, error=why)

    async def _look(self, ids: Collection[str]) -> Mapping[str, Glimpse]:
        try:
            # Who looks again and again need not try again.
            return await self._read(ids, retry=NO_RETRY)
        except CallError as error:
            _log.info("%s: states cannot be read: %s", self._books.action, type(error).__name__)
            return {}

    async def _read(self, ids: Collection[str], *, retry: RetryPolicy | None = None) -> Mapping[str, Glimpse]:
        return await self._reader.read(ids, at_any_price=True, retry=retry) or {}


def _delays() -> Iterator[float]:
    yield from _LOOKS
    while True:
        yield _LOOKS[-1]
