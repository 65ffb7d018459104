"""One leader among replicas: ``bms.runs.lead``.

What is guaranteed: of all that lead by one name in one journal, at most one is in its block with a valid term at any
moment, whoever dies, stands still or cannot reach the journal; and each term has a greater fence than those before it.
Whatever the leader controls can refuse what comes with an older fence, which is the only guard against a request that
was on its way when its term ended.

How: a term is a row with an owner, a fence and a lease, which is renewed every few seconds. It is valid until its lease
is over on this process's steady clock, counted from before the journal was asked, less `_MARGIN`; the journal counts
from when it answered, so nobody else can lead by then. When it is not renewed by then, the block is cancelled. A
process that stood still finds its term invalid before anything else, by `Term.is_valid`.

Rejected: a lock of a database session, which a pooler gives to somebody else, and which says nothing to a leader that
was cut off.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from bms_async._clock import own_clock, steady_time
from bms_async._tasks import BackgroundTasks
from bms_async.errors import BmsError, ClientClosedError, InvalidRequestError, JournalError, LeadershipLostError
from bms_async.journal import Journal
from bms_async.journal.transactions.claims import LEASE
from bms_async.journal.transactions.leaders import is_free, lead, renew_lead, resign

_log = logging.getLogger("bms_async.runs")

_RENEW_EVERY = 5.0
"""Seconds between two renewals."""

_RETRY_EVERY = 1.0
"""Seconds between two attempts to renew, while the journal does not answer."""

_LOOK_EVERY = 0.5
"""Seconds between two looks of a process that waits for its turn."""

_MARGIN = 1.0
"""Seconds before the end of its lease at which a term is over, for the block to be left in time."""

_RESIGN_PATIENCE = 5.0
_CLOSING_GRACE = 1.0
_MAX_NAME = 200


class Term:
    """The time for which this process leads.

    Attributes:
        name: What it leads.
        fence: A number that grows with each term of the name. Hand it to what you control, and have that refuse a
            number that is less than the greatest it has seen.
    """

    __slots__ = ("_tenure", "fence", "name")

    def __init__(self, tenure: _Tenure) -> None:
        self._tenure = tenure
        self.name = tenure.name
        self.fence = tenure.fence

    def is_valid(self) -> bool:
        """Return whether this process leads now, by a clock that goes on while the machine sleeps."""
        return self._tenure.is_valid()

    def __repr__(self) -> str:
        return f"<Term {self.fence} of {self.name!r}, {'valid' if self.is_valid() else 'over'}>"


class Leaders:
    """The terms of one client.

    Args:
        tasks: What the tasks run in that renew leases.
    """

    def __init__(self, tasks: BackgroundTasks) -> None:
        self._tasks = tasks
        self._tenures: set[_Tenure] = set()

    @asynccontextmanager
    async def lead(self, journal: Journal, name: str) -> AsyncIterator[Term]:
        """Lead for as long as the block lasts; see `DurableRuns.lead`.

        Args:
            journal: The journal, open.
            name: What is led, checked.
        """
        tenure = _Tenure(journal, name)
        try:
            await tenure.begin()
            self._tenures.add(tenure)
            renewing = self._tasks.start(tenure.keep, name="bms_async leader")
            try:
                with tenure.scope:
                    yield Term(tenure)
                tenure.check()
            finally:
                tenure.is_over = True
                renewing.cancel()
        finally:
            try:
                await tenure.resign()
            finally:
                # Not earlier: whoever closes the client waits for this, and closes the journal next.
                self._tenures.discard(tenure)
                tenure.left.set()
        if tenure.error is not None:
            raise tenure.error

    async def aclose(self) -> None:
        """Cancel the blocks, and wait a moment until they are left, so that others need not wait for their leases."""
        for tenure in self._tenures:
            tenure.end(ClientClosedError(f"the client was closed while it led {tenure.name!r}"))
        with anyio.move_on_after(_CLOSING_GRACE):
            for tenure in list(self._tenures):
                await tenure.left.wait()


class _Tenure:
    """A term from the inside."""

    def __init__(self, journal: Journal, name: str) -> None:
        self.name = name
        self.fence = 0
        self.scope = anyio.CancelScope()
        self.left = asyncio.Event()
        self.is_over = False
        self.error: BmsError | None = None
        self._journal = journal
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._clock = own_clock(asyncio.get_running_loop()) or steady_time
        self._valid_until = 0.0

    def is_valid(self) -> bool:
        return not self.is_over and self._clock() < self._valid_until

    async def begin(self) -> None:
        """Wait until it can begin, and begin it."""
        while True:
            if await self._journal.run(is_free, self.name, writes=False):
                asked = self._clock()
                fence = await self._journal.run(lead, self.name, self._owner)
                if fence is not None and self._clock() < asked + LEASE - _MARGIN:
                    self.fence, self._valid_until = fence, asked + LEASE - _MARGIN
                    return
                if fence is not None:
                    await self.resign()
            await self._journal.wait_for_change(_LOOK_EVERY)

    async def keep(self) -> None:
        """Renew the lease until the term is over."""
        pause = _RENEW_EVERY
        try:
            while (left := self._valid_until - self._clock()) > 0:
                await anyio.sleep(min(pause, left))
                renewed = await self._renew()
                if renewed is False:
                    self._lose("another process leads, or the row was deleted")
                    return
                pause = _RETRY_EVERY if renewed is None else _RENEW_EVERY
            self._lose("its lease could not be renewed in time")
        finally:
            self.end(ClientClosedError(f"the client was closed while it led {self.name!r}"))

    async def _renew(self) -> bool | None:
        """Renew the lease and return whether the term goes on; None if that was not to be had in time."""
        asked = self._clock()
        left = self._valid_until - asked
        if left <= 0:
            return None
        with anyio.move_on_after(left):
            try:
                goes_on = await self._journal.run(renew_lead, self.name, self._owner, self.fence, patience=left)
            except JournalError as error:
                _log.warning("the lease of %r cannot be renewed now: %s", self.name, error)
                return None
            if goes_on:
                self._valid_until = asked + LEASE - _MARGIN
            return goes_on
        return None

    def check(self) -> None:
        """End it if it was over before the block was left, which nobody may have seen yet."""
        if not self.is_valid():
            self._lose("its lease was over before it was renewed")

    def end(self, error: BmsError) -> None:
        """End it, and cancel the block."""
        if not self.is_over:
            self.is_over, self.error = True, error
            self.scope.cancel()

    def _lose(self, why: str) -> None:
        self.end(
            LeadershipLostError(
                f"leading {self.name!r}: expected to hold the lease of term {self.fence}, but {why}; enter the block "
                "again to wait for the next term",
                name=self.name,
                fence=self.fence,
            )
        )

    async def resign(self) -> None:
        """Let the next one lead at once."""
        with anyio.move_on_after(_RESIGN_PATIENCE, shield=True):
            try:
                await self._journal.run(resign, self.name, self._owner, patience=_RESIGN_PATIENCE)
            except (JournalError, ClientClosedError) as error:
                _log.info("the next one leads %r when the lease is over: %s", self.name, error)
            self._journal.notify()


def check_name(name: object) -> str:
    """Return the name of what is led.

    Raises:
        InvalidRequestError: It is none.
    """
    if not isinstance(name, str) or not name or len(name) > _MAX_NAME or not name.isprintable():
        raise InvalidRequestError("name", name, f"expected a printable text of 1 to {_MAX_NAME} characters")
    return name
