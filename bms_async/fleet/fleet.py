"""Any number of servers at once: ``bms.fleet``."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable

from bms_async.api import Servers
from bms_async.api.bms.servers import REBOOT, START, STOP
from bms_async.jobs import JobHandle
from bms_async.limits import Lane
from bms_async.models import JobAccepted
from bms_async.session import Session
from bms_async.wire import Operation

from .run import FleetRun

Ids = Iterable[str] | AsyncIterable[str]


class Fleet:
    """Power actions on any number of servers, in batches, as fast as the limits allow: ``bms.fleet``."""

    def __init__(self, servers: Servers, session: Session, *, check: bool) -> None:
        self._servers = servers
        self._session = session
        self._check = check

    def start(self, ids: Ids, *, lane: Lane = Lane.BULK) -> FleetRun:
        """Start servers.

        Args:
            ids: Any number of ids, from an iterable or async iterable; one that comes twice counts once.
            lane: Who goes first when calls must wait; a run is bulk work unless told otherwise.

        Returns:
            The run, under way: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `ids` is no iterable of ids. A single unfit id is an outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.3; 50 calls a minute, 1000 servers a call.
        """
        return self._run(START, ids, lane)

    def stop(self, ids: Ids, *, lane: Lane = Lane.BULK) -> FleetRun:
        """Stop servers by cutting their power.

        Args:
            ids: Any number of ids, from an iterable or async iterable; one that comes twice counts once.
            lane: Who goes first when calls must wait; a run is bulk work unless told otherwise.

        Returns:
            The run, under way: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `ids` is no iterable of ids. A single unfit id is an outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.5; 50 calls a minute, 1000 servers a call.
        """
        return self._run(STOP, ids, lane)

    def reboot(self, ids: Ids, *, lane: Lane = Lane.BULK) -> FleetRun:
        """Restart servers; no server is ever asked twice.

        Args:
            ids: Any number of ids, from an iterable or async iterable; one that comes twice counts once.
            lane: Who goes first when calls must wait; a run is bulk work unless told otherwise.

        Returns:
            The run, under way: await it for its report, or iterate over it for each outcome.

        Raises:
            InvalidRequestError: `ids` is no iterable of ids. A single unfit id is an outcome, SKIPPED.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.4; 50 calls a minute, 1000 servers a call.
        """
        return self._run(REBOOT, ids, lane)

    def _run(self, operation: Operation[JobAccepted], ids: Ids, lane: Lane) -> FleetRun:
        async def submit(
            batch: tuple[str, ...], on_send: Callable[[], None], on_refused: Callable[[], None]
        ) -> JobHandle:
            return await self._servers.act(operation, batch, lane=lane, on_send=on_send, on_refused=on_refused)

        run = FleetRun(operation.name, ids, submit, check=self._check)
        self._session.start(run.run, name=f"bms_async fleet {operation.name}")
        return run
