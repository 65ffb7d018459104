"""The response envelopes that the BMS service and the compute service share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from bms_async.models import Flavor, Interface, Link, Model, Server, VolumeAttachment


class ServerResponse(Model, frozen=True, kw_only=True):
    """One server."""

    server: Server


class FlavorsResponse(Model, frozen=True, kw_only=True, rename={"links": "flavors_links"}):
    """All flavors, or one page of them; only the compute service links to a next page."""

    flavors: tuple[Flavor, ...] | Literal[""] | None
    links: tuple[Link, ...] = ()


class InterfacesResponse(Model, frozen=True, kw_only=True, rename={"interfaces": "interfaceAttachments"}):
    """All NICs of a server."""

    interfaces: tuple[Interface, ...] | Literal[""] | None


class VolumesResponse(Model, frozen=True, kw_only=True, rename={"volumes": "volumeAttachments"}):
    """All disks of a server; where the reference prints a single one, it is a list of one."""

    volumes: tuple[VolumeAttachment, ...] | Literal[""] | None


class UpdatedMetadataResponse(Model, frozen=True, kw_only=True):
    """The metadata of a server after an update."""

    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
