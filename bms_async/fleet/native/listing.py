"""The calls by which a plain OpenStack cloud is watched: the list of what changed, and single servers.

All of them keep one distance: no two requests for a page or a server are sent within a second of each other, whatever
each has waited for before. Pages are decoded a few servers at a time, so that none holds the event loop (R9), and by
the same reader of pages that the lists of ``bms.nova`` have, which knows deleted markers, short pages and clouds
without links.

How: one reading at a time waits, first for its distance and then for its slot of the limit. The distance counts from
where a request was handed to the transport, and is looked at once more right before that.

Rejected: to keep the distance only before a reading waits for its slot. Readings that a 429 or a renewed token held up
left at once when that was over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final, TypeVar

import anyio
import msgspec

from bms_async.api.nova.server_filters import ServerFilters
from bms_async.api.nova.server_operations import GET, LIST_DETAILS
from bms_async.api.nova.server_pages import NativePage, NativeServerList
from bms_async.errors import NotFoundError
from bms_async.limits import Lane
from bms_async.models import Server
from bms_async.models.base import Model
from bms_async.session import Session
from bms_async.wire import NO_RETRY, HttpResponse, Operation, Query, RetryPolicy

from .cloud_time import CloudTime
from .verdict import NativeState

DISTANCE: Final = 1.25
"""Seconds between the sending of two requests. A request may wait for a connection that calls of the run have taken:
with a second between two, they would leave less than a second apart at times."""

OVERLAP: Final = 10.0
"""Seconds by which a list of changes reaches back behind what was read before: the clocks of the cloud's own machines
may differ, and a change shows in the database a moment after its time."""


S = TypeVar("S", NativeState, Server)
R = TypeVar("R")


class _StateResponse(Model, frozen=True, kw_only=True):
    server: NativeState


_GET_STATE: Operation[_StateResponse] = msgspec.structs.replace(GET, result=_StateResponse)  # type: ignore[arg-type]  # same call


class Listing:
    """Reads changes and single servers, at most one request a second.

    Args:
        session: Makes the calls.
        lane: The lane that they wait in.
        headers: The headers of each, such as a microversion.

    Attributes:
        time: What is known of the cloud's clock.
        pages: How many pages were requested.
        reads: How many single servers were requested.
    """

    def __init__(self, session: Session, *, lane: Lane, headers: Mapping[str, str]) -> None:
        self._session = session
        self._lane = lane
        self._headers = headers
        self._next_at = 0.0
        self._turn = anyio.Lock(fast_acquire=True)
        self._newest: float | None = None
        self.time = CloudTime()
        self.pages = self.reads = 0

    def __repr__(self) -> str:
        return f"<Listing: {self.pages} pages, {self.reads} reads>"

    async def learn_time(self) -> None:
        """Make one small request, of which only the date counts.

        Raises:
            CallError: It failed.
        """
        await self._fetch_page(ServerFilters(limit=1), NO_RETRY, self._headers, None)

    def changes(self, since: float | None) -> AsyncIterator[NativeState]:
        """Iterate over the servers that have changed, deleted ones included.

        Args:
            since: When, by the event loop's clock; None for all servers, without the deleted ones.

        Raises:
            CallError: A page could not be read; earlier ones may have been.
        """
        filters = ServerFilters(changes_since=None if since is None else self._as_date(since))
        return self._list(filters, NativeState, NO_RETRY, self._headers, self._note_newest)

    def servers(self, headers: Mapping[str, str]) -> AsyncIterator[Server]:
        """Iterate over all servers, with all their fields; failed calls are retried as the client retries others.

        Args:
            headers: The headers of each request.

        Raises:
            CallError: A page could not be read; earlier ones may have been.
        """
        return self._list(ServerFilters(), Server, None, headers, lambda server: server)

    def _list(
        self,
        filters: ServerFilters,
        into: type[S],
        retry: RetryPolicy | None,
        headers: Mapping[str, str],
        show: Callable[[S], S],
    ) -> AsyncIterator[S]:
        servers: NativeServerList[S] = NativeServerList(
            partial(self._fetch_page, filters, retry, headers),
            self._session,
            operation=LIST_DETAILS.name,
            into=into,
            page_size=filters.page_size,
            keep=lambda _: True,
            find_out=_never,
            show=show,
            on_end=lambda *_: None,
            is_unstable_order=False,
        )
        return aiter(servers)

    async def read(self, server_id: str) -> NativeState | None:
        """Return one server; None if the compute service does not know it.

        Raises:
            CallError: It could not be read, or a gateway, not the compute service, has answered 404.
        """
        response = await self._get(_GET_STATE, server_id, NO_RETRY, self._headers)
        return None if response is None else response.server

    async def read_server(self, server_id: str, headers: Mapping[str, str]) -> Server | None:
        """Return one server with all its fields; None if the compute service does not know it.

        Args:
            server_id: The server.
            headers: The headers of the request.

        Raises:
            CallError: It could not be read, or a gateway, not the compute service, has answered 404.
        """
        response = await self._get(GET, server_id, None, headers)
        return None if response is None else response.server

    async def _get(
        self, operation: Operation[R], server_id: str, retry: RetryPolicy | None, headers: Mapping[str, str]
    ) -> R | None:
        try:
            return await self._call(operation, path={"server_id": server_id}, headers=headers, retry=retry)
        except NotFoundError as error:
            if is_of_gateway(error):
                raise
            return None

    def _as_date(self, since: float) -> datetime | None:
        """Return a moment as a date of the cloud's, some seconds earlier; None if it cannot be known."""
        if self.time.is_known:
            return datetime.fromtimestamp(self.time.earliest(since) - OVERLAP, UTC)
        # A cloud without dates: its servers' own times are left, and for the first time there is none.
        return None if self._newest is None else datetime.fromtimestamp(self._newest - OVERLAP, UTC)

    def _note_newest(self, state: NativeState) -> NativeState:
        if (updated := state.updated_at) is not None:
            self._newest = updated if self._newest is None else max(self._newest, updated)
        return state

    async def _fetch_page(
        self, filters: ServerFilters, retry: RetryPolicy | None, headers: Mapping[str, str], marker: str | None
    ) -> NativePage:
        return await self._call(LIST_DETAILS, query=filters.query(marker), headers=headers, retry=retry)

    async def _call(
        self,
        operation: Operation[R],
        *,
        path: Mapping[str, str] | None = None,
        query: Query | None = None,
        headers: Mapping[str, str],
        retry: RetryPolicy | None,
    ) -> R:
        """Make a call in its turn, a second after the one before."""
        sent_at, is_its_turn = 0.0, False

        def on_send() -> None:
            nonlocal sent_at, is_its_turn
            sent_at = anyio.current_time()
            self._next_at = sent_at + DISTANCE
            if is_its_turn:
                is_its_turn = False
                self._turn.release()

        def on_response(response: HttpResponse) -> None:
            date = _read_date(response.header("Date"))
            if date is not None:
                self.time.learn(date, sent=sent_at, received=anyio.current_time())

        await self._turn.acquire()
        is_its_turn = True
        try:
            await self._keep_distance()
            if path is None:
                self.pages += 1
            else:
                self.reads += 1
            return await self._session.call(
                operation,
                path=path,
                query=query,
                headers=headers,
                lane=self._lane,
                retry=retry,
                # Others may have sent something meanwhile where this is repeated.
                before_send=self._keep_distance,
                on_send=on_send,
                on_response=on_response,
            )
        finally:
            if is_its_turn:
                self._turn.release()

    async def _keep_distance(self) -> None:
        while True:
            # Another one may have been sent while this slept.
            wait = self._next_at - anyio.current_time()
            if wait <= 0:
                return
            await anyio.sleep(wait)


def is_of_gateway(error: NotFoundError) -> bool:
    """Return whether a 404 is a gateway's and not the compute service's, so that it says nothing of the server."""
    return error.code is None or error.code.startswith("APIG")


def _read_date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None


async def _never(_state: object) -> bool:
    return True
