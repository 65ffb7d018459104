"""Events of all processes that share a journal, read from a cursor on.

Guarantee: a reader that goes on from its cursor gets each event once and in the order of the numbers, whatever has been
restarted meanwhile. What it cannot get was trimmed, or was not written because no reader had been there for so long. An
`EventGap` stands in that place, and says how many events were trimmed.

How: the numbers of a place follow each other without a gap, so that a number that is missing is one that was trimmed.
Readers have events written by a time in the row of their place. Whichever comes after that time is over writes an
`EventGap` first, so that all others whose cursor is before it meet it too.

Rejected: to write events always. They cost more than all else that the journal has of a job, and most programs that
make durable runs never read one.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.lowlevel

from bms_async.errors import ClientClosedError, InvalidRequestError
from bms_async.journal import EventBlock
from bms_async.journal.transactions.events import read_events, read_place

from .board import JobBoard
from .event_blocks import unpack_block
from .events import EventGap, JobEvent

WANTED_FOR = 7 * 86400.0
"""Seconds after the last read of any reader for which events are written all the same."""

_WANT_EVERY = 3600.0
"""Seconds between two times at which a reader says that it is still there."""

_LOOK_EVERY = 1.0
_BLOCKS_AT_ONCE = 20
_YIELD_EVERY = 500
_MAX_DIGITS: Final = 18


class SharedJobEvents:
    """A subscription to the events of all processes: ``async with`` opens it, ``async for`` reads it.

    As long as it is open, this client polls every job of its project in the journal that no other process polls.
    """

    __slots__ = (
        "_board",
        "_is_open",
        "_left",
        "_place",
        "_read",
        "_read_count",
        "_unread",
        "_unread_to",
        "_want_again_at",
    )

    def __init__(self, board: JobBoard, since: str) -> None:
        self._board = board
        self._read = check_cursor(since)
        self._unread: deque[tuple[int, JobEvent]] = deque()
        self._unread_to = self._read
        self._place = ""
        self._is_open = self._left = False
        self._read_count = 0
        self._want_again_at = 0.0

    @property
    def cursor(self) -> str:
        """Where reading is: a later subscription with ``since=cursor`` goes on after the event that was read last."""
        return str(self._read)

    async def __aenter__(self) -> Self:
        self._place = await self._board.add_reader()
        try:
            await self._check_cursor()
            await self._want()
        except BaseException:
            self._board.remove_reader()
            raise
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._board.remove_reader()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobEvent:
        """Wait for the next event.

        Raises:
            ClientClosedError: The client was closed, or the subscription was never opened.
            JournalError: The journal cannot be read; reading may be tried again, and goes on where it was.
            StopAsyncIteration: The subscription was left.
        """
        if not self._is_open:
            raise ClientClosedError("the subscription is not open; use it inside `async with`")
        while not self._left:
            if self._unread:
                self._read_count += 1
                if self._read_count % _YIELD_EVERY == 0:
                    await anyio.lowlevel.checkpoint()
                self._read, event = self._unread.popleft()
                return event
            if not self._board.is_open:
                raise ClientClosedError("the client was closed")
            if anyio.current_time() >= self._want_again_at:
                await self._want()
            if not await self._read_page():
                await self._board.journal.wait_for_change(_LOOK_EVERY)
        raise StopAsyncIteration

    async def _want(self) -> None:
        await self._board.want_events(self._place, WANTED_FOR + _WANT_EVERY)
        self._want_again_at = anyio.current_time() + _WANT_EVERY

    async def _check_cursor(self) -> None:
        number, _ = await self._board.journal.run(read_place, self._place, writes=False)
        if self._read > number:
            raise InvalidRequestError(
                "since", self.cursor, f"expected a cursor of this journal and this project, at most {number}"
            )

    async def _read_page(self) -> bool:
        page = await self._board.journal.run(read_events, self._place, self._unread_to, _BLOCKS_AT_ONCE, writes=False)
        for block in page.blocks:
            await self._add(block)
        if not page.blocks and page.trimmed > self._unread_to:
            self._add_gap(page.trimmed)
        return bool(self._unread)

    async def _add(self, block: EventBlock) -> None:
        events = await unpack_block(self._board.journal, self._place, block)
        before_first = block.number - len(events)
        if before_first > self._unread_to:
            self._add_gap(before_first)
        numbered = zip(range(before_first + 1, block.number + 1), events, strict=True)
        self._unread.extend((number, event) for number, event in numbered if number > self._unread_to)
        self._unread_to = block.number

    def _add_gap(self, number: int) -> None:
        self._unread.append((number, EventGap(missed=number - self._unread_to)))
        self._unread_to = number

    def __repr__(self) -> str:
        is_open = self._is_open and not self._left and self._board.is_open
        return f"<SharedJobEvents {'open' if is_open else 'closed'}, at {self.cursor}>"


def check_cursor(since: object) -> int:
    """Return the number of the event that was read last.

    Raises:
        InvalidRequestError: It is no cursor.
    """
    if since == "":
        return 0
    if not isinstance(since, str) or not since.isdecimal() or not since.isascii() or len(since) > _MAX_DIGITS:
        raise InvalidRequestError("since", since, "expected a cursor that a subscription had, or '' for the start")
    return int(since)
