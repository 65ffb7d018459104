"""A reconciler with a journal: what it was asked for outlives the process, and of its replicas one acts.

What is guaranteed: of all replicas one begins runs at any moment, and none of its servers is sent once it leads no more
(`bms_async.runs.led`). The next leader finds what the one before it has begun: servers that were sent are under way
until they have their outcome, so that none is asked twice because a process died. What a replica was asked for, any
other one learns within a second.

How: desired states are rows with a number that grows with each change, and a replica reads what comes after the one
that it has seen. A server that was forgotten leaves a row, which is deleted a day later. A replica that was away
for longer finds that such rows are missing: it reads all anew, and forgets whatever it does not find. A journal that is
away is asked again for as long as it takes.

Rejected: to keep wishes with the leader alone, and have the others hand theirs to it. What a leader knew that has died
would have to be asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel

from bms_async.errors import CallError, JournalError
from bms_async.fleet.sharded import SHARDS
from bms_async.journal.statements import Transaction
from bms_async.journal.transactions.desired import (
    DesiredFields,
    read_desired,
    read_numbers,
    save_attempts,
    save_desired,
)
from bms_async.runs.led import LedRuns

from .entries import shard_of
from .ports import DesiredPage, DesiredRow

_log = logging.getLogger("bms_async.reconcile")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LOOK_EVERY = 1.0
"""Seconds between two looks for what other replicas have changed."""

_WRITTEN_AT_ONCE = 500
_READ_AT_ONCE = 500

_PATIENCE = 15.0
_RETRY_EVERY = 2.0
"""Seconds between two attempts at a journal that was away for `_PATIENCE`."""

_LONGEST_REASON = 1000


class _Servers:
    """Ids in many small sets: one of a million would hold the event loop when it grows (R9)."""

    __slots__ = ("_shards",)

    def __init__(self) -> None:
        self._shards: tuple[set[str], ...] = tuple(set() for _ in range(SHARDS))

    def add(self, server_id: str) -> None:
        self._shard(server_id).add(server_id)

    def discard(self, server_id: str) -> None:
        self._shard(server_id).discard(server_id)

    async def missing_in(self, others: _Servers) -> AsyncIterator[list[str]]:
        """Yield those that are not among others, a few at a time."""
        for mine, its in zip(self._shards, others._shards, strict=True):
            missing = list(mine - its)
            for start in range(0, len(missing), _READ_AT_ONCE):
                yield missing[start : start + _READ_AT_ONCE]
            await anyio.lowlevel.checkpoint()

    def _shard(self, server_id: str) -> set[str]:
        return self._shards[shard_of(server_id)]


class DurableMemory:
    """Desired states in the journal, and the lease by which one replica leads.

    Args:
        runs: The runs of the leader, and its term.
    """

    def __init__(self, runs: LedRuns) -> None:
        self._runs = runs
        self._read_to = 0
        self._has_read = anyio.Event()

    @property
    def is_durable(self) -> bool:
        """Whether anything outlives the process: it does."""
        return True

    async def save(self, rows: Sequence[DesiredRow]) -> int:
        """Write desired states down; those that are so already stay as they are. Waits while the journal is away.

        Args:
            rows: The states; the last one of a server wins.

        Returns:
            Their revision.

        Raises:
            ClientClosedError: The client is closed.
        """
        revision = 0
        for start in range(0, len(rows), _WRITTEN_AT_ONCE):
            revision = await self._ask(save_desired, _fields(rows[start : start + _WRITTEN_AT_ONCE]))
            # A reader in this process need not wait for its next look.
            self._runs.journal.notify()
        return revision

    async def save_attempts(self, rows: Sequence[DesiredRow]) -> None:
        """Write down how often servers were tried; one that is to be in another state by now is left alone.

        Args:
            rows: The servers.

        Raises:
            ClientClosedError: The client is closed.
        """
        for start in range(0, len(rows), _WRITTEN_AT_ONCE):
            await self._ask(save_attempts, _fields(rows[start : start + _WRITTEN_AT_ONCE]))

    async def changes(self) -> AsyncGenerator[DesiredPage]:
        """Yield all desired states, then a page without rows, and from then on what any replica changes.

        Raises:
            ClientClosedError: The client is closed.
        """
        known = _Servers()
        while True:
            found = _Servers()
            number, trimmed, is_last = 0, None, False
            while not is_last:
                page = await self._ask(read_desired, number, _READ_AT_ONCE, writes=False)
                number, is_last = page.number, page.is_last
                trimmed = page.trimmed if trimmed is None else trimmed
                if page.rows:
                    yield _note(page.rows, number, found)
            async for missing in known.missing_in(found):
                yield DesiredPage(rows=[DesiredRow(server_id=each, status=None) for each in missing], revision=number)
            known = found
            yield DesiredPage(rows=(), revision=number)
            self._note_read(number)
            while True:
                page = await self._ask(read_desired, number, _READ_AT_ONCE, writes=False)
                if page.trimmed > max(number, trimmed or 0):
                    _log.warning("%s was away for so long that it reads all desired states anew", self._runs.name)
                    break
                if page.number > number:
                    number = page.number
                    yield _note(page.rows, number, known)
                    self._note_read(number)
                if page.is_last:
                    await self._runs.journal.wait_for_change(_LOOK_EVERY)

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[None]:
        """Wait until this replica leads and knows all that was desired by then; the block lasts as long as it leads.

        Somebody has to iterate over `changes` meanwhile.

        Raises:
            LeadershipLostError: It does not lead any more.
            ClientClosedError: The client is closed.
        """
        async with AsyncExitStack() as stack:
            await self._begin_to_lead(stack)
            number, _ = await self._ask(read_numbers, writes=False)
            while self._read_to < number:
                await self._has_read.wait()
            yield

    async def _begin_to_lead(self, stack: AsyncExitStack) -> None:
        while True:
            try:
                await stack.enter_async_context(self._runs.lead())
            except (JournalError, CallError) as error:
                _log.warning("%s cannot be led now: %s", self._runs.name, error)
                await anyio.sleep(_RETRY_EVERY)
            else:
                return

    def _note_read(self, number: int) -> None:
        self._read_to = number
        self._has_read.set()
        self._has_read = anyio.Event()

    async def _ask(self, transaction: Callable[[str, str, *Ts], Transaction[T]], *args: *Ts, writes: bool = True) -> T:
        """Run a transaction about this reconciler, for as long as it takes."""
        runs, is_away = self._runs, False
        while True:
            try:
                place = await runs.place()
                result = await runs.journal.run(transaction, place, runs.name, *args, writes=writes, patience=_PATIENCE)
            except (JournalError, CallError) as error:
                _log.log(
                    logging.DEBUG if is_away else logging.WARNING,
                    "desired states are read and written when the journal is back: %s",
                    error,
                )
                is_away = True
                await anyio.sleep(_RETRY_EVERY)
            else:
                if is_away:
                    _log.info("desired states are read and written again")
                return result


def _note(rows: Sequence[DesiredFields], revision: int, known: _Servers) -> DesiredPage:
    """Return rows as a page, and note which servers there are."""
    for server_id, status, *_ in rows:
        if status is None:
            known.discard(server_id)
        else:
            known.add(server_id)
    return DesiredPage(
        rows=[
            DesiredRow(server_id=server_id, status=status, attempts=attempts, retry_at=retry_at, retry_reason=reason)
            for server_id, status, attempts, retry_at, reason in rows
        ],
        revision=revision,
    )


def _fields(rows: Sequence[DesiredRow]) -> list[DesiredFields]:
    return [(row.server_id, row.status, row.attempts, row.retry_at, _storable(row.retry_reason)) for row in rows]


def _storable(reason: str | None) -> str | None:
    """Return a reason as any database takes it: the cloud's words may be anything."""
    if reason is None:
        return None
    return reason[:_LONGEST_REASON].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
