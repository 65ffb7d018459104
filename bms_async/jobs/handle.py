"""The handle of a job: what a call that starts one returns."""

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
    """A saved handle: plain JSON with a version number, which every later version of this package can restore."""

    version: int
    job_id: str
    project_id: str
    action: str | None = None
    servers: tuple[str, ...] = ()


class _Version(msgspec.Struct, frozen=True):
    version: int


class JobHandle:
    """A job in the cloud, from its acceptance to its end.

    Awaiting the handle waits for the end. Leaving an await only detaches the waiter: the cloud has no call that aborts
    a job, so a handle has no `cancel()`. A job is polled while it has a waiter. Reading `status`, `job` or `done` has
    it polled once more, and does not wait for that poll.

    ::

        job = await bms.servers.stop([id_a, id_b])
        sub = await job.sub_job(id_a)       # when this server's part has ended
        async for sub in job.sub_jobs():    # each one as it ends
            ...
        done = await job                    # when all have ended
    """

    __slots__ = ("_action", "_own_servers", "_project_id", "_record")

    def __init__(
        self, record: JobRecord, project_id: str, *, servers: tuple[str, ...] = (), action: str | None = None
    ) -> None:
        self._record = record
        self._project_id = project_id
        # Not those of the record, because a cloud may return the same job for two calls.
        self._own_servers = servers
        self._action = action

    @property
    def id(self) -> str:
        """The cloud's id of the job."""
        return self._record.job_id

    @property
    def servers(self) -> tuple[str, ...]:
        """The servers it was started for; empty for a job picked up by its id."""
        return self._own_servers or self._record.servers

    @property
    def action(self) -> str | None:
        """The call that started it, such as ``servers.stop``; None for a job picked up by its id."""
        return self._action or self._record.action

    @property
    def job(self) -> Job | None:
        """The job as the last poll showed it, None before the first."""
        self._record.mark_viewed()
        return self._record.job

    @property
    def status(self) -> JobStatus:
        """The status of the job, as the last poll showed it."""
        self._record.mark_viewed()
        return self._last_status

    def done(self) -> bool:
        """Return whether nothing more will be learned: the job has ended, or was lost."""
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
            JobLostError: Its end cannot be known.
            JobTimeoutError: The timeout is over, and the job goes on; `error.resume` restores the handle.
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
        """Return a future that resolves when the server's sub-job has ended, as SUCCESS or FAIL.

        Each call returns a new future; cancelling it affects no other.

        Args:
            server_id: One of the servers that the job was started for.

        Raises:
            InvalidRequestError: The job was not started for this server.
        """
        name = canonical_id(server_id) if isinstance(server_id, str) else server_id
        is_unknown = bool(self.servers) and name not in self._record.expected_ids
        if is_unknown or not isinstance(name, str) or (self._is_shared and name not in self._own_ids):
            raise InvalidRequestError("server_id", server_id, f"expected one of the servers of job {self.id}")
        return self._record.sub_job(name)

    async def sub_jobs(self) -> AsyncIterator[SubJob]:
        """Iterate over the sub-jobs in the order in which they end, beginning with those that have ended already.

        Raises:
            JobLostError: The job's end cannot be known; it is raised after all sub-jobs whose end is known.
            ClientClosedError: The client was closed.
        """
        record = self._record
        index = 0
        own = self._own_ids
        while True:
            while index < len(record.ended):
                sub = record.ended[index]
                index += 1
                name = canonical_id(sub.server_id or "")
                is_of_another_call = self._is_shared and name in record.expected_ids and name not in own
                if not is_of_another_call:
                    yield sub
            if record.finished:
                break
            await record.wait_for_change()
        if record.error is not None:
            raise own_copy(record.error)

    def to_json(self) -> str:
        """Return the handle as JSON, from which `bms.jobs.restore` makes it again, in this process or another."""
        saved = SavedJob(
            version=_VERSION, job_id=self.id, project_id=self._project_id, action=self.action, servers=self.servers
        )
        return msgspec.json.encode(saved).decode()

    def __repr__(self) -> str:
        servers = f" of {len(self.servers)} servers" if self.servers else ""
        return f"<{type(self).__name__} {self.id} {self._last_status.value}{servers}, {len(self._record.ended)} ended>"

    @property
    def _last_status(self) -> JobStatus:
        return self._record.status or JobStatus.INIT

    @property
    def _is_shared(self) -> bool:
        return bool(self._own_servers) and len(self._own_servers) < len(self._record.expected_ids)

    @property
    def _own_ids(self) -> frozenset[str]:
        return frozenset(map(canonical_id, self._own_servers))

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
    """Handles of many jobs, each created on access: a hundred thousand at once would hold the event loop."""

    __slots__ = ("_project_id", "_records")

    def __init__(self, records: Sequence[JobRecord], project_id: str) -> None:
        self._records = records
        self._project_id = project_id

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> JobHandle: ...

    @overload
    def __getitem__(self, index: slice) -> WatchedJobs: ...

    def __getitem__(self, index: int | slice) -> JobHandle | WatchedJobs:
        if isinstance(index, slice):
            return WatchedJobs(self._records[index], self._project_id)
        return JobHandle(self._records[index], self._project_id)

    def __repr__(self) -> str:
        return f"<{len(self)} watched jobs>"


def read_saved(text: str | bytes, project_id: str | None) -> SavedJob:
    """Decode what `JobHandle.to_json` returned.

    Args:
        text: The JSON.
        project_id: The project of the client that is to watch the job, None if not known yet.

    Raises:
        InvalidRequestError: The text is not a saved job, or is one of another version or of another project.
    """
    try:
        # The version first, because the JSON of another version may have another shape.
        version = msgspec.json.decode(text, type=_Version).version
        if version != _VERSION:
            raise InvalidRequestError(
                "text", version, f"expected version {_VERSION}, the only one that this release reads"
            )
        saved = msgspec.json.decode(text, type=SavedJob)
    except (msgspec.DecodeError, UnicodeError, TypeError, RecursionError) as error:
        raise InvalidRequestError("text", "...", f"expected what JobHandle.to_json() returned: {error}") from error
    if project_id and saved.project_id and saved.project_id != project_id:
        raise InvalidRequestError(
            "text",
            saved.project_id,
            f"expected a job of this client's project {project_id}; use a client of that project",
        )
    return saved
