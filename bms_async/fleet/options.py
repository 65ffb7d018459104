"""The options of a fleet run."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias, TypedDict

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.jobs import JobHandle
from bms_async.limits import Lane
from bms_async.validation.aborting import find_wave
from bms_async.validation.common import is_number

from .outcome import Outcome
from .plan import check_abort
from .rollout.rollout import Rollout

OnOutcome: TypeAlias = Callable[[Outcome], Awaitable[object] | object]
OnJob: TypeAlias = Callable[[JobHandle], Awaitable[object] | object]
MAX_WORKERS = 100
"""How many calls of ``each`` are under way at once where the caller does not say."""

_MOST_WORKERS = 10_000
_MAX_NAME = 80
ABORT_SAMPLE = 1
"""How many servers must have ended before a share of failures counts."""


class FleetOptions(TypedDict, total=False):
    """The options of `Fleet.start`, `Fleet.stop` and `Fleet.reboot`; `RunOptions` has the defaults."""

    lane: Lane
    """The priority of the run's calls in the rate limiter's queue. Default: Lane.BULK."""

    wave_size: int | None
    """How many servers may be in flight at once, deferred ones included. A wave is refilled once there is room for a
    quarter of a batch, or after 5 s: a call is scarcer than a server that waits. Default: None, no bound but the one
    that follows from `abort_above`."""

    abort_above: float | None
    """Abort threshold, 0 to 1: once FAILED and UNKNOWN exceed this share of the servers that have ended so far, no
    further batch is sent. The rest is SKIPPED, with the reason in the report. 0 ends the run at its first failure.
    What is in flight then may fail as well. So without a `wave_size` no more servers are in flight than may fail of the
    whole fleet, and one at least: 2,000 of 100,000 for 0.02. The fleet is what its source has given so far; a source
    that does not say how many it has is read up to 20,000 servers ahead. Default: None, never abort."""

    abort_sample: int
    """How many servers must have ended before `abort_above` counts: more than 1 tolerates failures at the beginning.
    Default: 1."""

    retry_transient: bool
    """Retry a server that was busy (BMS.0035 to BMS.0037, BMS.1001, BMS.1006), after 10 s and then after twice as long
    each time, six times in all. Default: True."""

    verify: bool
    """Read the states back once all servers have ended. A server that is not in the state its job reported is FAILED,
    or UNKNOWN while it is busy or shows no known status; a server whose outcome was UNKNOWN gets what its state proves.
    All outcomes but FAILED and SKIPPED are held back until then. Default: False."""

    rollout: Rollout | None
    """How the fleet is walked through: canaries, groups, readiness, a window. Nothing is sent before all servers were
    read from their source. Default: None, as fast as the limits allow."""

    total_timeout: float | None
    """Seconds after which the run ends, whatever it waits for. Servers that were not sent by then are SKIPPED. The
    states of those in flight are read once, for 10 s at most; a server whose state proves nothing is UNKNOWN, with a
    `FleetTimeoutError`, and the report has `timed_out` set. Default: None, no bound."""

    on_outcome: OnOutcome | None
    """Called with each outcome, in order and one at a time; may be a coroutine function. If it raises, it is still
    called for the others, and the first error is raised once all servers have ended. The run ends only after the last
    call has returned, so it must not await the run. Default: None."""

    on_job: OnJob | None
    """Called with the handle of each job as soon as the cloud has accepted it, for example to save its ``to_json()``
    for another process. If it raises, the error is raised once all servers have ended. Default: None."""

    jobs: Iterable[JobHandle]
    """Handles of jobs of an earlier run, from ``bms.jobs.restore()``. Their servers belong to this run. They are
    watched, and sent again only as any other server is: after it was busy, or if its job was lost and its state is not
    the wanted one. ``retry_transient=False`` rules that out. Default: (), none."""


class EachOptions(TypedDict, total=False):
    """The options of `Fleet.each`: those of a power run that have a meaning for any call, and three of its own."""

    action: str
    """The name of the run in its report, its hook events and the log. Default: ``each``."""

    max_workers: int
    """How many calls may be under way at once. No more are used than the limit of the calls and their latency need.
    Default: 100."""

    keep_results: bool
    """Whether each outcome has what the function returned. Default: True."""

    lane: Lane
    """The priority of the function's calls in the rate limiter's queue, where they name none. Default: Lane.BULK."""

    wave_size: int | None
    """How many servers may be in flight at once, deferred ones included. Default: None, no bound but the one that
    follows from `abort_above`."""

    abort_above: float | None
    """Abort threshold, as for a power run: without a `wave_size` no more servers are in flight than may fail of the
    whole fleet. Default: None, never abort."""

    abort_sample: int
    """How many servers must have ended before `abort_above` counts: more than 1 tolerates failures at the beginning.
    Default: 1."""

    retry_transient: bool
    """Call the function again for a server that was busy, as a power run does. Default: True."""

    rollout: Rollout | None
    """How the fleet is walked through, as for a power run. Default: None."""

    total_timeout: float | None
    """Seconds after which the run ends, whatever it waits for. A server for which something was sent is UNKNOWN then.
    Default: None, no bound."""

    on_outcome: OnOutcome | None
    """Called with each outcome, as for a power run. Default: None."""

    on_job: OnJob | None
    """Called with the handle of each job that the function returns. Default: None."""


class EachSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The options that only `Fleet.each` has, with their defaults."""

    action: str = "each"
    max_workers: int = MAX_WORKERS
    keep_results: bool = True

    def check(self) -> None:
        """Check the values.

        Raises:
            InvalidRequestError: An option is invalid.
        """
        if not isinstance(self.action, str) or not self.action.isprintable() or not 0 < len(self.action) <= _MAX_NAME:
            raise InvalidRequestError(
                "action", self.action, f"expected a printable text of 1 to {_MAX_NAME} characters"
            )
        if type(self.max_workers) is not int or not 1 <= self.max_workers <= _MOST_WORKERS:
            raise InvalidRequestError("max_workers", self.max_workers, f"expected 1 to {_MOST_WORKERS} calls at once")
        if not isinstance(self.keep_results, bool):
            raise InvalidRequestError("keep_results", self.keep_results, "expected True or False")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one run, with their defaults; `FleetOptions` describes them."""

    lane: Lane = Lane.BULK
    wave_size: int | None = None
    abort_above: float | None = None
    abort_sample: int = ABORT_SAMPLE
    retry_transient: bool = True
    verify: bool = False
    rollout: Rollout | None = None
    total_timeout: float | None = None
    on_outcome: OnOutcome | None = None
    on_job: OnJob | None = None
    jobs: Iterable[JobHandle] = ()

    def __post_init__(self) -> None:
        # An iterator could be read only once.
        msgspec.structs.force_setattr(self, "jobs", _read_jobs(self.jobs))

    def check(self, action: str) -> None:
        """Check the values.

        Args:
            action: The action of the run, such as ``servers.stop``.

        Raises:
            InvalidRequestError: An option is invalid.
        """
        if not isinstance(self.lane, Lane):
            raise InvalidRequestError("lane", self.lane, "expected Lane.INTERACTIVE or Lane.BULK")
        if self.wave_size is not None and (type(self.wave_size) is not int or self.wave_size < 1):
            raise InvalidRequestError("wave_size", self.wave_size, "expected 1 or more servers, or None for no bound")
        check_abort(self.abort_above, self.abort_sample)
        self._check_rollout()
        seconds = self.total_timeout
        if seconds is not None and not (is_number(seconds) and 0 < seconds < math.inf):
            raise InvalidRequestError(
                "total_timeout", seconds, "expected a number of seconds above 0, or None for no bound"
            )
        for name in ("retry_transient", "verify"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidRequestError(name, getattr(self, name), "expected True or False")
        for name in ("on_outcome", "on_job"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise InvalidRequestError(name, getattr(self, name), "expected a function, or None")
        for job in self.jobs:
            if self.rollout is not None:
                raise InvalidRequestError("jobs", job, "expected none beside a rollout, which plans what has not begun")
            if job.action not in (None, action) or not job.servers:
                raise InvalidRequestError("jobs", job, f"expected a job that {action} started, with its servers")

    def _check_rollout(self) -> None:
        if self.rollout is None:
            return
        if not isinstance(self.rollout, Rollout):
            raise InvalidRequestError("rollout", self.rollout, "expected a Rollout, or None")
        if self.abort_above is not None and self.rollout.abort_above is not None:
            raise InvalidRequestError("abort_above", self.abort_above, "expected none beside that of the rollout")

    def find_wave(self, servers: int) -> int | None:
        """Return how many servers may be in flight at once; None for no bound.

        Args:
            servers: How many servers the run has, as far as that is known.
        """
        return find_wave(self.wave_size, self.abort_rule[0], servers)

    @property
    def abort_rule(self) -> tuple[float | None, int]:
        """The share of failures above which the run is aborted, and how many servers must have ended."""
        if self.rollout is None or self.rollout.abort_above is None:
            return self.abort_above, self.abort_sample
        return self.rollout.abort_above, self.rollout.abort_sample


def _read_jobs(jobs: Iterable[JobHandle]) -> tuple[JobHandle, ...]:
    if not isinstance(jobs, Iterable):
        raise InvalidRequestError("jobs", jobs, "expected an iterable of job handles")
    handles = tuple(jobs)
    for handle in handles:
        if not isinstance(handle, JobHandle):
            raise InvalidRequestError("jobs", handle, "expected a job handle, as bms.jobs.restore() returns")
    return handles
