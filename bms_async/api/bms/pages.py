"""Reading a long list page by page, ahead of the reader."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import msgspec

from bms_async.errors import ClientClosedError
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
        ahead = deque([_PageAhead(self._fetch, 1, self._session)])
        begun = 1
        try:
            while ahead:
                page = await ahead[0].page
                ahead.popleft()
                servers = page.servers or ()
                received += len(servers)
                while len(ahead) < self._wanted_ahead(page, len(servers), received):
                    begun += 1
                    ahead.append(_PageAhead(self._fetch, begun, self._session))
                for raw in servers:
                    server = read_part("servers.list", raw, Server)
                    if server.id not in seen:
                        seen.add(server.id)
                        yield server
        finally:
            for unread in ahead:
                unread.scope.cancel()

    def _wanted_ahead(self, page: ServerPage, size: int, received: int) -> int:
        """Return how many more pages are worth asking for; where the cloud gives no count, a full page says one."""
        if size == 0:
            return 0
        if page.count is None:
            return int(size == self._page_size)
        missing = page.count - received
        return min(_PAGES_AHEAD, -(-missing // size))


class _PageAhead:
    """A page that is being fetched before the reader has come to it."""

    __slots__ = ("page", "scope")

    def __init__(self, fetch: Callable[[int], Coroutine[Any, Any, ServerPage]], number: int, session: Session) -> None:
        self.page: asyncio.Future[ServerPage] = asyncio.get_running_loop().create_future()
        self.scope = anyio.CancelScope()
        session.start(self._bring, fetch, number, name="bms_async page")

    async def _bring(self, fetch: Callable[[int], Coroutine[Any, Any, ServerPage]], number: int) -> None:
        try:
            with self.scope:
                page = await fetch(number)
                # A reader who was cancelled has cancelled the future that he waited for.
                if not self.page.done():
                    self.page.set_result(page)
        except Exception as error:  # noqa: BLE001 - it is the reader's, and raised where he waits
            self._fail(error)
        finally:
            # Also when it is the client's closing that ends this task.
            self._fail(ClientClosedError("the client was closed before the page came"))

    def _fail(self, error: Exception) -> None:
        if not self.page.done():
            self.page.set_exception(error)
            # A reader who has left will not ask.
            self.page.exception()
