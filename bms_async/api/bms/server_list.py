"""Reading a long list page by page, with pages prefetched.

What it guarantees: in a list whose order does not change, a server that exists all the time is listed exactly once; one
that is created or deleted meanwhile is listed once or not at all. A list that the cloud's count shows to be incomplete
ends in an error. `ServerList` states the limits.

How: `PagePlanner` decides which pages to fetch, and detects by overlaps that the list has shifted. Pages are prefetched
in the client's tasks, as many as the rate limiter has free slots for and as fit into 12 MB. A page is decoded server by
server as the reader advances, so it never blocks the event loop. Memory does not grow with the list: it holds the
prefetched pages, and the last 20,000 ids, by which duplicates are skipped.

Rejected: decoding whole pages, which blocks the loop for 10 ms and more; remembering every id, at 150 bytes for each
server of a list of any length; and prefetching more pages than the limiter has free slots, since these would queue in
front of other calls, for a reader that may stop at any time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import anyio
import msgspec

from bms_async.api._prefetch import YIELD_EVERY, Prefetch, raise_not_awaitable, read_id
from bms_async.api._recent_ids import RecentIds
from bms_async.errors import DecodeError
from bms_async.models import Model, Server
from bms_async.session import Session
from bms_async.wire import read_fragment

from ._page_planner import REFETCH_DELAYS, USUAL_CAPS, PagePlanner, PageRange

__all__ = ["MAX_PAGE_SIZE", "REFETCH_DELAYS", "USUAL_CAPS", "ServerList", "ServerPage"]

MAX_PAGE_SIZE = 1000
"""Maximum number of servers a page (API reference 4.3.2)."""

_MAX_AHEAD = 8
_MAX_SKIPPED = 20_000
"""Maximum number of consecutive duplicates, beyond the number of servers listed; any step back takes fewer."""
_MAX_BYTES_AHEAD = 12 * 2**20
"""Maximum total size of the prefetched pages: four pages of 1000 servers of 2.5 KB."""


class ServerPage(Model, frozen=True, kw_only=True, rename={"_count": "count"}):
    """One page; its servers are decoded one by one as they are read, so that no page blocks the event loop."""

    # Required: a body without servers could not be distinguished from the last page.
    servers: tuple[msgspec.Raw, ...] | Literal[""] | None
    # Raw too: an invalid count would otherwise cause the whole page to be decoded and repaired.
    _count: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def count(self) -> int | None:
        """The number of servers on all pages; None if the cloud does not say."""
        try:
            return msgspec.json.decode(self._count, type=int | None, strict=False)
        except msgspec.ValidationError:
            return None


class _FetchingPage(NamedTuple):
    page_range: PageRange
    ahead: Prefetch[ServerPage]


class ServerList:
    """An async iterable of the matching servers; each iteration requests the pages again.

    The cloud's pages are numbered, so servers that are created or deleted meanwhile shift others from one page to
    another. Therefore pages overlap by a few servers, which costs four more calls in a hundred. A page that does not
    overlap what was read shows that the list has shifted, and the list is read again from further back, which costs a
    few calls each time. In a cloud with a stable order of servers this guarantees that a server which exists all the
    time is listed exactly once, unless more than 15,000 servers before it are created or deleted between two pages, or
    the list shifts on every single page of a long one. A server that is created or deleted meanwhile is listed once or
    not at all. Pages of fewer than 20 servers do not overlap, nor do those of a cloud that ignores the requested page
    size: there a server may be missed when another one is deleted.

    The list ends where the cloud's count says so. An empty page within the count is fetched again for some seconds,
    then `DecodeError` is raised. Without a count, the page after a short one is fetched too, and an empty one twice.

    Memory does not grow with the list: the prefetched pages, and the last 20,000 ids.
    """

    def __init__(
        self, fetch: Callable[[PageRange], Coroutine[Any, Any, ServerPage]], session: Session, *, page_size: int
    ) -> None:
        self._fetch = fetch
        self._session = session
        self._page_size = page_size

    if not TYPE_CHECKING:  # type checkers report these mistakes by themselves
        __iter__ = __await__ = raise_not_awaitable

    async def __aiter__(self) -> AsyncIterator[Server]:
        planner, recent_ids = PagePlanner(self._page_size), RecentIds()
        fetching = deque([self._fetch_ahead(planner.plan())])
        read = skipped = 0
        try:
            while fetching:
                servers = await self._next_page(planner, recent_ids, fetching, read)
                for count, raw in enumerate(servers, 1):
                    server = read_fragment("servers.list", raw, Server)
                    if recent_ids.add(server.id):
                        planner.note_new()
                        read, skipped = read + 1, 0
                        yield server
                    else:
                        skipped += 1
                    if count % YIELD_EVERY == 0:
                        # A prefetched page is read without awaiting anything, so other tasks are let in.
                        await asyncio.sleep(0)
                if skipped > read + _MAX_SKIPPED:
                    raise DecodeError(
                        f"expected new servers, got the same servers page after page; {read} were read",
                        status=200,
                        operation="servers.list",
                    )
            _check_complete(planner, read)
        finally:
            _cancel_all(fetching)

    async def _next_page(
        self, planner: PagePlanner, recent_ids: RecentIds, fetching: deque[_FetchingPage], read: int
    ) -> Sequence[msgspec.Raw]:
        """Wait for the next page, prefetch what follows it, and return its servers; none if the list has shifted."""
        page_range, ahead = fetching[0]
        page = await ahead.page
        fetching.popleft()
        servers = page.servers or ()
        if planner.must_overlap(page_range, len(servers)) and not _overlaps(servers, recent_ids):
            planner.back_up()
            _cancel_all(fetching)
            fetching.append(self._fetch_ahead(planner.plan()))
            return ()
        is_new = any(read_id(raw) not in recent_ids for raw in servers)
        step = planner.accept(page_range, len(servers), page.count, is_new=is_new)
        if step.is_lost:
            raise _lost_error(page_range, planner, read)
        if not step.keep or not step.pages:
            _cancel_all(fetching)
        if step.delay:
            fetching.append(self._fetch_ahead(planner.plan(), step.delay))
        elif len(fetching) < step.pages:
            # Few at first: many readers stop early.
            target = min(step.pages, planner.steady_pages + 1, self._max_ahead(servers))
            fetching.extend(self._fetch_ahead(planner.plan()) for _ in range(target - len(fetching)))
        return servers

    def _fetch_ahead(self, page_range: PageRange, delay: float = 0.0) -> _FetchingPage:
        async def fetch() -> ServerPage:
            if delay:
                await anyio.sleep(delay)
            return await self._fetch(page_range)

        return _FetchingPage(page_range, Prefetch(self._session, fetch))

    def _max_ahead(self, servers: Sequence[msgspec.Raw]) -> int:
        """Return how many pages of this size to prefetch: at least one, and as many as have memory and a free slot.

        More would wait in the rate limiter's queue, in front of other calls, for a reader who may never need them.
        """
        size = sum(memoryview(raw).nbytes for raw in servers)
        maximum = max(1, min(_MAX_AHEAD, _MAX_BYTES_AHEAD // max(1, size)))
        free = self._session.limits["servers.list"].statistics().free
        return maximum if free is None else max(1, min(maximum, free))


def _overlaps(servers: Sequence[msgspec.Raw], recent_ids: RecentIds) -> bool:
    return any(read_id(raw) in recent_ids for raw in servers)


def _lost_error(page_range: PageRange, planner: PagePlanner, read: int) -> DecodeError:
    times = f" {planner.refetches + 1} times" if planner.refetches else ""
    return DecodeError(
        f"expected {planner.count} servers, as the cloud counts them, got {read}: page {page_range.number} of "
        f"{page_range.size} servers had nothing new{times}; list them again later",
        status=200,
        operation="servers.list",
    )


def _check_complete(planner: PagePlanner, read: int) -> None:
    if planner.has_gaps and planner.count is not None and read < planner.count:
        raise DecodeError(
            f"expected {planner.count} servers, as the cloud counts them, got {read}: pages within the list were cut "
            "short, or were not the requested ones; list them again later",
            status=200,
            operation="servers.list",
        )


def _cancel_all(fetching: deque[_FetchingPage]) -> None:
    while fetching:
        fetching.popleft().ahead.scope.cancel()
