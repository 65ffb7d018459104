"""What is known of servers beside their ids: what people call them, and what they are grouped by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from sys import intern
from types import MappingProxyType
from typing import Final

import msgspec

from bms_async import Server
from bms_async.api.bms.server_ids import ShortServer
from bms_async.cli.terminal.texts import strip_control_chars
from bms_async.models.ids import canonical_id

__all__ = ["NOTHING_KNOWN", "KnownServer", "KnownServers"]


class KnownServer(msgspec.Struct, frozen=True, gc=False):
    """What a list has said of a server; the garbage collector does not look through hundreds of thousands of them.

    Attributes:
        name: Its name; empty if it has none.
        zone: Its availability zone; empty if it is not known.
        flavor: The id or the name of its flavor; empty if it is not known.
        tags: Its tags.
        status: Its status when it was read, such as ``ACTIVE``; empty if it is not known.
    """

    name: str = ""
    zone: str = ""
    flavor: str = ""
    tags: tuple[str, ...] = ()
    status: str = ""


_UNKNOWN = KnownServer()


class KnownServers:
    """The servers that a command has read, by id; about 250 bytes each.

    Args:
        servers: Those that are known already, by id.
    """

    def __init__(self, servers: Mapping[str, KnownServer] = MappingProxyType({})) -> None:
        self._servers = {canonical_id(server_id): known for server_id, known in servers.items()}
        # Thousands of servers have the same few: one tuple of these is kept.
        self._tags: dict[tuple[str, ...], tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._servers)

    def __contains__(self, server_id: str) -> bool:
        return canonical_id(server_id) in self._servers

    def __iter__(self) -> Iterator[tuple[str, KnownServer]]:
        """Iterate over ids and what is known of them."""
        return iter(self._servers.items())

    def add(self, server: Server | ShortServer) -> None:
        """Note what is to be known of a server."""
        tags = tuple(server.tags or ())
        flavor = (server.flavor.id or server.flavor.name) if server.flavor else None
        self.note(
            server.id,
            KnownServer(
                server.name or "",
                intern(server.availability_zone or ""),
                intern(flavor or ""),
                self._tags.setdefault(tags, tags),
                intern(str(server.status or "")),
            ),
        )

    def note(self, server_id: str, known: KnownServer) -> None:
        """Note what is known of a server.

        Args:
            server_id: Its id.
            known: What is known of it.
        """
        self._servers[canonical_id(server_id)] = known

    def add_all(self, servers: Iterable[Server | ShortServer]) -> None:
        """Note what is to be known of servers."""
        for server in servers:
            self.add(server)

    def get(self, server_id: str) -> KnownServer:
        """Return what is known of a server; a `KnownServer` without anything if nothing is."""
        return self._servers.get(canonical_id(server_id), _UNKNOWN)

    def label(self, server_id: str) -> str:
        """Return a server for people: its name with the id behind it, or the id alone."""
        name = self.get(server_id).name
        return strip_control_chars(f"{name} ({server_id})" if name else server_id)


NOTHING_KNOWN: Final = KnownServers()
"""For where no server was read."""
