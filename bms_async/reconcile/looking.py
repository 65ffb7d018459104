"""When states are read, and what the books make of them.

What is guaranteed: all states are read every `resync` seconds, if the limits allow it; what an event, a wish or a doubt
is about is read at once, together with what else came in that moment. A reading that fails changes nothing: it is
repeated, and logged once.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable

import anyio
import anyio.lowlevel

from bms_async._foreign import call_foreign
from bms_async.errors import BmsError, ClientClosedError
from bms_async.fleet.server_reader import free
from bms_async.jobs import schedule

from .books import Books
from .ledger import AT_ONCE
from .looks import Look, Looks

_log = logging.getLogger("bms_async.reconcile")

_GATHER = 0.1
"""Seconds in which servers that are to be looked at gather."""

_MAX_GATHER = 2.0
"""Seconds for which looks wait for wishes that are being admitted."""

_JOIN = 2.0
"""Seconds before a reading of all within which no other one begins."""

_MAX_TARGETED = 1000
_FEW = 8
_APART = 5.0
"""Seconds between the beginnings of two readings of all, at least."""


class Looking:
    """Reads states as long as it runs.

    Args:
        books: What is known.
        looks: Reads them.
        resync: Seconds between two readings of all.
        random: Draws a number from 0 to 1.
        is_wanted: Whether anybody wants to know.
        wait_until_idle: Waits until no wishes are being admitted.
        on_look: Called after each reading of all, with its seconds and its error; None for nothing.
        on_change: Called when servers may be ready.

    Attributes:
        is_absorbing: Whether a reading is being entered, so that more servers may be ready in a moment.
        full: How many readings of all there were.
        targeted: How many readings of some.
        failed: How many readings failed.
        trouble: Why the last reading failed, for people; None if it did not.
    """

    def __init__(
        self,
        books: Books,
        looks: Looks,
        *,
        resync: float,
        random: Callable[[], float],
        is_wanted: Callable[[], bool],
        wait_until_idle: Callable[[], Awaitable[None]],
        on_look: Callable[[float, BaseException | None], None] | None,
        on_change: Callable[[], None],
    ) -> None:
        self._books = books
        self._looks = looks
        self._resync = resync
        self._random = random
        self._is_wanted = is_wanted
        self._wait_until_idle = wait_until_idle
        self._on_look = on_look
        self._on_change = on_change
        self._wake = asyncio.Event()
        self._full_at = self._began_at = -math.inf
        self._failures = 0
        self.is_absorbing = False
        self.full = self.targeted = self.failed = 0
        self.trouble: str | None = None

    def wake(self) -> None:
        """Look whether anything is to be looked at."""
        self._wake.set()

    def look_at_all(self) -> None:
        """Read all states soon."""
        self._full_at = min(self._full_at, self._began_at + _APART)
        self.wake()

    async def run(self) -> None:
        """Read, until this is cancelled.

        Raises:
            ClientClosedError: The client was closed.
        """
        while True:
            await self._rest()
            await self._gather()
            now = anyio.current_time()
            while self._books.pop_looks(now):
                await anyio.lowlevel.checkpoint()
            if not self._books.ids or not self._is_wanted():
                continue
            few = max(_FEW, min(_MAX_TARGETED, len(self._books.ids) // 2))
            if now + (_JOIN if self._books.to_look else 0.0) >= self._full_at or len(self._books.to_look) > few:
                await self._read_all()
            elif self._books.to_look:
                await self._read_some()

    async def _rest(self) -> None:
        """Wait until something is to be looked at."""
        while True:
            now = anyio.current_time()
            is_wanted = bool(self._books.ids) and self._is_wanted()
            due = self._full_at if is_wanted else math.inf
            if is_wanted and not self._failures:
                next_look = self._books.next_look
                due = due if next_look is None else min(due, next_look)
                due = -math.inf if self._books.to_look else due
            if due <= now:
                return
            self._wake.clear()
            with anyio.move_on_after(due - now if due < math.inf else self._resync):
                await self._wake.wait()

    async def _gather(self) -> None:
        await anyio.sleep(_GATHER)
        with anyio.move_on_after(_MAX_GATHER):
            await self._wait_until_idle()

    async def _read_all(self) -> None:
        began_at = self._began_at = anyio.current_time()
        # What comes meanwhile is looked at afterwards.
        self._books.to_look.clear()
        look, error = await self._read(lambda: self._looks.read_all(self._books.ids))
        now = anyio.current_time()
        if look is not None:
            self.full += 1
            self._full_at = max(began_at + self._resync, now + min(_APART, self._resync))
            self._books.max_age = 2 * self._resync + now - began_at
            await self._absorb(look, self._books.ids)
        if self._on_look is not None:
            self._on_look(now - began_at, error)

    async def _read_some(self) -> None:
        ids = frozenset(self._books.to_look)
        self._books.to_look.clear()
        look, error = await self._read(lambda: self._looks.read_some(ids))
        if look is not None:
            self.targeted += 1
            await self._absorb(look, ids)
        elif error is None:
            self.look_at_all()

    async def _read(self, read: Callable[[], Awaitable[Look | None]]) -> tuple[Look | None, Exception | None]:
        """Read states; a failure is logged, and has all states read a little later."""
        try:
            look = await call_foreign("reading the states of servers", read)
        except ClientClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - credentials may raise anything, and the next reading may succeed
            self.failed += 1
            self._failures += 1
            # Not the error itself, which would keep alive all that its traceback has seen.
            self.trouble = str(error) if isinstance(error, BmsError) else type(error).__name__
            level = logging.WARNING if self._failures == 1 else logging.DEBUG
            _log.log(level, "the states of servers cannot be read, which is tried again until it succeeds: %s", error)
            self._full_at = anyio.current_time() + min(self._resync, schedule.failure_delay(self._failures))
            return None, error
        if self._failures:
            _log.info("the states of servers were read again, after %d failures", self._failures)
            self._failures = 0
            self.trouble = None
        return look, None

    async def _absorb(self, look: Look, ids: Iterable[str]) -> None:
        """Enter what was read into the books."""
        self.is_absorbing = True
        try:
            random, now = self._random(), anyio.current_time()
            for index, server_id in enumerate(ids, 1):
                state = look.states.get(server_id)
                if state is not None or look.is_complete:
                    self._books.observe(server_id, state, began_at=look.began_at, now=now, random=random)
                if index % AT_ONCE == 0:
                    await anyio.lowlevel.checkpoint()
                    random, now = self._random(), anyio.current_time()
        finally:
            self.is_absorbing = False
        await free(look.states)
        self._on_change()
