"""What a caller holds of a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from typing import overload

import anyio
import msgspec

from bms_async.errors import InvalidRequestError, JobFailedError, JobTimeoutError
from bms_async.errors.base import own_copy
from bms_async.models import Job, JobStatus, SubJob
from bms_async.models.ids import canonical_id

from .record import JobRecord

_VERSION = 1


class SavedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A handle as it is saved: plain JSON with a version, to be picked up by any later one of this package."""

    version: int
    job_id: str
    project_id: str
    action: str | None = None
    servers: tuple[str, ...] = ()


class _Version(msgspec.Struct, frozen=True):
    version: int


class JobHandle:
    """A job under way, from the yes of the cloud to its end.

    Awaiting it waits for the end. Leaving an await only detaches the waiter: the cloud has no call that aborts a job,
    and so there is none here. A job is polled while somebody waits for it; reading `status`, `job` or `done` has it
    polled once more, and does not wait for that.

    ::

        job = await bms.servers.stop([id_a, id_b])
        sub = await job.sub_job(id_a)       # when this server has ended
        async for sub in job.sub_jobs():    # each as it ends
            ...
        done = await job                    # when all have
    """

    __slots__ = ("_action", "_own", "_project_id", "_record")

    def __init__(
        self, record: JobRecord, project_id: str, *, servers: tuple[str, ...] = (), action: str | None = None
    ) -> None:
        self._record = record
        self._project_id = project_id
        # Of its own: a cloud may give two calls one and the same job.
        self._own = servers
        self._action = action

    @property
    def id(self) -> str:
        """The cloud's id of the job."""
        return self._record.job_id

    @property
    def servers(self) -> tuple[str, ...]:
        """The servers it was started for; empty for a job picked up by its id."""
        return self._own or self._record.servers

    @property
    def action(self) -> str | None:
        """The call that started it, such as ``servers.stop``; None for a job picked up by its id."""
        return self._action or self._record.action

    @property
    def job(self) -> Job | None:
        """What the last poll with news showed, None before the first."""
        self._record.mark_viewed()
        return self._record.job

    @property
    def status(self) -> JobStatus:
        """How far the job is, as the last poll showed it."""
        self._record.mark_viewed()
        return self._last_status

    def done(self) -> bool:
        """Tell whether nothing more will be learned: the job ended, or was lost."""
        self._record.mark_viewed()
        return self._record.finished

    def __await__(self) -> Generator[object, None, Job]:
        return self._result().__await__()

    async def result(self, timeout: float | None = None) -> Job:
        """Wait for the end and return the job.

        Args:
            timeout: Seconds to wait at most; None waits as long as it takes.

        Raises:
            JobFailedError: The job ended as FAIL; some servers may have succeeded.
            JobLostError: How it ended cannot be known.
            JobTimeoutError: The time is over, the job goes on; the error holds what resumes the wait.
            ClientClosedError: The client was closed.
        """
        with anyio.move_on_after(timeout):
            return await self._result()
        raise JobTimeoutError(
            f"job {self.id} is {self._last_status.value} after {timeout:g} s and goes on; "
            "wait for it again with restore()",
            job_id=self.id,
            job=self._record.job,
            resume=self.to_json(),
        )

    def sub_job(self, server_id: str) -> asyncio.Future[SubJob]:
        """Return a future that resolves when this server's part has ended, well or badly.

        Each call returns a future of its own; cancelling it touches no other.

        Args:
            server_id: One of the servers that the job was started for.

        Raises:
            InvalidRequestError: The job was not started for this server.
        """
        name = canonical_id(server_id) if isinstance(server_id, str) else server_id
        stranger = bool(self.servers) and name not in self._record.expected_ids
        if stranger or not isinstance(name, str) or (self._shares_its_job and name not in self._own_names):
            raise InvalidRequestError("server_id", server_id, f"not a server of job {self.id}")
        return self._record.sub_job(name)

    async def sub_jobs(self) -> AsyncIterator[SubJob]:
        """Iterate over the sub-jobs in the order in which they end, those first that already have.

        Raises:
            JobLostError: How the job ended cannot be known; what was known came before.
            ClientClosedError: The client was closed.
        """
        record = self._record
        told = 0
        own = self._own_names
        while True:
            while told < len(record.ended):
                sub = record.ended[told]
                told += 1
                name = canonical_id(sub.server_id or "")
                is_of_another_call = self._shares_its_job and name in record.expected_ids and name not in own
                if not is_of_another_call:
                    yield sub
            if record.finished:
                break
            await record.wait_for_change()
        if record.error is not None:
            raise own_copy(record.error)

    def to_json(self) -> str:
        """Return what `bms.jobs.restore` makes a handle of again, in this process or another."""
        saved = SavedJob(
            version=_VERSION, job_id=self.id, project_id=self._project_id, action=self.action, servers=self.servers
        )
        return msgspec.json.encode(saved).decode()

    def __repr__(self) -> str:
        servers = f" of {len(self.servers)} servers" if self.servers else ""
        return f"<{type(self).__name__} {self.id} {self._last_status.value}{servers}, {len(self._record.ended)} ended>"

    @property
    def _last_status(self) -> JobStatus:
        return self._record.job.status if self._record.job else JobStatus.INIT

    @property
    def _shares_its_job(self) -> bool:
        return bool(self._own) and len(self._own) < len(self._record.expected_ids)

    @property
    def _own_names(self) -> frozenset[str]:
        return frozenset(map(canonical_id, self._own))

    async def _result(self) -> Job:
        record = self._record
        while not record.finished:
            await record.wait_for_change()
        if record.error is not None:
            raise own_copy(record.error)
        job = record.job
        if job is None or job.status is not JobStatus.SUCCESS:
            raise JobFailedError(job or Job(job_id=self.id, status=JobStatus.FAIL))
        return job


class WatchedJobs(Sequence[JobHandle]):
    """Handles of many jobs, each made when it is looked at: a hundred thousand at once would hold the event loop."""

    __slots__ = ("_project_id", "_records")

    def __init__(self, records: Sequence[JobRecord], project_id: str) -> None:
        self._records = records
        self._project_id = project_id

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, place: int) -> JobHandle: ...

    @overload
    def __getitem__(self, place: slice) -> WatchedJobs: ...

    def __getitem__(self, place: int | slice) -> JobHandle | WatchedJobs:
        if isinstance(place, slice):
            return WatchedJobs(self._records[place], self._project_id)
        return JobHandle(self._records[place], self._project_id)

    def __repr__(self) -> str:
        return f"<{len(self)} watched jobs>"


def read_saved(text: str | bytes, project_id: str | None) -> SavedJob:
    """Read what `JobHandle.to_json` wrote.

    Args:
        text: The JSON.
        project_id: The project of the client that is to watch the job, None if it is not known yet.

    Raises:
        InvalidRequestError: It is no saved job, is of a later version, or of another project.
    """
    try:
        # The version first: what a later one writes may have another shape.
        version = msgspec.json.decode(text, type=_Version).version
        if version != _VERSION:
            raise InvalidRequestError("text", version, f"this version of bms_async reads version {_VERSION} only")
        saved = msgspec.json.decode(text, type=SavedJob)
    except (msgspec.DecodeError, UnicodeError, TypeError, RecursionError) as error:
        raise InvalidRequestError("text", "...", f"not what JobHandle.to_json() wrote: {error}") from error
    if project_id and saved.project_id and saved.project_id != project_id:
        raise InvalidRequestError(
            "text", saved.project_id, f"the job belongs to that project, and this client to {project_id}"
        )
    return saved
