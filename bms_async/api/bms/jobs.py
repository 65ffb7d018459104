"""Jobs (API reference 4.11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from bms_async.api._registry import define
from bms_async.jobs import JobEvents, JobHandle, Watcher, read_saved
from bms_async.limits import Lane
from bms_async.models import Job, JobSummary
from bms_async.models.ids import canonical_id
from bms_async.session import Session
from bms_async.validation.common import read_id
from bms_async.wire import NO_RETRY, Operation, Safety, read_fragment

GET = define(
    "jobs.get",
    "GET",
    "/v1/{project_id}/jobs/{job_id}",
    Job,
    title="Ask how far a job is",
    chapter="4.11.1",
    safety=Safety.READ,
)

_POLL: Operation[bytes] = msgspec.structs.replace(GET, result=bytes)  # type: ignore[arg-type]  # another result, same call


class Jobs:
    """What the cloud does after it said yes: ``bms.jobs``."""

    def __init__(self, session: Session, watcher: Watcher, *, check: bool) -> None:
        self._session = session
        self._watcher = watcher
        self._check = check

    async def get(self, job_id: str) -> Job:
        """Ask once how far a job is.

        To wait for its end, `watch` it: that costs one poll however many wait, and keeps within the limit.

        Args:
            job_id: The job.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such job: not yet, some seconds after it was accepted, or not any more.

        Source: API reference 4.11.1; 2000 calls a minute.
        """
        job_id = read_id("job_id", job_id, check=self._check)
        return self._session.with_masked_text(await self._session.call(GET, path={"job_id": job_id}))

    def watch(self, job_id: str, *, keep_polling: bool = False) -> JobHandle:
        """Watch a job that was started elsewhere, by its id.

        It is polled at once, and then for as long as somebody waits for it or events are subscribed to.

        Args:
            job_id: The job.
            keep_polling: Whether to poll it to its end also when nobody waits; such polls are made after all others.

        Raises:
            InvalidRequestError: The id is invalid.
            ClientClosedError: The client is not open.

        Source: API reference 4.11.1.
        """
        return self._watcher.watch(
            read_id("job_id", job_id, check=self._check), keep_polling=keep_polling, started=False
        )

    def restore(self, text: str | bytes, *, keep_polling: bool = False) -> JobHandle:
        """Watch a job again from what `JobHandle.to_json` wrote, in this process or another.

        Args:
            text: The JSON.
            keep_polling: As in `watch`.

        Raises:
            InvalidRequestError: The text is no saved job, or one of another project.
            ClientClosedError: The client is not open.

        Source: API reference 4.11.1.
        """
        saved = read_saved(text, self._session.project_id)
        job_id = read_id("text.job_id", saved.job_id, check=self._check)
        # Saved by an older version, they may be as their caller wrote them.
        servers = tuple(dict.fromkeys(map(canonical_id, saved.servers)))
        return self._watcher.watch(
            job_id, servers=servers, action=saved.action, keep_polling=keep_polling, started=False
        )

    def watched(self) -> Sequence[JobHandle]:
        """Return a handle of each job that is watched and has not ended, such as to catch up after an `EventGap`.

        A job that nobody waits for, and of which nobody holds a handle, is not watched any more.

        Source: API reference 4.11.1.
        """
        return self._watcher.watched()

    def events(self, *, max_buffer_size: int = 10_000) -> JobEvents:
        """Subscribe to all that is learned of the jobs of this client, from now on.

        ::

            async with bms.jobs.events() as events:
                async for event in events:
                    match event:
                        case SubJobEnded(server_id=server_id, sub_job=sub): ...
                        case JobLost(job_id=job_id): ...

        The events are `JobStarted`, `JobChanged`, `SubJobEnded`, `JobEnded` and `JobLost`. As long as anybody is
        subscribed, every job counts as waited for. Nothing waits for a subscriber that reads slowly: once too many
        events wait for it the oldest go, and an `EventGap` in their place says how many. When the client closes, and
        the last event was read, reading raises `ClientClosedError`.

        Args:
            max_buffer_size: How many events may wait to be read, at least 1. A batch of 1000 servers tells of up to
                1000 at once.

        Raises:
            InvalidRequestError: The max_buffer_size is none.

        Source: API reference 4.11.1.
        """
        return self._watcher.events(max_buffer_size)


async def poll_job(session: Session, job_id: str, has_changes: Callable[[JobSummary], bool]) -> Job | None:
    """Fetch a job for the watcher: behind everybody who waits for a call, and without retries of its own.

    A poll of a thousand sub-jobs is mostly what was known before, and a glance costs half of reading it all.

    Args:
        session: What makes the call.
        job_id: The job.
        has_changes: Tells whether a glance at it shows anything that was not known.

    Returns:
        The whole job, None if there is nothing new.
    """
    body = await session.call(_POLL, path={"job_id": job_id}, lane=Lane.BULK, retry=NO_RETRY)
    if not has_changes(read_fragment(GET.name, body, JobSummary)):
        return None
    return session.with_masked_text(read_fragment(GET.name, body, Job))
