"""Which servers a command is about: ids from arguments, a file or a pipe, or filters of the server list."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import msgspec

from bms_async import Server
from bms_async.cli.terminal.exit import UsageError
from bms_async.models.ids import canonical_id

if TYPE_CHECKING:
    from bms_async import BmsClient
    from bms_async.cli.terminal.progress import Screen

    from .rollouts import ListedServers

_PAGE = 1000

__all__ = [
    "Filters",
    "check_found",
    "describe",
    "find_ids",
    "find_servers",
    "list_ids",
    "list_whole_servers",
    "make_filters",
    "read_ids",
    "show_count",
]


class _FilterArguments(TypedDict):
    tags: str | None
    name: str | None
    status: str | None
    flavor: str | None
    enterprise_project_id: str | None


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Filters of the server list; None does not filter.

    Attributes:
        tag: A tag of the servers.
        name: A part of their name, as the cloud matches it.
        status: One of the documented statuses, or another that the cloud knows.
        flavor: The id of their flavor.
        enterprise_project: Their enterprise project.
    """

    tag: str | None = None
    name: str | None = None
    status: str | None = None
    flavor: str | None = None
    enterprise_project: str | None = None

    def __str__(self) -> str:
        given = {field: getattr(self, field) for field in self.__struct_fields__}
        return ", ".join(f"{field} {value!r}" for field, value in given.items() if value is not None)


def make_filters(
    tags: Sequence[str], names: Sequence[str], statuses: Sequence[str], flavor: str | None, project: str | None
) -> tuple[Filters, ...]:
    """Return the filters that were typed: one for each combination; none if nothing was.

    Args:
        tags: Tags.
        names: Names.
        statuses: Statuses.
        flavor: A flavor.
        project: An enterprise project.

    Raises:
        UsageError: One of them is empty.
    """
    given = {"--tag": tags, "--name": names, "--status": statuses}
    single = {"--flavor": flavor, "--enterprise-project": project}
    for name, values in {
        **given,
        **{name: [value] for name, value in single.items() if value is not None},
    }.items():
        # An empty filter matches all servers: an unset variable of a script must not stop every one.
        if any(not value.strip() for value in values):
            raise UsageError(f"{name} is empty: expected a value; give one, or leave the option out")
    if not (any(given.values()) or flavor or project):
        return ()
    combinations = product(*(values or (None,) for values in given.values()))
    return tuple(
        Filters(tag=tag, name=name, status=status, flavor=flavor, enterprise_project=project)
        for tag, name, status in combinations
    )


def read_ids(arguments: Sequence[str], file: str | None, *, filters: Sequence[Filters] = ()) -> list[str] | None:
    """Return the ids that were given, each once and in order; None where filters choose the servers.

    Args:
        arguments: As typed; a ``-`` stands for standard input.
        file: A file with an id a line; ``-`` for standard input.
        filters: The filters that were given.

    Raises:
        UsageError: No ids and no filters were given, or more than one of them, or a file cannot be read.
    """
    if file is not None and not file.strip():
        # An unset variable of a script must not lead to another source of ids.
        raise UsageError("--file is empty: expected a file; name one, or leave the option out")
    sources = [source for source, given in (("ids", arguments), ("--file", file), ("filters", filters)) if given]
    if len(sources) > 1:
        raise UsageError(f"expected one source of servers, got {' and '.join(sources)}; leave out all but one")
    if filters:
        return None
    if file and file != "-":
        try:
            with Path(file).open(encoding="utf-8-sig") as lines:
                return _distinct(_ids_of(lines), f"{file} has no ids; expected one a line")
        except (OSError, UnicodeError) as error:
            raise UsageError(f"cannot read the ids: {error}") from error
    if arguments and "-" not in arguments:
        return _distinct(map(_writable, arguments), "no ids were given")
    if not file and not arguments and sys.stdin.isatty():
        raise UsageError("expected servers: give ids, pipe them in, or use another option of --help")
    named = [_writable(argument) for argument in arguments if argument != "-"]
    try:
        return _distinct([*named, *_ids_of(sys.stdin)], "standard input has no ids; expected one a line")
    except UnicodeError as error:
        raise UsageError(f"cannot read the ids: {error}") from error


