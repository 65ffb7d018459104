"""Chooses the servers of a command: resolved, without those that are left out, and known as far as that is cheap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import anyio.to_thread
import msgspec

from bms_async.cli.access.learning import check_credentials, learn_servers
from bms_async.cli.access.slowly import slowly
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.texts import pluralize, strip_control_chars
from bms_async.models.ids import canonical_id

from .filters import Filters
from .ids import Given
from .listing import list_chosen
from .names import look_up_excluded, resolve
from .words import Word

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient
    from bms_async.cli.terminal.progress import Screen

    from .rollouts import ListedServers

__all__ = ["Choice", "Selection", "choose_servers", "leave_out"]

_MOST_SHOWN: Final = 5


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which servers somebody wants.

    Attributes:
        given: Those that were given; None where filters choose.
        filters: The filters.
        excluded: Those that are left out.
        whole: Whether all of their fields are needed where filters choose.
        native: Whether the native calls of OpenStack read them.
        is_checked: Whether a server is read before anything is changed, to check the credentials.
    """

    given: Given | None
    filters: Filters
    excluded: Given | None = None
    whole: bool = False
    native: bool = False
    is_checked: bool = True


class Choice(NamedTuple):
    """The servers of a command.

    Attributes:
        servers: Their ids, or the servers themselves.
        missing: Ids among them that the cloud says it does not have, as far as that is known.
        why_none: Why there are none, for people; empty if there are some.
    """

    servers: list[str] | ListedServers
    missing: Sequence[str] = ()
    why_none: str = ""

    @property
    def ids(self) -> list[str]:
        """Their ids."""
        return self.servers if isinstance(self.servers, list) else self.servers.ids


async def choose_servers(cloud: OpenClient, selection: Selection, screen: Screen) -> Choice:
    """Return the servers that somebody wants; what is read of them is noted in the client.

    Args:
        cloud: The client.
        selection: Which.
        screen: Where it is shown how far a long list is.

    Raises:
        UsageError: A name cannot be resolved.
        BmsError: The cloud could not be asked.
    """
    given, excluded, native = selection.given, selection.excluded, selection.native
    servers: list[str] | ListedServers
    if given is None:
        try:
            servers = await list_chosen(cloud, selection.filters, screen, whole=selection.whole, native=native)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await screen.clear()
    else:
        servers = await resolve(cloud, given, native=native)
    if not servers:
        return Choice([], why_none=_why_none(selection))
    if excluded is not None:
        servers, count = await leave_out(cloud, servers, excluded, native=native), len(servers)
        if not servers:
            return Choice([], why_none=f"--except leaves out all of {pluralize(count, 'server')}")
    if given is None or not selection.is_checked:
        return Choice(servers)
    ids = servers if isinstance(servers, list) else servers.ids
    if ids[0] not in cloud.known:
        await check_credentials(cloud, ids[0], native=native)
    return Choice(servers, await learn_servers(cloud, ids, native=native))


async def leave_out(
    cloud: OpenClient, servers: list[str] | ListedServers, excluded: Given, *, native: bool = False
) -> list[str] | ListedServers:
    """Return servers without those that are left out; print how many these are.

    Args:
        cloud: The client.
        servers: The servers.
        excluded: Those that are left out.
        native: Whether the native calls of OpenStack look for names.
    """
    if isinstance(servers, list):
        return await _leave_out(cloud, servers, excluded, native=native)
    kept = await _leave_out(cloud, servers.ids, excluded, native=native)
    return await anyio.to_thread.run_sync(servers.kept, kept)


def _why_none(selection: Selection) -> str:
    if selection.given is None:
        # Two negations would be read as none.
        none = "there is no server with" if selection.filters.not_tags else "no server has"
        return f"{none} {selection.filters}"
    return f"{strip_control_chars(selection.given.source)} has no servers"


async def _leave_out(cloud: OpenClient, ids: list[str], excluded: Given, *, native: bool) -> list[str]:
    chosen = {canonical_id(server_id) async for server_id in slowly(ids)}
    named = await _names_of(cloud, ids)
    strange = [word async for word in slowly(excluded.words) if not _meant(word, chosen, named)]
    # In a thread: there may be very many.
    unsure = (await anyio.to_thread.run_sync(Given, strange)).unsure
    if unsure:
        # What the list says of these names is noted with it. A name that no server has protects none.
        await look_up_excluded(cloud, unsure, native=native)
        named = await _names_of(cloud, ids)
    left_out, strange = set[str](), list[Word]()
    async for word in slowly(excluded.words):
        meant = _meant(word, chosen, named)
        left_out |= meant
        if not meant:
            strange.append(word)
    print_error(f"--except leaves out {len(left_out):,} of {pluralize(len(chosen), 'server')}")
    if strange:
        some = ", ".join(word.text for word in strange[:_MOST_SHOWN]) + (", ..." if len(strange) > _MOST_SHOWN else "")
        source = strip_control_chars(excluded.source)
        be = "is" if len(strange) == 1 else "are"
        print_error(
            f"{len(strange):,} of the {len(excluded):,} in {source} {be} not among these: {strip_control_chars(some)}"
        )
    return [server_id async for server_id in slowly(ids) if canonical_id(server_id) not in left_out]


def _meant(word: Word, chosen: set[str], named: dict[str, set[str]]) -> set[str]:
    """Return which of the chosen servers have a word for their id or name."""
    server_id = canonical_id(word.text)
    return {server_id} if server_id in chosen else named.get(word.text, set())


async def _names_of(cloud: OpenClient, ids: Sequence[str]) -> dict[str, set[str]]:
    named: dict[str, set[str]] = {}
    async for server_id in slowly(ids):
        name = cloud.known.get(server_id).name
        if name:
            named.setdefault(name, set()).add(canonical_id(server_id))
    return named
