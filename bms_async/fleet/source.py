"""The source of ids: read no faster than the run needs them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Generator, Iterable, Iterator
from contextlib import aclosing
from typing import TypeAlias

import anyio
import anyio.lowlevel

from bms_async._foreign import call_foreign, call_foreign_now, iterate_foreign, iterate_foreign_async
from bms_async.errors import InvalidRequestError
from bms_async.models import BriefServer, CreatedServer, Server

from .plan import ANY_NUMBER, AbortRule, Intake
from .tracker import YIELD_EVERY, RunTracker

_log = logging.getLogger("bms_async.fleet")

LINGER = 1.0
"""Seconds without a new id after which the ids of a slow source are sent in a batch that is not full."""

_MAX_COPIED = {list: 200_000, set: 20_000, dict: 20_000, deque: 20_000}
"""Containers that are copied up front, because the caller may change them while the run iterates.

Up to so many ids, a copy takes 5 ms.
"""

_CLOSE_TIMEOUT = 5.0
"""Seconds that a source has to close."""

_WHAT = "the source of ids"


ServerRef: TypeAlias = str | Server | BriefServer | CreatedServer
"""A server: its id, or what a list or a call returned of it."""

Servers: TypeAlias = Iterable[ServerRef] | AsyncIterable[ServerRef]
"""Any number of servers."""


class IdSource:
    """Reads ids and admits them to the tracker.

    The ids are foreign code. An exception from making an iterator of them, from iterating or from closing becomes the
    run's error; the servers that came before still get their outcomes.

    Attributes:
        scope: Cancelling it ends the reading.
        last_id_at: When the last id came, by the loop's clock; None where ids cannot come slowly.
    """

    def __init__(self, ids: Servers, tracker: RunTracker) -> None:
        if isinstance(ids, str):
            raise InvalidRequestError("ids", ids, "expected an iterable of ids, got one string; put it in brackets")
        if isinstance(ids, bytes) or not isinstance(ids, Iterable | AsyncIterable):
            raise InvalidRequestError("ids", ids, "expected an iterable or async iterable of ids")
        self._ids = _copy_small(ids)
        # From here on a container that was not copied must not change.
        self._iterator: Iterator[object] | None = (
            _checked_iterator(ids) if type(ids) in _MAX_COPIED and self._ids is ids else None
        )
        self._tracker = tracker
        self._demand = asyncio.Event()
        self.scope = anyio.CancelScope()
        self.last_id_at: float | None = None

    @property
    def size(self) -> int | None:
        """How many ids it has, those that come twice included; None if only reading them says so."""
        ids = self._ids
        return len(ids) if isinstance(ids, tuple | list | set | dict | deque) else None

    async def read(self) -> None:
        """Read all ids, note that the source is exhausted, and close it, also after an error or a cancellation."""
        with self.scope:
            try:
                if isinstance(self._ids, AsyncIterable):
                    await self._read_async(self._ids)
                elif isinstance(self._ids, Collection):
                    await self._admit_all(self._ids)
                else:
                    await self._read_now(self._ids)
            except Exception as error:  # noqa: BLE001 - the source's own fault, raised once all servers have ended
                self._tracker.record_error(error)
                self._tracker.source_error = error
        self._tracker.source_exhausted = True
        self._tracker.wake.set()

    async def finish(self, *, admit: bool) -> None:
        """Release the ids.

        Args:
            admit: Admit the rest of a collection first: the run is about all of it.
        """
        if admit and isinstance(self._ids, Collection):
            try:
                await self._admit_all(self._ids)
            except Exception as error:  # noqa: BLE001 - the ids that it gave have their outcomes; the waiters get the error
                self._tracker.record_error(error)
        # A caller that keeps the run does not keep its source open.
        self._ids, self._iterator = (), None
        self._tracker.source_exhausted = True

    def resume(self) -> None:
        """Go on reading: a batch has taken ids."""
        self._demand.set()

    async def _admit_all(self, source: Collection[ServerRef]) -> None:
        """Admit a collection from where reading was left off."""
        if self._iterator is None:
            self._iterator = iterate_foreign(_WHAT, call_foreign_now(_WHAT, iter, source))
        for index, value in enumerate(self._iterator, 1):
            self._tracker.admit(value)
            if index % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()

    async def _read_now(self, source: Iterable[ServerRef]) -> None:
        iterator = call_foreign_now(_WHAT, iter, source)
        try:
            for index, value in enumerate(iterate_foreign(_WHAT, iterator), 1):
                await self._admit_one(value, index)
        finally:
            # Other iterators, such as files, are the caller's to close.
            if isinstance(iterator, Generator):
                try:
                    call_foreign_now(f"closing {_WHAT}", iterator.close)
                except Exception as error:  # noqa: BLE001 - it must not take the place of a cancellation
                    self._tracker.record_error(error)

    async def _read_async(self, source: AsyncIterable[ServerRef]) -> None:
        iterator: AsyncIterator[ServerRef] = call_foreign_now(_WHAT, aiter, source)
        index = 0
        try:
            async with aclosing(iterate_foreign_async(_WHAT, iterator)) as values:  # type: ignore[type-var]  # a generator
                async for value in values:
                    index += 1
                    self.last_id_at = anyio.current_time()
                    await self._admit_one(value, index)
                    # The scheduler's wait for a full batch begins anew.
                    self._tracker.wake.set()
        finally:
            await self._close(iterator)

    async def _close(self, iterator: AsyncIterator[ServerRef]) -> None:
        """Close a source now, and not when the garbage collector finds it."""
        with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True) as scope:
            try:
                close = call_foreign_now(_WHAT, getattr, iterator, "aclose", None)
                if close is not None:
                    await call_foreign(f"closing {_WHAT}", close)
            except Exception as error:  # noqa: BLE001 - it must not take the place of a cancellation
                self._tracker.record_error(error)
        if scope.cancelled_caught:
            _log.warning(
                "%s: closing the source of ids took longer than %g s and was given up",
                self._tracker.action,
                _CLOSE_TIMEOUT,
            )

    async def _admit_one(self, value: object, index: int) -> None:
        self._tracker.admit(value)
        if self._tracker.intake.is_full:
            self._tracker.wake.set()
            while self._tracker.intake.is_full:
                self._demand.clear()
                await self._demand.wait()
        elif index % YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()


async def read_all(
    servers: Servers, *, action: str, check: bool, on_server: Callable[[Server], None] | None = None
) -> RunTracker:
    """Read servers to their end, for who has to know all of them before the first one is asked.

    Args:
        servers: The servers.
        action: Such as ``servers.reboot``.
        check: Whether ids are checked against the reference.
        on_server: Called with each that is more than an id.

    Returns:
        A tracker: its intake has the ids, each once, and its outcomes are those of invalid ones.

    Raises:
        InvalidRequestError: It is no source of servers.
        Exception: The source raised it.
    """
    tracker = RunTracker(action, Intake(size=ANY_NUMBER, check=check), AbortRule(None, 1), hold=False)
    tracker.on_server = on_server
    source = IdSource(servers, tracker)
    try:
        await source.read()
        tracker.raise_error()
    finally:
        await source.finish(admit=False)
    return tracker


def _copy_small(ids: Servers) -> Servers:
    """Return a copy of the ids where making it is fast, else the ids themselves."""
    max_copied = _MAX_COPIED.get(type(ids))
    if max_copied is None or len(ids) > max_copied:  # type: ignore[arg-type]  # all of these have a length
        return ids
    return tuple(ids)  # type: ignore[arg-type]  # all of these are iterable


def _checked_iterator(ids: Servers) -> Iterator[object]:
    """Return an iterator over a list, set, dict or deque that raises if its size changes meanwhile."""
    return _read_list(ids, len(ids)) if type(ids) is list else iter(ids)  # type: ignore[arg-type]  # one of those


def _read_list(ids: list[ServerRef], size: int) -> Iterator[object]:
    for start in range(0, size, YIELD_EVERY):
        if len(ids) == size:
            yield from ids[start : start + YIELD_EVERY]
        if len(ids) != size:
            raise RuntimeError(
                f"the list of ids changed: it had {size:,} when it was handed over, and {len(ids):,} before all were "
                f"read; more than {_MAX_COPIED[list]:,} are read while the run goes on: leave the list as it is until "
                "run.progress.total is known, or hand over a copy"
            )
