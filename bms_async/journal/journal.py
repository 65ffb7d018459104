"""The journal: a store that is opened once for all who use it, and asked again where asking again may help.

Guarantee: a transaction whose result a caller has was committed. Where the store could not be reached, or did not
confirm a commit, it is asked again until a time is over. Transactions are written such that this does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import chain, repeat
from typing import TypeVar, TypeVarTuple

import anyio

from bms_async._foreign import call_foreign
from bms_async._tasks import check_loop
from bms_async.errors import ClientClosedError, JournalError

from .statements import Transaction
from .store import JournalStore

_log = logging.getLogger("bms_async.journal")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PATIENCE = 30.0
"""Seconds for which a store that does not answer is asked again: a database that fails over takes less."""

_PAUSES = (0.05, 0.2, 0.5, 1.0)
"""Seconds between two attempts; the last counts for all later ones."""


class Journal:
    """A store of the journal.

    Args:
        make: Makes the store.

    Attributes:
        refusal: Why the store could not be used, where asking again would not have helped; None if that never was so.
        status_changes: How often it was changed in this process what may happen to a run.
    """

    def __init__(self, make: Callable[[], JournalStore]) -> None:
        self._make = make
        self._store: JournalStore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._users = 0
        self._opening: anyio.Lock | None = None
        self._is_open = False
        self._attempts = 0
        self._failure: Exception | None = None
        self.refusal: JournalError | None = None
        self._changed: asyncio.Event | None = None
        self.status_changes = 0
        self._status_changed: asyncio.Event | None = None

    @property
    def label(self) -> str:
        """The place of the store, without user and password."""
        return (self._store or self._make()).label

    async def open(self, *, patience: float = PATIENCE) -> None:
        """Open the store, or count one more user of an open one.

        Args:
            patience: Seconds for which a store that does not answer is asked again.

        Raises:
            JournalError: It cannot be used, or could not be reached.
            ClientClosedError: It is open on another event loop.
        """
        if self._users:
            check_loop(self._loop, "the journal")
        else:
            self._loop, self._opening = asyncio.get_running_loop(), anyio.Lock()
            # Those that were last waited for may be another loop's.
            self._changed = self._status_changed = None
        self._users += 1
        try:
            await self._try_for(patience, self._connect)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the store once its last user has closed it."""
        self._users = max(0, self._users - 1)
        if self._users:
            return
        store, self._store, self._is_open = self._store, None, False
        if store is not None:
            with anyio.CancelScope(shield=True):
                await call_foreign("closing the journal", store.aclose)

    async def run(
        self, transaction: Callable[[*Ts], Transaction[T]], *args: *Ts, writes: bool = True, patience: float = PATIENCE
    ) -> T:
        """Run a transaction.

        Args:
            transaction: Begins it.
            *args: Its arguments.
            writes: Whether it changes anything.
            patience: Seconds for which a store that does not answer is asked again.

        Raises:
            JournalError: It was not run; or not surely, if the store did not confirm it.
            ClientClosedError: The journal is not open.
        """

        async def attempt() -> T:
            store = await self._connect()
            return await call_foreign(
                "the journal's store", partial(store.run, writes=writes), partial(transaction, *args)
            )

        return await self._try_for(patience, attempt)

    def notify(self) -> None:
        """Wake whoever waits for a change of the journal in this process."""
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    async def wait_for_change(self, timeout: float) -> None:
        """Wait until something was changed in this process, or for a time: changes of others are not seen.

        Args:
            timeout: Seconds.
        """
        changed = self._changed = self._changed or asyncio.Event()
        with anyio.move_on_after(timeout):
            await changed.wait()

    def notify_status(self) -> None:
        """Wake all who wait for a change of the journal, and for one of what may happen to a run, in this process."""
        self.status_changes += 1
        changed, self._status_changed = self._status_changed, None
        if changed is not None:
            changed.set()
        self.notify()

    async def wait_for_status(self, since: int, timeout: float) -> int:
        """Wait until it was changed in this process what may happen to a run, or for a time.

        Args:
            since: How many such changes the caller knows.
            timeout: Seconds.

        Returns:
            How many there were.
        """
        if self.status_changes == since:
            changed = self._status_changed = self._status_changed or asyncio.Event()
            with anyio.move_on_after(timeout):
                await changed.wait()
        return self.status_changes

    async def _try_for(self, patience: float, attempt: Callable[[], Awaitable[T]]) -> T:
        ends_at = anyio.current_time() + patience
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            try:
                return await attempt()
            except ClientClosedError:
                raise
            except JournalError as error:
                self.refusal = error
                raise
            except Exception as error:
                self._is_open = False
                if anyio.current_time() + pause > ends_at:
                    raise self._unreachable(error, patience) from error
                _log.info("%s: %s: %s; asking again", self.label, type(error).__name__, error)
            await anyio.sleep(pause)
        raise AssertionError("unreachable")

    async def _connect(self) -> JournalStore:
        """Return the store, opened anew if something failed; all who wait for that share one attempt."""
        if not self._users or self._opening is None:
            raise ClientClosedError("the journal is not open; use the client inside `async with`")
        check_loop(self._loop, "the journal")
        if self._store is not None and self._is_open:
            return self._store
        before = self._attempts
        async with self._opening:
            store = self._store = self._store or self._make()
            if self._is_open:
                return store
            if self._attempts != before and self._failure is not None:
                raise self._failure
            self._failure = None
            try:
                await call_foreign("opening the journal", store.open)
            except Exception as error:
                self._failure = error
                raise
            finally:
                self._attempts += 1
            if self._store is not store:
                await call_foreign("closing the journal", store.aclose)
                raise ClientClosedError("the journal was closed")
            self._is_open = True
            return store

    def _unreachable(self, error: Exception, patience: float) -> JournalError:
        return JournalError(
            f"the journal {self.label}: expected an answer within {round(patience, 1):g} s, "
            f"got {type(error).__name__}: {error}; see that it runs and that there is room on its disk"
        )
