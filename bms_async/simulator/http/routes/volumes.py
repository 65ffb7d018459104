"""EVS disks: attached and detached by jobs on one side, at once on the other (API reference 4.7 and 5.8)."""

import re
import string
from typing import Any, Final

import msgspec
from starlette.routing import Route

from bms_async.simulator.core.attributes import Disk, disks_of, flavor_of
from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.refusals import Refusal, bad_request, native
from bms_async.simulator.core.servers import Server
from bms_async.simulator.http.gateway import Call, Gateway, Reply
from bms_async.simulator.http.microversions import microversion
from bms_async.simulator.http.requests import read_native_wish, read_wish

__all__ = ["disk_routes"]

_ENCODE: Final = msgspec.json.Encoder().encode
_MAX_DISKS: Final = 40
_ROOT: Final = "/dev/sda"
_DEVICE: Final = re.compile(r"/dev/sd[a-z]{1,2}")
_VOLUME: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LETTERS: Final = ("", *string.ascii_lowercase)
_DEVICES: Final = [f"/dev/sd{first}{second}" for first in _LETTERS for second in string.ascii_lowercase]
_SETTLED: Final = {"ACTIVE", "SHUTOFF"}

_NATIVE_STATUS: Final = {
    "BMS.0103": 404,
    "BMS.0114": 404,
    "BMS.1002": 403,
    "BMS.0315": 403,
    "BMS.0104": 409,
    "BMS.0105": 409,
    "BMS.0047": 409,
    "BMS.1001": 409,
}
"""Nova's status for the same errors; 400 for all others."""


def disk_routes(cloud: Cloud, gateway: Gateway) -> list[Route]:
    """The routes for disks, of both APIs."""
    calls, nova = _VolumeRoutes(cloud), _NativeCalls(cloud)
    guard = gateway.guard
    server = "/v1/{project_id}/baremetalservers/{server_id}"
    attachments = "/v2.1/{project_id}/servers/{server_id}/os-volume_attachments"
    one = f"{attachments}/{{volume_id}}"
    return [
        Route(f"{server}/attachvolume", guard("servers.attach_volume", calls.attach), methods=["POST"]),
        Route(
            f"{server}/detachvolume/{{volume_id}}",
            guard("servers.detach_volume", calls.detach),
            methods=["DELETE"],
        ),
        Route(f"{server}/os-volume_attachments", guard("servers.list_volumes", calls.list)),
        Route(attachments, guard("nova.volumes.list", nova.list)),
        Route(attachments, guard("nova.volumes.attach", nova.attach), methods=["POST"]),
        Route(one, guard("nova.volumes.get", nova.get)),
        Route(one, guard("nova.volumes.detach", nova.detach), methods=["DELETE"]),
    ]


class _Rack:
    """The disks of one server."""

    def __init__(self, cloud: Cloud, server: Server) -> None:
        self._cloud = cloud
        self.server = server
        self._extra = cloud.attributes_of(server)
        self.disks = disks_of(server, self._extra)
        self._busy = {} if self._extra is None else self._extra.busy_disks

    def next_device(self) -> str:
        """The name that comes next; the first one is the system's, wherever that is."""
        taken = {_ROOT, *(disk.device for disk in self.disks), *(disk.device for disk in self._busy.values())}
        return next(device for device in _DEVICES if device not in taken)

    def allow(self, volume_id: object, device: object, *, in_order: bool) -> Disk:
        """Say which disk will be attached where.

        Raises:
            Refusal: It cannot be attached, or not there.
        """
        if not isinstance(volume_id, str) or not _VOLUME.fullmatch(volume_id):
            raise Refusal(400, "BMS.0103", f"No disk has the id {volume_id}.")
        if not flavor_of(self.server, self._extra).takes_volumes:
            raise Refusal(400, "BMS.0315", "No disk can be attached to a server of this flavor.")
        if self.server.status not in _SETTLED or self.server.action == "delete":
            raise Refusal(400, "BMS.1001", "Disks are attached to servers that are on or off.")
        self._check_free(volume_id)
        expected = self.next_device()
        if device in {None, ""}:
            return Disk(volume_id, expected)
        if not isinstance(device, str) or not _DEVICE.fullmatch(device):
            raise Refusal(400, "BMS.0105", f"{device} is not a device for a disk.")
        if device == _ROOT:
            raise Refusal(400, "BMS.0104", "A data disk cannot take the place of the system's.")
        if device == expected:
            return Disk(volume_id, device)
        taken = {disk.device for disk in (*self.disks, *self._busy.values())}
        if in_order or device in taken:
            raise Refusal(400, "BMS.0105", f"{device} cannot be taken: the next one is {expected}.")
        return Disk(volume_id, expected)

    def find(self, volume_id: str) -> Disk:
        """A disk that is attached.

        Raises:
            Refusal: It is not.
        """
        for disk in self.disks:
            if disk.volume_id == volume_id:
                return disk
        raise Refusal(400, "BMS.0114", f"The disk {volume_id} is not attached to this server.")

    def let_go(self, volume_id: str) -> Disk:
        """A disk that may be detached now.

        Raises:
            Refusal: It may not.
        """
        disk = self.find(volume_id)
        if volume_id in self._busy:
            raise Refusal(400, "BMS.1011", f"Something is being done with the disk {volume_id}.")
        if disk.device == _ROOT and self.server.status != "SHUTOFF":
            raise Refusal(400, "BMS.0047", "The system disk can only be detached from a server that is off.")
        return disk

    def hold(self, disk: Disk) -> None:
        """Keep a disk for a job."""
        self._cloud.change(self.server).busy_disks[disk.volume_id] = disk
        self._cloud.volumes[disk.volume_id] = self.server.id

    def put(self, disk: Disk, *, done: bool) -> None:
        """End an attachment, if the server is still there."""
        if self.server.status == "DELETED":
            return
        extra = self._cloud.change(self.server)
        extra.busy_disks.pop(disk.volume_id, None)
        if done:
            extra.disks = [*disks_of(self.server, extra), disk]
            self._cloud.volumes[disk.volume_id] = self.server.id
        else:
            self._cloud.volumes.pop(disk.volume_id, None)

    def take(self, disk: Disk, *, done: bool) -> None:
        """End a detachment, if the server is still there."""
        if self.server.status == "DELETED":
            return
        extra = self._cloud.change(self.server)
        extra.busy_disks.pop(disk.volume_id, None)
        if done:
            extra.disks = [each for each in disks_of(self.server, extra) if each != disk]
            self._cloud.volumes.pop(disk.volume_id, None)

    def _check_free(self, volume_id: str) -> None:
        if volume_id in self._busy:
            raise Refusal(400, "BMS.1011", f"Something is being done with the disk {volume_id}.")
        if any(disk.volume_id == volume_id for disk in self.disks):
            raise Refusal(400, "BMS.1009", f"The disk {volume_id} is attached to this server already.")
        if volume_id in self._cloud.volumes:
            raise Refusal(400, "BMS.1003", f"The disk {volume_id} is attached to another server.")
        if len(self.disks) + len(self._busy.keys() - {disk.volume_id for disk in self.disks}) >= _MAX_DISKS:
            raise Refusal(400, "BMS.1002", f"This server has {_MAX_DISKS} disks.")


