"""Reading a long native list page by page, with one page prefetched.

What it guarantees: in a list whose order does not change, a server that exists all the time is listed exactly once,
or the list ends in an error that says how many servers were read.

How: pages go by marker, each beginning after the last server of the page before. Where the marker's server has been
deleted, earlier servers are tried as markers, and servers that were listed before are skipped. A page that is empty
although another one links to it is fetched again, and so is one that ignores the marker.

Rejected: ending at the first short page, for a cloud may have a page size of its own. Where pages have no links, the
list ends at an empty page; after a full page, that one is fetched a second time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import anyio
import msgspec

from bms_async.api._prefetch import YIELD_EVERY, Prefetch, raise_not_awaitable, read_id
from bms_async.api._recent_ids import MAX_REMEMBERED, RecentIds
from bms_async.errors import BadRequestError, DecodeError, NotFoundError
from bms_async.models import Link, Model
from bms_async.session import Session
from bms_async.wire import read_fragment

ServerT = TypeVar("ServerT")

MAX_PAGE_SIZE = 1000
"""Maximum number of servers in a page of the compute service."""

_MAX_EARLIER_MARKERS = 16
"""How many earlier pages' last servers are tried as markers, after those of the last page."""

_REFETCH_DELAYS = (1.0, 2.0, 4.0)
"""Seconds before an empty page is fetched again although the cloud says that there is more."""


class NativePage(Model, frozen=True, kw_only=True, rename={"links": "servers_links"}):
    """One page; its servers are decoded one by one as they are read, so that no page blocks the event loop.

    Attributes:
        links: Links to other pages; None in a cloud that has none, and on the last page of others.
    """

    # Required: a body without servers could not be distinguished from the last page.
    servers: tuple[msgspec.Raw, ...] | Literal[""] | None
    links: tuple[Link, ...] | None = None

    @property
    def has_next(self) -> bool:
        """Whether the page links to a next page."""
        return any(link.rel == "next" for link in self.links or ())


class _MarkerPlanner:
    """Decides after each page whether there is a next one, and by which marker to request it.

    Attributes:
        markers: The servers after which the next page begins, to be tried in this order; the first may be deleted.
        refetches: How often in a row the same page has been fetched again.
        is_lost: Whether the list cannot go on although the cloud says that there is more.
    """

    __slots__ = (
        "_earlier_markers",
        "_has_links",
        "_max_length",
        "_new_pages",
        "_page_size",
        "_says_more",
        "_stale_pages",
        "is_lost",
        "markers",
        "refetches",
    )

    def __init__(self, page_size: int | None) -> None:
        self.markers: Sequence[str] = ()
        self.refetches = 0
        self.is_lost = False
        self._page_size = page_size
        self._earlier_markers: deque[str] = deque(maxlen=_MAX_EARLIER_MARKERS)
        self._has_links = False
        self._says_more = True
        self._max_length = self._new_pages = self._stale_pages = 0

    @property
    def delay(self) -> float:
        """Seconds to wait before the next page is requested."""
        return _REFETCH_DELAYS[self.refetches - 1] if self.refetches else 0.0

    def accept(self, page: NativePage, recent_ids: RecentIds) -> bool:
        """Record a page; return whether there is another one to request, after `markers`."""
        servers = page.servers or ()
        self._has_links = self._has_links or page.links is not None
        if self._page_size is None:
            return False
        if not servers:
            return self._accept_empty(page)
        is_full = len(servers) >= self._page_size
        last = read_id(servers[-1])
        if last in recent_ids and self.markers and any(read_id(raw) == self.markers[0] for raw in servers):
            # A page after a marker cannot contain it: the cloud has ignored the marker.
            return self._refetch(says_more=is_full or page.has_next)
        self.refetches = 0
        is_new = any(read_id(raw) not in recent_ids for raw in servers)
        self._new_pages, self._stale_pages = self._new_pages + is_new, 0 if is_new else self._stale_pages + 1
        if not is_full and not page.has_next:
            if self._has_links or not is_new:
                return False
            # Where no page links to the next one, a page that is shorter than those before may be the last.
            self._says_more = 0 < self._max_length <= len(servers)
        else:
            self._says_more = True
        self._max_length = max(self._max_length, len(servers))
        if self._stale_pages > self._new_pages:
            # A marker that has moved to the front leads through the whole list again, and no further.
            self.is_lost = True
            return False
        return self._set_markers(servers)

    def _accept_empty(self, page: NativePage) -> bool:
        if page.has_next:
            return self._refetch(says_more=True)
        if page.links is not None or not self._says_more or self.refetches:
            return False
        return self._refetch(says_more=False)

    def _refetch(self, *, says_more: bool) -> bool:
        if self.refetches == len(_REFETCH_DELAYS) or not (says_more or self._says_more):
            self.is_lost = says_more or self._says_more
            return False
        self.refetches += 1
        return True

    def _set_markers(self, servers: Sequence[msgspec.Raw]) -> bool:
        markers = [marker for marker in (*_markers(servers), *reversed(self._earlier_markers)) if marker]
        if markers:
            self._earlier_markers.append(markers[0])
            self.markers = markers
        # Without any, no server has an id, which is an error as soon as one is decoded.
        return bool(markers)


