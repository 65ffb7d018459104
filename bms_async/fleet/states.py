"""Reading the states of some servers, in as few calls as it can be done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet

import anyio
import anyio.lowlevel
import msgspec

from bms_async.api.bms.pages import LONGEST_PAGE, ServerPage
from bms_async.api.bms.servers import GET, LIST
from bms_async.errors import NotFoundError
from bms_async.limits import Lane
from bms_async.models.base import Model
from bms_async.session import Session
from bms_async.wire import Operation, RetryPolicy, read_part

from .evidence import Glimpse

_FEW = 8
"""How many servers are read one by one without asking how long the list is."""

_SOME = 50
"""How many are read one by one where the list is too long; more are told apart by asking for half of them."""

_FEW_PAGES = 10
"""How many pages of the list are read for any number of servers."""

_SERVERS_A_PAGE = 4
"""How many servers that are looked for make a further page worth its call."""

_AT_ONCE = 4


class _Answer(Model, frozen=True, kw_only=True):
    server: Glimpse


_GLANCE: Operation[_Answer] = msgspec.structs.replace(GET, result=_Answer)  # type: ignore[arg-type]  # same call


class _Request:
    __slots__ = ("answered", "found", "ids")

    def __init__(self, ids: Collection[str]) -> None:
        self.ids = ids
        self.found: dict[str, Glimpse] | None = None
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
        self, ids: Collection[str], *, at_any_price: bool = False, retry: RetryPolicy | None = None
    ) -> dict[str, Glimpse] | None:
        """Return the states of servers; one that the cloud does not show is left out.

        Args:
            ids: The servers.
            at_any_price: Read them also where the list is long and they are many.
            retry: How calls that fail are tried again; None as the client's calls are.

        Returns:
            The states; None where it would take too many calls.

        Raises:
            CallError: They could not be read.
        """
        if len(ids) <= _FEW:
            return await self._read_each(ids, retry)
        request = _Request(ids if isinstance(ids, AbstractSet | Mapping) else frozenset(ids))
        self._pending.append(request)
        try:
            async with self._reading:
                if not request.answered:
                    await self._answer(self._pending.copy(), at_any_price=at_any_price, retry=retry)
        finally:
            if request in self._pending:
                self._pending.remove(request)
        return request.found

    async def _answer(self, requests: list[_Request], *, at_any_price: bool, retry: RetryPolicy | None) -> None:
        wanted: Collection[str] = requests[0].ids
        if len(requests) > 1:
            wanted = frozenset().union(*(request.ids for request in requests))
        found = await self._read_many(wanted, at_any_price=at_any_price, retry=retry)
        for request in requests:
            request.answered = True
            if request in self._pending:
                self._pending.remove(request)
            if found is not None and len(requests) == 1:
                request.found = found
            elif found is not None:
                request.found = {server_id: found[server_id] for server_id in request.ids if server_id in found}

    async def _read_many(
        self, wanted: Collection[str], *, at_any_price: bool, retry: RetryPolicy | None
    ) -> dict[str, Glimpse] | None:
        first = await self._fetch(1, retry)
        found = _pick(first, wanted)
        size, count = len(first.servers or ()), first.count
        if count is None:
            return await self._read_to_the_end(found, wanted, size, retry)
        pages = -(-count // size) if size else 1
        if pages > max(_FEW_PAGES, len(wanted) // _SERVERS_A_PAGE):
            missing = [server_id for server_id in wanted if server_id not in found]
            if len(missing) > _SOME and not at_any_price:
                return None
            if len(missing) < 2 * pages:
                return found | await self._read_each(missing, retry)
        numbers = iter(range(2, pages + 1))

        async def turn_pages() -> None:
            for number in numbers:
                if len(found) == len(wanted):
                    break
                found.update(_pick(await self._fetch(number, retry), wanted))
                await anyio.lowlevel.checkpoint()

        await _together(turn_pages, min(_AT_ONCE, pages - 1))
        missing = [server_id for server_id in wanted if server_id not in found]
        if len(missing) <= _FEW:
            # While pages are turned a server may slip from one to another.
            found.update(await self._read_each(missing, retry))
        return found

    async def _read_to_the_end(
        self, found: dict[str, Glimpse], wanted: Collection[str], size: int, retry: RetryPolicy | None
    ) -> dict[str, Glimpse]:
        number = 1
        while size and len(found) < len(wanted):
            number += 1
            page = await self._fetch(number, retry)
            found.update(_pick(page, wanted))
            size = size if len(page.servers or ()) == size else 0
        return found

    async def _read_each(self, ids: Iterable[str], retry: RetryPolicy | None) -> dict[str, Glimpse]:
        found: dict[str, Glimpse] = {}
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
                found[server_id] = answer.server

        await _together(take_turns, _AT_ONCE)
        return found

    async def _fetch(self, number: int, retry: RetryPolicy | None) -> ServerPage:
        self.calls += 1
        query = {"limit": LONGEST_PAGE, "offset": number}
        return await self._session.call(LIST, query=query, lane=self._lane, retry=retry)


async def _together(work: Callable[[], object], number: int) -> None:
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


def _pick(page: ServerPage, wanted: Collection[str]) -> dict[str, Glimpse]:
    glimpses = (read_part(LIST.name, raw, Glimpse) for raw in page.servers or ())
    return {glimpse.id: glimpse for glimpse in glimpses if glimpse.id in wanted}
