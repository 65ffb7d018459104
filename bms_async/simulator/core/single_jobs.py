"""Work on a single server: jobs without sub-jobs, and native operations, which have no job."""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from bms_async.simulator.core.clock import WallClock
from bms_async.simulator.core.jobs import REASONS, STEM, BatchJob, Course, Standing, write_job
from bms_async.simulator.core.servers import Action, Server

__all__ = ["NativeAction", "NativeMishaps", "SingleServerJob"]

_ENCODE: Final = msgspec.json.Encoder().encode
_SLOWER: Final = 10


class SingleServerJob:
    """A job that works on one server and has no sub-jobs (API reference 4.11.1).

    Args:
        job_id: Its id.
        job_type: The type of the job.
        server: The server.
        entities: Its entities, besides the server.
        now: When it is accepted.
        rng: Draws its duration.
        job_seconds: Shortest and longest time.
        code: The code that it fails with, None if it succeeds.
        action: The action that occupies the server meanwhile; None leaves it free.
        then: Called at its end, with whether it succeeded.
    """

    __slots__ = ("_action", "_begin", "_begun", "_code", "_end", "_entities", "_server", "_then", "_type", "accepted",
                 "ended", "id", "stem")  # fmt: skip

    def __init__(
        self,
        job_id: str,
        job_type: str,
        server: Server,
        entities: Mapping[str, str],
        *,
        now: float,
        rng: random.Random,
        job_seconds: tuple[float, float],
        code: str | None = None,
        action: Action | None = None,
        then: Callable[[bool], None] | None = None,
    ) -> None:
        self.id, self.stem = job_id, job_id[:STEM]
        self.accepted = now
        self.ended = False
        length = rng.uniform(*job_seconds)
        self._begin, self._end = now + length * rng.uniform(0.02, 0.2), now + length
        self._begun = False
        self._type, self._server, self._action, self._code, self._then = job_type, server, action, code, then
        self._entities = {"server_id": server.id, **entities, "sub_jobs_total": 0, "sub_jobs": []}
        if action is not None:
            server.accept(action, self)

    @property
    def last_end(self) -> float:
        """When it ends."""
        return self._end

    @property
    def succeeds(self) -> bool:
        """Whether it succeeds, which is known from its acceptance on."""
        return self._code is None

    @property
    def standing(self) -> Standing:
        """Its progress, as far as it has been advanced."""
        return Standing(1, int(self._begun), int(self.ended), int(self.ended and self._code is not None))

    @property
    def kind(self) -> str:
        """The kind of work, for people."""
        return self._action or self._type

    @property
    def action(self) -> Action | None:
        """The action that occupies the server."""
        return self._action

    @property
    def next_event(self) -> float:
        """The time of the next event; infinity once the job has ended."""
        return float("inf") if self.ended else self._end if self._begun else self._begin

    def advance(self, now: float) -> None:
        """Apply all events that are due."""
        server, ours = self._server, self._server.work is self
        if not self._begun and self._begin <= now:
            self._begun = True
            if ours and self._action is not None:
                server.begin(self._action, self._begin)
        if not self.ended and self._end <= now:
            self.ended = True
            done = self._code is None
            if ours and self._action is not None:
                server.end(self._action, self._end, done=done)
            if self._then is not None:
                self._then(done)

    def document(self, now: float, wall: WallClock, *, anonymous: bool, order: random.Random | None) -> str:  # noqa: ARG002
        """Return the document of the job; see `BatchJob.document`."""
        failed = self.ended and self._code is not None
        status = "FAIL" if failed else "SUCCESS" if self.ended else "RUNNING" if self._begun else "INIT"
        code = self._code if failed else None
        return write_job(
            status,
            _ENCODE(self._entities).decode(),
            job_id=self.id,
            job_type=self._type,
            begin=wall.millis(self._begin) if self._begun else None,
            end=wall.millis(self._end) if self.ended else None,
            code=code,
            reason=None if code is None else REASONS[code],
        )

    def sub_document(self, job_id: str, now: float, wall: WallClock, *, anonymous: bool) -> None:
        """Return None: there are no sub-jobs."""


class NativeMishaps(NamedTuple):
    """What goes wrong with a native operation, beyond what its server makes of it; see `CloudSettings`."""

    is_slow: bool = False
    breaks: bool = False
    vanishes: bool = False


class NativeAction(BatchJob):
    """A native operation: a batch of one server that clients cannot poll, with a callback for failure.

    Nova sets the task before it responds, so that the next read shows it.

    Args:
        on_failure: Called with the time of a failure.
        on_vanish: Deletes the server, in the middle of the operation.
        mishaps: What goes wrong with it.
    """

    __slots__ = ("_has_reported", "_mishaps", "_on_failure", "_on_vanish", "_vanishes_at")

    def __init__(
        self,
        action: Action,
        server: Server,
        *,
        now: float,
        rng: random.Random,
        job_seconds: tuple[float, float],
        on_failure: Callable[[float], None],
        on_vanish: Callable[[float], None],
        mishaps: NativeMishaps = NativeMishaps(),  # noqa: B008 - it is a tuple
    ) -> None:
        shortest, longest = job_seconds
        if mishaps.is_slow:
            shortest, longest = shortest * _SLOWER, longest * _SLOWER
        super().__init__("0" * 32, action, [server], now=now, rng=rng, job_seconds=(shortest, longest), at_once=True)
        self._mishaps = mishaps
        self._on_failure, self._on_vanish = on_failure, on_vanish
        self._has_reported = False
        self._vanishes_at = (now + self.last_end) / 2 if mishaps.vanishes else math.inf

    @property
    def courses(self) -> Iterator[Course]:
        """What it comes to on its server, the mishaps included."""
        for course in super().courses:
            is_done = course.done and not (self._mishaps.breaks or self._mishaps.vanishes)
            yield course._replace(end=min(course.end, self._vanishes_at), done=is_done)

    @property
    def next_event(self) -> float:
        """The time of the next event; infinity once it has ended."""
        return min(super().next_event, self._vanishes_at)

    def advance(self, now: float) -> None:
        """Apply all events that are due."""
        super().advance(min(now, self._vanishes_at))
        if self._vanishes_at <= now:
            at, self._vanishes_at = self._vanishes_at, math.inf
            self._on_vanish(at)
            super().advance(now)
        if self.failed and not self._has_reported:
            self._has_reported = True
            self._on_failure(self.last_end)

    def _end(self, server: Server, at: float, *, done: bool) -> None:
        super()._end(server, at, done=done and not self._mishaps.breaks)
        if self._mishaps.breaks:
            server.break_down()
            self._has_reported = True
            self._on_failure(at)
