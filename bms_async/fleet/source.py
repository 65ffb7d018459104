"""Reading the ids that a run is about, no faster than it needs them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Collection, Generator, Iterable, Iterator
from contextlib import aclosing

import anyio
import anyio.lowlevel

from bms_async._foreign import call_foreign, call_foreign_now, iterate_foreign, iterate_foreign_async
from bms_async.errors import InvalidRequestError

from .tracker import YIELD_EVERY, RunTracker

_log = logging.getLogger("bms_async.fleet")

LINGER = 1.0
"""Seconds after which a slow source's ids go as they are, in a batch that is not full."""

_COPIED = {list: 200_000, set: 20_000, dict: 20_000, deque: 20_000}
"""What its caller may well use again while the run goes on, and how many of its ids are copied in no time (5 ms)."""

_CLOSING = 5.0
"""Seconds that a source has for what it does when it is closed."""

_WHAT = "the source of ids"


class IdSource:
    """Reads ids into the books.

    The ids are foreign code. Whatever making an iterator of them, iterating and closing raise is the run's error; the
    servers that came before have their outcomes all the same.

    Attributes:
        scope: Cancelling it ends the reading.
        last: When the last id came, by the loop's clock; None where ids cannot come slowly.
    """

    def __init__(self, ids: Iterable[str] | AsyncIterable[str], tracker: RunTracker) -> None:
        if isinstance(ids, str):
            raise InvalidRequestError("ids", ids, "an iterable of ids is wanted, not one string: put it in brackets")
        if isinstance(ids, bytes) or not isinstance(ids, Iterable | AsyncIterable):
            raise InvalidRequestError("ids", ids, "an iterable or async iterable of ids is wanted")
        self._ids = _take_over(ids)
        # From here on what is not copied must not change.
        self._steps: Iterator[object] | None = _steps_of(ids) if type(ids) in _COPIED and self._ids is ids else None
        self._tracker = tracker
        self._demand = asyncio.Event()
        self.scope = anyio.CancelScope()
        self.last: float | None = None

    async def read(self) -> None:
        """Read all ids, and tell when there are no more; then the source is closed, however it came to that."""
        with self.scope:
            try:
                if isinstance(self._ids, AsyncIterable):
                    await self._read_async(self._ids)
                elif isinstance(self._ids, Collection):
                    await self._admit_all(self._ids)
                else:
                    await self._read_now(self._ids)
            except Exception as error:  # noqa: BLE001 - the source's own fault; the caller gets it once all has ended
                self._tracker.record_error(error)
        self._tracker.source_exhausted = True
        self._tracker.wake.set()

    async def finish(self, *, admit: bool) -> None:
        """Let go of the ids.

        Args:
            admit: Take in what was handed over and not come to: all of a collection was.
        """
        if admit and isinstance(self._ids, Collection):
            try:
                await self._admit_all(self._ids)
            except Exception as error:  # noqa: BLE001 - what it gave before has its outcomes, and the caller is told
                self._tracker.record_error(error)
        # Whoever keeps the run does not keep its source open.
        self._ids, self._steps = (), None
        self._tracker.source_exhausted = True

    def resume(self) -> None:
        """Go on reading: ids have left for a batch."""
        self._demand.set()

    async def _admit_all(self, source: Collection[str]) -> None:
        """Take in a collection from where it was left off: what was read of it is not read again."""
        if self._steps is None:
            self._steps = iterate_foreign(_WHAT, call_foreign_now(_WHAT, iter, source))
        for position, value in enumerate(self._steps, 1):
            self._tracker.admit(value)
            if position % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()

    async def _read_now(self, source: Iterable[str]) -> None:
        steps = call_foreign_now(_WHAT, iter, source)
        try:
            for number, value in enumerate(iterate_foreign(_WHAT, steps), 1):
                await self._admit_one(value, number)
        finally:
            # A file, say, is its caller's to close.
            if isinstance(steps, Generator):
                try:
                    call_foreign_now(f"closing {_WHAT}", steps.close)
                except Exception as error:  # noqa: BLE001 - it must not take the place of a cancellation
                    self._tracker.record_error(error)

    async def _read_async(self, source: AsyncIterable[str]) -> None:
        steps: AsyncIterator[str] = call_foreign_now(_WHAT, aiter, source)
        number = 0
        try:
            async with aclosing(iterate_foreign_async(_WHAT, steps)) as values:  # type: ignore[type-var]  # a generator
                async for value in values:
                    number += 1
                    self.last = anyio.current_time()
                    await self._admit_one(value, number)
                    # Lets the line know that its ids may linger now.
                    self._tracker.wake.set()
        finally:
            await self._close(steps)

    async def _close(self, steps: AsyncIterator[str]) -> None:
        """Have a source do at once what it does at its end, and not when the collector comes to it."""
        with anyio.move_on_after(_CLOSING, shield=True) as scope:
            try:
                close = call_foreign_now(_WHAT, getattr, steps, "aclose", None)
                if close is not None:
                    await call_foreign(f"closing {_WHAT}", close)
            except Exception as error:  # noqa: BLE001 - it must not take the place of a cancellation
                self._tracker.record_error(error)
        if scope.cancelled_caught:
            _log.warning(
                "%s: closing the source of ids took longer than %g s and was given up", self._tracker.action, _CLOSING
            )

    async def _admit_one(self, value: object, number: int) -> None:
        self._tracker.admit(value)
        if self._tracker.intake.is_full:
            self._tracker.wake.set()
            while self._tracker.intake.is_full:
                self._demand.clear()
                await self._demand.wait()
        elif number % YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()


def _take_over(ids: Iterable[str] | AsyncIterable[str]) -> Iterable[str] | AsyncIterable[str]:
    """Return what is read of ids: a copy of them where making it holds nobody up."""
    most = _COPIED.get(type(ids))
    if most is None or len(ids) > most:  # type: ignore[arg-type]  # they all have a length
        return ids
    return tuple(ids)  # type: ignore[arg-type]  # they can be iterated


def _steps_of(ids: Iterable[str] | AsyncIterable[str]) -> Iterator[object]:
    """Return what iterates over a list, set, dict or deque, and raises if it has another size by then."""
    return _read_list(ids, len(ids)) if type(ids) is list else iter(ids)  # type: ignore[arg-type]  # one of those


def _read_list(ids: list[str], size: int) -> Iterator[object]:
    for place in range(0, size, YIELD_EVERY):
        if len(ids) == size:
            yield from ids[place : place + YIELD_EVERY]
        if len(ids) != size:
            raise RuntimeError(
                f"the list of ids changed: it had {size:,} when it was handed over, and {len(ids):,} before all were "
                f"read; more than {_COPIED[list]:,} are read while the run goes on: leave the list as it is until "
                "run.progress.total is known, or hand over a copy"
            )
