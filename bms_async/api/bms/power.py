"""Starting, stopping and restarting servers (API reference 4.4.3 to 4.4.5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal, TypeAlias

from bms_async.api._registry import define
from bms_async.errors import InvalidRequestError
from bms_async.jobs import JobHandle, Watcher
from bms_async.limits import Lane
from bms_async.models import JobAccepted
from bms_async.session import Session
from bms_async.validation.common import check_batch, read_id
from bms_async.wire import Operation, Safety

from ._base import SERVERS, ServerResource, watch_job

PowerType: TypeAlias = Literal["HARD"]

START = define(
    "servers.start",
    "POST",
    SERVERS + "/action",
    JobAccepted,
    title="Start up to 1000 servers",
    chapter="4.4.3",
    safety=Safety.IDEMPOTENT,
    permission="bms:servers:start",
)
REBOOT = define(
    "servers.reboot",
    "POST",
    SERVERS + "/action",
    JobAccepted,
    title="Restart up to 1000 servers",
    chapter="4.4.4",
    safety=Safety.UNSAFE,
    permission="bms:servers:reboot",
)
STOP = define(
    "servers.stop",
    "POST",
    SERVERS + "/action",
    JobAccepted,
    title="Stop up to 1000 servers",
    chapter="4.4.5",
    safety=Safety.IDEMPOTENT,
    permission="bms:servers:stop",
)

_ACTIONS: Mapping[str, str] = {START.name: "os-start", REBOOT.name: "reboot", STOP.name: "os-stop"}


async def send_power_action(
    session: Session,
    watcher: Watcher,
    operation: Operation[JobAccepted],
    server_ids: tuple[str, ...],
    *,
    lane: Lane,
    type: str = "HARD",
    choose: Callable[[], tuple[str, ...]] | None = None,
    before_send: Callable[[], Awaitable[None]] | None = None,
    on_send: Callable[[], None] | None = None,
    on_refused: Callable[[], None] | None = None,
) -> JobHandle:
    """Send one power call and return its job: for `Power` and for each batch of a fleet run.

    Args:
        session: What makes the call.
        watcher: What polls the job.
        operation: `START`, `STOP` or `REBOOT`.
        server_ids: 1 to 1000 ids, none twice; not checked here.
        lane: The priority of the call in the rate limiter's queue.
        type: How a server is stopped or rebooted; a start has no type.
        choose: Returns the ids in place of `server_ids`, once each attempt has its slot; None where they are fixed.
        before_send: Awaited before each request is handed to the transport; what it raises keeps it from being sent.
        on_send: Called each time the request is handed to the transport.
        on_refused: Called when the cloud certainly did nothing and the call is going to be retried.
    """
    chosen = server_ids

    def make_body() -> object:
        nonlocal chosen
        if choose is not None:
            chosen = choose()
        servers = [{"id": server_id} for server_id in chosen]
        return {
            _ACTIONS[operation.name]: {"servers": servers} if operation is START else {"type": type, "servers": servers}
        }

    accepted = await session.call(
        operation,
        body=make_body() if choose is None else {},
        make_body=None if choose is None else make_body,
        lane=lane,
        before_send=before_send,
        on_send=on_send,
        on_refused=on_refused,
    )
    return watch_job(watcher, accepted, operation, chosen)


class Power(ServerResource):
    """Starting, stopping and restarting servers."""

    async def start(self, server_ids: Iterable[str], *, lane: Lane = Lane.INTERACTIVE) -> JobHandle:
        """Start servers and return the job that does it; it is watched from then on.

        Retried when a response is lost: a server that is running keeps running, and its sub-job fails (BMS.0038).

        Args:
            server_ids: 1 to 1000 ids, none twice; for more, and for an outcome each, see ``bms.fleet.start``.
            lane: The priority of the call in the rate limiter's queue.

        Raises:
            InvalidRequestError: An id is invalid, or there are none or too many; nothing was sent.
            ApiError: The cloud refused the whole batch, possibly because of one server in it.

        Source: API reference 4.4.3; 50 calls a minute.
        """
        return await self._send(START, server_ids, lane)

    async def stop(
        self, server_ids: Iterable[str], *, type: PowerType = "HARD", lane: Lane = Lane.INTERACTIVE
    ) -> JobHandle:
        """Stop servers and return the job that does it; it is watched from then on.

        Retried when a response is lost: a server that is off stays off, and its sub-job fails (BMS.0039).

        Args:
            server_ids: 1 to 1000 ids, none twice; for more, and for an outcome each, see ``bms.fleet.stop``.
            type: HARD cuts the power. The reference names SOFT as well, and says that it is not valid.
            lane: The priority of the call in the rate limiter's queue.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ApiError: The cloud refused the whole batch, possibly because of one server in it.

        Source: API reference 4.4.5; 50 calls a minute.
        """
        return await self._send(STOP, server_ids, lane, type)

    async def reboot(
        self, server_ids: Iterable[str], *, type: PowerType = "HARD", lane: Lane = Lane.INTERACTIVE
    ) -> JobHandle:
        """Restart servers and return the job that does it; it is watched from then on.

        Never retried when a response is lost, since a server might restart twice. The `TransportError` then has
        ``maybe_delivered`` set, and the servers' own ``task_state`` and ``updated`` show what happened.

        Args:
            server_ids: 1 to 1000 ids, none twice; for more, and for an outcome each, see ``bms.fleet.reboot``.
            type: HARD resets the machine. The reference names SOFT as well, and says that it is not valid.
            lane: The priority of the call in the rate limiter's queue.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ApiError: The cloud refused the whole batch, possibly because of one server in it.

        Source: API reference 4.4.4; 50 calls a minute.
        """
        return await self._send(REBOOT, server_ids, lane, type)

    async def _send(
        self, operation: Operation[JobAccepted], server_ids: Iterable[str], lane: Lane, type: str = "HARD"
    ) -> JobHandle:
        if self._check:
            if type != "HARD":
                raise InvalidRequestError(
                    "type", type, "expected HARD; the reference names SOFT and says it is invalid"
                )
            ids = check_batch("server_ids", server_ids)
        else:
            ids = tuple(read_id("server_ids", server_id, check=False) for server_id in server_ids)
        return await send_power_action(self._session, self._watcher, operation, ids, lane=lane, type=type)
