"""What other processes have learned of jobs, and what they have left: read from the journal for one client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import anyio

from bms_async.errors import JournalError
from bms_async.journal import EventBlock, Journal, unpack_ids
from bms_async.journal.transactions.events import read_events_of
from bms_async.journal.transactions.jobs import find_free_jobs

from .board_entry import BoardEntry
from .event_blocks import unpack_block
from .events import EventGap
from .record import JobRecord

_log = logging.getLogger("bms_async.jobs")

_LOOK_EVERY = 1.0
"""Seconds between two looks at what other processes have written."""

_LOOK_TIMEOUT = 60.0

_TAKE_OVER_EVERY = 2.0
"""Seconds between two looks for jobs without an owner."""

_BLOCKS_AT_ONCE = 200
_FREE_AT_ONCE = 100


class Polls(Protocol):
    """What the board needs of the watcher."""

    def adopt(self, job_id: str, servers: tuple[str, ...], action: str | None) -> None:
        """Watch a job that no call of this process has named."""
        ...

    def resume(self, record: JobRecord) -> None:
        """Poll a job whose owner does not do so any more."""
        ...

    def learned(self, record: JobRecord) -> None:
        """Note that a job was given what another process has learned."""
        ...

    def is_needed(self, record: JobRecord) -> bool:
        """Return whether anybody in this process waits for a job."""
        ...

    def wake_all(self) -> None:
        """Have jobs without a waiter polled again."""
        ...


class BoardFollower:
    """Feeds the jobs that other processes poll, and takes over what nobody polls.

    Args:
        journal: The journal.
        entries: The jobs of this process.
        place: Returns the endpoint and the project, None while that is not known.
        has_readers: Returns whether this client has readers of the events of all processes.
        is_mine: Returns whether a job is this process's own.
        forget: Called with what needs no room in this process any more.

    Attributes:
        polls: The watcher, None before the client is open.
    """

    def __init__(
        self,
        journal: Journal,
        entries: Mapping[str, BoardEntry],
        *,
        place: Callable[[], str | None],
        has_readers: Callable[[], bool],
        is_mine: Callable[[BoardEntry], bool],
        forget: Callable[[BoardEntry], None],
    ) -> None:
        self.polls: Polls | None = None
        self._journal = journal
        self._entries = entries
        self._place = place
        self._has_readers = has_readers
        self._is_mine = is_mine
        self._forget = forget
        self._followed: dict[str, BoardEntry] = {}
        self._seen = 0
        self._needed = asyncio.Event()
        self._looked_at = -_TAKE_OVER_EVERY

    def add(self, entry: BoardEntry) -> None:
        """Have a job fed by the events of its owner."""
        self._seen = min(self._seen, entry.start) if self._followed else entry.start
        entry.is_followed = True
        self._followed[entry.record.job_id] = entry
        self._needed.set()

    def remove(self, entry: BoardEntry) -> None:
        """Feed a job no more, if it was fed."""
        if self._followed.get(entry.record.job_id) is entry:
            del self._followed[entry.record.job_id]

    def clear(self) -> None:
        """Feed no job any more."""
        self._followed.clear()

    def wake(self) -> None:
        """Have it look at the journal from now on."""
        self._needed.set()

    def learned(self, entry: BoardEntry) -> None:
        """Note that a record was given what another process has learned."""
        if self.polls is not None:
            self.polls.learned(entry.record)
        if entry.record.finished:
            self._forget(entry)

    async def run(self) -> None:
        """Read what other processes have learned, and take over what they have left, until it is cancelled."""
        while True:
            if not self._followed and not self._has_readers():
                self._needed.clear()
                await self._needed.wait()
            try:
                if place := self._place():
                    with anyio.fail_after(_LOOK_TIMEOUT):
                        await self._feed_followed(place)
                        await self._take_over(place)
            except (JournalError, TimeoutError) as error:
                _log.warning("what other processes have learned cannot be read now: %s", error)
            await self._journal.wait_for_change(_LOOK_EVERY)

    async def _feed_followed(self, place: str) -> None:
        while self._followed:
            jobs = frozenset(self._followed)
            seen, blocks = await self._journal.run(
                read_events_of, place, self._seen, jobs, _BLOCKS_AT_ONCE, writes=False
            )
            is_last, self._seen = seen == self._seen, seen
            for block in blocks:
                entry = self._followed.get(block.job)
                if entry is not None and block.number > entry.number:
                    await self._feed(place, entry, block)
            if is_last:
                return

    async def _feed(self, place: str, entry: BoardEntry, block: EventBlock) -> None:
        events = await unpack_block(self._journal, place, block)
        entry.feed(block.number, events)
        self.learned(entry)
        if any(isinstance(event, EventGap) for event in events):
            # How it ended is not there any more, and one poll shows it.
            self._resume(entry)

    async def _take_over(self, place: str) -> None:
        """Poll jobs that nobody polls, as far as they are needed here."""
        now, polls = anyio.current_time(), self.polls
        if now - self._looked_at < _TAKE_OVER_EVERY or polls is None:
            return
        self._looked_at = now
        for entry in list(self._followed.values()):
            # It may be this process's own: its claim was old when it was confirmed, and was renewed since.
            if self._is_mine(entry) or not polls.is_needed(entry.record):
                self._resume(entry)
        for free in await self._journal.run(find_free_jobs, place, _FREE_AT_ONCE, writes=False):
            known = self._entries.get(free.job)
            if known is not None and known.is_followed:
                self._resume(known)
            elif known is None and self._has_readers():
                servers = tuple(unpack_ids(free.servers)) if free.servers else ()
                polls.adopt(free.job, servers, free.action)

    def _resume(self, entry: BoardEntry) -> None:
        entry.is_followed = False
        self._followed.pop(entry.record.job_id, None)
        if self.polls is not None:
            self.polls.resume(entry.record)
