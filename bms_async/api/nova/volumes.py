"""Disks of servers in the native API (API reference 5.8)."""

from __future__ import annotations

from bms_async.api._envelopes import VolumesResponse
from bms_async.api._registry import define
from bms_async.models import Model, VolumeAttachment
from bms_async.validation.text import check_device
from bms_async.wire import Safety, Service

from ._resource import SERVER, Resource


class VolumeResponse(Model, frozen=True, kw_only=True, rename={"volume": "volumeAttachment"}):
    """One disk of a server."""

    volume: VolumeAttachment


_VOLUMES = SERVER + "/os-volume_attachments"

LIST = define(
    "nova.volumes.list",
    "GET",
    _VOLUMES,
    VolumesResponse,
    title="Read a server's disks",
    chapter="5.8.1",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
GET = define(
    "nova.volumes.get",
    "GET",
    _VOLUMES + "/{volume_id}",
    VolumeResponse,
    title="Read one disk of a server",
    chapter="5.8.2",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
ATTACH = define(
    "nova.volumes.attach",
    "POST",
    _VOLUMES,
    VolumeResponse,
    title="Attach a disk to a server",
    chapter="5.8.3",
    safety=Safety.UNSAFE,
    service=Service.COMPUTE,
)
DETACH = define(
    "nova.volumes.detach",
    "DELETE",
    _VOLUMES + "/{volume_id}",
    type(None),
    title="Detach a disk from a server",
    chapter="5.8.4",
    safety=Safety.UNSAFE,
    service=Service.COMPUTE,
)


class NovaVolumes(Resource):
    """Disks of servers: ``bms.nova.volumes``."""

    async def list(self, server_id: str) -> tuple[VolumeAttachment, ...]:
        """Return a server's EVS disks.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.8.1.
        """
        response = await self._session.call(LIST, path={"server_id": self._id("server_id", server_id)})
        return response.volumes or ()

    async def get(self, server_id: str, volume_id: str) -> VolumeAttachment:
        """Return one EVS disk of a server.

        Args:
            server_id: The server.
            volume_id: The disk.

        Raises:
            InvalidRequestError: An id is invalid; nothing was sent.
            NotFoundError: The server does not have the disk, or does not exist.

        Source: API reference 5.8.2.
        """
        path = {"server_id": self._id("server_id", server_id), "volume_id": self._id("volume_id", volume_id)}
        response = await self._session.call(GET, path=path)
        return response.volume

    async def attach(self, server_id: str, volume_id: str, device: str | None = None) -> VolumeAttachment:
        """Begin to attach an EVS disk to a server; the response comes before the disk is attached.

        Not sent again when a response is lost: a second request would fail because of the first. The `TransportError`
        then says ``maybe_delivered``, and `list` shows what happened.

        Args:
            server_id: The server; it must not be paused.
            volume_id: The disk: SCSI, not bootable, and available or shared.
            device: The device name, such as ``/dev/sdb``: the next free one. The cloud picks one if it is None or
                unsuitable.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ApiError: The cloud refused, because of the server's state or the disk's.

        Source: API reference 5.8.3.
        """
        path = {"server_id": self._id("server_id", server_id)}
        volume = {"volumeId": self._id("volume_id", volume_id)}
        if device is not None:
            volume["device"] = check_device("device", device) if self._check else device
        response = await self._session.call(ATTACH, path=path, body={"volumeAttachment": volume})
        return response.volume

    async def detach(self, server_id: str, volume_id: str) -> None:
        """Begin to detach an EVS disk from a server; the response comes before the disk is detached.

        Not sent again when a response is lost: a second request would fail because of the first. The `TransportError`
        then says ``maybe_delivered``, and `list` shows what happened.

        Args:
            server_id: The server; if it runs, unmount the disk first.
            volume_id: The disk.

        Raises:
            InvalidRequestError: An id is invalid; nothing was sent.
            NotFoundError: The server does not have the disk, or does not exist.

        Source: API reference 5.8.4.
        """
        path = {"server_id": self._id("server_id", server_id), "volume_id": self._id("volume_id", volume_id)}
        await self._session.call(DETACH, path=path)
