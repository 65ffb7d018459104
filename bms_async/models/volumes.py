"""The disks of a server (API reference 4.7 and 5.8)."""

from __future__ import annotations

from .base import Model


class VolumeAttachment(Model, frozen=True, kw_only=True, rename={"server_id": "serverId", "volume_id": "volumeId"}):
    """An EVS disk that is attached to a server (API reference table 4-73 and 5-73).

    Attributes:
        id: The attachment's own id, which `detach_volume` takes.
        volume_id: The disk.
        device: The device name in the server, such as ``/dev/sdb``.
    """

    id: str
    volume_id: str | None = None
    server_id: str | None = None
    device: str | None = None
