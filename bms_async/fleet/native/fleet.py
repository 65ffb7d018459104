"""Power actions on any number of servers of a plain OpenStack cloud: ``bms.nova.fleet``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

from bms_async.api.nova.server_operations import REBOOT, START, STOP
from bms_async.errors import InvalidRequestError
from bms_async.fleet.fleet import begin
from bms_async.fleet.options import MAX_WORKERS, EachSettings, OnOutcome, RunOptions
from bms_async.fleet.rollout.rollout import Rollout
from bms_async.fleet.walk import Walk
from bms_async.limits import Lane

from .listing import Listing
from .reader import NativeServerReader
from .work import NativeWork

if TYPE_CHECKING:
    from bms_async.fleet.run import FleetRun
    from bms_async.fleet.source import IdSource, Servers
    from bms_async.fleet.tracker import RunTracker
    from bms_async.session import Session
    from bms_async.wire import Operation


class NativeFleetOptions(TypedDict, total=False):
    """The options of `NativeFleet`: those of `FleetOptions` but for jobs and `verify`, and `max_workers`.

    There are no jobs, and every outcome rests on a state that was read afterwards, so that there is nothing to verify.
    """

    max_workers: int
    """How many calls may be under way at once. No more are used than their limit and latency need. Default: 100."""

    lane: Lane
    """The priority of the run's calls in the rate limiter's queue. Default: Lane.BULK."""

    wave_size: int | None
    """How many servers may be in flight at once, deferred ones included. Default: None, no bound but the one that
    follows from `abort_above`."""

    abort_above: float | None
    """Abort threshold, 0 to 1: once FAILED and UNKNOWN exceed this share of the servers that have ended so far, no
    further call is made. The rest is SKIPPED, with the reason in the report. 0 ends the run at its first failure.
    What is in flight then may fail as well. So without a `wave_size` no more servers are in flight than may fail of the
    whole fleet, and one at least: 2,000 of 100,000 for 0.02. The fleet is what its source has given so far; a source
    that does not say how many it has is read up to 20,000 servers ahead. Default: None, never abort."""

    abort_sample: int
    """How many servers must have ended before `abort_above` counts: more than 1 tolerates failures at the beginning.
    Default: 1."""

    retry_transient: bool
    """Call a server again that was in another task, after 10 s and then after twice as long each time, six times in
    all; and twice where the answer of a start or a stop was lost and nothing has happened. Default: True."""

    rollout: Rollout | None
    """How the fleet is walked through: canaries, groups, readiness, a window. Nothing is sent before all servers were
    read from their source. Default: None, as fast as the limits allow."""

    total_timeout: float | None
    """Seconds after which the run ends, whatever it waits for. Servers that were not called by then are SKIPPED. What
    has changed is read once, for 10 s at most; a server of which that proves nothing is UNKNOWN, with a
    `FleetTimeoutError`, and the report has `timed_out` set. Default: None, no bound."""

    on_outcome: OnOutcome | None
    """Called with each outcome, in order and one at a time; may be a coroutine function. If it raises, it is still
    called for the others, and the first error is raised once all servers have ended. The run ends only after the last
    call has returned, so it must not await the run. Default: None."""


_WITHOUT_MEANING = {
    "jobs": "expected none: the native calls start no jobs",
    "on_job": "expected none: the native calls start no jobs",
    "verify": "expected none: each outcome rests on the server's state as it is",
}


class NativeFleet:
    """Power actions on any number of servers of a plain OpenStack cloud: ``bms.nova.fleet``.

    The native API has neither batches nor jobs. So there is one call a server, as many at once as their limit and their
    latency need, and then one list of what has changed shows how all of them end: at most one page of 1000 a second,
    however many servers there are. The compute service documents no limits; ``Limits({"nova.servers.reboot": 100})``
    sets one, in calls a minute.

    Each method takes any number of servers, from an iterable or an async iterable: their ids, or the servers themselves
    as a list returns them. A server that is as asked already is UNCHANGED; one that is in another task is called again
    later; one that is locked, in ERROR, or deleted meanwhile is FAILED, with the cloud's own words.
    """

    def __init__(self, session: Session, *, check: bool) -> None:
        self._session = session
        self._check = check

    def start(self, servers: Servers, **options: Unpack[NativeFleetOptions]) -> FleetRun:
        """Start servers, one call each.

        A call whose answer was lost is made again if the server shows nothing of it.

        Args:
            servers: The servers, as described at `NativeFleet`.
            **options: See `NativeFleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `servers` is not an iterable of them, or an option is invalid. A single invalid id is
                an outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 5.3.2 and 5.2.5.
        """
        return self._run(START, servers, options)

    def stop(self, servers: Servers, **options: Unpack[NativeFleetOptions]) -> FleetRun:
        """Stop servers by cutting their power, one call each.

        A call whose answer was lost is made again if the server shows nothing of it.

        Args:
            servers: The servers, as described at `NativeFleet`.
            **options: See `NativeFleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `servers` is not an iterable of them, or an option is invalid. A single invalid id is
                an outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 5.3.4 and 5.2.5.
        """
        return self._run(STOP, servers, options)

    def reboot(self, servers: Servers, **options: Unpack[NativeFleetOptions]) -> FleetRun:
        """Restart servers, one call each; a server that may have been restarted is never called again.

        Where an answer was lost the reboot counts only if it is seen under way; otherwise the server is UNKNOWN.

        Args:
            servers: The servers, as described at `NativeFleet`.
            **options: See `NativeFleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `servers` is not an iterable of them, or an option is invalid. A single invalid id is
                an outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 5.3.3 and 5.2.5.
        """
        return self._run(REBOOT, servers, options)

    def _run(self, operation: Operation[None], servers: Servers, options: NativeFleetOptions) -> FleetRun:
        for name, rule in _WITHOUT_MEANING.items():
            if name in options:
                raise InvalidRequestError(name, options.get(name), rule)
        settings = EachSettings(max_workers=options.pop("max_workers", MAX_WORKERS))
        settings.check()
        run_options = RunOptions(**options)  # type: ignore[misc]  # those that are left
        run_options.check(operation.name)
        session = self._session

        def make_work(tracker: RunTracker, source: IdSource) -> NativeWork:
            listing = Listing(session.for_polling(), lane=run_options.lane, headers={})
            reader = NativeServerReader(listing)
            walk = Walk(tracker, source, run_options, lambda: reader, session.redact, packs=False)
            return NativeWork(
                tracker, source, walk, session, listing, operation, run_options, max_workers=settings.max_workers
            )

        return begin(session, operation.name, servers, make_work, run_options, check=self._check)
