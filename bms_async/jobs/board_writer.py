"""What one client writes about jobs into the journal: one task, and one transaction for all that has come up.

So what is written about a job is written in its order, and a thousand jobs whose polls end in the same second take a
few transactions. A claim, for which a poll waits, is made at once; events are collected for a moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice

import anyio

from bms_async._threads import run_in_thread
from bms_async.errors import ClientClosedError, JournalError
from bms_async.journal import JobOffer, Journal, KeptJobRow, NewEvents, pack_ids
from bms_async.journal.transactions.jobs import append_events, claim_jobs, release_jobs

from .board_entry import BoardEntry, Unwritten
from .events import JobEnded, JobStarted
from .packed_events import pack_events

_log = logging.getLogger("bms_async.jobs")

_PATIENCE = 5.0
"""Seconds for which a journal that does not answer is asked again before a job is polled without it."""

_LONGEST = 10.0
"""Seconds that one transaction may take beyond that."""

_CLOSING_PATIENCE = 5.0
_PAUSE = 1.0
"""Seconds after which a journal that did not answer is written again."""

_COLLECT = 0.5
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
        forget: Called with what needs no room in this process any more.
    """

    def __init__(
        self,
        journal: Journal,
        owner: str,
        *,
        clock: Callable[[], float],
        place: Callable[[], str | None],
        on_claimed: Callable[[BoardEntry, KeptJobRow, float], Awaitable[None]],
        forget: Callable[[BoardEntry], None],
    ) -> None:
        self._journal = journal
        self._owner = owner
        self._clock = clock
        self._place = place
        self._on_claimed = on_claimed
        self._forget = forget
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
        """Have what is new of a job written down."""
        self._appends[entry.record.job_id] = entry
        self._wake.set()

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
        self._appends |= {entry.record.job_id: entry for entry in entries if entry.fence is not None}
        with anyio.move_on_after(_CLOSING_PATIENCE, shield=True):
            try:
                while place is not None and self._appends:
                    await self._append(place)
                if place is not None:
                    await self._journal.run(release_jobs, place, self._owner, None, patience=_CLOSING_PATIENCE)
            except (JournalError, ClientClosedError) as error:
                _log.info("jobs could not be handed back, and are free when their leases are over: %s", error)
        self._journal.notify()

    async def _append(self, place: str) -> None:
        entries = _take(self._appends)
        try:
            parts = [(entry, entry.unwritten()) for entry in entries if entry.fence is not None]
            new = [await _pack(entry, unwritten) for entry, unwritten in parts if unwritten.events]
            made = await self._write_events(place, new) if new else set()
        except BaseException:
            self._appends = {entry.record.job_id: entry for entry in entries} | self._appends
            raise
        for entry, unwritten in parts:
            if not unwritten.events:
                continue
            if entry.record.job_id in made:
                entry.note_appended(unwritten)
            else:
                entry.lose()
            if unwritten.is_end:
                self._forget(entry)

    async def _write_events(self, place: str, new: list[NewEvents]) -> set[str]:
        made = await self._journal.run(append_events, place, self._owner, new, patience=_PATIENCE)
        self._journal.notify()
        return made

    async def _release(self, place: str) -> None:
        entries = _take(self._releases)
        if not entries:
            return
        try:
            jobs = [entry.record.job_id for entry in entries]
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
            offers = [_offer(entry) for entry in entries]
            rows = await self._journal.run(claim_jobs, place, self._owner, offers, patience=_PATIENCE)
            for entry in entries:
                await self._on_claimed(entry, rows[entry.record.job_id], asked_at)
        except Exception as error:
            failure = error
            # Nobody polls these any more, and what was seen of their end has to be written by this process.
            self._claims |= {entry.record.job_id: entry for entry in entries if entry.record.finished}
            raise
        finally:
            for entry in entries:
                entry.settle(failure)
        self._journal.notify()
        self._appends |= {entry.record.job_id: entry for entry in entries if entry.fence is not None}


def _take(entries: dict[str, BoardEntry]) -> list[BoardEntry]:
    return [entries.pop(job_id) for job_id in list(islice(entries, _JOBS_AT_ONCE))]


def _offer(entry: BoardEntry) -> JobOffer:
    record = entry.record
    started = JobStarted(job_id=record.job_id, action=record.action, servers=record.servers)
    return JobOffer(
        job=record.job_id, action=record.action, servers=pack_ids(record.servers), started=pack_events([started])
    )


async def _pack(entry: BoardEntry, unwritten: Unwritten) -> NewEvents:
    events = unwritten.events
    size = sum(len(event.job.sub_jobs) if isinstance(event, JobEnded) else 1 for event in events)
    body = pack_events(events) if size < _PACKED_IN_THREAD else await run_in_thread(pack_events, events)
    return NewEvents(
        job=entry.record.job_id,
        fence=entry.fence or 0,
        sequence=entry.sequence,
        count=len(events),
        body=body,
        is_end=unwritten.is_end,
    )
