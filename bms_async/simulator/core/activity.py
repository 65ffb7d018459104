"""All work in the cloud: jobs that clients can poll, and work that shows only on servers."""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import Final

import msgspec

from bms_async.simulator.core.availability import Availability
from bms_async.simulator.core.clock import WallClock
from bms_async.simulator.core.jobs import STEM, BatchJob, Shape
from bms_async.simulator.core.refusals import Refusal
from bms_async.simulator.core.servers import Action, Server, Work
from bms_async.simulator.core.settings import CloudSettings
from bms_async.simulator.core.single_jobs import NativeAction, NativeMishaps, SingleServerJob

__all__ = ["Activity", "JobCounts"]

_JOB_ID: Final = re.compile(r"[0-9a-f]{32}")
_NO_ID: Final = "0" * 32


class JobCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The number of jobs, of ended jobs, and of those that failed at least in part."""

    begun: int
    ended: int
    failed: int


class Activity:
    """Starts work, and advances it lazily whenever the cloud is read.

    Args:
        settings: How long work takes.
        clock: The cloud's clock.
        draw: Makes a named source of random values.
        availability: The books of who is away, which all work is entered into.
        life: Mixed into the ids of jobs, and nothing else; see `Cloud`.
    """

    __slots__ = (
        "_availability", "_begun_by_action", "_clock", "_counted", "_draw", "_due", "_ended", "_failed", "_followed",
        "_jobs", "_life", "_order", "_settings", "_works",
    )  # fmt: skip

    def __init__(
        self,
        settings: CloudSettings,
        clock: Callable[[], float],
        draw: Callable[[str], random.Random],
        availability: Availability,
        life: int = 0,
    ) -> None:
        self._availability = availability
        self._life = life
        self._settings = settings
        self._clock = clock
        self._draw = draw
        self._order = draw("order")
        self._jobs: dict[str, BatchJob | SingleServerJob] = {}
        self._due: list[tuple[float, int, Work]] = []
        self._works = self._followed = self._counted = 0
        self._ended = self._failed = 0
        self._begun_by_action: dict[str, Counter[str]] = {"start": Counter(), "stop": Counter(), "reboot": Counter()}

    def __len__(self) -> int:
        return len(self._jobs)

    def start_batch(self, action: Action, servers: Sequence[Server]) -> BatchJob:
        """Start an action on many servers, as a job."""
        job_id, rng = self._next_job()
        job = BatchJob(
            job_id,
            action,
            servers,
            now=self._clock(),
            rng=rng,
            job_seconds=self._settings.job_seconds,
            shape=self._shape_of(action, len(servers)),
        )
        self._jobs[job.stem] = job
        self._availability.note_batch(job)
        self._follow(job)
        return job

    def start_single(
        self,
        job_type: str,
        server: Server,
        entities: Mapping[str, str],
        *,
        failure: str,
        action: Action | None = None,
        then: Callable[[bool], None] | None = None,
    ) -> SingleServerJob:
        """Start work on one server, as a job without sub-jobs; `failure` is its code on a faulty server."""
        job_id, rng = self._next_job()
        job = SingleServerJob(
            job_id,
            job_type,
            server,
            entities,
            now=self._clock(),
            rng=rng,
            job_seconds=self._settings.job_seconds,
            code=failure if server.faulty else None,
            action=action,
            then=then,
        )
        self._jobs[job.stem] = job
        self._note_single(job, server)
        self._follow(job)
        return job

    def start_native(
        self,
        action: Action,
        server: Server,
        on_failure: Callable[[float], None],
        on_vanish: Callable[[float], None],
    ) -> None:
        """Start an action on one server without a job that clients can poll."""
        settings, rng = self._settings, self._next_work()
        mishaps = NativeMishaps()
        if action != "create":
            # A source of its own, so that it changes no other random values.
            draw = self._draw(f"mishaps/{self._works}").random
            if draw() < settings.native_ignored_share:
                return
            mishaps = NativeMishaps(
                is_slow=draw() < settings.native_slow_share,
                breaks=draw() < settings.native_error_share,
                vanishes=draw() < settings.native_vanish_share,
            )
        work = NativeAction(
            action,
            server,
            now=self._clock(),
            rng=rng,
            job_seconds=settings.job_seconds,
            on_failure=on_failure,
            on_vanish=on_vanish,
            mishaps=mishaps,
        )
        for course in work.courses:
            self._availability.note_single(server.id, action, work.accepted, course.end, done=course.done)
        self._follow(work)

    def start_internal(self, action: Action, server: Server, then: Callable[[bool], None]) -> None:
        """Start an action on one server that cannot fail, and that has no job for clients."""
        seconds = self._settings.job_seconds
        rng = self._next_work()
        work = SingleServerJob(
            _NO_ID, "", server, {}, now=self._clock(), rng=rng, job_seconds=seconds, action=action, then=then
        )
        self._note_single(work, server)
        self._follow(work)

    def document(self, job_id: str, wall: WallClock) -> bytes:
        """Return the document of a job or a sub-job as of now (API reference 4.11.1).

        Raises:
            Refusal: It does not exist, is still hidden, or is no longer kept.
        """
        now, settings = self._clock(), self._settings
        job = self._jobs.get(job_id[:STEM]) if _JOB_ID.fullmatch(job_id) else None
        document = None
        if job is not None and job.accepted + settings.job_hidden_seconds <= now:
            job.advance(now)
            is_stuck = isinstance(job, BatchJob) and job.is_stuck
            if is_stuck or job.last_end + settings.job_kept_seconds > now:
                document = self._write(job, job_id, now, wall)
        if document is None:
            raise Refusal(404, "BMS.0018", f"No job has the id {job_id}.")
        return document.encode()

    def power_counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return by power operation and server how often it was started as part of a batch.

        Counted on demand: counting with every batch would be slow with a million servers.
        """
        for job in islice(self._jobs.values(), self._counted, None):
            if isinstance(job, BatchJob):
                self._begun_by_action.setdefault(job.action, Counter()).update(server.id for server in job.obeyed)
        self._counted = len(self._jobs)
        return self._begun_by_action

    def catch_up(self, most: float) -> bool:
        """Advance up to `most` works that are due; return whether more are due."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            if most <= 0:
                return True
            most -= 1
            _, number, work = heappop(self._due)
            # Another read may have advanced it already; this then only finds its next event.
            work.advance(now)
            if (following := work.next_event) < math.inf:
                heappush(self._due, (following, number, work))
            elif isinstance(work, BatchJob | SingleServerJob) and work.id != _NO_ID:
                self._ended += 1
                self._failed += work.standing.failed > 0
        return False

    def counts(self) -> JobCounts:
        """Return the counts of jobs, as far as due work has been advanced."""
        return JobCounts(begun=len(self._jobs), ended=self._ended, failed=self._failed)

    def latest(self, most: int) -> list[BatchJob | SingleServerJob]:
        """Return the latest jobs, newest first."""
        return list(islice(reversed(self._jobs.values()), most))

    def under_way(self) -> Iterator[BatchJob | SingleServerJob]:
        """Return all work that had not ended when this was called, including work without a job."""
        return (work for _, _, work in list(self._due) if isinstance(work, BatchJob | SingleServerJob))

    def _write(self, job: BatchJob | SingleServerJob, job_id: str, now: float, wall: WallClock) -> str | None:
        anonymous = self._settings.anonymous_failures
        if job_id == job.id:
            order = self._order if self._settings.shuffle_sub_jobs else None
            return job.document(now, wall, anonymous=anonymous, order=order)
        return job.sub_document(job_id, now, wall, anonymous=anonymous)

    def _next_job(self) -> tuple[str, random.Random]:
        rng = self._draw(f"job/{len(self._jobs)}")
        return f"{rng.getrandbits(128) ^ self._life:032x}", rng

    def _shape_of(self, action: Action, servers: int) -> Shape:
        settings = self._settings
        # A source of its own, so that the shape of jobs changes no other random values.
        rng = self._draw(f"shape/{len(self._jobs)}")
        return Shape(
            early_failure=settings.early_failures,
            is_stillborn=action != "create" and rng.random() < settings.stillborn_share,
            stuck=frozenset(index for index in range(servers) if rng.random() < settings.stuck_share)
            if settings.stuck_share
            else frozenset(),
            reason_place=settings.reason_place,
            state_lag=settings.state_lag_seconds,
        )

    def _next_work(self) -> random.Random:
        rng = self._draw(f"work/{self._works}")
        self._works += 1
        return rng

    def _note_single(self, job: SingleServerJob, server: Server) -> None:
        if job.action is not None:
            self._availability.note_single(server.id, job.action, job.accepted, job.last_end, done=job.succeeds)

    def _follow(self, work: Work) -> None:
        self._followed += 1
        heappush(self._due, (work.next_event, self._followed, work))
