"""Jobs that all processes with one journal watch together: one polls each, and the others learn from its events.

Guarantee (R6): of all processes that share a journal, one at a time polls a job, and a job that it cannot keep is
polled by another one within the lease and `_LOOK_EVERY`. And no event that is wanted is lost or written twice, whoever
dies: what was learned is written before it counts as written, and whoever takes a job over compares what it sees with
what is written.

How: a job is written down as soon as it is watched, and belongs to whoever claims its row, by a lease and a fence as
batches have them. Its owner polls it for its own waiters, and for readers of events in any process; what a poll shows
is first given to the waiters of this process. It is written down if somebody wants it: readers of the place's events,
or a process that found the job taken. Such a process does not poll it: its record is fed by the events, and it asks for
the job again when that has no owner (`board_follower`). That a job's events are wanted, its owner learns when it claims
the job, renews its lease or writes its end; it then writes all that it has learned from the start. Of a job that ends
and that nobody wants, nothing is left.

A job that nobody waits for in its owner's process is handed back. As long as a client has readers of events, it polls
every job of its place that has no owner.

A journal that does not answer stops no waiter: jobs that are new to this process are polled without a claim then, and
written down later.

Rejected: to write events while a reader is open, and no longer. The readers of a controller that is being restarted
would miss what happens meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable

import anyio

from bms_async._clock import own_clock, steady_time
from bms_async._tasks import BackgroundTasks
from bms_async.errors import ClientClosedError, ConfigurationError, JournalError
from bms_async.journal import Journal, KeptJobRow
from bms_async.journal.transactions.claims import LEASE
from bms_async.journal.transactions.events import want_events
from bms_async.journal.transactions.jobs import renew_jobs
from bms_async.models import Job
from bms_async.session import Session

from .board_entry import BoardEntry
from .board_follower import BoardFollower, Polls
from .board_writer import BoardWriter
from .event_blocks import unpack_blocks
from .events import EventGap, JobEvent
from .followed import FOLLOWED, Followed
from .kept_job import PartialPoll
from .packed_events import pack_events
from .record import JobRecord

_log = logging.getLogger("bms_async.jobs")

RENEW_EVERY = 5.0
"""Seconds between two renewals of the leases."""

_MARGIN = 1.0
"""Seconds before the end of its lease at which a job is not polled any more."""


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
        self._follower = BoardFollower(
            journal,
            self._entries,
            place=self._place,
            has_readers=lambda: self.readers > 0,
            is_mine=self._is_mine,
            forget=self._forget,
        )
        self._writer = BoardWriter(
            journal,
            self.owner,
            clock=self._now,
            place=self._place,
            on_claimed=self._on_claimed,
            on_wanted=self._note_wanted,
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
        self._follower.polls = polls
        tasks.start(self._writer.run, name="bms_async board")
        tasks.start(self._renew_leases, name="bms_async board")
        tasks.start(self._follower.run, name="bms_async board")

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
            self._follower.clear()
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
        self._follower.add(entry)

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
        self._follower.wake()
        if self._polls is not None:
            self._polls.wake_all()
        return place

    def remove_reader(self) -> None:
        """Count one subscription less."""
        self.readers -= 1
        self.journal.notify()

    async def want_events(self, place: str, seconds: float) -> None:
        """Have events written by all processes from now on.

        Args:
            place: The endpoint and the project.
            seconds: For how long.

        Raises:
            JournalError: The journal cannot be written.
        """
        await self.journal.run(want_events, place, seconds, pack_events([EventGap(missed=0)]))
        self._note_wanted(is_wanted=True)

    def _note_wanted(self, *, is_wanted: bool) -> None:
        was_wanted, self._writer.is_wanted = self._writer.is_wanted, is_wanted
        if is_wanted and not was_wanted:
            for entry in self._entries.values():
                if entry.fence is not None:
                    self._writer.append(entry)

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

    async def _on_claimed(self, entry: BoardEntry, row: KeptJobRow, number: int, asked_at: float) -> None:
        """Give a record what the journal has of its job, and note whether this process polls it."""
        events: list[JobEvent] = []
        new: list[JobEvent] = []
        for block, unpacked in zip(row.blocks, await unpack_blocks(row.blocks), strict=True):
            events += unpacked
            if block.number > entry.number:
                new += unpacked
        entry.start = number
        if new:
            entry.feed(row.blocks[-1].number, new)
            self._follower.learned(entry)
        if row.fence is not None:
            entry.note_written(events, row.sequence)
            entry.fence, entry.valid_until = row.fence, asked_at + LEASE - _MARGIN
            entry.is_wanted = row.is_followed
        if row.is_ended or (row.fence is None and entry.record.finished):
            self._forget(entry)

    def _forget(self, entry: BoardEntry) -> None:
        self._follower.remove(entry)
        if self._entries.get(entry.record.job_id) is entry:
            del self._entries[entry.record.job_id]

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
                    renewed = await self.journal.run(renew_jobs, self.owner, patience=RENEW_EVERY)
                except JournalError as error:
                    _log.warning("the leases of jobs cannot be renewed now: %s", error)
                    continue
                self._note_wanted(is_wanted=place in renewed.wanted)
                for job_id, entry in mine.items():
                    self._heed(entry, renewed.fences.get((place, job_id)), asked_at)
                    if (place, job_id) in renewed.followed and not entry.is_wanted:
                        entry.is_wanted = True
                        self._writer.append(entry)

    def _heed(self, entry: BoardEntry, fence: int | None, asked_at: float) -> None:
        if entry.record.finished or entry.fence is None:
            return
        if fence != entry.fence:
            entry.lose()
            return
        entry.valid_until = asked_at + LEASE - _MARGIN
        if entry.scope is not None:
            entry.scope.deadline = self._deadline(entry)


def no_board() -> ConfigurationError:
    """Return the error of a client without a journal that is asked for what only a journal has."""
    return ConfigurationError(
        "runs=None: expected a journal for events of all processes; make the client with runs=Runs(), or set BMS_RUNS"
    )