class NativeServerList(Generic[ServerT]):
    """An async iterable of the matching servers; each iteration requests the pages again.

    Pages go by marker: each begins after the last server of the page before, so servers that are created or deleted
    meanwhile shift nothing. If the marker's server itself has been deleted, the page after an earlier server is
    fetched, and servers that were listed before are skipped. So a server that exists all the time is listed exactly
    once, unless all servers tried as markers have been deleted, which is an error. A server that is created or deleted
    meanwhile is listed once or not at all. In a list sorted by a changing key, such as ``updated_at``, a server is
    listed at most once, and is missed if it moves to a place that was read before.

    Memory does not grow with the list, unless it is sorted by a changing key.

    Args:
        fetch: Returns the page after a marker; the first page for None.
        session: Runs the prefetching tasks.
        operation: The name of the call, for errors.
        into: The type that each server is decoded into.
        page_size: Servers a page; None if there is only one page.
        keep: Returns whether to list a server; None if that must be found out.
        find_out: Finds it out.
        show: Returns what is listed of a server.
        on_end: Called at the end of the list with how many servers were read, and how many of them were listed.
        is_unstable_order: Whether servers may change their place in the list.
    """

    def __init__(
        self,
        fetch: Callable[[str | None], Coroutine[Any, Any, NativePage]],
        session: Session,
        *,
        operation: str,
        into: type[Any],
        page_size: int | None,
        keep: Callable[[Any], bool | None],
        find_out: Callable[[Any], Coroutine[Any, Any, bool]],
        show: Callable[[Any], ServerT],
        on_end: Callable[[int, int], None],
        is_unstable_order: bool,
    ) -> None:
        self._fetch = fetch
        self._session = session
        self._operation = operation
        self._into: type[Any] = into
        self._page_size = page_size
        self._keep: Callable[[Any], bool | None] = keep
        self._find_out: Callable[[Any], Coroutine[Any, Any, bool]] = find_out
        self._show: Callable[[Any], ServerT] = show
        self._on_end: Callable[[int, int], None] = on_end
        self._is_unstable_order = is_unstable_order

    if not TYPE_CHECKING:  # type checkers report these mistakes by themselves
        __iter__ = __await__ = raise_not_awaitable

    async def __aiter__(self) -> AsyncIterator[ServerT]:
        recent_ids = RecentIds(None if self._is_unstable_order else MAX_REMEMBERED)
        planner = _MarkerPlanner(self._page_size)
        read = listed = 0
        ahead: Prefetch[NativePage] | None = Prefetch(self._session, lambda: self._fetch(None))
        try:
            while ahead is not None:
                page = await ahead.page
                ahead = self._prefetch_next(planner) if planner.accept(page, recent_ids) else None
                for count, raw in enumerate(page.servers or (), 1):
                    server = read_fragment(self._operation, raw, self._into)
                    if recent_ids.add(server.id):
                        read += 1
                        is_kept = self._keep(server)
                        if is_kept is None:
                            is_kept = await self._find_out(server)
                        if is_kept:
                            listed += 1
                            yield self._show(server)
                    if count % YIELD_EVERY == 0:
                        # A prefetched page is read without awaiting anything, so other tasks are let in.
                        await asyncio.sleep(0)
                if planner.is_lost:
                    raise self._lost_error(page, planner, read)
            self._on_end(read, listed)
        finally:
            if ahead is not None:
                ahead.scope.cancel()

    def _prefetch_next(self, planner: _MarkerPlanner) -> Prefetch[NativePage]:
        markers, delay = planner.markers, planner.delay

        async def fetch() -> NativePage:
            if delay:
                await anyio.sleep(delay)
            return await self._fetch_after(markers) if markers else await self._fetch(None)

        return Prefetch(self._session, fetch)

    def _lost_error(self, page: NativePage, planner: _MarkerPlanner, read: int) -> DecodeError:
        after = f"after {planner.markers[0]}" if planner.markers else "on the first page"
        got = "only servers that were listed before" if page.servers else "none"
        times = f" {planner.refetches + 1} times" if planner.refetches else ""
        return DecodeError(
            f"expected more servers {after}, as the cloud announces, got {got}{times}; {read} were read; "
            "list them again later",
            status=200,
            operation=self._operation,
        )

    async def _fetch_after(self, markers: Sequence[str]) -> NativePage:
        """Return the page after the first of these servers that still exists."""
        for marker in markers[:-1]:
            try:
                return await self._fetch(marker)
            except (BadRequestError, NotFoundError) as error:
                if not error.says("marker"):
                    raise
        return await self._fetch(markers[-1])


def _markers(servers: Sequence[msgspec.Raw]) -> list[str]:
    """Return the ids of the last server, of servers whose distance from the end doubles, and of the first server."""
    distances = [2**power for power in range(len(servers).bit_length())]
    return [read_id(servers[-distance]) for distance in dict.fromkeys([*distances, len(servers)])]
