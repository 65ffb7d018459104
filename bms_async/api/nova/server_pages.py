"""Reading a long native list page by page, one page ahead of the reader."""

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
from bms_async.models import BriefServer, Link, Model, Server
from bms_async.session import Session
from bms_async.wire import read_fragment

ServerT = TypeVar("ServerT", Server, BriefServer)

MAX_PAGE_SIZE = 1000
"""How many servers a page may hold: what the compute service gives at most."""

_MAX_ENDS = 16
"""How many earlier pages' last servers are tried as markers, after those of the last page."""


_ASK_AGAIN_DELAYS = (1.0, 2.0, 4.0)
"""Seconds before a page is asked for again that brings nothing although the cloud says that there is more."""


class NativePage(Model, frozen=True, kw_only=True, rename={"links": "servers_links"}):
    """One page; its servers are decoded when the reader comes to them, so that no page holds up the event loop.

    Attributes:
        links: Where the next page is; None in a cloud that does not say, and on the last page of those that do.
    """

    # An answer without them is no page: nobody could tell it from the last one.
    servers: tuple[msgspec.Raw, ...] | Literal[""] | None
    links: tuple[Link, ...] | None = None

    @property
    def has_next(self) -> bool:
        """Whether it links to a next page."""
        return any(link.rel == "next" for link in self.links or ())


class _LinkPlanner:
    """The way through a list: what each page says of the next one.

    Attributes:
        markers: After which server the last page was asked for; several, where the first may be gone.
        asked_again: How often in a row that page was asked for again.
        is_lost: Whether the list ends here although the cloud says that there are more.
    """

    __slots__ = (
        "_ends",
        "_has_links",
        "_is_stated",
        "_longest",
        "_page_size",
        "_stale",
        "_useful",
        "asked_again",
        "is_lost",
        "markers",
    )

    def __init__(self, page_size: int | None) -> None:
        self.markers: Sequence[str] = ()
        self.asked_again = 0
        self.is_lost = False
        self._page_size = page_size
        self._ends: deque[str] = deque(maxlen=_MAX_ENDS)
        self._has_links = False
        self._is_stated = True
        self._longest = self._useful = self._stale = 0

    @property
    def delay(self) -> float:
        """How many seconds to wait before the next page is asked for."""
        return _ASK_AGAIN_DELAYS[self.asked_again - 1] if self.asked_again else 0.0

    def accept(self, page: NativePage, recent_ids: RecentIds) -> bool:
        """Note a page that came; return whether there is another one to ask for, after `markers`."""
        servers = page.servers or ()
        self._has_links = self._has_links or page.links is not None
        if self._page_size is None:
            return False
        if not servers:
            return self._take_empty(page)
        is_full = len(servers) >= self._page_size
        last = read_id(servers[-1])
        if last in recent_ids and self.markers and any(read_id(raw) == self.markers[0] for raw in servers):
            # What comes after a server does not hold it: the marker was dropped on the way.
            return self._ask_again(is_stated=is_full or page.has_next)
        self.asked_again = 0
        is_new = any(read_id(raw) not in recent_ids for raw in servers)
        self._useful, self._stale = self._useful + is_new, 0 if is_new else self._stale + 1
        if not is_full and not page.has_next:
            if self._has_links or not is_new:
                return False
            # Where no page links to the next, a short one may be any: one is the last that is shorter than others.
            self._is_stated = 0 < self._longest <= len(servers)
        else:
            self._is_stated = True
        self._longest = max(self._longest, len(servers))
        if self._stale > self._useful:
            # A marker that has moved to the front leads through all that was read once more, and no further.
            self.is_lost = True
            return False
        return self._go_on(servers)

    def _take_empty(self, page: NativePage) -> bool:
        if page.has_next:
            return self._ask_again(is_stated=True)
        if page.links is not None or not self._is_stated or self.asked_again:
            return False
        return self._ask_again(is_stated=False)

    def _ask_again(self, *, is_stated: bool) -> bool:
        if self.asked_again == len(_ASK_AGAIN_DELAYS) or not (is_stated or self._is_stated):
            self.is_lost = is_stated or self._is_stated
            return False
        self.asked_again += 1
        return True

    def _go_on(self, servers: Sequence[msgspec.Raw]) -> bool:
        markers = [marker for marker in (*_markers(servers), *reversed(self._ends)) if marker]
        if markers:
            self._ends.append(markers[0])
            self.markers = markers
        # Otherwise none has an id, which the reader is about to learn.
        return bool(markers)


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
        __iter__ = __await__ = raise_not_awaitable

    async def __aiter__(self) -> AsyncIterator[ServerT]:
        recent_ids = RecentIds(None if self._moving else MAX_REMEMBERED)
        planner = _LinkPlanner(self._page_size)
        came = 0
        ahead: Prefetch[NativePage] | None = Prefetch(self._session, lambda: self._fetch(None))
        try:
            while ahead is not None:
                page = await ahead.page
                ahead = self._begin_next(planner) if planner.accept(page, recent_ids) else None
                for number, raw in enumerate(page.servers or (), 1):
                    server = read_fragment(self._operation, raw, self._into)
                    if recent_ids.add(server.id):
                        came += 1
                        if self._keep(server):
                            yield server
                    if number % YIELD_EVERY == 0:
                        # A page that has come is read without a wait, and others must get their turn.
                        await asyncio.sleep(0)
                if planner.is_lost:
                    raise self._lost(page, planner, came)
        finally:
            if ahead is not None:
                ahead.scope.cancel()

    def _begin_next(self, planner: _LinkPlanner) -> Prefetch[NativePage]:
        markers, delay = planner.markers, planner.delay

        async def fetch() -> NativePage:
            if delay:
                await anyio.sleep(delay)
            return await self._fetch_after(markers) if markers else await self._fetch(None)

        return Prefetch(self._session, fetch)

    def _lost(self, page: NativePage, planner: _LinkPlanner, came: int) -> DecodeError:
        after = f"after {planner.markers[0]}" if planner.markers else "on the first page"
        got = "only servers that came before" if page.servers else "none"
        times = f" {planner.asked_again + 1} times" if planner.asked_again else ""
        return DecodeError(
            f"expected more servers {after}, for the cloud says that there are some, got {got}{times}; "
            f"{came} were read: list them again later",
            status=200,
            operation=self._operation,
        )

    async def _fetch_after(self, markers: Sequence[str]) -> NativePage:
        """Fetch what comes after the first of these; where it is gone by now, after the next one that is not."""
        for marker in markers[:-1]:
            try:
                return await self._fetch(marker)
            except (BadRequestError, NotFoundError) as error:
                if not error.says("marker"):
                    raise
        return await self._fetch(markers[-1])


def _markers(servers: Sequence[msgspec.Raw]) -> list[str]:
    """Return the last server's id, and those of servers twice as far from the end each time, and of the first."""
    places = [2**power for power in range(len(servers).bit_length())]
    return [read_id(servers[-place]) for place in dict.fromkeys([*places, len(servers)])]
