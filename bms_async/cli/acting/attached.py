"""Which volumes servers have, and which of these are system disks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import anyio

from bms_async import ApiError, BmsClient, BmsError, Server
from bms_async.models import VolumeAttachment
from bms_async.models.ids import canonical_id

__all__ = ["SYSTEM_DEVICE", "Disks", "find_servers_with", "read_disks", "volume_id_of"]

SYSTEM_DEVICE: Final = "/dev/sda"
"""Where the system disk is (API reference 4.7.2)."""

Disks: TypeAlias = Mapping[str, bool]
"""The volumes of one server by id, and whether each is its system disk."""

_FEW: Final = 20
"""Servers whose volumes are read one by one; those of more are read from the list."""

_AT_ONCE: Final = 8


async def read_disks(bms: BmsClient, ids: Sequence[str]) -> Mapping[str, Disks]:
    """Return the volumes of servers by the servers' ids; servers that the cloud does not show are left out.

    Args:
        bms: The client.
        ids: The servers.

    Raises:
        BmsError: The cloud does not respond.
    """
    wanted, disks = set(map(canonical_id, ids)), dict[str, Disks]()
    if len(wanted) > _FEW:
        async for server in bms.servers.list():
            if canonical_id(server.id) in wanted:
                disks[canonical_id(server.id)] = _disks_in(server)
        return disks
    waiting, failures = iter(ids), list[BmsError]()

    async def read() -> None:
        for server_id in waiting:
            try:
                attached = await bms.servers.list_volumes(server_id)
            except ApiError:
                continue
            except BmsError as error:
                # Raised below, outside of the task group, which would wrap it.
                failures.append(error)
                readers.cancel_scope.cancel()
                return
            disks[canonical_id(server_id)] = {volume_id_of(disk): disk.device == SYSTEM_DEVICE for disk in attached}

    async with anyio.create_task_group() as readers:
        for _ in range(min(_AT_ONCE, len(wanted))):
            readers.start_soon(read)
    if failures:
        raise failures[0]
    return disks


async def find_servers_with(bms: BmsClient, volume: str) -> list[Server]:
    """Return the servers that have a volume.

    Args:
        bms: The client.
        volume: The volume.

    Raises:
        BmsError: The cloud does not respond, or refuses.
    """
    return [server async for server in bms.servers.list() if volume in _disks_in(server)]


def volume_id_of(disk: VolumeAttachment) -> str:
    """Return the volume of an attachment, which may have an id of its own."""
    return canonical_id(disk.volume_id or disk.id)


def _disks_in(server: Server) -> Disks:
    return {
        canonical_id(disk.id): disk.device == SYSTEM_DEVICE or disk.boot_index == 0 for disk in server.volumes_attached
    }
