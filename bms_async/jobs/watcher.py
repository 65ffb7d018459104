"""One coroutine that polls any number of jobs."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
import msgspec

from bms_async._owner import TaskOwner
from bms_async.errors import (
    AuthenticationError,
    CallError,
    ClientClosedError,
    JobLostError,
    NotFoundError,
    PermissionDeniedError,
)
from bms_async.limits import Pace
from bms_async.models import Job, JobGlance

from . import schedule
from .handle import JobHandle
from .record import JobRecord

_log = logging.getLogger("bms_async.jobs")

Fetch: TypeAlias = Callable[[str, Callable[[JobGlance], bool]], Awaitable[Job | None]]
"""Fetches a job; None if a glance at it shows nothing new."""

_POLLS_AT_ONCE = 32
_REST_AFTER_FAULT = 5.0


class WatcherStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a watcher is doing.

    Attributes:
        live: Jobs that are polled.
        in_flight: Polls under way.
        polls: Polls made.
        failed_polls: Polls that told nothing.
        ended: Jobs seen to their end.
        lost: Jobs whose end cannot be known.
        next_poll: Seconds until the next poll is due, None when there is nothing to poll.
    """

    live: int
    in_flight: int
    polls: int
    failed_polls: int
    ended: int
    lost: int
    next_poll: float | None


