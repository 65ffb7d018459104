"""Jobs: work that the cloud has accepted (API reference 4.11)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from operator import is_not
from typing import Final

import msgspec
from msgspec.structs import force_setattr

from bms_async.errorcodes import explain

from .base import Model, OpenEnum, read_datetime
from .ids import canonical_id

_REPEATED: Final = ("job_type", "_begin_time", "_end_time", "error_code", "fail_reason")
# Kept as text: what runs has "" for its end, which is no datetime, and few callers ask for the times of a sub-job.
_TIMES: Final = {"_begin_time": "begin_time", "_end_time": "end_time"}


class JobStatus(OpenEnum):
    """The status of a job or a sub-job (API reference table 4-83). An undocumented status is not an end."""

    INIT = "INIT"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAIL = "FAIL"

    @property
    def is_final(self) -> bool:
        """Whether the job or sub-job has ended."""
        return self is JobStatus.SUCCESS or self is JobStatus.FAIL


class SubJobEntities(Model, frozen=True, kw_only=True):
    """The server or NIC that a sub-job is about (API reference table 4-84).

    Attributes:
        errorcode_message: Why the sub-job failed, in the cloud's words. The vendor's own SDK has this field, the
            reference does not. `SubJob.reason` reads it.
    """

    server_id: str | None = None
    nic_id: str | None = None
    errorcode_message: str | None = None


def _server_of(about: SubJobEntities | tuple[SubJobEntities, ...] | None) -> str | None:
    if isinstance(about, SubJobEntities):
        return about.server_id or None
    return next((entity.server_id for entity in about or () if entity.server_id), None)


class SubJob(Model, frozen=True, kw_only=True, rename={"about": "entities", **_TIMES}):
    """The part of a job that is about one server (API reference table 4-83).

    Attributes:
        about: The server or the NIC; documented as a list and sent as an object, and `server_id` reads both.
        error_code: The code of chapter 6.2 if the sub-job failed; `meaning` and `measure` explain it.
    """

    status: JobStatus = JobStatus.INIT
    about: SubJobEntities | tuple[SubJobEntities, ...] | None = None
    job_id: str | None = None
    job_type: str | None = None
    _begin_time: str | None = None
    _end_time: str | None = None
    error_code: str | None = None
    fail_reason: str | None = None
    message: str | None = None
    code: str | None = None

    @property
    def begin_time(self) -> datetime | None:
        """When the sub-job began; None if the cloud shows no time."""
        return read_datetime(self._begin_time)

    @property
    def end_time(self) -> datetime | None:
        """When the sub-job ended; None while it runs, or if the cloud shows no time."""
        return read_datetime(self._end_time)

    @property
    def server_id(self) -> str | None:
        """The server that this sub-job is about; None for some that failed early."""
        return _server_of(self.about)

    @property
    def nic_id(self) -> str | None:
        """The NIC that this sub-job is about, if any."""
        about = self.about
        if isinstance(about, SubJobEntities):
            return about.nic_id or None
        return next((entity.nic_id for entity in about or () if entity.nic_id), None)

    @property
    def reason(self) -> str | None:
        """Why the sub-job failed, in the cloud's own words, from whichever field has them; None if none has."""
        about = (self.about,) if isinstance(self.about, SubJobEntities) else self.about or ()
        message = next((entity.errorcode_message for entity in about if entity.errorcode_message), None)
        return self.fail_reason or message or self.message or None

    @property
    def meaning(self) -> str | None:
        """What the error code means (API reference 6.2); None if there is none, or an undocumented one."""
        documented = explain(self.error_code or self.code)
        return documented.meaning if documented else None

    @property
    def measure(self) -> str | None:
        """What to do about the error code (API reference 6.2); None where `meaning` is None."""
        documented = explain(self.error_code or self.code)
        return documented.measure if documented else None

    @property
    def is_final(self) -> bool:
        """Whether this sub-job has ended."""
        return self.status.is_final


class JobEntities(Model, frozen=True, kw_only=True):
    """The sub-jobs of a job, and the server or NIC that it is about (API reference table 4-82)."""

    sub_jobs_total: int | None = None
    sub_jobs: tuple[SubJob, ...] | None = None
    server_id: str | None = None
    nic_id: str | None = None
    errorcode_message: str | None = None


