"""What one client writes about jobs into the journal: one task, and one transaction for all that has come up.

So what is written about a job is written in its order, and a thousand jobs whose polls end in the same second take a
few transactions. A claim, for which a poll waits, is made at once; events and ends are collected for a moment. Of a job
whose events nobody wants, what is learned stays in its record until somebody does, or the job has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice

import anyio

from bms_async._threads import run_in_thread
from bms_async.errors import ClientClosedError, JournalError
from bms_async.journal import AppendedJobs, JobOffer, Journal, KeptJobRow, NewEvents, pack_ids
from bms_async.journal.transactions.jobs import append_events, claim_jobs, release_jobs

from .board_entry import BoardEntry, Unwritten
from .events import JobEnded
from .packed_events import pack_events

_log = logging.getLogger("bms_async.jobs")

_PATIENCE = 5.0
"""Seconds for which a journal that does not answer is asked again before a job is polled without it."""

_LONGEST = 10.0
"""Seconds that one transaction may take beyond that."""

_CLOSING_PATIENCE = 5.0
_PAUSE = 1.0
"""Seconds after which a journal that did not answer is written again."""

_COLLECT = 1.0
"""Seconds for which events are collected, so that many jobs cost no more transactions than one."""

_JOBS_AT_ONCE = 50
_PACKED_IN_THREAD = 200


class BoardWriter:
    """Writes what comes up.

    Args:
        journal: The journal.
        owner: The client's name in it.
        clock: The clock that leases are counted on, in seconds.
        place: Returns the endpoint and the project, None while that is not known.
        on_claimed: Called with what the journal has of a job, and when it was asked.
        on_wanted: Called with whether somebody wants the events of the place.
        forget: Called with what needs no room in this process any more.

    Attributes:
        is_wanted: Whether somebody wants the events of the place.
    """

    def __init__(
        self,
        journal: Journal,
        owner: str,
        *,
        clock: Callable[[], float],
        place: Callable[[], str | None],
        on_claimed: Callable[[BoardEntry, KeptJobRow, int, float], Awaitable[None]],
        on_wanted: Callable[..., None],
        forget: Callable[[BoardEntry], None],
    ) -> None:
        self._journal = journal
        self._owner = owner
        self._clock = clock
        self._place = place
        self._on_claimed = on_claimed
        self._on_wanted = on_wanted
        self._forget = forget
        self.is_wanted = False
        self._claims: dict[str, BoardEntry] = {}
        self._appends: dict[str, BoardEntry] = {}
        self._releases: dict[str, BoardEntry] = {}
        self._wake = asyncio.Event()
        self._write_at = 0.0

    def claim(self, entry: BoardEntry) -> None:
        """Have a job written down and claimed; `entry.settled` says when that is decided."""
        if self._releases.pop(entry.record.job_id, None) is not None:
            # It is needed again. Handed back after an earlier claim is decided, it would be nobody's, and forgotten.
            entry.is_released = False
        if entry.settled is None:
            entry.settled = asyncio.Event()
        self._claims[entry.record.job_id] = entry
        self._wake.set()

    def append(self, entry: BoardEntry) -> None:
        """Have what is new of a job written down, as far as it is wanted."""
        if self._has_to_write(entry):
            self._appends[entry.record.job_id] = entry
            self._wake.set()

    def _has_to_write(self, entry: BoardEntry) -> bool:
        return self._writes_events(entry) or entry.has_ended

    def _writes_events(self, entry: BoardEntry) -> bool:
        # All events of a job that has some, so that none is missing between others.
        return self.is_wanted or entry.is_wanted or entry.sequence > 0

    def release(self, entry: BoardEntry) -> None:
        """Have a job handed back."""
        entry.is_released = True
        self._releases[entry.record.job_id] = entry
        self._wake.set()

    async def run(self) -> None:
        """Write until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (place := self._place()) is not None and (self._appends or self._releases or self._claims):
                # Each by itself, so that no poll waits for its claim because events cannot be written.
                is_well = await self._try(self._claim, place)
                wait = self._write_at - anyio.current_time()
                if wait <= 0:
                    outcomes = [await self._try(work, place) for work in (self._append, self._release)]
                    is_well = is_well and all(outcomes)
                    if not self._appends and not self._releases:
                        self._write_at = anyio.current_time() + _COLLECT
                elif not self._claims:
                    self._wake.clear()
                    with anyio.move_on_after(wait):
                        await self._wake.wait()
                if not is_well:
                    await anyio.sleep(_PAUSE)

    async def _try(self, work: Callable[[str], Awaitable[None]], place: str) -> bool:
        try:
            # A database that takes what it is sent and never answers is bounded by nobody else.
            with anyio.fail_after(_PATIENCE + _LONGEST):
                await work(place)
        except Exception as error:  # noqa: BLE001 - whatever it is, this goes on, or waiters would wait for ever
            _log.warning("jobs cannot be written into the journal now: %s", error)
            return False
        return True

    async def finish(self, entries: Iterable[BoardEntry]) -> None:
        """Write what is left, and hand all jobs back; once `run` has ended.

        Args:
            entries: The jobs.
        """
        place = self._place()
        mine = {entry.record.job_id: entry for entry in entries if entry.fence is not None}
        self._appends |= {job_id: entry for job_id, entry in mine.items() if self._has_to_write(entry)}
        self._releases |= {job_id: entry for job_id, entry in mine.items() if not entry.record.finished}
        with anyio.move_on_after(_CLOSING_PATIENCE, shield=True):
            try:
                while place is not None and self._appends:
                    await self._append(place)
                while place is not None and self._releases:
                    await self._release(place)
                if place is not None:
                    await self._journal.run(release_jobs, place, self._owner, None, patience=_CLOSING_PATIENCE)
            except (JournalError, ClientClosedError) as error:
                _log.info("jobs could not be handed back, and are free when their leases are over: %s", error)
        self._journal.notify()

    async def _append(self, place: str) -> None:
        entries = _take(self._appends)
        try:
            parts = [
                (entry, entry.unwritten() if self._writes_events(entry) else None)
                for entry in entries
                if entry.fence is not None and self._has_to_write(entry)
            ]
            new = [await _pack(entry, unwritten) for entry, unwritten in parts if unwritten is None or unwritten.events]
            written = await self._write(place, new) if new else AppendedJobs(made=set(), wanted=set())
        except BaseException:
            self._appends = {entry.record.job_id: entry for entry in entries} | self._appends
            raise
        for entry, unwritten in parts:
            job_id = entry.record.job_id
            if job_id in written.wanted:
                entry.is_wanted = True
                self._appends[job_id] = entry
            elif unwritten is None:
                self._forget(entry)
            elif unwritten.events:
                self._note(entry, unwritten, is_made=job_id in written.made)

    def _note(self, entry: BoardEntry, unwritten: Unwritten, *, is_made: bool) -> None:
        if is_made:
            entry.note_appended(unwritten)
        else:
            entry.lose()
        if unwritten.is_end:
            self._forget(entry)

    async def _write(self, place: str, new: list[NewEvents]) -> AppendedJobs:
        written = await self._journal.run(append_events, place, self._owner, new, patience=_PATIENCE)
        self._journal.notify()
        return written

    async def _release(self, place: str) -> None:
        entries = _take(self._releases)
        if not entries:
            return
        try:
            jobs = {entry.record.job_id: b"" if entry.sequence else pack_ids(entry.record.servers) for entry in entries}
            await self._journal.run(release_jobs, place, self._owner, jobs, patience=_PATIENCE)
        finally:
            for entry in entries:
                entry.lose()
                entry.is_released = False
                if entry.settled is None:
                    self._forget(entry)

    async def _claim(self, place: str) -> None:
        entries = _take(self._claims)
        if not entries:
            return
        for entry in entries:
            # It is wanted again before it was handed back.
            entry.is_released = False
            self._releases.pop(entry.record.job_id, None)
        asked_at = self._clock()
        failure: Exception | None = None
        try:
            offers = [JobOffer(job=entry.record.job_id, action=entry.record.action) for entry in entries]
            claimed = await self._journal.run(claim_jobs, place, self._owner, offers, patience=_PATIENCE)
            self._on_wanted(is_wanted=claimed.is_wanted)
            for entry in entries:
                await self._on_claimed(entry, claimed.jobs[entry.record.job_id], claimed.number, asked_at)
        except Exception as error:
            failure = error
            # Nobody polls these any more, and what was seen of their end has to be written by this process.
            self._claims |= {entry.record.job_id: entry for entry in entries if entry.record.finished}
            raise
        finally:
            for entry in entries:
                entry.settle(failure)
        self._journal.notify()
        for entry in entries:
            if entry.fence is not None:
                self.append(entry)


def _take(entries: dict[str, BoardEntry]) -> list[BoardEntry]:
    return [entries.pop(job_id) for job_id in list(islice(entries, _JOBS_AT_ONCE))]


async def _pack(entry: BoardEntry, unwritten: Unwritten | None) -> NewEvents:
    body = b""
    if unwritten is not None:
        events = unwritten.events
        size = sum(len(event.job.sub_jobs) if isinstance(event, JobEnded) else 1 for event in events)
        written = entry.written | unwritten.subs if unwritten.is_end else None
        if size < _PACKED_IN_THREAD:
            body = pack_events(events, written, unwritten.before)
        else:
            body = await run_in_thread(pack_events, events, written, unwritten.before)
    return NewEvents(
        job=entry.record.job_id,
        fence=entry.fence or 0,
        sequence=entry.sequence,
        count=0 if unwritten is None else len(unwritten.events),
        body=body,
        is_end=unwritten is None or unwritten.is_end,
    )
