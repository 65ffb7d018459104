"""Jobs (API reference 4.11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import msgspec

from bms_async.api._registry import define
from bms_async.jobs import JobEvents, JobHandle, PartialPoll, PollReader, Watcher, read_saved
from bms_async.limits import Lane
from bms_async.models import Job
from bms_async.models.ids import canonical_id
from bms_async.session import Session
from bms_async.validation.common import read_id
from bms_async.wire import NO_RETRY, Operation, Safety, read_fragment

if TYPE_CHECKING:
    from bms_async.jobs.shared_events import SharedJobEvents

GET = define(
    "jobs.get",
    "GET",
    "/v1/{project_id}/jobs/{job_id}",
    Job,
    title="Read a job",
    chapter="4.11.1",
    safety=Safety.READ,
)

_POLL: Operation[bytes] = msgspec.structs.replace(GET, result=bytes)  # type: ignore[arg-type]  # another result, same call


class Jobs:
    """Jobs, which the cloud runs after it has accepted a call: ``bms.jobs``."""

    def __init__(self, session: Session, watcher: Watcher, *, check: bool) -> None:
        self._session = session
        self._watcher = watcher
        self._check = check

    async def get(self, job_id: str) -> Job:
        """Return a job as it is now.

        To wait for its end, `watch` it: all waiters share one poll, within the rate limit.

        Args:
            job_id: The job.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such job: not yet, within seconds of its acceptance, or no longer.

        Source: API reference 4.11.1; 2000 calls a minute.
        """
        job_id = read_id("job_id", job_id, check=self._check)
        return self._session.with_masked_text(await self._session.call(GET, path={"job_id": job_id}))

    def watch(self, job_id: str, *, keep_polling: bool = False) -> JobHandle:
        """Watch a job that was started elsewhere, by its id.

        It is polled at once, and then as long as it has a waiter or there is a subscriber to events.

        Args:
            job_id: The job.
            keep_polling: Whether to poll it to its end even without a waiter; such polls are made after all others.

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
            text: The JSON, as `JobHandle.to_json` returned it.
            keep_polling: As in `watch`.

        Raises:
            InvalidRequestError: The text is not a saved job, or belongs to another project.
            ClientClosedError: The client is not open.

        Source: API reference 4.11.1.
        """
        saved = read_saved(text, self._session.project_id)
        job_id = read_id("text.job_id", saved.job_id, check=self._check)
        # Older versions saved the ids as the caller spelled them.
        servers = tuple(dict.fromkeys(map(canonical_id, saved.servers)))
        return self._watcher.watch(
            job_id, servers=servers, action=saved.action, keep_polling=keep_polling, started=False
        )

    def watched(self) -> Sequence[JobHandle]:
        """Return a handle of each watched job that has not ended, for instance to catch up after an `EventGap`.

        A job without a waiter and without a handle in use is no longer watched.

        Source: API reference 4.11.1.
        """
        return self._watcher.watched()

    @overload
    def events(self, *, max_buffer_size: int = 10_000) -> JobEvents: ...

    @overload
    def events(self, *, since: str) -> SharedJobEvents: ...

    def events(self, *, since: str | None = None, max_buffer_size: int = 10_000) -> JobEvents | SharedJobEvents:
        """Subscribe to the events of all jobs of this client, from now on; or of all processes, from a cursor on.

        ::

            async with bms.jobs.events() as events:
                async for event in events:
                    match event:
                        case SubJobEnded(server_id=server_id, sub_job=sub): ...
                        case JobLost(job_id=job_id): ...

        The events are `JobStarted`, `JobChanged`, `SubJobEnded`, `JobEnded` and `JobLost`. While there is a subscriber,
        every job is polled as if it had a waiter. A slow subscriber blocks nothing: once its buffer is full the oldest
        events are dropped, and an `EventGap` in their place says how many. After the client has been closed and the
        last event was read, reading raises `ClientClosedError`.

        With ``since=``, for a client that was made with ``runs=``, they are the events of all processes whose clients
        share that journal, for this endpoint and project::

            async with bms.jobs.events(since=read_cursor()) as events:
                async for event in events:
                    react_to(event)
                    keep_cursor(events.cursor)

        One process polls each job, for all of them. Events are read from the journal, so that none is lost or comes
        twice when a process is started again, a slow reader misses none, and an `EventGap` stands for events that
        ``bms.runs.prune`` has deleted. They come up to two seconds later than without ``since=``. To react to an event
        and to keep the cursor are two steps: what a reader that dies between them has done, the next one does again.

        Processes write events once a reader has been there, and for 7 days after any reader has last read. Who comes
        back within that time misses nothing. Who comes back later gets an `EventGap` whose `missed` is 0, and then what
        happens from that moment on, of all jobs that have not ended by then. A job that goes on when the first reader
        opens is there from its `JobStarted` on, with all that has ended of it already, within some five seconds; its
        `servers` are empty if the process that began it has died. A job that has ended before is not there.

        Args:
            since: The cursor of an earlier subscription, ``events.cursor``; "" for the oldest event that is kept.
            max_buffer_size: Maximum number of unread events, at least 1. A batch of 1000 servers can cause 1000 at
                once. With ``since=`` it has no effect.

        Raises:
            InvalidRequestError: The size is not an int of at least 1, or `since` is no cursor.
            ConfigurationError: There is a `since`, and the client was made without ``runs=``.

        Source: API reference 4.11.1.
        """
        if since is not None:
            return self._watcher.shared_events(since)
        return self._watcher.events(max_buffer_size)


async def poll_job(session: Session, job_id: str, reader: PollReader) -> Job | PartialPoll | None:
    """Poll a job for the watcher: in the bulk lane, and without retries.

    Args:
        session: The session that makes the call.
        job_id: The job.
        reader: Reads the response.

    Returns:
        What the poll shows; None if that is what the last poll showed.
    """
    body = await session.call(_POLL, path={"job_id": job_id}, lane=Lane.BULK, retry=NO_RETRY)
    return reader.read(body, lambda shown: session.with_masked_text(read_fragment(GET.name, shown, Job)))
