"""Power actions on any number of servers: ``bms.fleet``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack

from bms_async.api.bms.power import REBOOT, START, STOP
from bms_async.errors import InvalidRequestError
from bms_async.limits import Lane
from bms_async.session.probe import current_probe

from .call_work import CallOne, CallWork
from .options import MAX_WORKERS, EachOptions, EachSettings, FleetOptions, RunOptions
from .power_work import PowerWork
from .rollout.reader import RolloutReader
from .run import FleetRun
from .sending import make_sender
from .state_reader import StateReader
from .walk import Walk

if TYPE_CHECKING:
    from datetime import datetime

    from bms_async.jobs import Watcher
    from bms_async.models import JobAccepted
    from bms_async.session import Session
    from bms_async.wire import Operation

    from .rollout.forecast import RolloutPlan
    from .rollout.rollout import Rollout
    from .source import IdSource, Servers
    from .tracker import RunTracker
    from .work import MakeWork


_ONLY_OF_POWER = {"verify", "jobs"}


class Fleet:
    """Power actions on any number of servers, in batches, as fast as the limits allow: ``bms.fleet``.

    Each method takes any number of servers, from an iterable or an async iterable: their ids, or the servers themselves
    as a list returns them. An id that comes twice, in whatever spelling, counts once. A list of up to 200,000, and a
    set or dict of up to 20,000, is copied. A larger one is read while the run goes on and must not change meanwhile. A
    generator is closed when the run ends.
    """

    def __init__(self, session: Session, watcher: Watcher, *, check: bool) -> None:
        self._session = session
        self._watcher = watcher
        self._check = check

    def start(self, servers: Servers, **options: Unpack[FleetOptions]) -> FleetRun:
        """Start servers.

        Args:
            servers: The servers, as described at `Fleet`.
            **options: See `FleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `servers` is not an iterable of them, or an option is invalid. A single invalid id is
                an outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.3; 50 calls a minute, 1000 servers a call.
        """
        return self._run(START, servers, options)

    def stop(self, servers: Servers, **options: Unpack[FleetOptions]) -> FleetRun:
        """Stop servers by cutting their power.

        Args:
            servers: The servers, as described at `Fleet`.
            **options: See `FleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `servers` is not an iterable of them, or an option is invalid. A single invalid id is
                an outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.5; 50 calls a minute, 1000 servers a call.
        """
        return self._run(STOP, servers, options)

    def reboot(self, servers: Servers, **options: Unpack[FleetOptions]) -> FleetRun:
        """Restart servers; a server that may have been restarted is never sent again.

        So a server whose sub-job failed is retried only after BMS.0035 or BMS.0036 (starting, stopping), also one that
        came with `jobs`: BMS.0037 (rebooting) may be this very reboot, and a lost job may have done it.

        Args:
            servers: The servers, as described at `Fleet`.
            **options: See `FleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `servers` is not an iterable of them, or an option is invalid. A single invalid id is
                an outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.4; 50 calls a minute, 1000 servers a call.
        """
        return self._run(REBOOT, servers, options)

    def each(self, servers: Servers, call: CallOne, **options: Unpack[EachOptions]) -> FleetRun:
        """Call a function for each server, with the outcomes, retries, progress and report of a power run.

        ::

            await bms.fleet.each(names, lambda id: bms.servers.rename(id, names[id]))

        The calls that the function makes wait in the run's lane. As many are under way as their limit and their latency
        need. If the function returns a `JobHandle`, the job is followed to its end. What it returns otherwise is the
        outcome's `result`. If it raises, its server is FAILED, or UNKNOWN where the cloud may have done it; a server
        that was busy is called again later.

        Args:
            servers: The servers, as described at `Fleet`.
            call: A coroutine function of a server's id.
            **options: See `EachOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `servers` is not an iterable of them, `call` is no function, or an option is invalid.
            ClientClosedError: The client is not open.
        """
        settings = EachSettings(
            action=options.pop("action", "each"),
            max_workers=options.pop("max_workers", MAX_WORKERS),
            keep_results=options.pop("keep_results", True),
        )
        settings.check()
        if not callable(call):
            raise InvalidRequestError("call", call, "expected a coroutine function of a server's id")
        for name in _ONLY_OF_POWER & options.keys():
            raise InvalidRequestError(name, options[name], "expected none: a function's call says nothing of a state")  # type: ignore[literal-required]
        run_options = RunOptions(**options)  # type: ignore[misc]  # those that are left
        run_options.check(settings.action)
        session, lane = self._session, run_options.lane

        def make_work(tracker: RunTracker, source: IdSource) -> CallWork:
            walk = Walk(tracker, source, run_options, lambda: RolloutReader(session, lane), session.redact, packs=False)
            return CallWork(
                tracker,
                source,
                walk,
                call,
                run_options,
                max_workers=settings.max_workers,
                keeps_results=settings.keep_results,
            )

        return begin(session, settings.action, servers, make_work, run_options, check=self._check)

    async def plan(
        self,
        servers: Servers,
        rollout: Rollout,
        *,
        seconds_each: float,
        action: Literal["start", "stop", "reboot"] = "reboot",
        start: datetime | None = None,
        wave_size: int | None = None,
    ) -> RolloutPlan:
        """Return which waves a rollout will have, and when its end is to be expected; nothing is changed.

        The servers are read and grouped as the run does it. It is assumed that each takes the same time and is well.

        Args:
            servers: The servers, as described at `Fleet`.
            rollout: The rollout.
            seconds_each: Seconds from the asking of a server until its job has ended and it is ready.
            action: What is to be done to the servers: its limit counts.
            start: When the rollout begins, an aware datetime. Default: None, now.
            wave_size: How many servers may be in flight at once. Default: None, no bound but the one that follows from
                `abort_above` of the rollout.

        Raises:
            InvalidRequestError: An argument is invalid, or a server's group cannot be found out.
            CallError: The servers could not be read.
            ClientClosedError: The client is not open.
        """
        from .rollout.preview import preview  # noqa: PLC0415 - most programs plan nothing

        operations = {"start": START, "stop": STOP, "reboot": REBOOT}
        if action not in operations:
            raise InvalidRequestError("action", action, 'expected "start", "stop" or "reboot"')
        session = self._session
        session.check_open()
        return await preview(
            servers,
            rollout,
            RolloutReader(session, Lane.BULK),
            seconds_each=seconds_each,
            start=start,
            wave_size=wave_size,
            calls_a_minute=session.limits[operations[action].name].limit,
            check=self._check,
        )

    def _run(self, operation: Operation[JobAccepted], servers: Servers, options: FleetOptions) -> FleetRun:
        run_options = RunOptions(**options)
        run_options.check(operation.name)
        session, lane = self._session, run_options.lane
        send = make_sender(session, self._watcher, operation.name, lane)

        def make_work(tracker: RunTracker, source: IdSource) -> PowerWork:
            walk = Walk(tracker, source, run_options, lambda: RolloutReader(session, lane), session.redact)
            return PowerWork(
                tracker, source, walk, send_batch=send, reader=StateReader(session, lane), options=run_options
            )

        return begin(session, operation.name, servers, make_work, run_options, check=self._check)


def begin(
    session: Session, action: str, servers: Servers, make_work: MakeWork, options: RunOptions, *, check: bool
) -> FleetRun:
    """Begin a run as a task of its client.

    Args:
        session: The client's.
        action: The name of the run's action, such as ``servers.stop``.
        servers: The servers.
        make_work: Makes what asks them and follows them.
        options: The checked options.
        check: Whether ids are checked against the reference.

    Raises:
        InvalidRequestError: `servers` is no iterable of servers.
        ClientClosedError: The client is not open.
    """
    session.check_open()
    probe = current_probe.get()
    if probe is not None:
        # The run is a task of the client, which no probe sees.
        probe.on_begin()
    run = FleetRun(action, servers, make_work, options, check=check, hooks=session.hooks)
    session.log_error_on_close(run)
    session.start(run.run, name=f"bms_async fleet {action}")
    return run
