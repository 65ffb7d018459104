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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, cast

import anyio
import msgspec

from bms_async.api._prefetch import YIELD_EVERY, Prefetch, raise_not_awaitable, read_id
from bms_async.api._recent_ids import RecentIds
from bms_async.errors import DecodeError
from bms_async.models import Model, Server
from bms_async.session import Session
from bms_async.wire import read_fragment

from ._page_planner import REFETCH_DELAYS, USUAL_CAPS, PagePlanner, PageRange

__all__ = [
    "MAX_PAGE_SIZE",
    "REFETCH_DELAYS",
    "USUAL_CAPS",
    "Countable",
    "Page",
    "PageReader",
    "ServerId",
    "ServerList",
    "ServerPage",
    "read_server",
]

MAX_PAGE_SIZE = 1000
"""Maximum number of servers a page (API reference 4.3.2)."""

_MAX_AHEAD = 8
_MAX_SKIPPED = 20_000
"""Maximum number of consecutive duplicates, beyond the number of servers listed; any step back takes fewer."""
_MAX_BYTES_AHEAD = 12 * 2**20
"""Maximum total size of the prefetched pages: four pages of 1000 servers of 2.5 KB."""


class ServerId(Model, frozen=True, kw_only=True):
    """A server of which nothing but the id is read."""

    id: str


class Countable(Model, frozen=True, kw_only=True, rename={"_count": "count"}):
    """A page with the count of all servers."""

    # Raw: an invalid count would otherwise cause the whole page to be decoded and repaired.
    _count: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def count(self) -> int | None:
        """The number of servers on all pages; None if the cloud does not say."""
        try:
            return msgspec.json.decode(self._count, type=int | None, strict=False)
        except msgspec.ValidationError:
            return None


class ServerPage(Countable, frozen=True, kw_only=True):
    """One page; its servers are decoded one by one as they are read, so that no page blocks the event loop."""

    # Required: a body without servers could not be distinguished from the last page.
    servers: tuple[msgspec.Raw, ...] | Literal[""] | None

    @property
    def size(self) -> int:
        """The bytes of its servers."""
        return sum(memoryview(raw).nbytes for raw in self.servers or ())


Part: TypeAlias = msgspec.Raw | ServerId
"""A server on a page: a part of the body, or its decoded id."""

M = TypeVar("M", bound=Model)


class Page(Protocol):
    """A page whose servers are ids, or parts of a body that are decoded when they are read."""

    @property
    def servers(self) -> Sequence[Part] | Literal[""] | None:
        """Its servers."""

    @property
    def count(self) -> int | None:
        """The number of servers on all pages; None if the cloud does not say."""

    @property
    def size(self) -> int:
        """The bytes of its servers."""


class _FetchingPage(NamedTuple):
    page_range: PageRange
    ahead: Prefetch[Page]


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
        self, fetch: Callable[[PageRange], Coroutine[Any, Any, Page]], session: Session, *, page_size: int
    ) -> None:
        self._fetch = fetch
        self._session = session
        self._page_size = page_size

    if not TYPE_CHECKING:  # type checkers report these mistakes by themselves
        __iter__ = __await__ = raise_not_awaitable

    async def __aiter__(self) -> AsyncIterator[Server]:
        reader = PageReader(self._fetch, self._session, self._page_size)
        try:
            while reader.has_more:
                for count, part in enumerate(await reader.next_page(), 1):
                    server = read_server(part, Server)
                    if reader.add(server.id):
                        yield server
                    if count % YIELD_EVERY == 0:
                        # A prefetched page is read without awaiting anything, so other tasks are let in.
                        await asyncio.sleep(0)
                reader.check_progress()
            reader.check_complete()
        finally:
            reader.cancel()


