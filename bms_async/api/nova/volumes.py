"""Disks of servers, as the native calls report them (API reference 5.8)."""

from __future__ import annotations

from bms_async.api._envelopes import VolumesResponse
from bms_async.api._registry import define
from bms_async.models import Model, VolumeAttachment
from bms_async.validation.text import check_device
from bms_async.wire import Safety, Service

from ._resource import SERVER, Resource


class VolumeResponse(Model, frozen=True, kw_only=True, rename={"volume": "volumeAttachment"}):
    """What `GET` of one and `POST` answer: the disk in an envelope."""

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
        """Return the EVS disks that a server has.

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
        """Return one EVS disk that a server has.

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
        """Attach an EVS disk to a server; the answer comes before the disk is there.

        Not sent again when an answer is lost: the second time would fail because of the first. The `TransportError`
        then says ``maybe_delivered``, and `list` tells what happened.

        Args:
            server_id: The server; it is not to be paused.
            volume_id: The disk: SCSI, not bootable, and available or shared.
            device: Where the server gets it, such as ``/dev/sdb``: free, and the next in order. The cloud picks one
                where none is given, or where it does not fit.

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
        """Detach an EVS disk from a server; the answer comes before the disk is free.

        Not sent again when an answer is lost: the second time would fail because of the first. The `TransportError`
        then says ``maybe_delivered``, and `list` tells what happened.

        Args:
            server_id: The server; while it runs, its system must not use the disk (unmount it first).
            volume_id: The disk.

        Raises:
            InvalidRequestError: An id is invalid; nothing was sent.
            NotFoundError: The server does not have the disk, or does not exist.

        Source: API reference 5.8.4.
        """
        path = {"server_id": self._id("server_id", server_id), "volume_id": self._id("volume_id", volume_id)}
        await self._session.call(DETACH, path=path)
