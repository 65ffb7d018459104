"""Finding the servers that a batch was refused for, so that the others can go on."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import anyio

from bms_async.errorcodes import Remedy
from bms_async.errors import ApiError, CallError, ClientClosedError

from .batch import Batch
from .evidence import Glimpse, Suspicion, code_of, explain_state, sort_out
from .outcome import OutcomeState, is_transient, judge_refusal, may_be_of_one, remedy_of, speaks_of_one
from .scheduler import Line
from .state_reader import StateReader
from .tracker import Books

_log = logging.getLogger("bms_async.fleet")

_SHOWING = 5.0
"""Seconds to wait before states are read, where a server was refused because it is just being changed."""

_WAITED_FOR = 3
"""How often servers that were busy together are put off together, before it is asked which of them still are."""

_MOST_READINGS = 2
"""How often states are read for one and the same server because its batch was refused."""

_MOST_PARTS = 240
"""How many batches a refused one is parted into at most, where the refusal is about a server."""

_FEW_PARTS = 24
"""The same where it may be about the request as a whole: enough to find one server in a thousand."""


class Isolation:
    """Deals with refused batches.

    Args:
        books: Where outcomes go.
        line: Where the parts of a batch go.
        reader: What reads states.
    """

    def __init__(self, books: Books, line: Line, reader: StateReader) -> None:
        self._books = books
        self._line = line
        self._reader = reader

    async def take(self, batch: Batch, error: CallError) -> None:
        """Give the servers of a refused batch their outcomes, or have them asked for again.

        Args:
            batch: The batch; the cloud did surely not act on it.
            error: The refusal.
        """
        ids = batch.staying
        batch.error = error
        whole = len(ids) == 1 or _holds_for_each(batch, error) or self._books.stopping or not may_be_of_one(error)
        if whole or not isinstance(error, ApiError):
            self._refuse(batch, error)
            return
        if is_transient(error) and self._put_off_again(batch, error):
            return
        if is_transient(error):
            # What a server has just been told to do does not show at once.
            await anyio.sleep(_SHOWING)
        states = await self._read(batch)
        if states is not None:
            innocent, suspects = sort_out(self._books.action, ids, states)
            if is_transient(error) and Suspicion.ALREADY_SO in suspects:
                # One that has just been told to do something is refused for it, and does not show it yet.
                suspects[Suspicion.SEEMINGLY_SO] = suspects.pop(Suspicion.ALREADY_SO)
            if suspects:
                for why, suspected in suspects.items():
                    self._deal_with(batch, why, suspected, states, error)
                if innocent and not self._books.stopping:
                    self._line.push(batch.part(innocent))
                return
        self._halve(batch, error)

    def _put_off_again(self, batch: Batch, error: CallError) -> bool:
        """Have servers wait on together that were busy the last time: one of them still is, or some are."""
        ids = batch.staying
        if not all(server_id in batch.past and batch.past[server_id].tries <= _WAITED_FOR for server_id in ids):
            return False
        for server_id in ids:
            state = _failed(batch, server_id)
            if not self._line.put_off(server_id, batch, state, error):
                self._books.conclude(server_id, state, batch=batch, error=error)
        return True

    async def _read(self, batch: Batch) -> Mapping[str, Glimpse] | None:
        if batch.readings >= _MOST_READINGS:
            return None
        try:
            states = await self._reader.read(batch.staying)
        except ClientClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - credentials may raise anything
            batch.readings = _MOST_READINGS
            self._books.keep_fault(error)
            _log.info("%s: states cannot be read, so halves are tried: %s", self._books.action, type(error).__name__)
            return None
        batch.readings += states is not None
        return states

    def _deal_with(
        self, batch: Batch, why: Suspicion, ids: list[str], states: Mapping[str, Glimpse], refusal: ApiError
    ) -> None:
        books = self._books
        unknown = why is Suspicion.MISSING and remedy_of(refusal) is Remedy.NOT_FOUND
        if why in _TO_BE_TRIED or (why is Suspicion.MISSING and not unknown):
            # It is not sure that these are why: what the cloud says of them alone is.
            if not books.stopping:
                self._line.push(batch.part(ids, alike=why))
            return
        for server_id in ids:
            if why is Suspicion.ALREADY_SO:
                books.conclude(server_id, OutcomeState.UNCHANGED, batch=batch)
            elif unknown:
                books.conclude(server_id, _failed(batch, server_id), batch=batch, error=refusal)
            else:
                glimpse = states.get(server_id)
                error = explain_state(
                    books.action,
                    server_id,
                    glimpse,
                    text=f"busy, and the cloud refused its batch ({refusal})",
                    code=code_of(books.action, why, glimpse),
                )
                error.__cause__ = refusal
                state = _failed(batch, server_id)
                if not self._line.put_off(server_id, batch, state, error):
                    books.conclude(server_id, state, batch=batch, error=error)

    def _halve(self, batch: Batch, error: CallError) -> None:
        ids = batch.staying
        most = _MOST_PARTS if speaks_of_one(error) else _FEW_PARTS
        if self._books.stopping or (batch.course is not None and batch.course.calls + 2 > most):
            self._refuse(batch, error)
            return
        middle = len(ids) // 2
        for half in (ids[:middle], ids[middle:]):
            self._line.push(batch.part(half))

    def _refuse(self, batch: Batch, error: CallError) -> None:
        ids = batch.staying
        judged = judge_refusal(self._books.action, error, 1 if _holds_for_each(batch, error) else len(ids))
        for server_id in ids:
            state = _failed(batch, server_id) if judged is OutcomeState.FAILED else judged
            if not (is_transient(error) and self._line.put_off(server_id, batch, state, error)):
                self._books.conclude(server_id, state, batch=batch, error=error)


_TO_BE_TRIED = (Suspicion.LOCKED, Suspicion.FAULTY, Suspicion.SEEMINGLY_SO)
"""What may speak against a server and need not; what the cloud says of all such servers together tells."""


def _holds_for_each(batch: Batch, error: CallError) -> bool:
    """Tell whether what is said of a batch is said of each of its servers, which are suspects of one kind."""
    if batch.alike is None:
        return False
    # That a server already is so holds for another only if that one looks so too.
    return batch.alike is Suspicion.SEEMINGLY_SO or remedy_of(error) is not Remedy.ALREADY_THERE


def _failed(batch: Batch, server_id: str) -> OutcomeState:
    """What a server is that was refused: an earlier try of which no answer came may have been taken."""
    return OutcomeState.UNKNOWN if batch.is_in_doubt(server_id) else OutcomeState.FAILED
