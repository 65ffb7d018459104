"""Reading any number of servers, in few calls and without blocking the event loop (R9).

A few servers are read one by one. For more the list of servers is read, 1000 to a page, if it is short enough for the
number of servers that are looked for. Requests that come while the list is being read share the next reading.

That the list lacks a server proves that it does not exist only if its pages were complete (`page_totals`). Incomplete
pages are read again, and servers that are missing then are read one by one, up to a bound. `read` returns None where
it would take too many calls, or where the pages stay incomplete: nothing is concluded from that.

Only what is wanted of a server is decoded and kept, and the loop gets its turn after every few servers: a page of 1000
that needs repairs would block it for too long.

Rejected: to read each server by itself. Its limit is 1000 calls a minute, which other work needs too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Generic, Protocol, TypeVar

import anyio
import anyio.lowlevel
import msgspec

from bms_async.api._prefetch import YIELD_EVERY, read_id
from bms_async.api.bms.server_list import MAX_PAGE_SIZE, REFETCH_DELAYS, ServerPage
from bms_async.api.bms.servers import LIST
from bms_async.errors import NotFoundError
from bms_async.limits import Lane
from bms_async.models.ids import canonical_id
from bms_async.session import Session
from bms_async.wire import RetryPolicy

from .page_totals import PageTotals
from .sharded import OrderedTable, Pieces

_READ_SINGLY = 8
"""How many servers are read one by one without a look at the list."""

_MAX_SINGLE_READS = 50
"""How many are read one by one where the list is too long; for more, the batch is bisected."""

_MAX_SINGLE_READS_EXHAUSTIVE = 1000
"""How many are read one by one if `exhaustive` and pages are incomplete: what a minute allows."""

_MAX_PAGES = 10
"""How many pages of the list are read for any number of servers, however small."""

_SERVERS_A_PAGE = 4
"""How many wanted servers make a further page worth its call."""

_CONCURRENT_READS = 4

_LOOKUPS_PER_YIELD = 4000
"""How many ids are looked up between two yields to the event loop."""

_ADDED_PER_YIELD = 1000
"""How many ids are added to a table between two yields to the event loop."""


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


S = TypeVar("S", bound=_Identified)
V = TypeVar("V")


class _Request(Generic[V]):
    __slots__ = ("found", "ids", "is_done")

    def __init__(self, ids: Collection[str]) -> None:
        self.ids = ids
        self.found: Mapping[str, V] | None = None
        self.is_done = False


class ServerReader(ABC, Generic[S, V]):
    """Reads servers for one run; requests that come while the list is being read share the next reading.

    Attributes:
        calls: How many calls were made so far.
    """

    def __init__(self, session: Session, lane: Lane) -> None:
        self.session = session
        self.lane = lane
        self._reading = anyio.Lock()
        self._pending: list[_Request[V]] = []
        self.calls = 0

    @abstractmethod
    def decode(self, raw: msgspec.Raw) -> S:
        """Return a server of the list, decoded as far as is wanted."""

    @abstractmethod
    async def fetch_one(self, server_id: str, retry: RetryPolicy | None) -> S:
        """Return one server.

        Raises:
            NotFoundError: The cloud does not show it.
            CallError: It could not be read.
        """

    @abstractmethod
    def keep(self, server: S) -> V:
        """Return what is kept of a server."""

    async def read(
        self, ids: Collection[str], *, exhaustive: bool = False, retry: RetryPolicy | None = None
    ) -> Mapping[str, V] | None:
        """Return what is wanted of servers, without those that the cloud does not show.

        Args:
            ids: The servers.
            exhaustive: Read them even if the list is long and the servers are many.
            retry: How failed calls are retried; None for the client's own policy.

        Returns:
            It, by server; None where it would take too many calls, or where the pages of the list are incomplete.

        Raises:
            CallError: They could not be read.
        """
        if len(ids) <= _READ_SINGLY:
            return await self._read_each(ids, OrderedTable(), retry)
        request = _Request[V](ids if isinstance(ids, AbstractSet | Mapping) else frozenset(ids))
        self._pending.append(request)
        try:
            async with self._reading:
                if not request.is_done:
                    await self._read_for(self._pending.copy(), exhaustive=exhaustive, retry=retry)
        finally:
            if request in self._pending:
                self._pending.remove(request)
        return request.found

    async def _read_for(self, requests: list[_Request[V]], *, exhaustive: bool, retry: RetryPolicy | None) -> None:
        wanted: Collection[str] = requests[0].ids
        if len(requests) > 1:
            wanted = await index_ids(chain.from_iterable(request.ids for request in requests))
        found = await self._read_many(wanted, exhaustive=exhaustive, retry=retry)
        for request in requests:
            request.is_done = True
            if request in self._pending:
                self._pending.remove(request)
            if found is not None and len(requests) == 1:
                request.found = found
            elif found is not None:
                request.found = {server_id: found[server_id] for server_id in request.ids if server_id in found}

    async def _read_many(
        self, wanted: Collection[str], *, exhaustive: bool, retry: RetryPolicy | None
    ) -> Mapping[str, V] | None:
        totals = PageTotals(MAX_PAGE_SIZE)
        found: OrderedTable[V] = OrderedTable()
        await self._read_pages([1], totals, found, wanted, retry)
        for delay in (0.0, *REFETCH_DELAYS):
            await self._read_further_pages(totals, found, wanted, retry)
            missing = await _missing(wanted, found)
            numbers = totals.incomplete_pages()
            if not missing or not numbers:
                break
            if totals.pages > max(_MAX_PAGES, len(wanted) // _SERVERS_A_PAGE):
                if len(missing) > _MAX_SINGLE_READS and not exhaustive:
                    return None
                if len(missing) < 2 * totals.pages:
                    return await self._read_each(missing, found, retry)
            await anyio.sleep(delay)
            await self._read_pages(numbers, totals, found, wanted, retry)
        missing = await _missing(wanted, found)
        # While pages are read a server may slip from one to another, and incomplete pages prove nothing.
        if len(missing) <= (
            _READ_SINGLY if totals.is_complete else _MAX_SINGLE_READS_EXHAUSTIVE if exhaustive else _MAX_SINGLE_READS
        ):
            return await self._read_each(missing, found, retry)
        return found if totals.is_complete or exhaustive else None

    async def _read_further_pages(
        self, totals: PageTotals, found: OrderedTable[V], wanted: Collection[str], retry: RetryPolicy | None
    ) -> None:
        """Read page after page where no count says how many there are."""
        before = None
        while len(found) < len(wanted) and (number := totals.next_page()) is not None:
            if number == before:
                await anyio.sleep(REFETCH_DELAYS[0])
            before = number
            await self._read_pages([number], totals, found, wanted, retry)

    async def _read_pages(
        self,
        numbers: Sequence[int],
        totals: PageTotals,
        found: OrderedTable[V],
        wanted: Collection[str],
        retry: RetryPolicy | None,
    ) -> None:
        left = iter(numbers)

        async def work() -> None:
            for number in left:
                if len(found) == len(wanted) or number > max(totals.pages, numbers[0]):
                    break
                page = await self._fetch(number, retry)
                servers = page.servers or ()
                first = read_id(servers[0]) if servers else None
                totals.add_page(number, len(servers), first, page.count)
                await self._collect(servers, wanted, found)

        await _run_workers(work, min(_CONCURRENT_READS, len(numbers)))

    async def _read_each(
        self, ids: Iterable[str], found: OrderedTable[V], retry: RetryPolicy | None
    ) -> Mapping[str, V]:
        """Read servers one by one, add them to those that were found, and return all of these."""
        left = iter(list(ids))

        async def work() -> None:
            for server_id in left:
                self.calls += 1
                try:
                    found[server_id] = self.keep(await self.fetch_one(server_id, retry))
                except NotFoundError:
                    continue

        await _run_workers(work, _CONCURRENT_READS)
        return found

    async def _fetch(self, number: int, retry: RetryPolicy | None) -> ServerPage:
        self.calls += 1
        query = {"limit": MAX_PAGE_SIZE, "offset": number}
        return await self.session.call(LIST, query=query, lane=self.lane, retry=retry)

    async def _collect(self, servers: Sequence[msgspec.Raw], wanted: Collection[str], found: OrderedTable[V]) -> None:
        for index, raw in enumerate(servers, 1):
            server = self.decode(raw)
            server_id = canonical_id(server.id)
            if server_id in wanted:
                # Under the run's own copy of the id, so that the response's is not kept.
                found[wanted[server_id] if isinstance(wanted, OrderedTable) else server_id] = self.keep(server)
            if index % YIELD_EVERY == 0:
                # Each may need repairs, which are slow.
                await anyio.lowlevel.checkpoint()


async def _run_workers(work: Callable[[], Awaitable[None]], count: int) -> None:
    """Run the same function in several tasks; the first error ends all of them and is raised, not in a group."""
    errors: list[Exception] = []

    async def contained(group: anyio.abc.TaskGroup) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised below, without a group around it
            errors.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(contained, group)
    if errors:
        raise errors[0]


async def index_ids(ids: Iterable[str]) -> OrderedTable[str]:
    """Return any number of ids as a table, each as its own value."""
    table: OrderedTable[str] = OrderedTable()
    for index, server_id in enumerate(ids, 1):
        table[server_id] = server_id
        if index % _ADDED_PER_YIELD == 0:
            await anyio.lowlevel.checkpoint()
    return table


async def free(table: Mapping[str, object]) -> None:
    """Free a table of any size that nothing else refers to, a part at a time."""
    if isinstance(table, OrderedTable):
        for _ in table.dismantle():
            await anyio.lowlevel.checkpoint()


async def _missing(wanted: Collection[str], found: Mapping[str, object]) -> Pieces[str]:
    missing: Pieces[str] = Pieces()
    if len(found) == len(wanted):
        # Only what is wanted is ever found.
        return missing
    for index, server_id in enumerate(wanted, 1):
        if server_id not in found:
            missing.append(server_id)
        if index % _LOOKUPS_PER_YIELD == 0:
            await anyio.lowlevel.checkpoint()
    return missing
