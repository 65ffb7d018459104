"""Reading servers (API reference 4.3), and the class that combines all calls about servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict, TypeVar, Unpack, cast

from bms_async.api._envelopes import ServerResponse
from bms_async.api._registry import define
from bms_async.errors import InvalidRequestError
from bms_async.limits import Lane
from bms_async.models import Server
from bms_async.validation.native import check_int
from bms_async.wire import Safety

from ._base import SERVERS
from ._page_planner import PageRange
from .attachments import Attachments
from .creation import Creation
from .maintenance import Maintenance
from .passwords import Passwords
from .power import Power
from .server_ids import ServerIds, ShortList, ShortServer, make_fetch
from .server_list import MAX_PAGE_SIZE, ServerId, ServerList, ServerPage

S = TypeVar("S", bound=ServerId)


class _Filters(TypedDict, total=False):
    flavor: str | None
    name: str | None
    status: str | None
    tags: str | None
    enterprise_project_id: str | None


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
    title="List the servers that match",
    chapter="4.3.2",
    safety=Safety.READ,
    permission="bms:servers:list",
)


class Servers(Power, Maintenance, Attachments, Passwords, Creation):
    """The project's bare-metal servers: ``bms.servers``."""

    async def get(self, server_id: str) -> Server:
        """Return one server with all its details.

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
        """Iterate over the servers that match all filters; pages are prefetched.

        See `ServerList` for servers that are created or deleted while they are listed.

        ::

            async for server in bms.servers.list(tags="rack-7"):
                ...

        Args:
            flavor: The id of a flavor.
            name: A name; the cloud decides what matches it.
            status: One of `ServerStatus`.
            tags: A tag; the cloud itself sets ``__type_baremetal``.
            reservation_id: The reservation that servers created in one batch share.
            enterprise_project_id: An enterprise project, or ``all_granted_eps`` for all that the caller has access to.
            page_size: Maximum number of servers a page, 1 to 1000. A call costs the same whatever its size, and pages
                of fewer than 20 do not detect that the list has shifted.
            lane: The lane in which the calls wait for the rate limiter.

        Raises:
            InvalidRequestError: The page size is out of range, or a filter is blank; nothing was sent.

        Source: API reference 4.3.2; 500 calls a minute.
        """
        filters = {
            "flavor": flavor,
            "name": name,
            "status": status,
            "tags": tags,
            "reservation_id": reservation_id,
            "enterprise_project_id": enterprise_project_id,
        }
        self._check_list(filters, page_size)

        async def fetch(page_range: PageRange) -> ServerPage:
            query = {**filters, "limit": page_range.size, "offset": page_range.number}
            return await self._session.call(LIST, query=query, lane=lane)

        return ServerList(fetch, self._session, page_size=page_size)

    def _list_ids(
        self, *, page_size: int = MAX_PAGE_SIZE, lane: Lane = Lane.INTERACTIVE, **filters: Unpack[_Filters]
    ) -> ServerIds:
        """Iterate over the ids of the servers that match all filters; the arguments are those of `list`."""
        return ServerIds(self._short_list(ServerId, filters, page_size, lane))

    def _list_short(
        self, *, page_size: int = MAX_PAGE_SIZE, lane: Lane = Lane.INTERACTIVE, **filters: Unpack[_Filters]
    ) -> ShortList[ShortServer]:
        """Iterate over the servers that match all filters, with few of their fields; the arguments are as of `list`."""
        return self._short_list(ShortServer, filters, page_size, lane)

    def _short_list(self, model: type[S], filters: _Filters, page_size: int, lane: Lane) -> ShortList[S]:
        chosen = cast("Mapping[str, str | None]", filters)
        self._check_list(chosen, page_size)
        fetch = make_fetch(self._session, LIST, chosen, lane, model)
        return ShortList(fetch, self._session, page_size=page_size, model=model)

    def _check_list(self, filters: Mapping[str, str | None], page_size: int) -> None:
        if self._check:
            check_int("page_size", page_size, minimum=1, maximum=MAX_PAGE_SIZE)
            _check_filters(filters)


def _check_filters(filters: Mapping[str, str | None]) -> None:
    for argument, value in filters.items():
        # The cloud ignores a blank filter and lists all servers, which the caller may be about to stop.
        if value is not None and not (isinstance(value, str) and value.strip(" ,")):
            raise InvalidRequestError(argument, value, "expected a str that is not blank; None lists all servers")
