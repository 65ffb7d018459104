"""Reading the ids that a run is about, no faster than it needs them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Collection, Iterable

import anyio
import anyio.lowlevel

from bms_async._foreign import is_own_cancellation
from bms_async.errors import FleetError, InvalidRequestError

from .books import AT_A_TIME, Books

LINGER = 1.0
"""Seconds after which a slow source's ids go as they are, in a batch that is not full."""

_MUTABLE = (list, set, dict, deque)
"""What its owner may well use again while the run goes on, and what is copied in no time."""


class Source:
    """Reads ids into the books.

    Attributes:
        scope: Cancelling it ends the reading.
        last: When the last id came, by the loop's clock; None where ids cannot come slowly.
    """

    def __init__(self, ids: Iterable[str] | AsyncIterable[str], books: Books) -> None:
        if isinstance(ids, str):
            raise InvalidRequestError("ids", ids, "an iterable of ids is wanted, not one string: put it in brackets")
        if isinstance(ids, bytes) or not isinstance(ids, Iterable | AsyncIterable):
            raise InvalidRequestError("ids", ids, "an iterable or async iterable of ids is wanted")
        self._ids: Iterable[str] | AsyncIterable[str] = tuple(ids) if type(ids) in _MUTABLE else ids  # type: ignore[arg-type]
        self._books = books
        self._hungry = asyncio.Event()
        self.scope = anyio.CancelScope()
        self.last: float | None = None

    async def read(self) -> None:
        """Read all ids, and tell when there are no more."""
        with self.scope:
            try:
                if isinstance(self._ids, AsyncIterable):
                    await self._read_async(self._ids)
                elif isinstance(self._ids, Collection):
                    await self._admit_all(self._ids)
                else:
                    for number, value in enumerate(self._ids, 1):
                        await self._take_in(value, number)
            except Exception as error:  # noqa: BLE001 - the source's own fault; the caller gets it once all has ended
                self._books.break_down(error)
        self._books.told_all = True
        self._books.wake.set()

    async def finish(self, *, admit: bool) -> None:
        """Let go of the ids.

        Args:
            admit: Take in what was handed over and not come to: all of a collection was.
        """
        if admit and isinstance(self._ids, Collection):
            try:
                await self._admit_all(self._ids)
            except Exception as error:  # noqa: BLE001 - what it gave before has its outcomes, and the caller is told
                self._books.break_down(error)
        # Whoever keeps the run does not keep its source open.
        self._ids = ()
        self._books.told_all = True

    def feed(self) -> None:
        """Go on reading: ids have left for a batch."""
        self._hungry.set()

    async def _read_async(self, source: AsyncIterable[str]) -> None:
        number = 0
        try:
            async for value in source:
                number += 1
                self.last = anyio.current_time()
                await self._take_in(value, number)
                # Lets the line know that its ids may linger now.
                self._books.wake.set()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            if isinstance(error, asyncio.CancelledError):
                # Raised as it is, it would look as if the caller were cancelled.
                told = FleetError("the source of ids was cancelled", code=None, server_ids=())
                told.__cause__ = error
                self._books.break_down(told)
            else:
                self._books.break_down(error)

    async def _admit_all(self, source: Collection[str]) -> None:
        for position, value in enumerate(source):
            self._books.admit(value)
            if position % AT_A_TIME == 0:
                await anyio.lowlevel.checkpoint()

    async def _take_in(self, value: object, number: int) -> None:
        self._books.admit(value)
        if self._books.intake.is_full:
            self._books.wake.set()
            while self._books.intake.is_full:
                self._hungry.clear()
                await self._hungry.wait()
        elif number % AT_A_TIME == 0:
            await anyio.lowlevel.checkpoint()
