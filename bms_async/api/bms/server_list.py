"""Reading a long list page by page, ahead of the reader."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import anyio
import msgspec

from bms_async.api._prefetch import TURN, PageAhead, read_id, refuse_to_be_read_at_once
from bms_async.api._recent_ids import Remembered
from bms_async.errors import DecodeError
from bms_async.models import Model, Server
from bms_async.session import Session
from bms_async.wire import read_fragment

from ._page_planner import ASK_AGAIN_DELAYS, USUAL_CAPS, Course, Span

__all__ = ["ASK_AGAIN_DELAYS", "MAX_PAGE_SIZE", "USUAL_CAPS", "ServerList", "ServerPage"]

MAX_PAGE_SIZE = 1000
"""How many servers a page may hold (API reference 4.3.2)."""

_MOST_AHEAD = 8
_MOST_PASSED_OVER = 20_000
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


class _Coming(NamedTuple):
    span: Span
    ahead: PageAhead[ServerPage]


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
        self, fetch: Callable[[Span], Coroutine[Any, Any, ServerPage]], session: Session, *, page_size: int
    ) -> None:
        self._fetch = fetch
        self._session = session
        self._page_size = page_size

    if not TYPE_CHECKING:  # a type checker finds these mistakes by itself
        __iter__ = __await__ = refuse_to_be_read_at_once

    async def __aiter__(self) -> AsyncIterator[Server]:
        course, remembered = Course(self._page_size), Remembered()
        coming = deque([self._begin(course.plan())])
        fresh = passed_over = 0
        try:
            while coming:
                span, ahead = coming[0]
                page = await ahead.page
                coming.popleft()
                servers = page.servers or ()
                if course.must_join(span, len(servers)) and not _joins(servers, remembered):
                    course.step_back()
                    _drop(coming)
                    coming.append(self._begin(course.plan()))
                    continue
                is_new = any(read_id(raw) not in remembered for raw in servers)
                step = course.take(span, len(servers), page.count, is_new=is_new)
                if step.is_lost:
                    raise _lost(span, course, fresh)
                if not step.keep or not step.pages:
                    _drop(coming)
                if step.delay:
                    coming.append(self._begin(course.plan(), step.delay))
                elif len(coming) < step.pages:
                    # Few at first: many readers want no more than the beginning.
                    most = min(step.pages, course.calm + 1, self._most_ahead(servers))
                    coming.extend(self._begin(course.plan()) for _ in range(most - len(coming)))
                for number, raw in enumerate(servers, 1):
                    server = read_fragment("servers.list", raw, Server)
                    if remembered.is_new(server.id):
                        course.advance()
                        fresh, passed_over = fresh + 1, 0
                        yield server
                    else:
                        passed_over += 1
                    if number % TURN == 0:
                        # Pages that have come are read without a wait, and others must get their turn.
                        await asyncio.sleep(0)
                if passed_over > fresh + _MOST_PASSED_OVER:
                    raise DecodeError(
                        "page after page brings the same servers, and says that there are more",
                        status=200,
                        operation="servers.list",
                    )
            _refuse_gaps(course, fresh)
        finally:
            _drop(coming)

    def _begin(self, span: Span, delay: float = 0.0) -> _Coming:
        async def fetch() -> ServerPage:
            if delay:
                await anyio.sleep(delay)
            return await self._fetch(span)

        return _Coming(span, PageAhead(self._session, fetch))

    def _most_ahead(self, servers: Sequence[msgspec.Raw]) -> int:
        """Return how many pages like this one may be under way: as many as are light enough and as have a slot free.

        One always may. More would wait in the limit's line for a reader who may never come to them, before the calls
        of others.
        """
        weight = sum(memoryview(raw).nbytes for raw in servers)
        most = max(1, min(_MOST_AHEAD, _BYTES_AHEAD // max(1, weight)))
        free = self._session.limits["servers.list"].statistics().free
        return most if free is None else max(1, min(most, free))


def _joins(servers: Sequence[msgspec.Raw], remembered: Remembered) -> bool:
    return any(read_id(raw) in remembered for raw in servers)


def _lost(span: Span, course: Course, read: int) -> DecodeError:
    times = f" {course.asked_again + 1} times" if course.asked_again else ""
    return DecodeError(
        f"expected {course.count} servers, as the cloud counts them, got {read}: page {span.number} of {span.size} "
        f"servers brought nothing new{times}; list them again later",
        status=200,
        operation="servers.list",
    )


def _refuse_gaps(course: Course, read: int) -> None:
    if course.has_gaps and course.count is not None and read < course.count:
        raise DecodeError(
            f"expected {course.count} servers, as the cloud counts them, got {read}: pages within the list were cut "
            "short, or were not those that were asked for; list them again later",
            status=200,
            operation="servers.list",
        )


def _drop(coming: deque[_Coming]) -> None:
    while coming:
        coming.popleft().ahead.scope.cancel()
