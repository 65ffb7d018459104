"""The changes of conditions, for any number of subscribers.

What is guaranteed: a subscriber reads the latest condition of every server whose condition has changed, however slow it
is, and waits for none of the others. It takes no more memory than the servers' ids, and none once it is dropped.

How: a subscriber keeps the ids of what has changed since it read, each once; the condition is made when it reads. It
begins with all servers, so that it makes no difference when it came. The hub refers to it weakly.

Rejected: a queue of changes for each subscriber, as job events have. A server that goes wrong all day fills it, and a
late reader gets what is no longer so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self
from weakref import WeakSet

import anyio.lowlevel

from bms_async._tasks import check_loop
from bms_async.errors import ClientClosedError

from .books import Books
from .conditions import PowerChange
from .telling import Teller

_YIELD_EVERY = 500

ALL_SYNCED = None
"""What those wait for that wait for all servers."""


class _CountedEvent(asyncio.Event):
    """An event that is dropped with its last waiter."""

    def __init__(self) -> None:
        super().__init__()
        self.waiters = 0


class ChangeHub:
    """Hands changes to subscribers, and wakes who waits for any change.

    Args:
        books: What is known.
        teller: Makes the conditions.

    Attributes:
        error: Why there will be no more changes; None for a reconciler that was left.
        is_closed: Whether there will be no more changes.
    """

    def __init__(self, books: Books, teller: Teller) -> None:
        self.books = books
        self.teller = teller
        self.error: BaseException | None = None
        self.is_closed = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self._subscribers: WeakSet[PowerChanges] = WeakSet()
        self._changed = asyncio.Event()
        self._waiters = self._attending = 0
        self._keyed: dict[str | int | None, _CountedEvent] = {}

    @property
    def has_audience(self) -> bool:
        """Whether anybody wants to know of changes."""
        return bool(self._attending or self._subscribers)

    @contextmanager
    def attend(self) -> Iterator[None]:
        """Count as one who wants to know of changes, for as long as the block lasts."""
        self._attending += 1
        try:
            yield
        finally:
            self._attending -= 1

    def subscribe(self) -> PowerChanges:
        """Return a subscription, which begins with all servers."""
        changes = PowerChanges(self)
        self._subscribers.add(changes)
        return changes

    def publish(self, name: str) -> None:
        """Note that the condition of a server has changed."""
        for subscriber in self._subscribers:
            subscriber.add(name)
        if self._keyed:
            self.wake(name)
            if not self.books.unsynced:
                self.wake(ALL_SYNCED)
        self.notify()

    def wake(self, key: str | int | None) -> None:
        """Wake those that wait for something certain: a change of one server, for example."""
        event = self._keyed.pop(key, None)
        if event is not None:
            event.set()

    async def wait_for(self, key: str | int | None) -> None:
        """Wait for something certain.

        With ten thousand tasks that wait for a server each, a change must not wake them all.

        Args:
            key: The name of a server, for a change of its condition; the number of a wish, until it is in force; or
                `ALL_SYNCED`.
        """
        event = self._keyed.get(key)
        if event is None:
            event = self._keyed[key] = _CountedEvent()
        event.waiters += 1
        try:
            await event.wait()
        finally:
            event.waiters -= 1
            if not event.waiters and self._keyed.get(key) is event:
                del self._keyed[key]

    def notify(self) -> None:
        """Wake everybody."""
        if self._waiters:
            self._changed.set()
            self._changed = asyncio.Event()

    def close(self, error: BaseException | None) -> None:
        """Have every subscriber end."""
        if not self.is_closed:
            self.is_closed, self.error = True, error
            self.notify()
            for key in tuple(self._keyed):
                self.wake(key)

    def check(self) -> None:
        """Raise why there are no more changes, if that is so.

        Raises:
            ClientClosedError: The reconciler is not open.
            Exception: It failed.
        """
        if self.is_closed or self.loop is None:
            raise self.error or ClientClosedError("the reconciler is not open; use it inside `async with`")
        check_loop(self.loop, "the reconciler")

    async def wait(self) -> None:
        """Wait until something changes."""
        changed = self._changed
        self._waiters += 1
        try:
            await changed.wait()
        finally:
            self._waiters -= 1


class PowerChanges:
    """What changes at a reconciler: ``async for`` reads it, from any one task.

    It begins with every server of which something is known, and goes on with those whose condition changes. What is
    read is what is so now: of changes that came one after another, the last.
    """

    __slots__ = ("__weakref__", "_hub", "_names", "_pending", "_read")

    def __init__(self, hub: ChangeHub) -> None:
        self._hub = hub
        self._pending: dict[str, None] = {}
        self._names: Iterator[str] | None = hub.books.names()
        self._read = 0

    def add(self, name: str) -> None:
        """Note that the condition of a server has changed."""
        self._pending[name] = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PowerChange:
        """Wait for the next change.

        Raises:
            StopAsyncIteration: The reconciler was left.
            ClientClosedError: The reconciler was never opened, or the client was closed.
        """
        while True:
            while True:
                if self._read % _YIELD_EVERY == 0:
                    # Before a name is taken: a reader that is cancelled here, and reads on, misses none.
                    await anyio.lowlevel.checkpoint()
                name = self._next_name()
                if name is None:
                    break
                self._read += 1
                change = self._hub.teller.change(name)
                if change is not None:
                    return change
            if self._hub.is_closed:
                if self._hub.error is None:
                    raise StopAsyncIteration
                raise self._hub.error
            self._hub.check()
            await self._hub.wait()

    def _next_name(self) -> str | None:
        if self._names is not None:
            name = next(self._names, None)
            if name is not None:
                self._pending.pop(name, None)
                return name
            self._names = None
        if not self._pending:
            return None
        # A dict finds its first entry slowly once many before it were removed.
        pending, self._pending = self._pending, {}
        self._names = iter(pending)
        return next(self._names)

    def __repr__(self) -> str:
        return f"<PowerChanges, {len(self._pending)} waiting{', closed' if self._hub.is_closed else ''}>"
