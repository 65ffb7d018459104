"""One job on the board: what of it is in the journal already, and what the journal says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import anyio
import msgspec

from bms_async.errors import JobLostError
from bms_async.errors.base import own_copy
from bms_async.models import Job, JobEntities, JobStatus, SubJob
from bms_async.models.ids import canonical_id

from .events import JobChanged, JobEnded, JobEvent, JobLost, JobStarted, SubJobEnded
from .packed_events import name_of
from .record import JobRecord


class Unwritten(msgspec.Struct, frozen=True, kw_only=True):
    """What was learned of a job and is not in the journal yet.

    Attributes:
        events: The events.
        subs: The sub-jobs whose ends these are, by name, each with its place among all that are written then.
        before: How many were written before.
        ends: How many ends the record had then.
        status: The status in them.
        is_end: Whether the job has ended, or is lost.
    """

    events: list[JobEvent]
    subs: dict[str, tuple[int, SubJob]]
    before: int
    ends: int
    status: JobStatus | None
    is_end: bool


class BoardEntry:
    """A job of this process that is in the journal, or about to be.

    Attributes:
        record: The job.
        fence: The fence of this process's claim; None while another process polls the job, or nobody knows.
        valid_until: Until when the claim counts, in seconds of the board's clock.
        sequence: How many events of the job are in the journal.
        number: The number of the last event that the record was given from there.
        start: The number of the place's last event when it was last claimed.
        written: The sub-jobs whose ends are in the journal, by name, each with its place among them.
        is_followed: Whether it waits for events of the process that polls it.
        is_released: Whether it is about to be handed back.
        is_wanted: Whether another process waits for its events.
        scope: The poll in flight; it ends with the claim.
        settled: Set once the claim that was last asked for is decided.
        failure: Why it could not be decided.
    """

    __slots__ = (
        "_sent",
        "_status",
        "_sub_count",
        "failure",
        "fence",
        "is_followed",
        "is_released",
        "is_wanted",
        "number",
        "record",
        "scope",
        "sequence",
        "settled",
        "start",
        "valid_until",
        "written",
    )

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        self.fence: int | None = None
        self.valid_until = 0.0
        self.sequence = 0
        self.number = 0
        self.start = 0
        self.is_followed = False
        self.is_released = False
        self.is_wanted = False
        self.scope: anyio.CancelScope | None = None
        self.settled: asyncio.Event | None = None
        self.failure: Exception | None = None
        self._sent = 0
        self._status: JobStatus | None = None
        self.written: dict[str, tuple[int, SubJob]] = {}
        self._sub_count = 0

    @property
    def has_ended(self) -> bool:
        """Whether the job has ended, or is lost, as far as this process knows."""
        record = self.record
        is_lost = isinstance(record.error, JobLostError)
        return record.finished and (is_lost or (record.error is None and record.job is not None))

    def settle(self, failure: Exception | None) -> None:
        """Note that a claim is decided, or could not be.

        Args:
            failure: Why it could not be.
        """
        settled, self.settled, self.failure = self.settled, None, failure
        if settled is not None:
            settled.set()

    def lose(self) -> None:
        """Note that this process does not have the job any more, and end a poll that is in flight."""
        self.fence = None
        if self.scope is not None:
            self.scope.cancel()

    def note_written(self, events: Iterable[JobEvent], sequence: int) -> None:
        """Note all that is in the journal, which another process may have written.

        Args:
            events: All events of the job.
            sequence: How many there are.
        """
        self.sequence = sequence
        self._sent, self._status, self._sub_count = 0, None, 0
        self.written = {}
        for event in events:
            if isinstance(event, SubJobEnded):
                self.written[name_of(event.sub_job)] = self._sub_count, event.sub_job
                self._sub_count += 1
            elif isinstance(event, JobChanged):
                self._status = event.status

    def unwritten(self) -> Unwritten:
        """Return what is not in the journal yet."""
        record = self.record
        events: list[JobEvent] = []
        if not self.sequence:
            events.append(JobStarted(job_id=record.job_id, action=record.action, servers=record.servers))
        status = record.status
        if status is not None and not status.is_final and status != self._status:
            events.append(JobChanged(job_id=record.job_id, status=status))
        ends = len(record.ended)
        subs: dict[str, tuple[int, SubJob]] = {}
        count = self._sub_count
        for sub in record.ended[self._sent : ends]:
            server_id = sub.server_id
            name = canonical_id(server_id) if server_id else name_of(sub)
            if name not in self.written:
                events.append(SubJobEnded(job_id=record.job_id, server_id=server_id, sub_job=sub))
                subs[name] = count, sub
                count += 1
        is_end = self.has_ended
        if is_end and isinstance(record.error, JobLostError):
            events.append(JobLost(job_id=record.job_id, error=own_copy(record.error)))
        elif is_end and record.job is not None:
            events.append(JobEnded(job_id=record.job_id, job=record.job))
        return Unwritten(events=events, subs=subs, before=self._sub_count, ends=ends, status=status, is_end=is_end)

    def note_appended(self, written: Unwritten) -> None:
        """Note that it is in the journal now."""
        self.sequence += len(written.events)
        self._sent, self._status = written.ends, written.status
        self._sub_count += sum(isinstance(event, SubJobEnded) for event in written.events)
        self.written.update(written.subs)
        if written.is_end:
            self.written.clear()

    def feed(self, number: int, events: Iterable[JobEvent]) -> None:
        """Give the record what the journal says of the job.

        Args:
            number: The number of the last event.
            events: Events that the record was not given yet, in their order.
        """
        self.number = number
        record = self.record
        status = record.status or JobStatus.INIT
        subs: list[SubJob] = []
        ended: JobEnded | None = None
        for event in events:
            match event:
                case JobStarted(servers=servers, action=action) if servers and not record.servers:
                    record.add_servers(servers, action)
                case JobChanged(status=new_status):
                    status = new_status
                case SubJobEnded(server_id=server_id, sub_job=sub) if server_id is not None:
                    subs.append(sub)
                case JobEnded():
                    ended = event
                case JobLost(error=error):
                    self._show(status, subs)
                    record.fail(error)
                    return
        if ended is None:
            self._show(status, subs)
            return
        record.update(ended.job)
        # What the other process has given up, this one need not wait for.
        record.give_up()

    def _show(self, status: JobStatus, subs: list[SubJob]) -> None:
        record = self.record
        if not subs and status == record.status:
            return
        names = {name_of(sub) for sub in record.ended}
        shown = (*record.ended, *(sub for sub in subs if name_of(sub) not in names))
        total = len(record.expected_ids) or None
        entities = JobEntities(sub_jobs=shown, sub_jobs_total=total)
        record.update(Job(job_id=record.job_id, status=status, entities=entities))
