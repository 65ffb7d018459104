"""Reading a long list page by page, ahead of the reader."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec

from bms_async.api._ahead import PageAhead
from bms_async.models import Model, Server
from bms_async.session import Session
from bms_async.wire import read_part

LONGEST_PAGE = 1000
"""How many servers a page may hold (API reference 4.3.2)."""

_PAGES_AHEAD = 3
"""How many pages are held that the reader has not come to: at 2.5 KB a server less than 10 MB."""


class ServerPage(Model, frozen=True, kw_only=True):
    """One page; its servers are decoded when the reader comes to them, so that no page holds up the event loop.

    Attributes:
        count: How many servers match on all pages.
    """

    servers: tuple[msgspec.Raw, ...] | None = None
    count: int | None = None


class ServerList:
    """The servers that match, to be iterated over; each iteration asks anew.

    A server that moves to another page because others appeared or vanished meanwhile comes once.
    """

    def __init__(
        self, fetch: Callable[[int], Coroutine[Any, Any, ServerPage]], session: Session, *, page_size: int
    ) -> None:
        self._fetch = fetch
        self._session = session
        self._page_size = page_size

    async def __aiter__(self) -> AsyncIterator[Server]:
        seen: set[str] = set()
        received = 0
        ahead = deque([self._begin(1)])
        begun = 1
        try:
            while ahead:
                page = await ahead[0].page
                ahead.popleft()
                servers = page.servers or ()
                received += len(servers)
                while len(ahead) < self._wanted_ahead(page, len(servers), received):
                    begun += 1
                    ahead.append(self._begin(begun))
                for raw in servers:
                    server = read_part("servers.list", raw, Server)
                    if server.id not in seen:
                        seen.add(server.id)
                        yield server
        finally:
            for unread in ahead:
                unread.scope.cancel()

    def _begin(self, number: int) -> PageAhead[ServerPage]:
        return PageAhead(self._session, lambda: self._fetch(number))

    def _wanted_ahead(self, page: ServerPage, size: int, received: int) -> int:
        """Return how many more pages are worth asking for; where the cloud gives no count, a full page says one."""
        if size == 0:
            return 0
        if page.count is None:
            return int(size == self._page_size)
        missing = page.count - received
        return min(_PAGES_AHEAD, -(-missing // size))
