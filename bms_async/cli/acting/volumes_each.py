"""``bms servers attach`` and ``detach``: EVS volumes of servers.

The cloud attaches one volume of a server at a time, so those of one server follow each other, each when the job before
it has ended. What is as asked already is left alone: the same file can be given again after a run that failed in part.
The system disk of a server is never detached here; it is looked for before the first call, and again before each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from bms_async import ApiError, BmsClient, FleetError, JobHandle
from bms_async.cli.access.cloud import OpenClient
from bms_async.cli.access.known import KnownServers
from bms_async.cli.access.slowly import slowly
from bms_async.cli.selection.rollouts import ListedServers
from bms_async.cli.terminal.exit import UsageError
from bms_async.models.ids import canonical_id
from bms_async.validation.common import check_id
from bms_async.validation.text import check_device

from .attached import SYSTEM_DEVICE, Disks, find_servers_with, read_disks, volume_id_of
from .common import CommonOptions
from .each import carry_out
from .pairs import read_rows
from .task import CallOne, CallTask, by_id, check_argument

__all__ = ["attach", "detach"]

_ATTACHED_ALREADY: Final = "BMS.1009"


class _Volume(msgspec.Struct, frozen=True):
    """A volume, and where it is wished for in its server.

    Attributes:
        id: The volume.
        device: The device; None for the next one.
    """

    id: str
    device: str | None = None


_Wishes: TypeAlias = Mapping[str, Sequence[_Volume]]


class _VolumeTask(CallTask):
    """Something that is done with volumes of servers.

    Args:
        wishes: The volumes of each server, by its id.
        shared: The volumes of all servers, where a file names none.

    Attributes:
        joint: The word between a volume and its server.
    """

    joint: str

    def __init__(self, wishes: _Wishes, shared: Sequence[_Volume]) -> None:
        self._wishes = wishes
        self._shared = shared

    def _volumes(self, server_id: str) -> Sequence[_Volume]:
        return self._wishes.get(canonical_id(server_id), self._shared)

    async def prepare(self, cloud: OpenClient, servers: list[str] | ListedServers) -> list[str] | ListedServers:
        """Find out which servers the file means.

        Raises:
            UsageError: It has one of them twice.
        """
        if self._wishes:
            self._wishes = await by_id(self._wishes, servers if isinstance(servers, list) else servers.ids, cloud.known)
        return servers

    def calls(self, ids: Sequence[str]) -> int:
        return sum(len(self._volumes(server_id)) for server_id in ids)

    def changes(self, ids: Sequence[str], known: KnownServers) -> Iterator[str]:
        if self._shared:
            return
        for server_id in ids:
            for volume in self._volumes(server_id):
                yield f"{volume.id} {self.joint} {known.label(server_id)}"


class _Attach(_VolumeTask):
    verb = "attach"
    operation = "servers.attach_volume"
    joint = "to"

    @property
    def phrase(self) -> str:
        return f"attach the volume {self._shared[0].id} to" if self._shared else "attach volumes to"

    def make_call(self, bms: BmsClient) -> CallOne:
        async def attach_all(server_id: str) -> JobHandle | None:
            last: JobHandle | None = None
            for volume in self._volumes(server_id):
                if last is not None:
                    await last
                try:
                    last = await bms.servers.attach_volume(server_id, volume.id, device=volume.device)
                except ApiError as error:
                    if error.code != _ATTACHED_ALREADY:
                        raise
            if last is None:
                self.unchanged += 1
            return last

        return attach_all


class _Detach(_VolumeTask):
    verb = "detach"
    operation = "servers.detach_volume"
    joint = "from"
    asks_always = True

    @property
    def phrase(self) -> str:
        return f"detach the volume {self._shared[0].id} from" if self._shared else "detach volumes from"

    async def find(self, cloud: OpenClient, *, whole: bool) -> list[str] | ListedServers:
        volume, listed = self._shared[0].id, ListedServers()
        found = await find_servers_with(cloud.bms, volume)
        if not found:
            raise UsageError(f"no server has the volume {volume}; `bms servers show ID` shows the volumes of one")
        for server in found:
            cloud.known.add(server)
            listed.append(server)
        return listed if whole else [server.id for server in found]

    async def prepare(self, cloud: OpenClient, servers: list[str] | ListedServers) -> list[str] | ListedServers:
        """Leave out the servers that have none of the volumes.

        Raises:
            UsageError: One of the volumes is a system disk.
        """
        servers = await super().prepare(cloud, servers)
        ids = servers if isinstance(servers, list) else [server.id for server in servers]
        disks, left = await read_disks(cloud.bms, ids), dict[str, None]()
        async for server_id in slowly(ids):
            if self._has_any(server_id, disks.get(canonical_id(server_id)), cloud.known):
                left[server_id] = None
        self.unchanged += len(ids) - len(left)
        if isinstance(servers, list):
            return list(left)
        listed = ListedServers()
        async for server in slowly(servers):
            if server.id in left:
                listed.append(server)
        return listed

    def make_call(self, bms: BmsClient) -> CallOne:
        async def detach_all(server_id: str) -> JobHandle | None:
            last: JobHandle | None = None
            attached = {volume_id_of(disk): disk for disk in await bms.servers.list_volumes(server_id)}
            there = [attached[volume.id] for volume in self._volumes(server_id) if volume.id in attached]
            if any(disk.device == SYSTEM_DEVICE for disk in there):
                raise FleetError(
                    "its system disk is among the volumes, and is not detached by this command; nothing was detached",
                    code=None,
                    server_ids=(server_id,),
                )
            for disk in there:
                if last is not None:
                    await last
                last = await bms.servers.detach_volume(server_id, disk.id)
            if last is None:
                self.unchanged += 1
            return last

        return detach_all

    def _has_any(self, server_id: str, attached: Disks | None, known: KnownServers) -> bool:
        """Return whether a server has one of its volumes.

        Raises:
            UsageError: One of them is its system disk.
        """
        if attached is None:
            # The run says what the cloud says of it.
            return True
        there = [volume.id for volume in self._volumes(server_id) if volume.id in attached]
        for volume in there:
            if attached[volume]:
                raise UsageError(
                    f"the volume {volume} is the system disk of {known.label(server_id)}, and system disks are not"
                    " detached by this command; nothing was done"
                )
        return bool(there)


def attach(
    volume: str | None, ids: Sequence[str], options: CommonOptions, *, pairs: str | None, device: str | None
) -> int:
    """Attach volumes to servers, and return the exit code.

    Args:
        volume: The volume, where one is attached to all servers.
        ids: Servers, or a ``-``.
        options: Which servers, and how.
        pairs: A file with a server, a volume and perhaps a device a line.
        device: The device, where no file says it.

    Raises:
        UsageError: The volumes or the servers are missing, or are named twice.
    """
    if pairs is None:
        return carry_out(_Attach({}, [_read_volume(volume, device)]), ids, options)
    if device is not None:
        raise UsageError("--device: expected one volume, got --from; write the device behind each volume of the file")
    wishes, servers = _read_pairs(pairs, volume, options, has_device=True)
    return carry_out(_Attach(wishes, ()), (), options, named=servers)


def detach(volume: str | None, ids: Sequence[str], options: CommonOptions, *, pairs: str | None) -> int:
    """Detach volumes from servers, and return the exit code.

    Args:
        volume: The volume, where one is detached from all servers.
        ids: Servers, or a ``-``; where there are none, and no file or filter, those that have the volume.
        options: Which servers, and how.
        pairs: A file with a server and a volume a line.

    Raises:
        UsageError: The volumes are missing, or are named twice.
    """
    if pairs is None:
        is_found = not ids and options.file is None and not options.filters
        return carry_out(_Detach({}, [_read_volume(volume, None)]), ids, options, is_found=is_found)
    wishes, servers = _read_pairs(pairs, volume, options, has_device=False)
    return carry_out(_Detach(wishes, ()), (), options, named=servers)


def _read_volume(volume: str | None, device: str | None) -> _Volume:
    if volume is None:
        raise UsageError(
            "expected a volume: give its id before the servers, or --from FILE with a server and a volume a line"
        )
    check_argument(lambda: check_id("VOLUME", volume))
    if device is not None:
        check_argument(lambda: check_device("--device", device))
    return _Volume(canonical_id(volume), device)


def _read_pairs(
    file: str, volume: str | None, options: CommonOptions, *, has_device: bool
) -> tuple[dict[str, list[_Volume]], list[str]]:
    """Return the volumes of each server, and the servers as the file has them."""
    if volume is not None or options.file or options.filters:
        raise UsageError("--from: the file names the servers and volumes; leave out ids, --file and filters")
    wishes, servers = dict[str, list[_Volume]](), list[str]()
    columns, example = (
        (("volume", "device"), "SERVER,VOLUME,/dev/sdb") if has_device else (("volume",), "SERVER,VOLUME")
    )
    for where, server, (typed, *devices) in read_rows(
        "--from", file, names=columns, example=example, optional=len(columns) - 1
    ):
        check_argument(lambda: check_id(where, typed))  # noqa: B023 - called at once
        for device in devices:
            check_argument(lambda: check_device(where, device))  # noqa: B023 - called at once
        wished = _Volume(canonical_id(typed), devices[0] if devices else None)
        volumes = wishes.setdefault(canonical_id(server), [])
        if not volumes:
            servers.append(server)
        if any(other.id == wished.id for other in volumes):
            raise UsageError(f"{where}: the volume {typed} is given to server {server} twice; leave out one")
        volumes.append(wished)
    return wishes, servers
