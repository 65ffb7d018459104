"""The servers that filters choose, as the list of the cloud has them.

A cloud that ignores a filter lists servers that nobody meant, so each server is looked at again here, whatever the
cloud was asked for. Rejected: to trust the list, as a wrong tag would then stop every server of a project.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgspec

from bms_async import Server
from bms_async.api.bms.server_ids import ShortServer
from bms_async.cli.access.slowly import closing, one_by_one
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.texts import pluralize

from .filters import Filters, Query, Split, split

if TYPE_CHECKING:
    from bms_async import BmsClient
    from bms_async.cli.access.cloud import OpenClient
    from bms_async.cli.terminal.progress import Screen

    from .rollouts import ListedServers
    from .unused import Unfound

__all__ = ["find_ids", "find_servers", "list_chosen", "show_count"]

_PAGE = 1000

S = TypeVar("S", Server, ShortServer)

_ReadList: TypeAlias = Callable[[Query], AsyncIterable[Sequence[S]]]
"""Reads a list, some servers at a time: a page in one go, where that is how it is read."""


async def find_servers(bms: BmsClient, filters: Filters, *, page_size: int = _PAGE) -> AsyncIterator[Server]:
    """Iterate over the servers that match the filters, each once; over all servers without a filter.

    Args:
        bms: The client.
        filters: The filters.
        page_size: Servers in one page.
    """
    async for some in _choose(lambda query: one_by_one(bms.servers.list(page_size=page_size, **query)), filters):
        for server in some:
            yield server


class _Sieve:
    """Lets through what filters choose, each server once.

    Args:
        filters: The filters.
        unfound: Their words that no server has yet; None where there are no filters.

    Attributes:
        came: The flavors that the cloud was asked for and has found, by their ids.
        strange: How many servers the cloud has listed that its own filters should have left out.
    """

    def __init__(self, filters: Filters, unfound: Unfound | None) -> None:
        self._filters = filters
        self._unfound = unfound
        self._seen: set[str] = set()
        self.came: set[str | None] = set()
        self.strange = 0

    def takes(self, server: Server | ShortServer, query: Query, rest: Filters) -> bool:
        """Return whether a server is let through.

        Args:
            server: It.
            query: What the cloud was asked for.
            rest: What it was not asked for.
        """
        if self._unfound is not None:
            self._unfound.look_at(server, query)
        if server.id in self._seen:
            return False
        if not self._filters.fits(server):
            self.strange += rest.fits(server)
            return False
        self.came.add(query["flavor"])
        self._seen.add(server.id)
        return True

    def note_end(self, query: Query) -> None:
        """Note that a list was read to its end.

        Args:
            query: What the cloud was asked for.
        """
        if self._unfound is not None and not any((query["tags"], query["name"], query["status"], query["flavor"])):
            self._unfound.has_seen_all = True


async def _choose(read_list: _ReadList[S], filters: Filters) -> AsyncIterator[Sequence[S]]:
    unfound = None
    if filters:
        # A list of all servers does without it.
        from .unused import Unfound, refuse_unknown_exclusions

        unfound = Unfound(filters)
        if filters.not_tags:
            await refuse_unknown_exclusions(read_list, filters)
    chosen, sieve = split(filters), _Sieve(filters, unfound)
    async for some in _read(read_list, chosen, sieve):
        yield some
    named = tuple(flavor for flavor in filters.flavors if flavor not in sieve.came)
    if named and not chosen.rest.flavors:
        # The cloud knows a flavor by its id, and people by its name.
        chosen = split(msgspec.structs.replace(filters, flavors=named), by_flavor=False)
        async for some in _read(read_list, chosen, sieve):
            yield some
    if sieve.strange:
        print_error(
            f"the cloud was asked for servers with {filters}, and has listed {pluralize(sieve.strange, 'server')} that"
            f" {'does not fit: it is' if sieve.strange == 1 else 'do not fit: they are'} left out"
        )
    if unfound is not None:
        await unfound.settle(read_list)


async def _read(read_list: _ReadList[S], chosen: Split, sieve: _Sieve) -> AsyncIterator[Sequence[S]]:
    for query in chosen.queries:
        async with closing(read_list(query)) as pages:
            async for some in pages:
                taken = [server for server in some if sieve.takes(server, query, chosen.rest)]
                if taken:
                    yield taken
        sieve.note_end(query)


async def find_ids(bms: BmsClient, filters: Filters, *, page_size: int = _PAGE) -> AsyncIterator[Sequence[str]]:
    """Iterate over the ids of the same servers, several at a time; nothing else of them is read where that will do.

    Args:
        bms: The client.
        filters: The filters.
        page_size: Servers in one page.
    """
    if not filters:
        # The public list reads all fields.
        async for ids in bms.servers._list_ids(page_size=page_size):  # noqa: SLF001
            yield ids
        return
    async for some in _choose(lambda query: bms.servers._list_short(page_size=page_size, **query), filters):  # noqa: SLF001
        yield [server.id for server in some]


async def list_chosen(
    cloud: OpenClient, filters: Filters, screen: Screen, *, whole: bool, native: bool = False
) -> list[str] | ListedServers:
    """Return the servers that match the filters; what the list says of them is noted in the client.

    Args:
        cloud: The client.
        filters: The filters.
        screen: Where the count so far is shown, if it takes a while.
        whole: Whether all of their fields are returned; else their ids alone.
        native: Whether the native list of OpenStack is read.
    """
    from .rollouts import ListedServers

    ids, servers, bms, shown = list[str](), ListedServers(), cloud.bms, 0

    async def note(some: Sequence[Server | ShortServer]) -> None:
        nonlocal shown
        cloud.known.add_all(some)
        ids.extend([server.id for server in some])
        if len(ids) // _PAGE > shown:
            shown = len(ids) // _PAGE
            await show_count(len(ids), filters, screen)

    if not whole and not native:
        # The public list reads all fields, which takes three times as long.
        async for page in _choose(lambda query: bms.servers._list_short(**query), filters):  # noqa: SLF001
            await note(page)
        return ids

    def read_list(query: Query) -> AsyncIterable[Sequence[Server]]:
        return one_by_one(_read_natively(bms, query) if native else bms.servers.list(**query))

    async for some in _choose(read_list, filters):
        await note(some)
        if whole:
            for server in some:
                servers.append(server)
    return servers if whole else ids


def _read_natively(bms: BmsClient, query: Query) -> AsyncIterable[Server]:
    return bms.nova.servers.list_details(
        tags=query["tags"], name=query["name"], status=query["status"], flavor=query["flavor"]
    )


async def show_count(count: int, filters: Filters, screen: Screen) -> None:
    """Show how many servers match the filters so far, if it takes a while."""
    from rich.text import Text

    text = f"servers with {filters}: {count:,} so far"
    if screen.is_live:
        await screen.draw([Text(text, style="dim")])
    elif screen.is_due():
        await screen.log(text)
