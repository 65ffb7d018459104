"""The NICs and the disks of a server (API reference 4.6 and 4.7)."""

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
    title="Give a server a disk",
    chapter="4.7.1",
    safety=Safety.UNSAFE,
    success=(202,),
)
DETACH_VOLUME = define(
    "servers.detach_volume",
    "DELETE",
    SERVER + "/detachvolume/{attachment_id}",
    JobAccepted,
    title="Take a disk from a server",
    chapter="4.7.2",
    safety=Safety.UNSAFE,
    success=(202,),
)
LIST_VOLUMES = define(
    "servers.list_volumes",
    "GET",
    SERVER + "/os-volume_attachments",
    VolumesResponse,
    title="Read which disks a server has",
    chapter="4.7.3",
    safety=Safety.READ,
)


class Attachments(ServerResource):
    """NICs and disks."""

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
        """Return the EVS disks that a server has.

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
        """Give a server an EVS disk and return the job that does it; it is watched from then on.

        The disk must be of the device type SCSI, not bootable, and available or shareable; a server has at most 40.
        Never sent again when an answer is lost: the second request would be refused for what the first one did, and
        its job would be nobody's. The `TransportError` then says ``maybe_delivered``, and `list_volumes` tells.

        Args:
            server_id: The server.
            volume_id: The disk.
            device: Where the server is to have it, such as ``/dev/sdb``; the cloud picks the next one if None.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ApiError: The cloud refused.

        Source: API reference 4.7.1; 100 calls a minute.
        """
        path = {"server_id": self._checked(server_id)}
        volume = read_id("volume_id", volume_id, check=self._check)
        # An empty text is the reference's own way of saying that the cloud is to pick one.
        if self._check and device not in {None, ""}:
            check_device("device", device)
        body = {"volumeAttachment": {"volumeId": volume, "device": device or ""}}
        accepted = await self._session.call(ATTACH_VOLUME, path=path, body=body)
        return self._watch(accepted, ATTACH_VOLUME, (path["server_id"],))

    async def detach_volume(self, server_id: str, attachment_id: str) -> JobHandle:
        """Take an EVS disk from a server and return the job that does it; it is watched from then on.

        Unmount it first where the server runs; the disk at ``/dev/sda`` can be taken from a stopped server only.
        Never sent again when an answer is lost: the second request would be refused for what the first one did, and
        its job would be nobody's. The `TransportError` then says ``maybe_delivered``, and `list_volumes` tells.

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
