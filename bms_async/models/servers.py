"""Servers (API reference 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from .base import Model, Moment, OpenEnum, OpenIntEnum, read_datetime

_PASSWORD = "admin_pass"  # noqa: S105 - the key under which a Windows server has its password (API reference 5.2.1)

BARE_METAL_TAG = "__type_baremetal"
"""The tag of bare-metal servers; virtual machines do not have it."""


class ServerStatus(OpenEnum):
    """The status of a server (API reference 4.3.1, table 4-7). An undocumented status is kept."""

    ACTIVE = "ACTIVE"
    BUILD = "BUILD"
    ERROR = "ERROR"
    HARD_REBOOT = "HARD_REBOOT"
    REBOOT = "REBOOT"
    SHUTOFF = "SHUTOFF"


class PowerState(OpenIntEnum):
    """Whether the machine has power (API reference 4.3.1, table 4-7)."""

    NO_STATE = 0
    RUNNING = 1
    SHUTDOWN = 4


class Address(
    Model,
    frozen=True,
    kw_only=True,
    rename={
        "address": "addr",
        "mac_address": "OS-EXT-IPS-MAC:mac_addr",
        "port_id": "OS-EXT-IPS:port_id",
        "type": "OS-EXT-IPS:type",
    },
):
    """One IP address of a server (API reference table 4-8).

    Attributes:
        address: The address itself, IPv4 or IPv6 by ``version``.
        type: ``fixed`` for a private address, ``floating`` for an elastic one.
    """

    address: str | None = None
    version: int | None = None
    type: str | None = None
    mac_address: str | None = None
    port_id: str | None = None


class Link(Model, frozen=True, kw_only=True):
    """A link to a resource (API reference table 4-10)."""

    rel: str | None = None
    href: str | None = None


class ServerFlavor(Model, frozen=True, kw_only=True):
    """The flavor of a server (API reference table 4-11); ``disk`` in GB (0: not limited), ``ram`` in MB."""

    id: str | None = None
    name: str | None = None
    disk: int | None = None
    vcpus: int | None = None
    ram: int | None = None
    links: tuple[Link, ...] = ()


class SecurityGroup(Model, frozen=True, kw_only=True):
    """A security group that a server belongs to (API reference table 4-12)."""

    id: str | None = None
    name: str | None = None


class Fault(Model, frozen=True, kw_only=True):
    """Why a server is faulty (API reference table 4-13)."""

    code: int | None = None
    message: str | None = None
    details: str | None = None
    created: Moment = None


class AttachedVolume(Model, frozen=True, kw_only=True, rename={"boot_index": "bootIndex"}):
    """A disk of a server (API reference table 4-14); ``boot_index`` is 0 for a boot disk, -1 for another."""

    id: str
    delete_on_termination: bool | None = None
    boot_index: int | None = None
    device: str | None = None


class SchedulerHints(Model, frozen=True, kw_only=True):
    """The hints by which the server was placed (API reference tables 4-15, 4-24 and 5-25).

    Attributes:
        dec_baremetal: ``share`` or ``dedicate``.
        group: The ids of the server groups that it is in.
    """

    dec_baremetal: tuple[str, ...] = ()
    group: tuple[str, ...] = ()


class SystemTag(Model, frozen=True, kw_only=True):
    """A tag that the cloud itself sets (API reference table 4-17)."""

    key: str | None = None
    value: str | None = None


class Image(Model, frozen=True, kw_only=True, rename={"os_type": "__os_type"}):
    """The image a server was made from (API reference table 4-9)."""

    id: str | None = None
    name: str | None = None
    os_type: str | None = None
    links: tuple[Link, ...] = ()


_SERVER_FIELDS = {
    "access_ipv4": "accessIPv4",
    "access_ipv6": "accessIPv6",
    "availability_zone": "OS-EXT-AZ:availability_zone",
    "disk_config": "OS-DCF:diskConfig",
    "host": "OS-EXT-SRV-ATTR:host",
    "host_id": "hostId",
    "hostname": "OS-EXT-SRV-ATTR:hostname",
    "hypervisor_hostname": "OS-EXT-SRV-ATTR:hypervisor_hostname",
    "instance_name": "OS-EXT-SRV-ATTR:instance_name",
    "kernel_id": "OS-EXT-SRV-ATTR:kernel_id",
    "launch_index": "OS-EXT-SRV-ATTR:launch_index",
    "_launched_at": "OS-SRV-USG:launched_at",
    "power_state": "OS-EXT-STS:power_state",
    "ramdisk_id": "OS-EXT-SRV-ATTR:ramdisk_id",
    "reservation_id": "OS-EXT-SRV-ATTR:reservation_id",
    "root_device_name": "OS-EXT-SRV-ATTR:root_device_name",
    "scheduler_hints": "os:scheduler_hints",
    "task_state": "OS-EXT-STS:task_state",
    "_terminated_at": "OS-SRV-USG:terminated_at",
    "user_data": "OS-EXT-SRV-ATTR:user_data",
    "vm_state": "OS-EXT-STS:vm_state",
    "volumes_attached": "os-extended-volumes:volumes_attached",
}


class Server(Model, frozen=True, kw_only=True, rename=_SERVER_FIELDS):
    """A server (API reference 4.3.1, table 4-7).

    A field that the cloud leaves out or sends as ``null`` is None, or empty if it is a collection. A text that is sent
    as ``""`` is empty; any other field that is sent as ``""`` is None.

    Attributes:
        id: The id that every call takes.
        name: The name, which several servers may share.
        status: The status of the server as a whole; ``vm_state``, ``task_state`` and ``power_state`` are finer.
        task_state: The operation in progress (``powering-off``, ``reboot_started_hard``...), None if there is none.
        power_state: Whether the machine itself is on, as the cloud saw it last.
        created: When the server was ordered.
        updated: When the server changed last, its status and its ``task_state`` included.
        tenant_id: The project that the server is in.
        availability_zone: The zone of its machine.
        addresses: The addresses in each VPC, by the VPC's id.
        flavor: The kind of machine.
        image: The image that its system was made from.
        key_name: The key pair for logging in.
        metadata: Metadata of the cloud and of users; the password ``admin_pass`` is kept out of the repr.
        tags: The tags, which `bms.nova.tags` changes and `bms.servers.list` filters by.
        locked: Whether the server is locked against its users.
        fault: The reason, if the status is ERROR.
        user_data: The injected data, base64; kept out of the repr.
    """

    _secret: ClassVar[frozenset[str]] = frozenset({"user_data"})

    id: str
    name: str | None = None
    status: ServerStatus | None = None
    vm_state: str | None = None
    task_state: str | None = None
    power_state: PowerState | None = None
    created: Moment = None
    updated: Moment = None
    _launched_at: str | None = None
    _terminated_at: str | None = None
    tenant_id: str | None = None
    user_id: str | None = None
    enterprise_project_id: str | None = None
    availability_zone: str | None = None
    addresses: Mapping[str, tuple[Address, ...]] = msgspec.field(default_factory=dict)
    access_ipv4: str | None = None
    access_ipv6: str | None = None
    flavor: ServerFlavor | None = None
    image: Image | None = None
    key_name: str | None = None
    security_groups: tuple[SecurityGroup, ...] = ()
    volumes_attached: tuple[AttachedVolume, ...] = ()
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
    tags: tuple[str, ...] = ()
    sys_tags: tuple[SystemTag, ...] = ()
    description: str | None = None
    locked: bool | None = None
    fault: Fault | None = None
    progress: int | None = None
    config_drive: str | None = None
    disk_config: str | None = None
    host: str | None = None
    host_id: str | None = None
    host_status: str | None = None
    hostname: str | None = None
    hypervisor_hostname: str | None = None
    instance_name: str | None = None
    reservation_id: str | None = None
    launch_index: int | None = None
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    root_device_name: str | None = None
    user_data: str | None = None
    scheduler_hints: SchedulerHints | None = None
    links: tuple[Link, ...] = ()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = super().__rich_repr__()
        if _PASSWORD not in self.metadata:
            return shown
        hidden = {**self.metadata, _PASSWORD: "***"}
        return [(name, hidden if name == "metadata" else value) for name, value in shown]

    @property
    def launched_at(self) -> datetime | None:
        """When the server was started; the cloud sends this without a zone, and means UTC."""
        return read_datetime(self._launched_at)

    @property
    def terminated_at(self) -> datetime | None:
        """When the server was deleted; the cloud sends this without a zone, and means UTC."""
        return read_datetime(self._terminated_at)

    @property
    def is_bare_metal(self) -> bool:
        """Whether this is a bare-metal server, and not one of the virtual machines that share the list.

        It goes by the tag and the flavors of the API reference; the lists of ``bms.nova`` by the client's `BareMetal`.
        """
        flavor = self.flavor.id or self.flavor.name if self.flavor else None
        return BARE_METAL_TAG in self.tags or (flavor or "").startswith("physical.")