class Job(Model, frozen=True, kw_only=True, rename=_TIMES):
    """A job as a poll shows it (API reference 4.11.1).

    Attributes:
        status: SUCCESS only if every sub-job succeeded; FAIL as soon as one has failed.
        error_code: The code with which the job as a whole failed, if it has one.
    """

    job_id: str
    status: JobStatus = JobStatus.INIT
    entities: JobEntities | None = None
    job_type: str | None = None
    _begin_time: str | None = None
    _end_time: str | None = None
    error_code: str | None = None
    fail_reason: str | None = None
    message: str | None = None
    code: str | None = None

    @property
    def begin_time(self) -> datetime | None:
        """When the job began; None if the cloud shows no time."""
        return read_datetime(self._begin_time)

    @property
    def end_time(self) -> datetime | None:
        """When the job ended; None while it runs, or if the cloud shows no time."""
        return read_datetime(self._end_time)

    @property
    def sub_jobs(self) -> tuple[SubJob, ...]:
        """The sub-jobs that this poll showed, in no particular order."""
        return (self.entities.sub_jobs or ()) if self.entities is not None else ()

    @property
    def sub_jobs_total(self) -> int:
        """How many sub-jobs the job has in all; a young job shows fewer."""
        total = self.entities.sub_jobs_total if self.entities is not None else None
        return max(total or 0, len(self.sub_jobs))

    @property
    def reason(self) -> str | None:
        """Why the job as a whole failed, in the cloud's own words, from whichever field has them; None if none has."""
        message = self.entities.errorcode_message if self.entities is not None else None
        return self.fail_reason or message or self.message or None

    @property
    def meaning(self) -> str | None:
        """What the error code means (API reference 6.2); None if there is none, or an undocumented one."""
        documented = explain(self.error_code or self.code)
        return documented.meaning if documented else None

    @property
    def measure(self) -> str | None:
        """What to do about the error code (API reference 6.2); None where `meaning` is None."""
        documented = explain(self.error_code or self.code)
        return documented.measure if documented else None

    @property
    def is_final(self) -> bool:
        """Whether the job has ended, as SUCCESS or FAIL."""
        return self.status.is_final


def intern_job(job: Job, ended: Mapping[str, SubJob], server_ids: Mapping[str, str]) -> Job:
    """Return an equal job that shares its parts with what is held already, to save memory.

    Args:
        job: The job; equal texts in it are replaced by one object, in place.
        ended: Sub-jobs that are held already, by the canonical id of their server.
        server_ids: Server ids that are held already, by their canonical form.
    """
    texts: dict[str, str] = {}
    subs = tuple(_held(sub, ended) or _intern_texts(sub, server_ids, texts) for sub in job.sub_jobs)
    return with_sub_jobs(job, subs) if any(map(is_not, subs, job.sub_jobs)) else job


def with_sub_jobs(job: Job, subs: tuple[SubJob, ...]) -> Job:
    """Return the job with other sub-jobs; the same object if it has no entities, and so none.

    Args:
        job: The job.
        subs: The sub-jobs.
    """
    entities = job.entities
    if entities is None:
        return job
    return msgspec.structs.replace(job, entities=msgspec.structs.replace(entities, sub_jobs=subs))


def _held(sub: SubJob, ended: Mapping[str, SubJob]) -> SubJob | None:
    held = ended.get(canonical_id(sub.server_id or ""))
    return held if held is sub or held == sub else None


def _intern_texts(sub: SubJob, server_ids: Mapping[str, str], texts: dict[str, str]) -> SubJob:
    about = sub.about
    for entity in (about,) if isinstance(about, SubJobEntities) else about or ():
        # An id in another spelling stays as the cloud wrote it.
        held = server_ids.get(canonical_id(entity.server_id or ""))
        if held is not None and held == entity.server_id:
            force_setattr(entity, "server_id", held)
        if text := entity.errorcode_message:
            force_setattr(entity, "errorcode_message", texts.setdefault(text, text))
    for name in _REPEATED:
        if text := getattr(sub, name):
            force_setattr(sub, name, texts.setdefault(text, text))
    return sub


class JobAccepted(Model, frozen=True, kw_only=True):
    """The response of a call that starts a job (API reference 6.3): the job, and the order if there is one."""

    job_id: str
    order_id: str | None = None
