"""Reading the states of some servers, in as few calls as it can be done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import anyio
import anyio.lowlevel
import msgspec

from bms_async.api._prefetch import YIELD_EVERY, read_id
from bms_async.api.bms.server_list import MAX_PAGE_SIZE, REFETCH_DELAYS, ServerPage
from bms_async.api.bms.servers import GET, LIST
from bms_async.errors import NotFoundError
from bms_async.limits import Lane
from bms_async.models.base import Model
from bms_async.models.ids import canonical_id
from bms_async.session import Session
from bms_async.wire import Operation, RetryPolicy, read_fragment

from .evidence import ServerState
from .page_totals import PageTotals

_READ_SINGLY = 8
"""How many servers are read one by one without asking how long the list is."""

_MAX_SINGLE_READS = 50
"""How many are read one by one where the list is too long; more are told apart by asking for half of them."""

_MAX_SINGLE_READS_EXHAUSTIVE = 1000
"""How many are read one by one at any price where pages leave something out: what a minute allows."""

_MAX_PAGES = 10
"""How many pages of the list are read for any number of servers."""

_SERVERS_A_PAGE = 4
"""How many servers that are looked for make a further page worth its call."""

_CONCURRENT_READS = 4

_YIELD_EVERY = 10_000
"""Ids that are looked up before others get their turn."""


class _Answer(Model, frozen=True, kw_only=True):
    server: ServerState


_GLANCE: Operation[_Answer] = msgspec.structs.replace(GET, result=_Answer)  # type: ignore[arg-type]  # same call


class _Request:
    __slots__ = ("answered", "found", "ids")

    def __init__(self, ids: Collection[str]) -> None:
        self.ids = ids
        self.found: dict[str, ServerState] | None = None
        self.answered = False


class StateReader:
    """Reads states for one run; who asks while the list is being read shares the next reading with all others.

    Attributes:
        calls: How many calls it took so far.
    """

    def __init__(self, session: Session, lane: Lane) -> None:
        self._session = session
        self._lane = lane
        self._reading = anyio.Lock()
        self._pending: list[_Request] = []
        self.calls = 0

    async def read(
        self, ids: Collection[str], *, exhaustive: bool = False, retry: RetryPolicy | None = None
    ) -> dict[str, ServerState] | None:
        """Return the states of servers; one that the cloud does not show is left out.

        Args:
            ids: The servers.
            exhaustive: Read them also where the list is long and they are many.
            retry: How calls that fail are tried again; None as the client's calls are.

        Returns:
            The states; None where it would take too many calls, or where the pages of the list leave something out.

        Raises:
            CallError: They could not be read.
        """
        if len(ids) <= _READ_SINGLY:
            return await self._read_each(ids, retry)
        request = _Request(ids if isinstance(ids, AbstractSet | Mapping) else frozenset(ids))
        self._pending.append(request)
        try:
            async with self._reading:
                if not request.answered:
                    await self._answer(self._pending.copy(), exhaustive=exhaustive, retry=retry)
        finally:
            if request in self._pending:
                self._pending.remove(request)
        return request.found

    async def _answer(self, requests: list[_Request], *, exhaustive: bool, retry: RetryPolicy | None) -> None:
        wanted: Collection[str] = requests[0].ids
        if len(requests) > 1:
            wanted = frozenset().union(*(request.ids for request in requests))
        found = await self._read_many(wanted, exhaustive=exhaustive, retry=retry)
        for request in requests:
            request.answered = True
            if request in self._pending:
                self._pending.remove(request)
            if found is not None and len(requests) == 1:
                request.found = found
            elif found is not None:
                request.found = {server_id: found[server_id] for server_id in request.ids if server_id in found}

    async def _read_many(
        self, wanted: Collection[str], *, exhaustive: bool, retry: RetryPolicy | None
    ) -> dict[str, ServerState] | None:
        tally = PageTotals(MAX_PAGE_SIZE)
        found: dict[str, ServerState] = {}
        await self._turn_pages([1], tally, found, wanted, retry)
        for delay in (0.0, *REFETCH_DELAYS):
            await self._read_on(tally, found, wanted, retry)
            missing = await _missing(wanted, found)
            numbers = tally.open_pages()
            if not missing or not numbers:
                break
            if tally.pages > max(_MAX_PAGES, len(wanted) // _SERVERS_A_PAGE):
                if len(missing) > _MAX_SINGLE_READS and not exhaustive:
                    return None
                if len(missing) < 2 * tally.pages:
                    return found | await self._read_each(missing, retry)
            await anyio.sleep(delay)
            await self._turn_pages(numbers, tally, found, wanted, retry)
        missing = await _missing(wanted, found)
        # While pages are turned a server may slip from one to another; pages that leave something out prove nothing.
        if len(missing) <= (
            _READ_SINGLY if tally.is_whole else _MAX_SINGLE_READS_EXHAUSTIVE if exhaustive else _MAX_SINGLE_READS
        ):
            return found | await self._read_each(missing, retry)
        return found if tally.is_whole or exhaustive else None

    async def _read_on(
        self, tally: PageTotals, found: dict[str, ServerState], wanted: Collection[str], retry: RetryPolicy | None
    ) -> None:
        """Read page after page where no count says how many there are."""
        before = None
        while len(found) < len(wanted) and (number := tally.next_page()) is not None:
            if number == before:
                await anyio.sleep(REFETCH_DELAYS[0])
            before = number
            await self._turn_pages([number], tally, found, wanted, retry)

    async def _turn_pages(
        self,
        numbers: Sequence[int],
        tally: PageTotals,
        found: dict[str, ServerState],
        wanted: Collection[str],
        retry: RetryPolicy | None,
    ) -> None:
        left = iter(numbers)

        async def take_turns() -> None:
            for number in left:
                if len(found) == len(wanted) or number > max(tally.pages, numbers[0]):
                    break
                page = await self._fetch(number, retry)
                servers = page.servers or ()
                first = read_id(servers[0]) if servers else None
                tally.note(number, len(servers), first, page.count)
                await _pick(servers, wanted, found)

        await _run_workers(take_turns, min(_CONCURRENT_READS, len(numbers)))

    async def _read_each(self, ids: Iterable[str], retry: RetryPolicy | None) -> dict[str, ServerState]:
        found: dict[str, ServerState] = {}
        left = iter(list(ids))

        async def take_turns() -> None:
            for server_id in left:
                self.calls += 1
                try:
                    answer = await self._session.call(
                        _GLANCE, path={"server_id": server_id}, lane=self._lane, retry=retry
                    )
                except NotFoundError:
                    continue
                found[server_id] = _under(server_id, answer.server)

        await _run_workers(take_turns, _CONCURRENT_READS)
        return found

    async def _fetch(self, number: int, retry: RetryPolicy | None) -> ServerPage:
        self.calls += 1
        query = {"limit": MAX_PAGE_SIZE, "offset": number}
        return await self._session.call(LIST, query=query, lane=self._lane, retry=retry)


async def _run_workers(work: Callable[[], object], number: int) -> None:
    """Do the same work in several tasks; the first error ends all and is raised as it is."""
    errors: list[Exception] = []

    async def contained(group: anyio.abc.TaskGroup) -> None:
        try:
            await work()  # type: ignore[misc]  # a coroutine function
        except Exception as error:  # noqa: BLE001 - raised below, without a group around it
            errors.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(number):
            group.start_soon(contained, group)
    if errors:
        raise errors[0]


async def _pick(servers: Sequence[msgspec.Raw], wanted: Collection[str], found: dict[str, ServerState]) -> None:
    for number, raw in enumerate(servers, 1):
        server_state = read_fragment(LIST.name, raw, ServerState)
        server_id = server_state.id if server_state.id in wanted else canonical_id(server_state.id)
        if server_id in wanted:
            found[server_id] = _under(server_id, server_state)
        if number % YIELD_EVERY == 0:
            # Each may need repairs, which are slow.
            await anyio.lowlevel.checkpoint()


def _under(server_id: str, server_state: ServerState) -> ServerState:
    """Return a state under the id by which it is looked for; the cloud may spell it in another way."""
    return server_state if server_state.id == server_id else msgspec.structs.replace(server_state, id=server_id)


async def _missing(wanted: Iterable[str], found: Mapping[str, ServerState]) -> list[str]:
    missing = []
    for number, server_id in enumerate(wanted, 1):
        if server_id not in found:
            missing.append(server_id)
        if number % _YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()
    return missing
