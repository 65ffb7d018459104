"""Listing ids: the same pages as `ServerList` reads, of whose servers nothing but the id is decoded.

What it guarantees: the ids of a `ServerList` with the same filters, with the same errors for a list that is incomplete.
It takes a fifth of the CPU, since a page is read in one go where each server of a `ServerList` is cut out of it first.

A page that cannot be read like this, such as one with numbers for ids, is fetched again and read as usual, and so are
the pages after it: repairs and errors are those of `ServerList`.

Rejected: to repair a page of ids. The call that reads it says what is wrong with it, with the cloud's request id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal

import msgspec

from bms_async._threads import run_in_thread
from bms_async.limits import Lane
from bms_async.session import Session
from bms_async.wire import Operation

from ._page_planner import PageRange
from .server_list import Countable, Page, PageReader, ServerId, ServerPage, read_server

__all__ = ["ServerIds", "make_fetch", "read_ids"]

_CHUNK = 1000
"""How many ids that are decoded already are taken between two yields to the event loop: half a millisecond."""

_LARGE = 4 * 2**20
"""Bytes from which on a page is read in a thread; a page of 1000 servers is smaller, and reading it takes 1.5 ms."""


class ServerIds:
    """An async iterable of the ids of the matching servers, a page at a time."""

    def __init__(
        self, fetch: Callable[[PageRange], Coroutine[Any, Any, Page]], session: Session, *, page_size: int
    ) -> None:
        self._fetch = fetch
        self._session = session
        self._page_size = page_size

    async def __aiter__(self) -> AsyncIterator[Sequence[str]]:
        reader = PageReader(self._fetch, self._session, self._page_size)
        try:
            while reader.has_more:
                servers = await reader.next_page()
                # One by one where a server may turn out to be none: those before it are listed by then.
                chunk = _CHUNK if servers and isinstance(servers[0], ServerId) else 1
                for start in range(0, len(servers), chunk):
                    ids = (read_server(part, ServerId).id for part in servers[start : start + chunk])
                    new = [server_id for server_id in ids if reader.add(server_id)]
                    if new:
                        yield new
                    # A prefetched page is read without awaiting anything, so other tasks are let in.
                    await asyncio.sleep(0)
                reader.check_progress()
            reader.check_complete()
        finally:
            reader.cancel()


class _Ids(Countable, frozen=True, kw_only=True):
    servers: tuple[ServerId, ...] | Literal[""] | None


class _IdPage(msgspec.Struct, frozen=True):
    servers: Sequence[ServerId]
    count: int | None
    size: int


def make_fetch(
    session: Session, operation: Operation[ServerPage], filters: Mapping[str, str | None], lane: Lane
) -> Callable[[PageRange], Coroutine[Any, Any, Page]]:
    """Return the function that fetches the pages of one listing.

    Args:
        session: Makes the calls.
        operation: The call that lists servers.
        filters: The filters of the query.
        lane: The lane in which the calls wait for the rate limiter.
    """
    undecoded: Operation[bytes] = msgspec.structs.replace(operation, result=bytes)  # type: ignore[arg-type]  # same call
    is_readable = True

    async def fetch(page_range: PageRange) -> Page:
        nonlocal is_readable
        query = {**filters, "limit": page_range.size, "offset": page_range.number}
        if is_readable:
            body = await session.call(undecoded, query=query, lane=lane)
            page = read_ids(body) if len(body) < _LARGE else await run_in_thread(read_ids, body)
            if page is not None:
                return page
            is_readable = False
        return await session.call(operation, query=query, lane=lane)

    return fetch


def read_ids(body: bytes) -> Page | None:
    """Return a page of ids; None if it has anything but servers with an id."""
    try:
        page = _DECODER.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    # The count is a part of the body, which would be kept as long.
    return _IdPage(page.servers or (), page.count, len(body))


_DECODER = msgspec.json.Decoder(_Ids)
