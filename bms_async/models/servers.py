"""Servers as the cloud tells of them (API reference 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from .base import Model, Moment, OpenEnum, OpenIntEnum, read_datetime

_PASSWORD = "admin_pass"  # noqa: S105 - the key under which a Windows server has its password (API reference 5.2.1)

BARE_METAL_TAG = "__type_baremetal"
"""The tag that tells a bare-metal server from a virtual machine."""


class ServerStatus(OpenEnum):
    """What a server is, as a whole (API reference 4.3.1, table 4-7). An undocumented status survives."""

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
    """A link of the cloud to one of its resources (API reference table 4-10)."""

    rel: str | None = None
    href: str | None = None


class ServerFlavor(Model, frozen=True, kw_only=True):
    """The flavor a server has (API reference table 4-11); ``disk`` in GB (0: not limited), ``ram`` in MB."""

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
    """What placed the server (API reference tables 4-15, 4-24 and 5-25).

    Attributes:
        dec_baremetal: ``share`` or ``dedicate``.
        group: The ids of the server groups that it is in.
    """

    dec_baremetal: tuple[str, ...] = ()
    group: tuple[str, ...] = ()


class SystemTag(Model, frozen=True, kw_only=True):
    """A tag that the cloud itself keeps (API reference table 4-17)."""

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

    What the cloud leaves out or prints as ``null`` is None here, or empty where a field holds many. A text that it
    prints as ``""`` is that; anything else that it prints so is None.

    Attributes:
        id: The id that every call takes.
        name: What people call it; several servers may have the same.
        status: What the server is as a whole; ``vm_state``, ``task_state`` and ``power_state`` are finer.
        task_state: What is being done with it now (``powering-off``, ``reboot_started_hard``...), None when idle.
        power_state: Whether the machine itself is on, as it was seen last.
        created: When it was ordered.
        updated: When anything of it changed last, its status or what is being done with it included.
        tenant_id: The project that it is in.
        availability_zone: Where its machine stands.
        addresses: From the id of a VPC to the addresses in it.
        flavor: What kind of machine it is.
        image: What its system was made of.
        key_name: The key pair that opens it.
        metadata: What the cloud and its users noted; the password ``admin_pass`` is kept out of the repr.
        tags: Its tags, as `bms.nova.tags` changes them and `bms.servers.list` finds it by.
        locked: Whether it is locked against its users.
        fault: What broke, where the status is ERROR.
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
        """When it was started; the cloud prints it without a zone, and means UTC."""
        return read_datetime(self._launched_at)

    @property
    def terminated_at(self) -> datetime | None:
        """When it was deleted; the cloud prints it without a zone, and means UTC."""
        return read_datetime(self._terminated_at)

    @property
    def is_bare_metal(self) -> bool:
        """Whether this is a bare-metal server and not a virtual machine that shares the list."""
        flavor = self.flavor.id or self.flavor.name if self.flavor else None
        return BARE_METAL_TAG in self.tags or (flavor or "").startswith("physical.")
