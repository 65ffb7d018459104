"""Reading a long native list page by page, one page ahead of the reader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from bms_async.api._ahead import PageAhead
from bms_async.errors import BadRequestError, NotFoundError
from bms_async.models import BriefServer, Link, Model, Server
from bms_async.session import Session
from bms_async.wire import read_part

ServerT = TypeVar("ServerT", Server, BriefServer)

LONGEST_PAGE = 1000
"""How many servers a page may hold: what the compute service gives at most."""

_MOST_MARKERS = 20
"""How many servers at the end of a page are tried as markers before the list is given up."""


class NativePage(Model, frozen=True, kw_only=True, rename={"links": "servers_links"}):
    """One page; its servers are decoded when the reader comes to them, so that no page holds up the event loop.

    Attributes:
        links: Where the next page is, in clouds that tell.
    """

    servers: tuple[msgspec.Raw, ...] = ()
    links: tuple[Link, ...] = ()


class _Identified(Model, frozen=True, kw_only=True):
    id: str


class NativeServerList(Generic[ServerT]):
    """The servers that match, to be iterated over; each iteration asks anew.

    A server that changes its place between two pages comes once.

    Args:
        fetch: Brings the page after a marker; the first one after None.
        session: Where pages are fetched ahead.
        operation: The name of the call, for errors.
        into: What each server is read into.
        page_size: Servers a page; None where there is only one page.
        keep: Tells which servers the reader wants.
    """

    def __init__(
        self,
        fetch: Callable[[str | None], Coroutine[Any, Any, NativePage]],
        session: Session,
        *,
        operation: str,
        into: type[ServerT],
        page_size: int | None,
        keep: Callable[[ServerT], bool],
    ) -> None:
        self._fetch = fetch
        self._session = session
        self._operation = operation
        self._into: type[ServerT] = into
        self._page_size = page_size
        self._keep: Callable[[ServerT], bool] = keep

    async def __aiter__(self) -> AsyncIterator[ServerT]:
        seen: set[str] = set()
        ends: set[str] = set()
        ahead: PageAhead[NativePage] | None = PageAhead(self._session, lambda: self._fetch(None))
        try:
            while ahead is not None:
                page = await ahead.page
                ahead = self._begin_next(page)
                fresh = 0
                last = None
                for raw in page.servers:
                    server = read_part(self._operation, raw, self._into)
                    last = server.id
                    if last not in seen:
                        seen.add(last)
                        fresh += 1
                        if self._keep(server):
                            yield server
                if last is not None:
                    if not fresh and last in ends:
                        # A cloud that does not know markers gives the first page for ever.
                        return
                    ends.add(last)
        finally:
            if ahead is not None:
                ahead.scope.cancel()

    def _begin_next(self, page: NativePage) -> PageAhead[NativePage] | None:
        """Ask for the next page, if there is one: a full page says so, and so does a link in a page cut short."""
        if self._page_size is None or not page.servers:
            return None
        if len(page.servers) < self._page_size and not any(link.rel == "next" for link in page.links):
            return None
        latest_first = page.servers[: -_MOST_MARKERS - 1 : -1]
        return PageAhead(self._session, lambda: self._fetch_after(latest_first))

    async def _fetch_after(self, servers: Sequence[msgspec.Raw]) -> NativePage:
        """Fetch what comes after the first of these; where it is gone by now, after the next one that is not."""
        try:
            return await self._fetch(read_part(self._operation, servers[0], _Identified).id)
        except (BadRequestError, NotFoundError) as error:
            if len(servers) == 1 or "marker" not in error.message.lower():
                raise
        return await self._fetch_after(servers[1:])
