"""Servers: reading them, and their power (API reference 4.3 and 4.4); what else can be done is in its own modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

from bms_async.api._define import define
from bms_async.errors import InvalidRequestError
from bms_async.jobs import JobHandle
from bms_async.limits import Lane
from bms_async.models import JobAccepted, Server
from bms_async.wire import Operation, Safety
from bms_async.wire.checks import check_batch, read_id

from ._calls import SERVERS
from ._course import Span
from .attachments import Attachments
from .creation import Creation
from .pages import LONGEST_PAGE, ServerList, ServerPage
from .passwords import Passwords
from .upkeep import ServerAnswer, Upkeep

PowerType: TypeAlias = Literal["HARD"]


GET = define(
    "servers.get",
    "GET",
    SERVERS + "/{server_id}",
    ServerAnswer,
    title="Read one server",
    chapter="4.3.1",
    safety=Safety.READ,
    permission="bms:servers:get",
)
LIST = define(
    "servers.list",
    "GET",
    SERVERS + "/detail",
    ServerPage,
    title="Read the servers that match",
    chapter="4.3.2",
    safety=Safety.READ,
    permission="bms:servers:list",
)
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


class Servers(Upkeep, Attachments, Passwords, Creation):
    """The project's bare-metal servers: ``bms.servers``."""

    async def get(self, server_id: str) -> Server:
        """Return one server with all that the cloud tells of it.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is unfit; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 4.3.1; 1000 calls a minute.
        """
        answer = await self._session.call(GET, path={"server_id": self._checked(server_id)})
        return answer.server

    def list(
        self,
        *,
        flavor: str | None = None,
        name: str | None = None,
        status: str | None = None,
        tags: str | None = None,
        reservation_id: str | None = None,
        enterprise_project_id: str | None = None,
        page_size: int = LONGEST_PAGE,
        lane: Lane = Lane.INTERACTIVE,
    ) -> ServerList:
        """Iterate over the servers that match all filters; pages are fetched ahead of the reader.

        What comes of servers that appear or vanish while they are listed is told at `ServerList`.

        ::

            async for server in bms.servers.list(tags="rack-7"):
                ...

        Args:
            flavor: The id of a flavor.
            name: A name, matched as the cloud does.
            status: One of `ServerStatus`.
            tags: A tag; ``__type_baremetal`` is the cloud's own.
            reservation_id: What servers created in one batch share.
            enterprise_project_id: An enterprise project, or ``all_granted_eps`` for all that the caller may see.
            page_size: Servers a page at most, 1 to 1000; a call costs the same whatever its size, and pages of less
                than 20 do not notice that the list has moved.
            lane: Who goes first when calls must wait.

        Raises:
            InvalidRequestError: The page size is out of range, or a filter says nothing; nothing was sent.

        Source: API reference 4.3.2; 500 calls a minute.
        """
        if self._check and (type(page_size) is not int or not 1 <= page_size <= LONGEST_PAGE):
            raise InvalidRequestError("page_size", page_size, f"1 to {LONGEST_PAGE} servers a page")
        filters = {
            "flavor": flavor,
            "name": name,
            "status": status,
            "tags": tags,
            "reservation_id": reservation_id,
            "enterprise_project_id": enterprise_project_id,
        }
        for argument, value in filters.items() if self._check else ():
            # The cloud ignores it: who acts on what is listed would act on every server there is.
            if value is not None and not (isinstance(value, str) and value.strip(" ,")):
                raise InvalidRequestError(argument, value, "a text that says something; None lists all servers")

        async def fetch(span: Span) -> ServerPage:
            query = {**filters, "limit": span.size, "offset": span.number}
            return await self._session.call(LIST, query=query, lane=lane)

        return ServerList(fetch, self._session, page_size=page_size)

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
