"""Reading a long native list page by page, one page ahead of the reader."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from bms_async.api._ahead import TURN, PageAhead, read_id, refuse_to_be_read_at_once
from bms_async.api._remembered import MOST_REMEMBERED, Remembered
from bms_async.errors import BadRequestError, NotFoundError
from bms_async.models import BriefServer, Link, Model, Server
from bms_async.session import Session
from bms_async.wire import read_part

ServerT = TypeVar("ServerT", Server, BriefServer)

LONGEST_PAGE = 1000
"""How many servers a page may hold: what the compute service gives at most."""

_MOST_ENDS = 16
"""How many earlier pages' last servers are tried as markers, after those of the last page."""


class NativePage(Model, frozen=True, kw_only=True, rename={"links": "servers_links"}):
    """One page; its servers are decoded when the reader comes to them, so that no page holds up the event loop.

    Attributes:
        links: Where the next page is, in clouds that tell.
    """

    servers: tuple[msgspec.Raw, ...] = ()
    links: tuple[Link, ...] = ()


class NativeServerList(Generic[ServerT]):
    """The servers that match, to be iterated over; each iteration asks anew.

    Pages go by marker: each begins after the last server of the one before, so what appears or vanishes meanwhile moves
    nothing. Where the marker itself has vanished, the page after a server further back is taken, and what was read
    already is passed over. So a server that is there all the time comes exactly once, unless all servers tried as
    markers have vanished, which is an error. What appears or vanishes meanwhile comes once or not at all. In a list
    sorted by what changes, as ``updated_at``, a server comes at most once, and is missed if it moves to where the
    reader has been.

    The memory that this takes does not grow with the list, unless it is sorted by what changes.

    Args:
        fetch: Brings the page after a marker; the first one after None.
        session: Where pages are fetched ahead.
        operation: The name of the call, for errors.
        into: What each server is read into.
        page_size: Servers a page; None where there is only one page.
        keep: Tells which servers the reader wants.
        moving: Whether servers change their places.
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
        moving: bool,
    ) -> None:
        self._fetch = fetch
        self._session = session
        self._operation = operation
        self._into: type[ServerT] = into
        self._page_size = page_size
        self._keep: Callable[[ServerT], bool] = keep
        self._moving = moving

    if not TYPE_CHECKING:  # a type checker finds these mistakes by itself
        __iter__ = __await__ = refuse_to_be_read_at_once

    async def __aiter__(self) -> AsyncIterator[ServerT]:
        remembered = Remembered(None if self._moving else MOST_REMEMBERED)
        ends: deque[str] = deque(maxlen=_MOST_ENDS)
        pages = stale = 0
        ahead: PageAhead[NativePage] | None = PageAhead(self._session, lambda: self._fetch(None))
        try:
            while ahead is not None:
                page = await ahead.page
                ahead = self._begin_next(page, ends)
                fresh = 0
                for number, raw in enumerate(page.servers, 1):
                    server = read_part(self._operation, raw, self._into)
                    if remembered.is_new(server.id):
                        fresh += 1
                        if self._keep(server):
                            yield server
                    if number % TURN == 0:
                        # A page that has come is read without a wait, and others must get their turn.
                        await asyncio.sleep(0)
                pages += 1
                stale = 0 if fresh else stale + 1
                if stale > pages - stale:
                    # A marker that has moved to the front leads through all that was read once more, and no further.
                    # A cloud that does not know markers gives the first page for ever.
                    return
        finally:
            if ahead is not None:
                ahead.scope.cancel()

    def _begin_next(self, page: NativePage, ends: deque[str]) -> PageAhead[NativePage] | None:
        """Ask for the next page, if there is one: a full page says so, and so does a link in a page cut short."""
        if self._page_size is None or not page.servers:
            return None
        if len(page.servers) < self._page_size and not any(link.rel == "next" for link in page.links):
            return None
        markers = [marker for marker in (*_markers(page.servers), *reversed(ends)) if marker]
        if not markers:
            # None has an id, which the reader is about to learn.
            return None
        ends.append(markers[0])
        return PageAhead(self._session, lambda: self._fetch_after(markers))

    async def _fetch_after(self, markers: Sequence[str]) -> NativePage:
        """Fetch what comes after the first of these; where it is gone by now, after the next one that is not."""
        for marker in markers[:-1]:
            try:
                return await self._fetch(marker)
            except (BadRequestError, NotFoundError) as error:
                if "marker" not in error.message.lower():
                    raise
        return await self._fetch(markers[-1])


def _markers(servers: Sequence[msgspec.Raw]) -> list[str]:
    """Return the last server's id, and those of servers twice as far from the end each time, and of the first."""
    places = [2**power for power in range(len(servers).bit_length())]
    return [read_id(servers[-place]) for place in dict.fromkeys([*places, len(servers)])]
