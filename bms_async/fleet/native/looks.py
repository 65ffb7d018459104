"""Looks at servers of which a call says too little: those that ask within a moment share one reading.

Each look is answered once, by a reading that began after it was asked for, or by the error that kept it from being
read. A few servers are read one by one. For more all servers are listed, unless that takes more pages than there are
servers to be looked at.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, TypeAlias, cast

import anyio
import anyio.lowlevel

from bms_async.errors import ClientClosedError
from bms_async.fleet.tracker import YIELD_EVERY
from bms_async.jobs import schedule

from .listing import Listing
from .verdict import NativeState

_COLLECT: Final = 1.0
"""Seconds for which looks are collected."""

_READ_SINGLY: Final = 5
"""How many servers are read one by one before it is known how many pages all servers have."""

_MAX_SINGLY: Final = 50
_ATTEMPTS: Final = 4

OnLook: TypeAlias = Callable[[NativeState | None, Exception | None], None]
"""Called with the state of a server, None if the cloud does not know it; or with why it could not be read."""


class Looks:
    """Looks at servers.

    Args:
        listing: Reads them.
        on_fault: Called with each error of a reading; credentials may raise anything.
    """

    def __init__(self, listing: Listing, on_fault: Callable[[Exception], None]) -> None:
        self._listing = listing
        self._on_fault = on_fault
        self._asked: dict[str, OnLook] = {}
        self._wake = anyio.Event()
        self._pages_of_all: int | None = None

    def ask(self, server_id: str, on_look: OnLook) -> None:
        """Look at a server soon.

        Args:
            server_id: The server, in the canonical form of its id; no look at it is under way.
            on_look: Called once; must neither raise nor block.
        """
        self._asked[server_id] = on_look
        self._wake.set()

    async def run(self) -> None:
        """Look at servers until this is cancelled.

        Raises:
            ClientClosedError: The client was closed.
        """
        while True:
            if not self._asked:
                self._wake = anyio.Event()
                await self._wake.wait()
            await anyio.sleep(_COLLECT)
            asked, self._asked = self._asked, {}
            await self._answer(asked)

    async def _answer(self, asked: dict[str, OnLook]) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._read(asked)
            except ClientClosedError:
                raise
            except Exception as error:  # noqa: BLE001 - credentials may raise anything
                self._on_fault(error)
                if attempt == _ATTEMPTS:
                    for number, on_look in enumerate(asked.values(), 1):
                        on_look(None, error)
                        if number % YIELD_EVERY == 0:
                            await anyio.lowlevel.checkpoint()
                    return
                await anyio.sleep(schedule.failure_delay(attempt))

    async def _read(self, asked: dict[str, OnLook]) -> None:
        """Read servers; each that was read is answered and taken out."""
        most = _READ_SINGLY if self._pages_of_all is None else min(self._pages_of_all, _MAX_SINGLY)
        if len(asked) > most:
            before = self._listing.pages
            async with aclosing(cast("AsyncGenerator[NativeState, None]", self._listing.changes(None))) as states:
                async for state in states:
                    on_look = asked.pop(state.id, None)
                    if on_look is not None:
                        on_look(state, None)
            self._pages_of_all = self._listing.pages - before
        # The list of all lacks what was created while it was read, and what was deleted.
        for server_id in list(asked):
            found = await self._listing.read(server_id)
            asked.pop(server_id)(found, None)
