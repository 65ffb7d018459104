"""What the servers of a place have had lately: tags, zones and flavors, for the completion of a shell.

A list of all servers leaves them in a small file of the state folder, one a place. Completion reads that file; if it is
too old, it asks for the first page of the list, and takes what comes within `_PATIENCE`. Nothing here ever fails: a
shell that completes a word has no room for an error.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import msgspec

from bms_async import BmsError
from bms_async._addresses import state_folder

if TYPE_CHECKING:
    from bms_async import Server
    from bms_async.config import Settings

__all__ = ["Seen", "find_seen"]

_FOLDER = "seen"
_FRESH = 600.0
"""Seconds for which nothing is asked again."""

_AGAIN = 60.0
"""Seconds until the cloud is asked again after it has not answered in time."""

_LONGEST = 200
"""Characters of a file's name; the project is at its end."""

_PATIENCE = 1.5
_LIST = "/v1/{project_id}/baremetalservers/detail"
_PAGE = 1000
_MOST = 2000
"""How many of a kind are kept."""


class _Flavor(msgspec.Struct):
    id: str | None = None


class _Server(msgspec.Struct):
    tags: list[str] | None = None
    zone: str | None = msgspec.field(name="OS-EXT-AZ:availability_zone", default=None)
    flavor: _Flavor | None = None


class _Page(msgspec.Struct):
    servers: list[_Server]


class Seen(msgspec.Struct):
    """What servers have had.

    Attributes:
        tags: Their tags.
        zones: Their availability zones.
        flavors: The ids of their flavors.
        at: When they were listed, in seconds since the epoch; 0 if they never were.
        tried: When they were asked for last, answered or not.
    """

    tags: set[str] = msgspec.field(default_factory=set)
    zones: set[str] = msgspec.field(default_factory=set)
    flavors: set[str] = msgspec.field(default_factory=set)
    at: float = 0.0
    tried: float = 0.0

    def add(self, server: Server) -> None:
        """Note what a server has."""
        if server.tags and len(self.tags) < _MOST:
            self.tags.update(server.tags)
        if server.availability_zone:
            self.zones.add(server.availability_zone)
        flavor = server.flavor and (server.flavor.id or server.flavor.name)
        if flavor and len(self.flavors) < _MOST:
            self.flavors.add(flavor)

    def save(self, settings: Settings) -> None:
        """Write it to the file of a place; where that cannot be, nothing is kept.

        Args:
            settings: The place.
        """
        with suppress(OSError):
            path = _path(settings)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not synced, as it may be lost, but whole for whoever reads it.
            unfinished = path.with_suffix(".new")
            unfinished.write_bytes(msgspec.json.encode(self))
            unfinished.replace(path)

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Return what the file of a place has; nothing where there is none, or none that can be read."""
        with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return msgspec.json.decode(_path(settings).read_bytes(), type=cls)
        return cls()

    def saved_now(self, settings: Settings) -> None:
        """Write it as what a list of all servers has just shown."""
        self.at = self.tried = time.time()
        self.save(settings)


def find_seen(settings: Settings) -> Seen:
    """Return what servers have had lately; if nobody has looked lately, the cloud is asked, for 1.5 s at most.

    Args:
        settings: The place.
    """
    seen, now = Seen.load(settings), time.time()
    # A clock that was set back must not keep an old file for ever.
    if 0 <= now - seen.at < _FRESH or 0 <= now - seen.tried < _AGAIN:
        return seen
    # Before it is asked: where nothing answers, the process may be ended meanwhile.
    seen.tried = now
    seen.save(settings)
    import asyncio

    fresh = asyncio.run(_ask(settings))
    if fresh is None:
        return seen
    fresh.at = fresh.tried = now
    fresh.save(settings)
    return fresh


async def _ask(settings: Settings) -> Seen | None:
    import anyio

    from .cloud import open_client

    seen = Seen()
    # What was listed before is offered all the same.
    with suppress(BmsError, msgspec.MsgspecError), anyio.move_on_after(_PATIENCE):
        async with open_client(settings) as cloud:
            # One call, where the list would fetch the next page ahead.
            page = await cloud.bms.with_options(retry=None).request("GET", _LIST, query={"limit": _PAGE, "offset": 1})
        for server in msgspec.convert(page, _Page).servers:
            seen.tags.update(server.tags or ())
            seen.zones.update([server.zone] if server.zone else ())
            seen.flavors.update([server.flavor.id] if server.flavor and server.flavor.id else ())
        return seen
    return None


def _path(settings: Settings) -> Path:
    place = f"{settings.endpoint} {settings.project_id or settings.project_name or ''} {settings.limits_account or ''}"
    # Not a digest: those bring all of OpenSSL.
    return state_folder() / _FOLDER / f"{quote(place, safe='')[-_LONGEST:]}.json"
