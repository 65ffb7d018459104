"""Reading a long list page by page, ahead of the reader."""

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

from ._page_planner import ASK_AGAIN_DELAYS, USUAL_CAPS, PagePlanner, PageRange

__all__ = ["ASK_AGAIN_DELAYS", "MAX_PAGE_SIZE", "USUAL_CAPS", "ServerList", "ServerPage"]

MAX_PAGE_SIZE = 1000
"""How many servers a page may hold (API reference 4.3.2)."""

_MAX_AHEAD = 8
_MAX_PASSED_OVER = 20_000
"""Servers in a row that were read before, beyond as many as were new; going back in a list that moves takes less."""
_BYTES_AHEAD = 12 * 2**20
"""What the pages may weigh together that the reader has not come to: four of 1000 servers of 2.5 KB."""


class ServerPage(Model, frozen=True, kw_only=True, rename={"_count": "count"}):
    """One page; its servers are decoded when the reader comes to them, so that no page holds up the event loop."""

    # An answer without them is no page: nobody could tell it from the last one.
    servers: tuple[msgspec.Raw, ...] | Literal[""] | None
    # Raw too: for a count that is no number the whole page would be taken apart to mend it.
    _count: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def count(self) -> int | None:
        """How many servers match on all pages; None where the cloud does not tell."""
        try:
            return msgspec.json.decode(self._count, type=int | None, strict=False)
        except msgspec.ValidationError:
            return None


class _FetchingPage(NamedTuple):
    page_range: PageRange
    ahead: Prefetch[ServerPage]


class ServerList:
    """The servers that match, to be iterated over; each iteration asks anew.

    The cloud's pages go by number, so what appears or vanishes while they are read moves servers from one page to
    another. Pages overlap by a few servers, which costs four more calls in a hundred, and where one does not join on to
    what was read, the list is read again from further back, which costs some calls more each time. In a cloud that
    keeps its servers in one order this guarantees that a server which is there all the time comes exactly once, unless
    more than 15,000 before it appear or vanish between two pages, or the list moves so on every single page of a long
    one. What appears or vanishes meanwhile comes once or not at all. Pages of less than 20 servers do not overlap, and
    neither do those of a cloud that has a page size of its own whatever it is asked for: there a server can be missed
    when another one vanishes.

    The list ends where the cloud's count says so. A page that brings nothing although the count says that there are
    more is asked for again for some seconds, and then raises `DecodeError`. A cloud that gives no count is asked for
    the page behind a short one, and twice for one that is empty.

    The memory that this takes does not grow with the list: the pages ahead, and the last 20,000 ids.
    """

    def __init__(
        self, fetch: Callable[[PageRange], Coroutine[Any, Any, ServerPage]], session: Session, *, page_size: int
    ) -> None:
        self._fetch = fetch
        self._session = session
        self._page_size = page_size

    if not TYPE_CHECKING:  # a type checker finds these mistakes by itself
        __iter__ = __await__ = raise_not_awaitable

    async def __aiter__(self) -> AsyncIterator[Server]:
        planner, recent_ids = PagePlanner(self._page_size), RecentIds()
        fetching = deque([self._begin(planner.plan())])
        fresh = passed_over = 0
        try:
            while fetching:
                page_range, ahead = fetching[0]
                page = await ahead.page
                fetching.popleft()
                servers = page.servers or ()
                if planner.must_overlap(page_range, len(servers)) and not _overlaps(servers, recent_ids):
                    planner.back_up()
                    _cancel_all(fetching)
                    fetching.append(self._begin(planner.plan()))
                    continue
                is_new = any(read_id(raw) not in recent_ids for raw in servers)
                step = planner.accept(page_range, len(servers), page.count, is_new=is_new)
                if step.is_lost:
                    raise _lost(page_range, planner, fresh)
                if not step.keep or not step.pages:
                    _cancel_all(fetching)
                if step.delay:
                    fetching.append(self._begin(planner.plan(), step.delay))
                elif len(fetching) < step.pages:
                    # Few at first: many readers want no more than the beginning.
                    most = min(step.pages, planner.steady_pages + 1, self._max_ahead(servers))
                    fetching.extend(self._begin(planner.plan()) for _ in range(most - len(fetching)))
                for number, raw in enumerate(servers, 1):
                    server = read_fragment("servers.list", raw, Server)
                    if recent_ids.add(server.id):
                        planner.note_new()
                        fresh, passed_over = fresh + 1, 0
                        yield server
                    else:
                        passed_over += 1
                    if number % YIELD_EVERY == 0:
                        # Pages that have come are read without a wait, and others must get their turn.
                        await asyncio.sleep(0)
                if passed_over > fresh + _MAX_PASSED_OVER:
                    raise DecodeError(
                        "page after page brings the same servers, and says that there are more",
                        status=200,
                        operation="servers.list",
                    )
            _refuse_gaps(planner, fresh)
        finally:
            _cancel_all(fetching)

    def _begin(self, page_range: PageRange, delay: float = 0.0) -> _FetchingPage:
        async def fetch() -> ServerPage:
            if delay:
                await anyio.sleep(delay)
            return await self._fetch(page_range)

        return _FetchingPage(page_range, Prefetch(self._session, fetch))

    def _max_ahead(self, servers: Sequence[msgspec.Raw]) -> int:
        """Return how many pages like this one may be under way: as many as are light enough and as have a slot free.

        One always may. More would wait in the limit's line for a reader who may never come to them, before the calls
        of others.
        """
        weight = sum(memoryview(raw).nbytes for raw in servers)
        most = max(1, min(_MAX_AHEAD, _BYTES_AHEAD // max(1, weight)))
        free = self._session.limits["servers.list"].statistics().free
        return most if free is None else max(1, min(most, free))


def _overlaps(servers: Sequence[msgspec.Raw], recent_ids: RecentIds) -> bool:
    return any(read_id(raw) in recent_ids for raw in servers)


def _lost(page_range: PageRange, planner: PagePlanner, read: int) -> DecodeError:
    times = f" {planner.asked_again + 1} times" if planner.asked_again else ""
    return DecodeError(
        f"expected {planner.count} servers, as the cloud counts them, got {read}: page {page_range.number} of "
        f"{page_range.size} servers brought nothing new{times}; list them again later",
        status=200,
        operation="servers.list",
    )


def _refuse_gaps(planner: PagePlanner, read: int) -> None:
    if planner.has_gaps and planner.count is not None and read < planner.count:
        raise DecodeError(
            f"expected {planner.count} servers, as the cloud counts them, got {read}: pages within the list were cut "
            "short, or were not those that were asked for; list them again later",
            status=200,
            operation="servers.list",
        )


def _cancel_all(fetching: deque[_FetchingPage]) -> None:
    while fetching:
        fetching.popleft().ahead.scope.cancel()
