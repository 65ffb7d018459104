"""The options of a run over many clouds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypedDict

import anyio

from bms_async._foreign import call_foreign
from bms_async.errors import InvalidRequestError
from bms_async.fleet.options import OnJob, OnOutcome
from bms_async.fleet.outcome import Outcome
from bms_async.fleet.rollout.rollout import Rollout
from bms_async.jobs import JobHandle
from bms_async.limits import Lane

from .outcome import CloudOutcome, name_cloud

OnCloudOutcome: TypeAlias = Callable[[CloudOutcome], Awaitable[object] | object]
OnCloudJob: TypeAlias = Callable[[str, JobHandle], Awaitable[object] | object]


class CloudsFleetOptions(TypedDict, total=False):
    """The options of `CloudsFleet.start`, `CloudsFleet.stop` and `CloudsFleet.reboot`: those of `FleetOptions`.

    What bounds a run bounds it in each cloud by itself.
    """

    lane: Lane
    """The priority of the run's calls in the rate limiters' queues. Default: Lane.BULK."""

    wave_size: int | None
    """How many servers may be in flight at once in each cloud. Default: None, no bound but the one that follows from
    `abort_above`."""

    abort_above: float | None
    """Abort threshold, 0 to 1, for each cloud by itself: where too many servers fail, no further batch is sent in that
    cloud, and the others go on. What is in flight then may fail as well. So without a `wave_size` no more servers of a
    cloud are in flight than may fail of all that it has in the run, and one at least. Default: None, never abort."""

    abort_sample: int
    """How many servers of a cloud must have ended before `abort_above` counts there: more than 1 tolerates failures at
    the beginning. Default: 1."""

    retry_transient: bool
    """Retry a server that was busy. Default: True."""

    verify: bool
    """Read the states back, in each cloud once all its servers have ended. Default: False."""

    rollout: Rollout | None
    """How the servers of each cloud are walked through. Canaries, groups and the window count in each cloud by itself,
    and a cloud does not wait for the canaries of another. Default: None, as fast as the limits allow."""

    total_timeout: float | None
    """Seconds after which the run ends in each cloud, whatever it waits for. Default: None, no bound."""

    on_outcome: OnCloudOutcome | None
    """Called with each `CloudOutcome`, one at a time over all clouds; may be a coroutine function. If it raises, it is
    still called for the others. Default: None."""

    on_job: OnCloudJob | None
    """Called with the cloud's name and the handle of each job that it has accepted. Default: None."""

    jobs: Mapping[str, Iterable[JobHandle]]
    """Handles of jobs of an earlier run, for each cloud. Default: none."""


class CloudsEachOptions(TypedDict, total=False):
    """The options of `CloudsFleet.each`: those of `EachOptions`.

    What bounds a run bounds it in each cloud by itself.
    """

    action: str
    """The name of the run in its report, its hook events and the log. Default: ``each``."""

    max_workers: int
    """How many calls may be under way at once in each cloud. Default: 100."""

    keep_results: bool
    """Whether each outcome has what the function returned. Default: True."""

    lane: Lane
    """The priority of the function's calls in the rate limiters' queues, where they name none. Default: Lane.BULK."""

    wave_size: int | None
    """How many servers may be in flight at once in each cloud. Default: None, no bound but the one that follows from
    `abort_above`."""

    abort_above: float | None
    """Abort threshold, for each cloud by itself: without a `wave_size` no more servers of a cloud are in flight than
    may fail of all that it has in the run. Default: None, never abort."""

    abort_sample: int
    """How many servers of a cloud must have ended before `abort_above` counts there: more than 1 tolerates failures at
    the beginning. Default: 1."""

    retry_transient: bool
    """Call the function again for a server that was busy. Default: True."""

    rollout: Rollout | None
    """How the servers of each cloud are walked through. Default: None."""

    total_timeout: float | None
    """Seconds after which the run ends in each cloud, whatever it waits for. Default: None, no bound."""

    on_outcome: OnCloudOutcome | None
    """Called with each `CloudOutcome`, as for a power run. Default: None."""

    on_job: OnCloudJob | None
    """Called with the cloud's name and the handle of each job that the function returns. Default: None."""


class OptionsOfClouds:
    """Makes the options of each cloud's run of those of the whole.

    Args:
        options: `CloudsFleetOptions` or `CloudsEachOptions`.
        names: The clouds of the run.

    Raises:
        InvalidRequestError: An option that differs by cloud is invalid; the others are checked with each run.
    """

    def __init__(self, options: Mapping[str, Any], names: Iterable[str]) -> None:
        self._common = dict(options)
        self._on_outcome = _check_callable("on_outcome", self._common.pop("on_outcome", None))
        self._on_job = _check_callable("on_job", self._common.pop("on_job", None))
        self._jobs = self._common.pop("jobs", None)
        if self._jobs is not None:
            if not isinstance(self._jobs, Mapping):
                raise InvalidRequestError("jobs", self._jobs, "expected a mapping of clouds to job handles")
            for name in self._jobs.keys() - set(names):
                raise InvalidRequestError("jobs", name, "expected a cloud of this run; name it in servers too")
            # An iterator could be read only once.
            self._jobs = {
                name: tuple(jobs) if isinstance(jobs, Iterable) else jobs for name, jobs in self._jobs.items()
            }
        # Each run calls the function once at a time, and there are many runs.
        self._lock = anyio.Lock(fast_acquire=True)

    def of(self, name: str) -> dict[str, Any]:
        """Return the options of one cloud's run.

        Args:
            name: The cloud.
        """
        options = self._common | {"on_outcome": self.on_outcome(name), "on_job": self._call_on_job(name)}
        if self._jobs is not None:
            options["jobs"] = self._jobs.get(name, ())
        return options

    def on_outcome(self, name: str) -> OnOutcome | None:
        """Return what is called with each outcome of a cloud.

        Args:
            name: The cloud.
        """
        if (function := self._on_outcome) is None:
            return None

        async def call(outcome: Outcome) -> None:
            async with self._lock:
                await call_foreign("on_outcome", function, name_cloud(name, outcome))

        return call

    def _call_on_job(self, name: str) -> OnJob | None:
        function = self._on_job
        return None if function is None else lambda job: function(name, job)


def _check_callable(name: str, value: Any) -> Callable[..., Any] | None:
    if value is not None and not callable(value):
        raise InvalidRequestError(name, value, "expected a function, or None")
    return value  # type: ignore[no-any-return]  # what it takes cannot be checked
