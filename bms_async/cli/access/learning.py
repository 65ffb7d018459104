"""Learns what people call the servers that a command is about: a comfort, so what cannot be learnt is left out."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from bms_async import BmsError, InvalidRequestError, NotFoundError, PermissionDeniedError, Server
from bms_async.api.bms.server_ids import ShortServer
from bms_async.models.ids import canonical_id

from .slowly import closing, one_by_one, slowly

if TYPE_CHECKING:
    from .cloud import OpenClient

__all__ = ["NOBODY", "check_credentials", "learn_all", "learn_servers", "list_briefly"]

NOBODY = "00000000-0000-0000-0000-000000000000"
"""The id of no server, to be read where none is at hand."""

_FEW = 20
"""Servers that are read one by one; more are looked for in the list."""

_AT_ONCE = 8
_PATIENCE = 5.0
"""Seconds that names may delay a command for."""


async def learn_servers(cloud: OpenClient, ids: Iterable[str], *, native: bool = False) -> list[str]:
    """Note names, zones, flavors, tags and statuses in ``cloud.known``, as far as they can be learnt soon.

    A few servers are read one by one, many are looked for in the pages of the list. It takes some seconds at most, and
    an error of the cloud is not raised.

    Args:
        cloud: The client.
        ids: The servers; those that are known already are not read again.
        native: Whether they are read by the native calls of OpenStack.

    Returns:
        The servers that the cloud says it does not have.
    """
    unknown: dict[str, str] = {}
    async for server_id in slowly(ids):
        if server_id not in cloud.known:
            unknown.setdefault(canonical_id(server_id), server_id)
    missing: list[str] = []
    with anyio.move_on_after(_PATIENCE):
        if len(unknown) <= _FEW:
            missing = await _read_each(cloud, list(unknown.values()), native=native)
        elif await _look_for(cloud, set(unknown), native=native):
            missing = [server_id async for server_id in slowly(unknown.values()) if server_id not in cloud.known]
    return missing


async def learn_all(cloud: OpenClient) -> None:
    """Note the servers of the list, as `learn_servers` does, for a run whose servers are known to the journal alone.

    Args:
        cloud: The client.
    """
    with anyio.move_on_after(_PATIENCE), suppress(BmsError):
        async with closing(list_briefly(cloud)) as pages:
            async for servers in pages:
                cloud.known.add_all(servers)


def list_briefly(
    cloud: OpenClient, *, name: str | None = None, native: bool = False
) -> AsyncIterable[Sequence[Server | ShortServer]]:
    """Return the list of servers, some at a time, with no more of their fields than people call them by.

    Args:
        cloud: The client.
        name: The name of those that are listed; None for all.
        native: Whether the native list of OpenStack is read, which has all fields.
    """
    if native:
        return one_by_one(cloud.bms.nova.servers.list_details(name=name))
    # The public list reads all fields, which takes three times as long.
    return cloud.bms.servers._list_short(name=name)  # noqa: SLF001


async def check_credentials(cloud: OpenClient, server_id: str = NOBODY, *, native: bool = False) -> None:
    """Check with a read, before anything is changed, that the cloud responds and accepts the credentials.

    Args:
        cloud: The client; what is read is noted in it.
        server_id: The server to read.
        native: Whether it is read by the native call of OpenStack.

    Raises:
        BmsError: It does not respond, or refuses them.
    """
    calls = cloud.bms.nova.servers if native else cloud.bms.servers
    try:
        cloud.known.add(await calls.get(server_id))
    except (InvalidRequestError, NotFoundError, PermissionDeniedError):
        # A response came, and credentials that may not read a server may still stop it.
        return


async def _read_each(cloud: OpenClient, ids: Sequence[str], *, native: bool) -> list[str]:
    waiting, calls = iter(ids), cloud.bms.nova.servers if native else cloud.bms.servers
    missing: list[str] = []

    async def read() -> None:
        for server_id in waiting:
            try:
                cloud.known.add(await calls.get(server_id))
            except NotFoundError:
                missing.append(server_id)
            except BmsError:
                # What fails once for a reason of the cloud's would fail again.
                return

    async with anyio.create_task_group() as readers:
        for _ in range(min(_AT_ONCE, len(ids))):
            readers.start_soon(read)
    return missing


async def _look_for(cloud: OpenClient, wanted: set[str], *, native: bool) -> bool:
    """Note servers of the list; return whether all that are wanted would have been found."""
    try:
        async with closing(list_briefly(cloud, native=native)) as pages:
            async for servers in pages:
                for server in servers:
                    found = canonical_id(server.id)
                    if found in wanted:
                        wanted.discard(found)
                        cloud.known.add(server)
                if not wanted:
                    break
    except BmsError:
        return False
    return True
