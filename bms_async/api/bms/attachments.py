"""NICs and disks of servers (API reference 4.6 and 4.7)."""

from __future__ import annotations

from bms_async.api._envelopes import InterfacesResponse, VolumesResponse
from bms_async.api._registry import define
from bms_async.jobs import JobHandle
from bms_async.models import Interface, JobAccepted, VolumeAttachment
from bms_async.validation.common import read_id
from bms_async.validation.text import check_device
from bms_async.wire import Safety

from ._base import SERVER, ServerResource

LIST_INTERFACES = define(
    "servers.list_interfaces",
    "GET",
    SERVER + "/os-interface",
    InterfacesResponse,
    title="Read a server's NICs",
    chapter="4.6.1",
    safety=Safety.READ,
    permission="bms:servers:get",
)
ATTACH_VOLUME = define(
    "servers.attach_volume",
    "POST",
    SERVER + "/attachvolume",
    JobAccepted,
    title="Attach a disk to a server",
    chapter="4.7.1",
    safety=Safety.UNSAFE,
    success=(202,),
)
DETACH_VOLUME = define(
    "servers.detach_volume",
    "DELETE",
    SERVER + "/detachvolume/{attachment_id}",
    JobAccepted,
    title="Detach a disk from a server",
    chapter="4.7.2",
    safety=Safety.UNSAFE,
    success=(202,),
)
LIST_VOLUMES = define(
    "servers.list_volumes",
    "GET",
    SERVER + "/os-volume_attachments",
    VolumesResponse,
    title="Read a server's disks",
    chapter="4.7.3",
    safety=Safety.READ,
)


class Attachments(ServerResource):
    """The calls about NICs and disks."""

    async def list_interfaces(self, server_id: str) -> tuple[Interface, ...]:
        """Return a server's NICs.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 4.6.1; 500 calls a minute.
        """
        response = await self._session.call(LIST_INTERFACES, path={"server_id": self._checked(server_id)})
        return response.interfaces or ()

    async def list_volumes(self, server_id: str) -> tuple[VolumeAttachment, ...]:
        """Return a server's EVS disks.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 4.7.3; 500 calls a minute.
        """
        response = await self._session.call(LIST_VOLUMES, path={"server_id": self._checked(server_id)})
        return response.volumes or ()

    async def attach_volume(self, server_id: str, volume_id: str, *, device: str | None = None) -> JobHandle:
        """Attach an EVS disk to a server and return the job, which is watched from then on.

        The disk must be of the device type SCSI, not bootable, and available or shareable; a server has at most 40.
        Never sent again when a response is lost: a second request would be refused because of the first one, and the
        job of the first one would be unknown. The `TransportError` then says ``maybe_delivered``, and `list_volumes`
        shows what happened.

        Args:
            server_id: The server.
            volume_id: The disk.
            device: The device name, such as ``/dev/sdb``; the cloud picks the next one if None.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ApiError: The cloud refused.

        Source: API reference 4.7.1; 100 calls a minute.
        """
        path = {"server_id": self._checked(server_id)}
        volume = read_id("volume_id", volume_id, check=self._check)
        # In the reference an empty text means that the cloud picks a device.
        if self._check and device not in {None, ""}:
            check_device("device", device)
        body = {"volumeAttachment": {"volumeId": volume, "device": device or ""}}
        accepted = await self._session.call(ATTACH_VOLUME, path=path, body=body)
        return self._watch(accepted, ATTACH_VOLUME, (path["server_id"],))

    async def detach_volume(self, server_id: str, attachment_id: str) -> JobHandle:
        """Detach an EVS disk from a server and return the job, which is watched from then on.

        Unmount it first if the server runs; the disk at ``/dev/sda`` can be detached from a stopped server only.
        Never sent again when a response is lost: a second request would be refused because of the first one, and the
        job of the first one would be unknown. The `TransportError` then says ``maybe_delivered``, and `list_volumes`
        shows what happened.

        Args:
            server_id: The server.
            attachment_id: The ``id`` of the disk in `list_volumes`.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ApiError: The cloud refused.

        Source: API reference 4.7.2; 100 calls a minute.
        """
        attachment = read_id("attachment_id", attachment_id, check=self._check)
        path = {"server_id": self._checked(server_id), "attachment_id": attachment}
        accepted = await self._session.call(DETACH_VOLUME, path=path)
        return self._watch(accepted, DETACH_VOLUME, (path["server_id"],))