class Watcher:
    """Polls jobs, each with at most one request in flight however many wait for it.

    Args:
        fetch: The call that fetches a job; it should not retry, for the watcher polls again by itself.
        pace: Keeps the polls of all jobs within their share of the limit.
        project: Tells the project whose jobs these are, for saved handles; None as long as nobody knows.
    """

    def __init__(self, fetch: Fetch, *, pace: Pace, project: Callable[[], str | None]) -> None:
        self._fetch = fetch
        self._pace = pace
        self._project = project
        self._owner = TaskOwner("bms_async watcher")
        self._records: dict[str, JobRecord] = {}
        self._due: list[tuple[float, int, JobRecord]] = []
        self._order = itertools.count()
        self._wake = asyncio.Event()
        self._typical: dict[str, float] = {}
        self._in_flight = self._polls = self._failed = self._ended = self._lost = 0

    async def open(self) -> None:
        """Start polling."""
        await self._owner.open()
        self._owner.start(self._run, name="bms_async watcher")

    async def aclose(self) -> None:
        """Stop polling; everyone who waits for a job gets `ClientClosedError`."""
        await self._owner.aclose()
        records, self._records = self._records, {}
        self._due.clear()
        for record in records.values():
            record.fail(ClientClosedError(f"the client was closed before job {record.job_id} ended; the job goes on"))

    def watch(
        self,
        job_id: str,
        *,
        servers: tuple[str, ...] = (),
        action: str | None = None,
        redact: Callable[[str], str] | None = None,
    ) -> JobHandle:
        """Watch a job to its end and return a handle of it; several handles of one job cost one poll.

        Args:
            job_id: The job.
            servers: The servers it was started for, if known.
            action: The call that started it, if known.
            redact: Takes what that call sent as secrets out of what the cloud says of the job.

        Raises:
            ClientClosedError: The client is not open.
        """
        if not self._owner.is_open:
            raise ClientClosedError("the client is not open; use it inside `async with`")
        record = self._records.get(job_id)
        if record is None:
            now = anyio.current_time()
            record = self._records[job_id] = JobRecord(job_id, servers=servers, action=action, accepted=now)
            self._schedule(record, self._delay(record, now))
        elif servers and not record.servers:
            record.expect(servers, action)
        record.redact = redact or record.redact
        return JobHandle(record, self._project() or "")

    def statistics(self) -> WatcherStatistics:
        """Tell what is polled."""
        return WatcherStatistics(
            live=len(self._records),
            in_flight=self._in_flight,
            polls=self._polls,
            failed_polls=self._failed,
            ended=self._ended,
            lost=self._lost,
            next_poll=max(0.0, self._due[0][0] - anyio.current_time()) if self._due else None,
        )

    def __repr__(self) -> str:
        return f"<Watcher of {len(self._records)} jobs, {self._polls} polls>"

    async def _run(self) -> None:
        while self._owner.is_open:
            try:
                await self._poll_next()
            except Exception:  # noqa: BLE001 - see below
                # Whoever waits would wait for ever if a fault of ours ended the only coroutine that polls.
                _log.exception("polling broke, and goes on")
                await anyio.sleep(_REST_AFTER_FAULT)

    async def _poll_next(self) -> None:
        busy = self._in_flight >= _POLLS_AT_ONCE or not self._due
        wait = None if busy else self._due[0][0] - anyio.current_time()
        if wait is None or wait > 0:
            self._wake.clear()
            with anyio.move_on_after(wait):
                await self._wake.wait()
            return
        await self._pace.acquire()
        if not self._owner.is_open:
            # The turn came in the very pass in which the client is closed.
            return
        _, _, record = heapq.heappop(self._due)
        self._owner.start(self._poll, record, name="bms_async poll")
        self._in_flight += 1

    async def _poll(self, record: JobRecord) -> None:
        self._polls += 1
        try:
            job = await self._fetch(record.job_id, record.is_news) or record.job
        except ClientClosedError as error:
            if not self._owner.is_open:
                return
            # Somebody closed the transport under us.
            delay = self._lose(record, "cannot be polled any more", error)
        except CallError as error:
            self._failed += 1
            delay = self._take_failure(record, error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not leave anybody waiting for ever
            _log.exception("polling job %s broke", record.job_id)
            delay = self._lose(record, "could not be polled", error)
        else:
            delay = self._take(record, job) if job is not None else schedule.failure_delay(1)
        finally:
            self._in_flight -= 1
            self._wake.set()
        if record.finished:
            self._records.pop(record.job_id, None)
        else:
            self._schedule(record, delay)

    def _take(self, record: JobRecord, job: Job) -> float:
        now = anyio.current_time()
        record.failures = 0
        record.failing_since = record.missing_since = record.barred_since = None
        if job.is_final and record.untold_since is None:
            record.untold_since = now
        waited = 0.0 if record.untold_since is None else now - record.untold_since
        record.update(job, give_up=waited > schedule.UNTOLD_GRACE)
        if record.finished:
            self._ended += 1
            kind = job.job_type or ""
            self._typical[kind] = schedule.learn(self._typical.get(kind), now - record.accepted)
        return self._delay(record, now)

    def _take_failure(self, record: JobRecord, error: CallError) -> float:
        now = anyio.current_time()
        record.failures += 1
        if isinstance(error, NotFoundError):
            record.barred_since = None
            record.missing_since = now if record.missing_since is None else record.missing_since
            if now - record.missing_since >= schedule.MISSING_GRACE:
                return self._lose(record, "is not known to the cloud (any more)", error)
            return min(schedule.failure_delay(record.failures), schedule.MISSING_GRACE / 4)
        record.missing_since = None
        record.failing_since = now if record.failing_since is None else record.failing_since
        since, patience = record.failing_since, schedule.FAILING_PATIENCE
        if isinstance(error, AuthenticationError | PermissionDeniedError):
            since = record.barred_since = now if record.barred_since is None else record.barred_since
            patience = schedule.REFUSED_PATIENCE
        else:
            record.barred_since = None
        if now - since >= patience:
            return self._lose(record, f"has not answered a poll for {patience:g} s", error)
        _log.info("poll %d of job %s in a row failed: %s", record.failures, record.job_id, type(error).__name__)
        return schedule.failure_delay(record.failures)

    def _lose(self, record: JobRecord, why: str, error: Exception) -> float:
        self._lost += 1
        lost = JobLostError(
            f"job {record.job_id} {why}; read the servers' own state to see what it did",
            job_id=record.job_id,
            job=record.job,
        )
        lost.__cause__ = error
        record.fail(lost)
        return 0.0

    def _delay(self, record: JobRecord, now: float) -> float:
        known = self._typical.get(record.job.job_type or "") if record.job else None
        return schedule.poll_delay(
            age=now - record.accepted,
            live=len(self._records),
            rate=self._pace.rate,
            typical=known if known is not None else next(iter(self._typical.values()), None),
        )

    def _schedule(self, record: JobRecord, delay: float) -> None:
        heapq.heappush(self._due, (anyio.current_time() + delay, next(self._order), record))
        self._wake.set()
