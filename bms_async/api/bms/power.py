"""Power of servers (API reference 4.4.3 to 4.4.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

from bms_async.api._registry import define
from bms_async.errors import InvalidRequestError
from bms_async.jobs import JobHandle
from bms_async.limits import Lane
from bms_async.models import JobAccepted
from bms_async.validation.common import check_batch, read_id
from bms_async.wire import Operation, Safety

from ._base import SERVERS, ServerResource

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

_BODIES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    START.name: ("os-start", {}),
    REBOOT.name: ("reboot", {"type": "HARD"}),
    STOP.name: ("os-stop", {"type": "HARD"}),
}


class Power(ServerResource):
    """Starting, stopping and restarting servers."""

    async def start(self, server_ids: Iterable[str], *, lane: Lane = Lane.INTERACTIVE) -> JobHandle:
        """Start servers and return the job that does it; it is watched from then on.

        Sent again when an answer is lost: a server that runs already keeps running, and its sub-job fails (BMS.0038).

        Args:
            server_ids: 1 to 1000 ids, none twice; for more, and for an outcome each, see ``bms.fleet.start``.
            lane: Who goes first when calls must wait.

        Raises:
            InvalidRequestError: An id is unfit, or there are none or too many; nothing was sent.
            ApiError: The cloud refused the whole batch, possibly because of one server in it.

        Source: API reference 4.4.3; 50 calls a minute.
        """
        return await self.act(START, server_ids, lane=lane)

    async def stop(
        self, server_ids: Iterable[str], *, type: PowerType = "HARD", lane: Lane = Lane.INTERACTIVE
    ) -> JobHandle:
        """Stop servers and return the job that does it; it is watched from then on.

        Sent again when an answer is lost: a server that is off stays off, and its sub-job fails (BMS.0039).

        Args:
            server_ids: 1 to 1000 ids, none twice; for more, and for an outcome each, see ``bms.fleet.stop``.
            type: HARD cuts the power. The reference names SOFT as well, and says that it is not valid.
            lane: Who goes first when calls must wait.

        Raises:
            InvalidRequestError: An argument is unfit; nothing was sent.
            ApiError: The cloud refused the whole batch, possibly because of one server in it.

        Source: API reference 4.4.5; 50 calls a minute.
        """
        self._check_power_type(type)
        return await self.act(STOP, server_ids, lane=lane, type=type)

    async def reboot(
        self, server_ids: Iterable[str], *, type: PowerType = "HARD", lane: Lane = Lane.INTERACTIVE
    ) -> JobHandle:
        """Restart servers and return the job that does it; it is watched from then on.

        Never sent again when an answer is lost: a server would restart twice. The `TransportError` then says
        ``maybe_delivered``, and the servers' own ``task_state`` and ``updated`` tell what happened.

        Args:
            server_ids: 1 to 1000 ids, none twice; for more, and for an outcome each, see ``bms.fleet.reboot``.
            type: HARD resets the machine. The reference names SOFT as well, and says that it is not valid.
            lane: Who goes first when calls must wait.

        Raises:
            InvalidRequestError: An argument is unfit; nothing was sent.
            ApiError: The cloud refused the whole batch, possibly because of one server in it.

        Source: API reference 4.4.4; 50 calls a minute.
        """
        self._check_power_type(type)
        return await self.act(REBOOT, server_ids, lane=lane, type=type)

    async def act(
        self,
        operation: Operation[JobAccepted],
        server_ids: Iterable[str],
        *,
        lane: Lane,
        type: str | None = None,
        on_send: Callable[[], None] | None = None,
        on_refused: Callable[[], None] | None = None,
    ) -> JobHandle:
        """Make one power call; what `start`, `stop` and `reboot` do, and what a fleet run is made of.

        Args:
            operation: `START`, `STOP` or `REBOOT`.
            server_ids: 1 to 1000 ids, none twice.
            lane: Who goes first when calls must wait.
            type: HARD where there is one and none is given.
            on_send: Called when the request is handed to the transport.
            on_refused: Called when the cloud surely did nothing yet, and is to be asked again.
        """
        if self._check:
            ids = check_batch("server_ids", server_ids)
        else:
            ids = tuple(read_id("server_ids", server_id, check=False) for server_id in server_ids)
        field, options = _BODIES[operation.name]
        if type is not None:
            options = {"type": type}
        body = {field: {**options, "servers": [{"id": server_id} for server_id in ids]}}
        accepted = await self._session.call(operation, body=body, lane=lane, on_send=on_send, on_refused=on_refused)
        return self._watch(accepted, operation, ids)

    def _check_power_type(self, value: str) -> None:
        if self._check and value != "HARD":
            raise InvalidRequestError("type", value, "only HARD works; the reference names SOFT and says it is invalid")
