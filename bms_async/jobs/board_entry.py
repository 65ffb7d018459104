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
from .record import JobRecord


class Unwritten(msgspec.Struct, frozen=True, kw_only=True):
    """What was learned of a job and is not in the journal yet.

    Attributes:
        events: The events.
        ends: How many ends the record had then.
        status: The status in them.
        is_end: Whether the job has ended, or is lost.
    """

    events: list[JobEvent]
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
        is_followed: Whether it waits for events of the process that polls it.
        is_released: Whether it is about to be handed back.
        scope: The poll in flight; it ends with the claim.
        settled: Set once the claim that was last asked for is decided.
        failure: Why it could not be decided.
    """

    __slots__ = (
        "_known",
        "_sent",
        "_status",
        "failure",
        "fence",
        "is_followed",
        "is_released",
        "number",
        "record",
        "scope",
        "sequence",
        "settled",
        "start",
        "valid_until",
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
        self.scope: anyio.CancelScope | None = None
        self.settled: asyncio.Event | None = None
        self.failure: Exception | None = None
        self._sent = 0
        self._status: JobStatus | None = None
        self._known: set[str] = set()

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
        self._sent, self._status, self._known = 0, None, set()
        for event in events:
            if isinstance(event, SubJobEnded):
                self._known.add(_name(event.sub_job))
            elif isinstance(event, JobChanged):
                self._status = event.status

    def unwritten(self) -> Unwritten:
        """Return what is not in the journal yet."""
        record = self.record
        events: list[JobEvent] = []
        status = record.status
        if status is not None and not status.is_final and status != self._status:
            events.append(JobChanged(job_id=record.job_id, status=status))
        ends = len(record.ended)
        events += [
            SubJobEnded(job_id=record.job_id, server_id=sub.server_id, sub_job=sub)
            for sub in record.ended[self._sent : ends]
            if _name(sub) not in self._known
        ]
        is_end = False
        if record.finished:
            if record.error is None and record.job is not None:
                events.append(JobEnded(job_id=record.job_id, job=record.job))
                is_end = True
            elif isinstance(record.error, JobLostError):
                events.append(JobLost(job_id=record.job_id, error=own_copy(record.error)))
                is_end = True
        return Unwritten(events=events, ends=ends, status=status, is_end=is_end)

    def note_appended(self, written: Unwritten) -> None:
        """Note that it is in the journal now."""
        self.sequence += len(written.events)
        self._sent, self._status = written.ends, written.status
        if written.is_end:
            self._known.clear()

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
        names = {_name(sub) for sub in record.ended}
        shown = (*record.ended, *(sub for sub in subs if _name(sub) not in names))
        total = len(record.expected_ids) or None
        entities = JobEntities(sub_jobs=shown, sub_jobs_total=total)
        record.update(Job(job_id=record.job_id, status=status, entities=entities))


def _name(sub: SubJob) -> str:
    return canonical_id(sub.server_id) if sub.server_id else f"#{sub.job_id}"
