"""How a run is carried out."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.jobs import JobHandle
from bms_async.limits import Lane

from .outcome import Outcome

OnOutcome: TypeAlias = Callable[[Outcome], Awaitable[object] | object]
OnJob: TypeAlias = Callable[[JobHandle], Awaitable[object] | object]
Asking: TypeAlias = Callable[[tuple[str, ...]], AbstractAsyncContextManager[None]]
"""What is entered with the servers of a batch before the cloud is asked for them, and left once it has answered."""

ABORT_SAMPLE = 20
"""How many servers must have ended before a share of failures says anything."""


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is carried out; see `Fleet.stop` for what each means.

    Attributes:
        asking: Entered round each call that asks for servers, for who must note them first. A `BmsError` that it raises
            keeps the batch from being sent.
    """

    lane: Lane = Lane.BULK
    wave_size: int | None = None
    abort_above: float | None = None
    abort_sample: int = ABORT_SAMPLE
    retry_transient: bool = True
    verify: bool = False
    total_timeout: float | None = None
    on_outcome: OnOutcome | None = None
    on_job: OnJob | None = None
    asking: Asking | None = None
    jobs: tuple[JobHandle, ...] = ()

    def check(self, action: str) -> None:
        """Refuse what no run can be carried out by.

        Args:
            action: What the run is about, such as ``servers.stop``.

        Raises:
            InvalidRequestError: An option cannot be.
        """
        if not isinstance(self.lane, Lane):
            raise InvalidRequestError("lane", self.lane, "Lane.INTERACTIVE or Lane.BULK is needed")
        if self.wave_size is not None and (type(self.wave_size) is not int or self.wave_size < 1):
            raise InvalidRequestError("wave_size", self.wave_size, "1 or more servers, or None for no bound")
        share = self.abort_above
        if share is not None and (
            isinstance(share, bool) or not isinstance(share, int | float) or math.isnan(share) or not 0 <= share <= 1
        ):
            raise InvalidRequestError("abort_above", share, "a share from 0 to 1, or None")
        if type(self.abort_sample) is not int or self.abort_sample < 1:
            raise InvalidRequestError("abort_sample", self.abort_sample, "1 or more servers")
        seconds = self.total_timeout
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf
        ):
            raise InvalidRequestError("total_timeout", seconds, "seconds, more than 0, or None for no bound")
        for name in ("retry_transient", "verify"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidRequestError(name, getattr(self, name), "True or False")
        for name in ("on_outcome", "on_job"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise InvalidRequestError(name, getattr(self, name), "a function is needed, or None")
        for job in self.jobs:
            if job.action not in (None, action) or not job.servers:
                raise InvalidRequestError("jobs", job, f"a job that {action} started, with its servers, is needed")


def read_jobs(jobs: Iterable[JobHandle]) -> tuple[JobHandle, ...]:
    """Return handles as they were handed over.

    Raises:
        InvalidRequestError: They are none.
    """
    if not isinstance(jobs, Iterable):
        raise InvalidRequestError("jobs", jobs, "an iterable of handles is wanted")
    handles = tuple(jobs)
    for handle in handles:
        if not isinstance(handle, JobHandle):
            raise InvalidRequestError("jobs", handle, "a handle is wanted: what bms.jobs.restore() returns")
    return handles
