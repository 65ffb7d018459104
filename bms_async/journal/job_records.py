"""What the journal keeps of watched jobs and their events, as its users see it."""

from __future__ import annotations

import msgspec


class JobOffer(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is watched.

    Attributes:
        job: Its id.
        action: The call that started it, None if not known.
    """

    job: str
    action: str | None


class EventBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one job that were written down together.

    Attributes:
        number: The number of the last one.
        job: The job.
        count: How many they are; their numbers follow each other.
        body: The events, packed.
    """

    number: int
    job: str
    count: int
    body: bytes


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of a place's events.

    Attributes:
        trimmed: The number of the last event that was deleted.
        blocks: The events.
    """

    trimmed: int
    blocks: list[EventBlock]


class KeptJobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the journal has it.

    Attributes:
        job: Its id.
        fence: The fence of the claim that was just made, None if another process polls the job or it has ended.
        sequence: How many events of it there were then.
        is_followed: Whether another process waits for its events.
        is_ended: Whether it has ended, or is lost.
        blocks: The events that there were already.
    """

    job: str
    fence: int | None
    sequence: int
    is_followed: bool
    is_ended: bool
    blocks: list[EventBlock]


class ClaimedJobs(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs as the journal has them.

    Attributes:
        number: The number of the place's last event.
        is_wanted: Whether somebody wants the events of the place.
        jobs: The jobs, by id.
    """

    number: int
    is_wanted: bool
    jobs: dict[str, KeptJobRow]


class AppendedJobs(msgspec.Struct, frozen=True, kw_only=True):
    """What became of events that were to be written down.

    Attributes:
        made: The jobs of which all is written.
        wanted: Those that have ended without events, which are wanted.
    """

    made: set[str]
    wanted: set[str]


class RenewedJobs(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of a process.

    Attributes:
        fences: The fence of each, by place and job.
        followed: Those of which another process waits for the events.
        wanted: The places whose events somebody wants.
    """

    fences: dict[tuple[str, str], int]
    followed: set[tuple[str, str]]
    wanted: set[str]


class FreeJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that nobody polls.

    Attributes:
        job: Its id.
        action: The call that started it, None if not known.
        servers: The servers it was started for, packed; empty if not known, or if an event says so.
    """

    job: str
    action: str | None
    servers: bytes


class NewEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a job that are to be written down.

    Attributes:
        job: Its id.
        fence: The fence of the claim to it.
        sequence: How many events of it are there already.
        count: How many these are; 0 for a job that has ended, and of which no event is wanted.
        body: The events, packed.
        is_end: Whether the job has ended with them.
    """

    job: str
    fence: int
    sequence: int
    count: int
    body: bytes
    is_end: bool