async def find_servers(bms: BmsClient, filters: Sequence[Filters], *, page_size: int = _PAGE) -> AsyncIterator[Server]:
    """Iterate over the servers that match any of the filters, each once; over all servers without a filter.

    Args:
        bms: The client.
        filters: The filters.
        page_size: Servers in one page.
    """
    seen: set[str] = set()
    for arguments in _arguments(filters):
        async for server in bms.servers.list(page_size=page_size, **arguments):
            if len(filters) > 1:
                if server.id in seen:
                    continue
                seen.add(server.id)
            yield server


async def find_ids(
    bms: BmsClient, filters: Sequence[Filters], *, page_size: int = _PAGE
) -> AsyncIterator[Sequence[str]]:
    """Iterate over the ids of the same servers, several at a time; nothing else of them is read.

    Args:
        bms: The client.
        filters: The filters.
        page_size: Servers in one page.
    """
    seen: set[str] = set()
    for arguments in _arguments(filters):
        # The public list reads all fields.
        async for ids in bms.servers._list_ids(page_size=page_size, **arguments):  # noqa: SLF001
            if len(filters) > 1:
                new = [server_id for server_id in ids if server_id not in seen]
                seen.update(new)
                yield new
            else:
                yield ids


def _arguments(filters: Sequence[Filters]) -> Iterator[_FilterArguments]:
    for choice in filters or (Filters(),):
        yield {
            "tags": choice.tag,
            "name": choice.name,
            "status": choice.status,
            "flavor": choice.flavor,
            "enterprise_project_id": choice.enterprise_project,
        }


async def list_ids(bms: BmsClient, filters: Sequence[Filters], screen: Screen) -> list[str]:
    """Return the ids of the servers that match the filters.

    Args:
        bms: The client.
        filters: The filters.
        screen: Where the count so far is shown, if it takes a while.

    Raises:
        UsageError: There are none.
    """
    ids: list[str] = []
    async for found in find_ids(bms, filters):
        before = len(ids)
        ids.extend(found)
        if len(ids) // _PAGE > before // _PAGE:
            await show_count(len(ids), filters, screen)
    check_found(len(ids), filters)
    return ids


async def list_whole_servers(bms: BmsClient, filters: Sequence[Filters], screen: Screen) -> ListedServers:
    """Return the servers that match the filters, with all their fields.

    Args:
        bms: The client.
        filters: The filters.
        screen: Where the count so far is shown, if it takes a while.

    Raises:
        UsageError: There are none.
    """
    from .rollouts import ListedServers

    servers = ListedServers()
    async for server in find_servers(bms, filters):
        servers.append(server)
        if len(servers) % _PAGE == 0:
            await show_count(len(servers), filters, screen)
    check_found(len(servers), filters)
    return servers


async def show_count(count: int, filters: Sequence[Filters], screen: Screen) -> None:
    """Show how many servers match the filters so far, if it takes a while."""
    from rich.text import Text

    text = f"servers with {describe(filters)}: {count:,} so far"
    if screen.is_live:
        await screen.draw([Text(text, style="dim")])
    elif screen.is_due():
        await screen.log(text)


def check_found(count: int, filters: Sequence[Filters]) -> None:
    """Refuse to go on with no servers.

    Args:
        count: How many were found.
        filters: The filters.

    Raises:
        UsageError: There are none.
    """
    if not count:
        raise UsageError(f"no server has {describe(filters)}; `bms servers list` shows all")


def describe(filters: Sequence[Filters]) -> str:
    """Return filters as text for people."""
    return ", or ".join(map(str, filters))


def _distinct(ids: Iterable[str], otherwise: str) -> list[str]:
    found: dict[str, str] = {}
    for server_id in ids:
        # One id may be spelled in two ways.
        found.setdefault(canonical_id(server_id), server_id)
    if not found:
        raise UsageError(otherwise)
    return list(found.values())


def _ids_of(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        text = line.strip()
        if text.startswith("{"):
            yield _id_in(text)
        elif text := text.partition("#")[0].rstrip():
            yield _writable(text)


def _writable(text: str) -> str:
    """Return a text that can be encoded; arguments may have bytes that are not text."""
    return text.encode(errors="backslashreplace").decode()


def _id_in(line: str) -> str:
    """Return the id in a line of JSON, as ``--json`` prints them."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"this line is neither an id nor JSON: {line[:60]!r}") from error
    found = fields.get("server_id") or fields.get("id")
    if not isinstance(found, str):
        raise UsageError(f"this line of JSON has no id: {line[:60]!r}")
    return found
