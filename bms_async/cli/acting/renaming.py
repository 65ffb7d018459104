"""``bms servers rename``: the new name of each server, by a template or a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bms_async import BmsClient
from bms_async.cli.access.cloud import OpenClient
from bms_async.cli.access.known import KnownServers
from bms_async.cli.access.slowly import slowly
from bms_async.cli.selection.rollouts import ListedServers
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.texts import strip_control_chars
from bms_async.models.ids import canonical_id
from bms_async.validation.text import check_name

from .common import CommonOptions
from .each import carry_out
from .pairs import read_rows
from .task import CallOne, CallTask, by_id, check_argument

__all__ = ["rename"]

_PLACE: Final = re.compile(r"\{(n|id)(?::(0?[1-9]))?\}")


class _Rename(CallTask):
    verb = "rename"
    operation = "servers.rename"

    def __init__(self, names: Mapping[str, str], template: str | None, first: int) -> None:
        self._names = names
        self._template = template
        self._first = first

    async def prepare(self, cloud: OpenClient, servers: list[str] | ListedServers) -> list[str] | ListedServers:
        """Give each server its name.

        Raises:
            UsageError: The template gives a name that cannot be, or one name to several servers.
        """
        ids = servers if isinstance(servers, list) else [server.id for server in servers]
        if self._template is None:
            self._names = await by_id(self._names, ids, cloud.known)
        else:
            self._names = await _names_of(ids, self._template, self._first)
        return servers

    def changes(self, ids: Sequence[str], known: KnownServers) -> Iterator[str]:
        for server_id in ids:
            yield strip_control_chars(f"{known.label(server_id)} to {self._names[canonical_id(server_id)]}")

    def make_call(self, bms: BmsClient) -> CallOne:
        names = self._names
        return lambda server_id: bms.servers.rename(server_id, names[server_id])


def rename(ids: Sequence[str], options: CommonOptions, *, names: str | None, template: str | None, first: int) -> int:
    """Rename servers, and return the exit code.

    Args:
        ids: Servers, or a ``-``.
        options: Which servers, and how.
        names: A file with a server and a name a line.
        template: What all names are made of.
        first: The number of the first server.

    Raises:
        UsageError: There is no name for a server, or more than one.
    """
    if (names is None) == (template is None):
        raise UsageError("expected new names: give either --to, such as --to web-{n:03}, or --from FILE")
    if names is None:
        return carry_out(_Rename({}, template, first), ids, options)
    if ids or options.file or options.filters:
        raise UsageError("--from: the file names the servers; leave out ids, --file and filters")
    read = _read_names(names)
    found = {canonical_id(server_id): name for server_id, name in read.items()}
    return carry_out(_Rename(found, None, first), (), options, named=list(read))


async def _names_of(ids: Sequence[str], template: str, first: int) -> Mapping[str, str]:
    """Return the names that a template gives servers."""
    places = _PLACE.findall(template)
    if "{" in _PLACE.sub("", template) or "}" in _PLACE.sub("", template):
        raise UsageError(f"--to {template}: expected {{n}}, {{n:03}} or {{id}} in it, and no other braces")
    if not places and len(ids) > 1:
        raise UsageError(f"--to {template}: {len(ids):,} servers would have one name; put {{n}} or {{id}} into it")
    names: dict[str, str] = {}
    async for number, server_id in slowly(enumerate(ids, first)):
        values = {"n": number, "id": server_id}
        name = _PLACE.sub(lambda place: _filled(place, values), template)  # noqa: B023 - called at once
        check_argument(lambda: check_name("--to", name))  # noqa: B023 - called at once
        names[canonical_id(server_id)] = name
    return names


def _filled(place: re.Match[str], values: Mapping[str, object]) -> str:
    width = place[2] or ""
    return str(values[place[1]]).rjust(int(width or 0), "0" if width.startswith("0") else " ")


def _read_names(file: str) -> Mapping[str, str]:
    """Return the name of each server, as a file has them."""
    names: dict[str, str] = {}
    known: dict[str, str] = {}
    for where, server_id, (name,) in read_rows("--from", file, names=("name",), example="ID,web-1"):
        before = known.setdefault(canonical_id(server_id), name)
        if before != name:
            raise UsageError(f"{where}: server {server_id} has two names, {before} and {name}; leave out one")
        check_argument(lambda: check_name(where, name))  # noqa: B023 - called at once
        names.setdefault(server_id, name)
    return names