class PageReader:
    """Reads the pages of one iteration over a list, each new server once.

    Args:
        fetch: Returns a page.
        session: Its tasks fetch the pages.
        page_size: Maximum number of servers a page.
    """

    def __init__(
        self, fetch: Callable[[PageRange], Coroutine[Any, Any, Page]], session: Session, page_size: int
    ) -> None:
        self._fetch = fetch
        self._session = session
        self._planner = PagePlanner(page_size)
        self._recent_ids = RecentIds()
        self._read = self._skipped = 0
        self._fetching = deque([self._fetch_ahead(self._planner.plan())])

    @property
    def has_more(self) -> bool:
        """Whether there is another page."""
        return bool(self._fetching)

    async def next_page(self) -> Sequence[Part]:
        """Wait for the next page, prefetch what follows it, and return its servers; none if the list has shifted."""
        planner, fetching = self._planner, self._fetching
        page_range, ahead = fetching[0]
        page = await ahead.page
        fetching.popleft()
        servers = page.servers or ()
        if planner.must_overlap(page_range, len(servers)) and not any(self._is_known(part) for part in servers):
            planner.back_up()
            self.cancel()
            fetching.append(self._fetch_ahead(planner.plan()))
            return ()
        is_new = not all(self._is_known(part) for part in servers)
        step = planner.accept(page_range, len(servers), page.count, is_new=is_new)
        if step.is_lost:
            raise _lost_error(page_range, planner, self._read)
        if not step.keep or not step.pages:
            self.cancel()
        if step.delay:
            fetching.append(self._fetch_ahead(planner.plan(), step.delay))
        elif len(fetching) < step.pages:
            # Few at first: many readers stop early.
            target = min(step.pages, planner.steady_pages + 1, self._max_ahead(page.size))
            fetching.extend(self._fetch_ahead(planner.plan()) for _ in range(target - len(fetching)))
        return servers

    def add(self, server_id: str) -> bool:
        """Remember a server that was read; return whether it is new."""
        if not self._recent_ids.add(server_id):
            self._skipped += 1
            return False
        self._planner.note_new()
        self._read, self._skipped = self._read + 1, 0
        return True

    def check_progress(self) -> None:
        """Raise if the list has come to nothing new for too long, after a page was read.

        Raises:
            DecodeError: It has.
        """
        if self._skipped > self._read + _MAX_SKIPPED:
            raise DecodeError(
                f"expected new servers, got the same servers page after page; {self._read} were read",
                status=200,
                operation="servers.list",
            )

    def check_complete(self) -> None:
        """Raise if servers are missing, after the last page was read.

        Raises:
            DecodeError: Fewer were read than the cloud counts.
        """
        planner = self._planner
        if planner.has_gaps and planner.count is not None and self._read < planner.count:
            raise DecodeError(
                f"expected {planner.count} servers, as the cloud counts them, got {self._read}: pages within the list "
                "were cut short, or were not the requested ones; list them again later",
                status=200,
                operation="servers.list",
            )

    def cancel(self) -> None:
        """Give up the pages that are being fetched."""
        while self._fetching:
            self._fetching.popleft().ahead.scope.cancel()

    def _is_known(self, part: Part) -> bool:
        return (part.id if isinstance(part, ServerId) else read_id(part)) in self._recent_ids

    def _fetch_ahead(self, page_range: PageRange, delay: float = 0.0) -> _FetchingPage:
        async def fetch() -> Page:
            if delay:
                await anyio.sleep(delay)
            return await self._fetch(page_range)

        return _FetchingPage(page_range, Prefetch(self._session, fetch))

    def _max_ahead(self, size: int) -> int:
        """Return how many pages of this size to prefetch: at least one, and as many as have memory and a free slot.

        More would wait in the rate limiter's queue, in front of other calls, for a reader who may never need them.
        """
        maximum = max(1, min(_MAX_AHEAD, _MAX_BYTES_AHEAD // max(1, size)))
        free = self._session.limits["servers.list"].statistics().free
        return maximum if free is None else max(1, min(maximum, free))


def read_server(part: Part, model: type[M]) -> M:
    """Decode a server of a page.

    Args:
        part: The server.
        model: What to read it as.

    Raises:
        DecodeError: It cannot be read.
    """
    return read_fragment("servers.list", part, model) if isinstance(part, msgspec.Raw) else cast("M", part)


def _lost_error(page_range: PageRange, planner: PagePlanner, read: int) -> DecodeError:
    times = f" {planner.refetches + 1} times" if planner.refetches else ""
    return DecodeError(
        f"expected {planner.count} servers, as the cloud counts them, got {read}: page {page_range.number} of "
        f"{page_range.size} servers had nothing new{times}; list them again later",
        status=200,
        operation="servers.list",
    )