class _VolumeRoutes:
    """The BMS API's."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def attach(self, call: Call) -> Reply:
        """API reference 4.7.1."""
        rack = await self._rack(call)
        wish = read_wish(call.content, "volumeAttachment")
        disk = rack.allow(wish.get("volumeId"), wish.get("device"), in_order=True)
        rack.hold(disk)
        return self._begin("baremetalAttachVolume", rack, disk, "BMS.3019", lambda done: rack.put(disk, done=done))

    async def detach(self, call: Call) -> Reply:
        """API reference 4.7.2."""
        rack = await self._rack(call)
        disk = rack.let_go(call.path("volume_id"))
        rack.hold(disk)
        return self._begin("baremetalDetachVolume", rack, disk, "BMS.0006", lambda done: rack.take(disk, done=done))

    async def list(self, call: Call) -> bytes:
        """API reference 4.7.3."""
        rack = await self._rack(call)
        return _ENCODE({"volumeAttachments": [_document(rack.server, disk) for disk in rack.disks]})

    async def _rack(self, call: Call) -> _Rack:
        await self._cloud.settle()
        return _Rack(self._cloud, self._cloud.server(call.path("server_id")))

    def _begin(self, kind: str, rack: _Rack, disk: Disk, failure: str, then: Any) -> Reply:
        entities = {"volume_id": disk.volume_id}
        job = self._cloud.activity.start_single(kind, rack.server, entities, failure=failure, then=then)
        return Reply(202, b'{"job_id":"%b"}' % job.id.encode())


class _NativeCalls:
    """Nova's."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def list(self, call: Call) -> bytes:
        """API reference 5.8.1."""
        rack = await self._rack(call)
        return _ENCODE({"volumeAttachments": [_document(rack.server, disk) for disk in rack.disks]})

    async def get(self, call: Call) -> bytes:
        """API reference 5.8.2."""
        rack = await self._rack(call)
        try:
            disk = rack.find(call.path("volume_id"))
        except Refusal as refusal:
            raise _natively(refusal) from None
        return _ENCODE({"volumeAttachment": _document(rack.server, disk)})

    async def attach(self, call: Call) -> bytes:
        """API reference 5.8.3."""
        rack = await self._rack(call)
        wish = read_native_wish(call.content, "volumeAttachment")
        if not isinstance(wish.get("volumeId"), str):
            raise bad_request("volumeId must be a text.")
        try:
            disk = rack.allow(wish["volumeId"], wish.get("device"), in_order=False)
        except Refusal as refusal:
            raise _natively(refusal) from None
        rack.put(disk, done=True)
        return _ENCODE({"volumeAttachment": _document(rack.server, disk)})

    async def detach(self, call: Call) -> bytes:
        """API reference 5.8.4."""
        rack = await self._rack(call)
        try:
            disk = rack.let_go(call.path("volume_id"))
        except Refusal as refusal:
            raise _natively(refusal) from None
        rack.take(disk, done=True)
        return b""

    async def _rack(self, call: Call) -> _Rack:
        microversion(call.request)
        await self._cloud.settle()
        return _Rack(self._cloud, self._cloud.machine(call.path("server_id")))


def _natively(refusal: Refusal) -> Refusal:
    return native(_NATIVE_STATUS.get(refusal.code, 400), refusal.message)


def _document(server: Server, disk: Disk) -> dict[str, str]:
    return {"device": disk.device, "id": disk.volume_id, "serverId": server.id, "volumeId": disk.volume_id}
