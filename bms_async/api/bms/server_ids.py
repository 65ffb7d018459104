"""Listing ids, or the few fields that servers are chosen by: pages as `ServerList` reads them, decoded in part.

What it guarantees: the servers of a `ServerList` with the same filters, with the same errors for a list that is
incomplete. Ids take a fifth of the CPU, and the few fields a third, since a page is read in one go where each server of
a `ServerList` is cut out of it first.

A page that cannot be read like this, such as one with numbers for ids, is fetched again and read as usual, and so are
the pages after it: repairs and errors are those of `ServerList`.

Rejected: to repair such a page here. The call that reads it says what is wrong with it, with the cloud's request id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from bms_async._threads import run_in_thread
from bms_async.limits import Lane
from bms_async.models import ServerStatus
from bms_async.models.base import Model
from bms_async.session import Session
from bms_async.wire import Operation

from ._page_planner import PageRange
from .server_list import Countable, Page, PageReader, ServerId, ServerPage, read_server

__all__ = ["ServerIds", "ShortList", "ShortServer", "make_fetch", "read_page"]

_CHUNK = 1000
"""How many ids that are decoded already are taken between two yields to the event loop: half a millisecond."""

_LARGE = 4 * 2**20
"""Bytes from which on a page is read in a thread; a page of 1000 servers is smaller, and reading it takes 1.5 ms."""


class ShortFlavor(Model, frozen=True, kw_only=True):
    """A flavor of which nothing but its names is read."""

    id: str | None = None
    name: str | None = None


class ShortServer(ServerId, frozen=True, kw_only=True, rename={"availability_zone": "OS-EXT-AZ:availability_zone"}):
    """A server of which nothing but what servers are chosen and called by is read."""

    name: str | None = None
    status: ServerStatus | None = None
    availability_zone: str | None = None
    flavor: ShortFlavor | None = None
    tags: tuple[str, ...] = ()
    enterprise_project_id: str | None = None


S = TypeVar("S", bound=ServerId)


class ShortList(Generic[S]):
    """An async iterable of the matching servers with few of their fields, a page at a time.

    Args:
        fetch: Returns a page.
        session: Its tasks fetch the pages.
        page_size: Maximum number of servers a page.
        model: What the servers are read as.
    """

    def __init__(
        self,
        fetch: Callable[[PageRange], Coroutine[Any, Any, Page]],
        session: Session,
        *,
        page_size: int,
        model: type[S],
    ) -> None:
        self._fetch = fetch
        self._session = session
        self._page_size = page_size
        self._model = model

    async def __aiter__(self) -> AsyncGenerator[Sequence[S], None]:
        reader = PageReader(self._fetch, self._session, self._page_size)
        try:
            while reader.has_more:
                servers = await reader.next_page()
                # One by one where a server may turn out to be none: those before it are listed by then.
                chunk = _CHUNK if servers and isinstance(servers[0], ServerId) else 1
                for start in range(0, len(servers), chunk):
                    read = (read_server(part, self._model) for part in servers[start : start + chunk])
                    new = [server for server in read if reader.add(server.id)]
                    if new:
                        yield new
                    # A prefetched page is read without awaiting anything, so other tasks are let in.
                    await asyncio.sleep(0)
                reader.check_progress()
            reader.check_complete()
        finally:
            reader.cancel()


class ServerIds:
    """An async iterable of the ids of the matching servers, a page at a time.

    Args:
        servers: The servers.
    """

    def __init__(self, servers: ShortList[ServerId]) -> None:
        self._servers = servers

    async def __aiter__(self) -> AsyncIterator[Sequence[str]]:
        async with aclosing(aiter(self._servers)) as pages:
            async for page in pages:
                yield [server.id for server in page]


class _Ids(Countable, frozen=True, kw_only=True):
    servers: tuple[ServerId, ...] | Literal[""] | None


class _Short(Countable, frozen=True, kw_only=True):
    servers: tuple[ShortServer, ...] | Literal[""] | None


class _ShortPage(msgspec.Struct, frozen=True):
    servers: Sequence[ServerId]
    count: int | None
    size: int


def make_fetch(
    session: Session,
    operation: Operation[ServerPage],
    filters: Mapping[str, str | None],
    lane: Lane,
    model: type[ServerId] = ServerId,
) -> Callable[[PageRange], Coroutine[Any, Any, Page]]:
    """Return the function that fetches the pages of one listing.

    Args:
        session: Makes the calls.
        operation: The call that lists servers.
        filters: The filters of the query.
        lane: The lane in which the calls wait for the rate limiter.
        model: What the servers are read as: `ServerId` or `ShortServer`.
    """
    undecoded: Operation[bytes] = msgspec.structs.replace(operation, result=bytes)  # type: ignore[arg-type]  # same call
    is_readable = True

    async def fetch(page_range: PageRange) -> Page:
        nonlocal is_readable
        query = {**filters, "limit": page_range.size, "offset": page_range.number}
        if is_readable:
            body = await session.call(undecoded, query=query, lane=lane)
            page = read_page(body, model) if len(body) < _LARGE else await run_in_thread(read_page, body, model)
            if page is not None:
                return page
            is_readable = False
        return await session.call(operation, query=query, lane=lane)

    return fetch


def read_page(body: bytes, model: type[ServerId] = ServerId) -> Page | None:
    """Return a page of servers with few fields; None if one of them cannot be read.

    Args:
        body: The answer of the cloud.
        model: What they are read as.
    """
    try:
        page = _DECODERS[model].decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    # The count is a part of the body, which would be kept as long.
    return _ShortPage(page.servers or (), page.count, len(body))


_DECODERS: Final[Mapping[type[ServerId], msgspec.json.Decoder[_Ids] | msgspec.json.Decoder[_Short]]] = {
    ServerId: msgspec.json.Decoder(_Ids),
    ShortServer: msgspec.json.Decoder(_Short),
}
