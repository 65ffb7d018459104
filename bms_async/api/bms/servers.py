"""Servers: reading them (API reference 4.3); what else can be done with them is in modules of its own."""

from __future__ import annotations

from bms_async.api._envelopes import ServerResponse
from bms_async.api._registry import define
from bms_async.errors import InvalidRequestError
from bms_async.limits import Lane
from bms_async.models import Server
from bms_async.wire import Safety

from ._base import SERVERS
from ._page_planner import PageRange
from .attachments import Attachments
from .creation import Creation
from .maintenance import Maintenance
from .passwords import Passwords
from .power import Power
from .server_list import MAX_PAGE_SIZE, ServerList, ServerPage

GET = define(
    "servers.get",
    "GET",
    SERVERS + "/{server_id}",
    ServerResponse,
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


class Servers(Power, Maintenance, Attachments, Passwords, Creation):
    """The project's bare-metal servers: ``bms.servers``."""

    async def get(self, server_id: str) -> Server:
        """Return one server with everything that the cloud reports about it.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 4.3.1; 1000 calls a minute.
        """
        response = await self._session.call(GET, path={"server_id": self._checked(server_id)})
        return response.server

    def list(
        self,
        *,
        flavor: str | None = None,
        name: str | None = None,
        status: str | None = None,
        tags: str | None = None,
        reservation_id: str | None = None,
        enterprise_project_id: str | None = None,
        page_size: int = MAX_PAGE_SIZE,
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
        if self._check and (type(page_size) is not int or not 1 <= page_size <= MAX_PAGE_SIZE):
            raise InvalidRequestError("page_size", page_size, f"1 to {MAX_PAGE_SIZE} servers a page")
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

        async def fetch(page_range: PageRange) -> ServerPage:
            query = {**filters, "limit": page_range.size, "offset": page_range.number}
            return await self._session.call(LIST, query=query, lane=lane)

        return ServerList(fetch, self._session, page_size=page_size)
