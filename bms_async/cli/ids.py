"""Which servers are meant: by their ids, from a file, from a pipe, or by what the cloud knows of them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from rich.text import Text

from bms_async import BmsClient, Server
from bms_async.models.ids import canonical_id

from .exit import UsageError
from .progress import Screen

_PAGE = 1000

__all__ = ["Filters", "describe", "find_servers", "list_ids", "read_ids"]


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What servers are chosen by; None leaves a thing open.

    Attributes:
        tag: A tag that they carry.
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


def read_ids(arguments: Sequence[str], file: str | None, *, filters: Sequence[Filters] = ()) -> list[str] | None:
    """Return the ids that were named, each once, in their order; None where the cloud is to be asked.

    Args:
        arguments: As typed; a ``-`` stands for standard input.
        file: A file with an id a line; ``-`` for standard input.
        filters: What the cloud would be asked for.

    Raises:
        UsageError: Nothing names any server, more than one thing does, or a file cannot be read.
    """
    if file is not None and not file.strip():
        # A variable that a script has not set must not have us read something else.
        raise UsageError("--file is empty: give one, or leave the option away")
    ways = [way for way, given in (("ids", arguments), ("--file", file), ("filters", filters)) if given]
    if len(ways) > 1:
        raise UsageError(f"which servers? {' and '.join(ways)} contradict each other: give one of them")
    if filters:
        return None
    if file and file != "-":
        try:
            with Path(file).open(encoding="utf-8-sig") as lines:
                return _distinct(_ids_of(lines), f"{file} has no ids; one a line is wanted")
        except (OSError, UnicodeError) as error:
            raise UsageError(f"cannot read the ids: {error}") from error
    if arguments and "-" not in arguments:
        return _distinct(map(_writable, arguments), "no ids were given")
    if not file and not arguments and sys.stdin.isatty():
        raise UsageError("which servers? Give ids, or pipe them in; --help tells of other ways")
    named = [_writable(each) for each in arguments if each != "-"]
    try:
        return _distinct([*named, *_ids_of(sys.stdin)], "standard input has no ids; one a line is wanted")
    except UnicodeError as error:
        raise UsageError(f"cannot read the ids: {error}") from error


async def find_servers(bms: BmsClient, filters: Sequence[Filters], *, page_size: int = _PAGE) -> AsyncIterator[Server]:
    """Iterate over the servers that any of these filters lets through, each once; all of them where there is none.

    Args:
        bms: The client.
        filters: What is wanted.
        page_size: How many are asked for at once.
    """
    seen: set[str] = set()
    for each in filters or (Filters(),):
        servers = bms.servers.list(
            tags=each.tag,
            name=each.name,
            status=each.status,
            flavor=each.flavor,
            enterprise_project_id=each.enterprise_project,
            page_size=page_size,
        )
        async for server in servers:
            if len(filters) > 1:
                if server.id in seen:
                    continue
                seen.add(server.id)
            yield server


async def list_ids(bms: BmsClient, filters: Sequence[Filters], screen: Screen) -> list[str]:
    """Return the ids of the servers that the cloud has for these filters.

    Args:
        bms: The client.
        filters: What is wanted.
        screen: Where it is shown how many there are so far, if it takes a while.

    Raises:
        UsageError: There are none.
    """
    wanted, ids = describe(filters), list[str]()
    async for server in find_servers(bms, filters):
        ids.append(server.id)
        if len(ids) % _PAGE == 0:
            if screen.is_live:
                await screen.draw([Text(f"servers with {wanted}: {len(ids):,} so far", style="dim")])
            elif screen.is_due():
                await screen.log(f"servers with {wanted}: {len(ids):,} so far")
    if not ids:
        raise UsageError(f"no server has {wanted}; `bms servers list` shows those that there are")
    return ids


def describe(filters: Sequence[Filters]) -> str:
    """Return filters for people."""
    return ", or ".join(map(str, filters))


def _distinct(ids: Iterable[str], otherwise: str) -> list[str]:
    found: dict[str, str] = {}
    for each in ids:
        # One server may be written in two ways, and is one that is asked about.
        found.setdefault(canonical_id(each), each)
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
    """Return a text that can be written anywhere; what was typed may be bytes that are no text."""
    return text.encode(errors="backslashreplace").decode()


def _id_in(line: str) -> str:
    """Return the server that a line of JSON is about, as ``--json`` writes them."""
    try:
        told = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise UsageError(f"this line is neither an id nor JSON: {line[:60]!r}") from error
    found = told.get("server_id") or told.get("id")
    if not isinstance(found, str):
        raise UsageError(f"this line of JSON has no id: {line[:60]!r}")
    return found
