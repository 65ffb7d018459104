"""Jobs that all processes with one journal watch together: one polls each, and the others learn from its events.

Guarantee (R6): of all processes that share a journal, one at a time polls a job, and a job that it cannot keep is
polled by another one within the lease and `_LOOK_EVERY`. And no event is lost or written twice, whoever dies: what was
learned is written before it counts as written, and whoever takes a job over compares what it sees with what is written.

How: a job is written down as soon as it is watched, and belongs to whoever claims its row, by a lease and a fence as
batches have them. Its owner polls it for its own waiters, and for readers of events in any process; what a poll shows
is first given to the waiters of this process and then written down. A process that finds a job taken does not poll it:
its record is fed by the events, and it asks for the job again when that has no owner. A job that nobody waits for in
its owner's process is handed back. As long as a client has readers of events, it polls every job of its place that has
no owner.

A journal that does not answer stops no waiter: jobs that are new to this process are polled without a claim then, and
written down later.

Rejected: to write jobs down only while somebody reads events. The readers of a controller that is being restarted would
miss what happens meanwhile, and two processes that wait for one job would not know of each other.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from bms_async._clock import own_clock, steady_time
from bms_async._tasks import BackgroundTasks
from bms_async._threads import run_in_thread
from bms_async.errors import ClientClosedError, ConfigurationError, JournalError
from bms_async.journal import EventBlock, Journal, KeptJobRow, unpack_ids
from bms_async.journal.transactions.claims import LEASE
from bms_async.journal.transactions.jobs import find_free_jobs, read_events_of, renew_jobs
from bms_async.models import Job
from bms_async.session import Session

from .board_entry import BoardEntry
from .board_writer import BoardWriter
from .events import JobEvent
from .followed import FOLLOWED, Followed
from .kept_job import PartialPoll
from .packed_events import unpack_events
from .record import JobRecord

_log = logging.getLogger("bms_async.jobs")

RENEW_EVERY = 5.0
"""Seconds between two renewals of the leases."""

_LOOK_EVERY = 1.0
"""Seconds between two looks at what other processes have written."""

_LOOK_TIMEOUT = 60.0

_TAKE_OVER_EVERY = 2.0
"""Seconds between two looks for jobs without an owner."""

_MARGIN = 1.0
"""Seconds before the end of its lease at which a job is not polled any more."""

_BLOCKS_AT_ONCE = 200
_FREE_AT_ONCE = 100
_UNPACKED_IN_THREAD = 2**14


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


class JobBoard:
    """The jobs of one client in the journal.

    Args:
        journal: The journal.
        session: What knows the project.
        endpoint: The address of the service.

    Attributes:
        readers: How many subscriptions to the events of all processes are open.
    """

    def __init__(self, journal: Journal, session: Session, endpoint: str) -> None:
        self.journal = journal
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.readers = 0
        self.is_open = False
        self._session = session
        self._endpoint = endpoint
        self._polls: Polls | None = None
        self._entries: dict[str, BoardEntry] = {}
        self._followed: dict[str, BoardEntry] = {}
        self._seen = 0
        self._needed = asyncio.Event()
        self._looked_at = -_TAKE_OVER_EVERY
        self._writer = BoardWriter(
            journal,
            self.owner,
            clock=self._now,
            place=self._place,
            on_claimed=self._on_claimed,
            forget=self._forget,
        )

    async def open(self, polls: Polls, tasks: BackgroundTasks) -> None:
        """Open the journal, and begin to write.

        Args:
            polls: The watcher.
            tasks: Its tasks, which end before `aclose`.

        Raises:
            JournalError: It cannot be used.
        """
        await self.journal.open()
        self._polls, self.is_open = polls, True
        tasks.start(self._writer.run, name="bms_async board")
        tasks.start(self._renew_leases, name="bms_async board")
        tasks.start(self._look, name="bms_async board")

    async def aclose(self) -> None:
        """Write what is not written, and hand all jobs back."""
        if not self.is_open:
            return
        self.is_open = False
        self.journal.notify()
        try:
            await self._writer.finish(self._entries.values())
        finally:
            self._entries.clear()
            self._followed.clear()
            await self.journal.aclose()

    def add(self, record: JobRecord) -> None:
        """Write a job down that is watched from now on, and claim it."""
        entry = self._entries[record.job_id] = BoardEntry(record)
        self._writer.claim(entry)

    async def poll(
        self, record: JobRecord, fetch: Callable[[], Awaitable[Job | PartialPoll | None]]
    ) -> Job | PartialPoll | Followed | None:
        """Poll a job if this process has it, or can have it.

        Args:
            record: The job.
            fetch: Makes the poll.

        Returns:
            What it shows; None if that is what the last one showed; `FOLLOWED` if another process polls the job.
        """
        await self.find_place()
        while not record.finished:
            entry = self._entries.get(record.job_id)
            if entry is None:
                self.add(record)
                continue
            if not self._is_mine(entry):
                self._writer.claim(entry)
                await self._settled(entry)
                if entry.record.finished:
                    break
                if entry.failure is not None or self._entries.get(record.job_id) is not entry:
                    return await fetch()
                if not self._is_mine(entry):
                    return FOLLOWED
            with anyio.CancelScope(deadline=self._deadline(entry)) as entry.scope:
                return await fetch()
            entry.fence = None
        return FOLLOWED

    def note(self, record: JobRecord) -> None:
        """Have what a poll has shown written down."""
        entry = self._entries.get(record.job_id)
        if entry is None:
            return
        entry.scope = None
        if entry.fence is not None:
            self._writer.append(entry)
        elif record.finished:
            # It was polled without the journal, which is to have its end nevertheless.
            self._writer.claim(entry)

    def park(self, record: JobRecord) -> None:
        """Have a job fed by the events of its owner."""
        entry = self._entries.get(record.job_id)
        if entry is None:
            return
        self._seen = min(self._seen, entry.start) if self._followed else entry.start
        entry.is_followed = True
        self._followed[record.job_id] = entry
        self._needed.set()

    def release(self, record: JobRecord) -> None:
        """Let other processes have a job that nobody waits for in this one."""
        entry = self._entries.get(record.job_id)
        if entry is not None:
            self._writer.release(entry)

    async def add_reader(self) -> str:
        """Count one more subscription, and return the place whose events it reads.

        Raises:
            ClientClosedError: The client is not open.
        """
        if not self.is_open:
            raise ClientClosedError("the client is not open; use it inside `async with`")
        place = await self.find_place()
        self.readers += 1
        self._needed.set()
        if self._polls is not None:
            self._polls.wake_all()
        return place

    def remove_reader(self) -> None:
        """Count one subscription less."""
        self.readers -= 1
        self.journal.notify()

    async def find_place(self) -> str:
        """Return the endpoint and the project, which is looked up where it is not known."""
        return self._place() or f"{self._endpoint}|{await self._session.find_project_id('jobs')}"

    def _place(self) -> str | None:
        project = self._session.project_id
        return None if project is None else f"{self._endpoint}|{project}"

    def _now(self) -> float:
        clock = own_clock(asyncio.get_running_loop()) or steady_time
        return clock()

    def _is_mine(self, entry: BoardEntry) -> bool:
        return entry.fence is not None and not entry.is_released and self._now() < entry.valid_until

    def _deadline(self, entry: BoardEntry) -> float:
        return anyio.current_time() + max(0.0, entry.valid_until - self._now())

    async def _settled(self, entry: BoardEntry) -> None:
        while entry.settled is not None:
            await entry.settled.wait()

    async def _on_claimed(self, entry: BoardEntry, row: KeptJobRow, asked_at: float) -> None:
        """Give a record what the journal has of its job, and note whether this process polls it."""
        events: list[JobEvent] = []
        new: list[JobEvent] = []
        for block in row.blocks:
            unpacked = await unpack_block(block)
            events += unpacked
            if block.number > entry.number:
                new += unpacked
        entry.start = row.number
        if new:
            entry.feed(row.blocks[-1].number, new)
            self._learned(entry)
        if row.fence is not None:
            entry.note_written(events, row.sequence)
            entry.fence, entry.valid_until = row.fence, asked_at + LEASE - _MARGIN
        if row.is_ended or (row.fence is None and entry.record.finished):
            self._forget(entry)

    def _learned(self, entry: BoardEntry) -> None:
        if self._polls is not None:
            self._polls.learned(entry.record)
        if entry.record.finished:
            self._forget(entry)

    def _forget(self, entry: BoardEntry) -> None:
        for entries in (self._entries, self._followed):
            if entries.get(entry.record.job_id) is entry:
                del entries[entry.record.job_id]

    async def _renew_leases(self) -> None:
        while True:
            await anyio.sleep(RENEW_EVERY)
            mine = {job_id: entry for job_id, entry in self._entries.items() if entry.fence is not None}
            place = self._place()
            if not mine or place is None:
                continue
            asked_at = self._now()
            with anyio.move_on_after(RENEW_EVERY):
                try:
                    found = await self.journal.run(renew_jobs, self.owner, patience=RENEW_EVERY)
                except JournalError as error:
                    _log.warning("the leases of jobs cannot be renewed now: %s", error)
                    continue
                for job_id, entry in mine.items():
                    self._heed(entry, found.get((place, job_id)), asked_at)

    def _heed(self, entry: BoardEntry, fence: int | None, asked_at: float) -> None:
        if entry.record.finished or entry.fence is None:
            return
        if fence != entry.fence:
            entry.lose()
            return
        entry.valid_until = asked_at + LEASE - _MARGIN
        if entry.scope is not None:
            entry.scope.deadline = self._deadline(entry)

    async def _look(self) -> None:
        """Read what other processes have learned, and take over what they have left."""
        while True:
            if not self._followed and not self.readers:
                self._needed.clear()
                await self._needed.wait()
            try:
                if place := self._place():
                    with anyio.fail_after(_LOOK_TIMEOUT):
                        await self._feed_followed(place)
                        await self._take_over(place)
            except (JournalError, TimeoutError) as error:
                _log.warning("what other processes have learned cannot be read now: %s", error)
            await self.journal.wait_for_change(_LOOK_EVERY)

    async def _feed_followed(self, place: str) -> None:
        while self._followed:
            jobs = frozenset(self._followed)
            seen, blocks = await self.journal.run(
                read_events_of, place, self._seen, jobs, _BLOCKS_AT_ONCE, writes=False
            )
            is_last, self._seen = seen == self._seen, seen
            for block in blocks:
                entry = self._followed.get(block.job)
                if entry is not None and block.number > entry.number:
                    entry.feed(block.number, await unpack_block(block))
                    self._learned(entry)
            if is_last:
                return

    async def _take_over(self, place: str) -> None:
        """Poll jobs that nobody polls, as far as they are needed here."""
        now, polls = anyio.current_time(), self._polls
        if now - self._looked_at < _TAKE_OVER_EVERY or polls is None:
            return
        self._looked_at = now
        for entry in list(self._followed.values()):
            # It may be this process's own: its claim was old when it was confirmed, and was renewed since.
            if self._is_mine(entry) or not polls.is_needed(entry.record):
                self._resume(entry)
        for free in await self.journal.run(find_free_jobs, place, _FREE_AT_ONCE, writes=False):
            known = self._entries.get(free.job)
            if known is not None and known.is_followed:
                self._resume(known)
            elif known is None and self.readers:
                polls.adopt(free.job, tuple(unpack_ids(free.servers)), free.action)

    def _resume(self, entry: BoardEntry) -> None:
        entry.is_followed = False
        self._followed.pop(entry.record.job_id, None)
        if self._polls is not None:
            self._polls.resume(entry.record)


def no_board() -> ConfigurationError:
    """Return the error of a client without a journal that is asked for what only a journal has."""
    return ConfigurationError(
        "runs=None: expected a journal for events of all processes; make the client with runs=Runs(), or set BMS_RUNS"
    )


async def unpack_block(block: EventBlock) -> list[JobEvent]:
    """Return the events of a block, in a thread if that takes long.

    Raises:
        JournalError: It is not what this version writes.
    """
    if len(block.body) < _UNPACKED_IN_THREAD:
        return list(unpack_events(block.job, block.body))
    return list(await run_in_thread(unpack_events, block.job, block.body))
