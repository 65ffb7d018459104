"""Power actions on any number of servers: ``bms.fleet``."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from typing import Unpack

from bms_async.api.bms.power import REBOOT, START, STOP, send_power_action
from bms_async.jobs import JobHandle, Watcher
from bms_async.models import JobAccepted
from bms_async.session import Session
from bms_async.wire import Operation

from .batch import Batch
from .options import FleetOptions, RunOptions
from .run import FleetRun
from .state_reader import StateReader

Ids = Iterable[str] | AsyncIterable[str]


class Fleet:
    """Power actions on any number of servers, in batches, as fast as the limits allow: ``bms.fleet``.

    Each method takes any number of ids, from an iterable or an async iterable. An id that comes twice, in whatever
    spelling, counts once. A list of up to 200,000 ids, and a set or dict of up to 20,000, is copied. A larger one is
    read while the run goes on and must not change meanwhile. A generator is closed when the run ends.
    """

    def __init__(self, session: Session, watcher: Watcher, *, check: bool) -> None:
        self._session = session
        self._watcher = watcher
        self._check = check

    def start(self, ids: Ids, **options: Unpack[FleetOptions]) -> FleetRun:
        """Start servers.

        Args:
            ids: The servers, as described at `Fleet`.
            **options: See `FleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `ids` is not an iterable of ids, or an option is invalid. A single invalid id is an
                outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.3; 50 calls a minute, 1000 servers a call.
        """
        return self._run(START, ids, options)

    def stop(self, ids: Ids, **options: Unpack[FleetOptions]) -> FleetRun:
        """Stop servers by cutting their power.

        Args:
            ids: The servers, as described at `Fleet`.
            **options: See `FleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `ids` is not an iterable of ids, or an option is invalid. A single invalid id is an
                outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.5; 50 calls a minute, 1000 servers a call.
        """
        return self._run(STOP, ids, options)

    def reboot(self, ids: Ids, **options: Unpack[FleetOptions]) -> FleetRun:
        """Restart servers; a server that may have been restarted is never sent again.

        So a server whose sub-job failed is retried only after BMS.0035 or BMS.0036 (starting, stopping), also one that
        came with `jobs`: BMS.0037 (rebooting) may be this very reboot, and a lost job may have done it.

        Args:
            ids: The servers, as described at `Fleet`.
            **options: See `FleetOptions`.

        Returns:
            The run, which has begun: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `ids` is not an iterable of ids, or an option is invalid. A single invalid id is an
                outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.4; 50 calls a minute, 1000 servers a call.
        """
        return self._run(REBOOT, ids, options)

    def _run(self, operation: Operation[JobAccepted], ids: Ids, options: FleetOptions) -> FleetRun:
        run_options = RunOptions(**options)
        run_options.check(operation.name)
        lane = run_options.lane

        async def send(batch: Batch, on_send: Callable[[], None], on_refused: Callable[[], None]) -> JobHandle:
            ids, session, watcher = batch.ids, self._session, self._watcher
            return await send_power_action(
                session, watcher, operation, ids, lane=lane, on_send=on_send, on_refused=on_refused
            )

        self._session.check_open()
        reader = StateReader(self._session, lane)
        hooks = self._session.hooks
        run = FleetRun(operation.name, ids, send, reader, run_options, check=self._check, hooks=hooks)
        self._session.log_error_on_close(run)
        self._session.start(run.run, name=f"bms_async fleet {operation.name}")
        return run
