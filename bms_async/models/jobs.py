"""Jobs: what the cloud does after it said yes (API reference 4.11).

A fleet's polls bring a thousand sub-jobs each, so what can be read without a Python call is: the plain types below are
read by msgspec itself, and only where the reference contradicts itself does a reader of ours come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from ._fields import Model, Moment, OpenEnum, Text, Whole, _Reader


class JobStatus(OpenEnum):
    """How far a job or a sub-job is (API reference table 4-83). An undocumented status is not an end."""

    INIT = "INIT"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAIL = "FAIL"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self is JobStatus.SUCCESS or self is JobStatus.FAIL


_DOCUMENTED: Mapping[Any, JobStatus] = {status.value: status for status in JobStatus}

if TYPE_CHECKING:
    _Status: TypeAlias = JobStatus
else:

    class _Status(_Reader):
        @classmethod
        def read(cls, raw: Any) -> JobStatus:
            if not isinstance(raw, str):
                return JobStatus("" if raw is None else str(raw))
            return _DOCUMENTED.get(raw) or JobStatus(raw)


class SubJobEntities(Model, frozen=True, kw_only=True):
    """What a sub-job is about (API reference table 4-84)."""

    server_id: str | None = None
    nic_id: str | None = None


if TYPE_CHECKING:
    _About: TypeAlias = SubJobEntities | tuple[SubJobEntities | None, ...] | None
else:
    # The string is "": no entities at all.
    _About = SubJobEntities | tuple[SubJobEntities | None, ...] | str | None


class SubJob(Model, frozen=True, kw_only=True, rename={"about": "entities"}):
    """What became of one server in a job (API reference table 4-83).

    Attributes:
        about: The server or the NIC, documented as a list and shown as an object; `server_id` reads both.
        error_code: The code of chapter 6.2, when it failed; `bms_async.explain` tells what it means.
    """

    status: _Status = JobStatus.INIT
    about: _About = None
    job_id: str | None = None
    job_type: str | None = None
    begin_time: Moment = None
    end_time: Moment = None
    error_code: Text = None
    fail_reason: str | None = None
    message: Text = None
    code: Text = None

    @property
    def server_id(self) -> str | None:
        """The server that this sub-job is about; one that failed early may have none."""
        about = self.about
        if isinstance(about, SubJobEntities):
            return about.server_id or None
        entities = about if isinstance(about, tuple) else ()
        return next((entity.server_id for entity in entities if entity and entity.server_id), None)

    @property
    def nic_id(self) -> str | None:
        """The NIC that this sub-job is about."""
        about = self.about
        if isinstance(about, SubJobEntities):
            return about.nic_id or None
        entities = about if isinstance(about, tuple) else ()
        return next((entity.nic_id for entity in entities if entity and entity.nic_id), None)

    @property
    def is_final(self) -> bool:
        """Whether this sub-job has ended."""
        return self.status.is_final


if TYPE_CHECKING:
    _SubJobs: TypeAlias = tuple[SubJob, ...] | None
else:
    _SubJobs = tuple[SubJob, ...] | str | None


class JobEntities(Model, frozen=True, kw_only=True):
    """What a job is about, and its sub-jobs (API reference table 4-82)."""

    sub_jobs_total: Whole = None
    sub_jobs: _SubJobs = None
    server_id: str | None = None
    nic_id: str | None = None

    def __post_init__(self) -> None:
        told: Any = self.sub_jobs
        if told is not None and not isinstance(told, tuple):
            msgspec.structs.force_setattr(self, "sub_jobs", None)


if TYPE_CHECKING:
    _Entities: TypeAlias = JobEntities | None
else:
    _Entities = JobEntities | tuple[JobEntities, ...] | str | None


class Job(Model, frozen=True, kw_only=True):
    """A job as a poll shows it (API reference 4.11.1).

    Attributes:
        status: SUCCESS only when every sub-job succeeded; FAIL as soon as one has failed.
        error_code: Why the job as a whole failed, if it says so itself.
    """

    job_id: str
    status: _Status = JobStatus.INIT
    entities: _Entities = None
    job_type: Text = None
    begin_time: Moment = None
    end_time: Moment = None
    error_code: Text = None
    fail_reason: Text = None
    message: Text = None
    code: Text = None

    def __post_init__(self) -> None:
        told: Any = self.entities
        if told is not None and not isinstance(told, JobEntities):
            # "" for none, or a list around it, as the sub-jobs' own entities are documented.
            msgspec.structs.force_setattr(self, "entities", told[0] if told and isinstance(told, tuple) else None)

    @property
    def sub_jobs(self) -> tuple[SubJob, ...]:
        """The sub-jobs that this poll showed, in no particular order."""
        return (self.entities.sub_jobs or ()) if self.entities is not None else ()

    @property
    def sub_jobs_total(self) -> int:
        """How many sub-jobs there are in all; more than are shown while the job is young."""
        told = self.entities.sub_jobs_total if self.entities is not None else None
        return max(told or 0, len(self.sub_jobs))

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.status.is_final


class JobAccepted(Model, frozen=True, kw_only=True):
    """What a call that starts a job answers (API reference 6.3): the job, and the order if there is one."""

    job_id: str
    order_id: Text = None
