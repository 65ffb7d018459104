"""Servers as the cloud tells of them (API reference 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from ._fields import (
    EMPTY,
    Flag,
    Model,
    Moment,
    OpenEnum,
    OpenIntEnum,
    Text,
    Texts,
    TextTable,
    Whole,
    _many,
    _one,
    _Reader,
    _table,
)

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

    address: Text = None
    version: Whole = None
    type: Text = None
    mac_address: Text = None
    port_id: Text = None


class Link(Model, frozen=True, kw_only=True):
    """A link of the cloud to one of its resources (API reference table 4-10)."""

    rel: Text = None
    href: Text = None


class ServerFlavor(Model, frozen=True, kw_only=True):
    """The flavor a server has (API reference table 4-11); ``disk`` in GB (0: not limited), ``ram`` in MB."""

    id: Text = None
    name: Text = None
    disk: Whole = None
    vcpus: Whole = None
    ram: Whole = None


class SecurityGroup(Model, frozen=True, kw_only=True):
    """A security group that a server belongs to (API reference table 4-12)."""

    id: Text = None
    name: Text = None


class Fault(Model, frozen=True, kw_only=True):
    """Why a server is faulty (API reference table 4-13)."""

    code: Whole = None
    message: Text = None
    details: Text = None
    created: Moment = None


class AttachedVolume(Model, frozen=True, kw_only=True, rename={"boot_index": "bootIndex"}):
    """A disk of a server (API reference table 4-14); ``boot_index`` is 0 for a boot disk, -1 for another."""

    id: str
    delete_on_termination: Flag = None
    boot_index: Whole = None
    device: Text = None


class SchedulerHints(Model, frozen=True, kw_only=True):
    """What placed the server (API reference table 4-15): ``share`` or ``dedicate``."""

    dec_baremetal: Texts = ()


class SystemTag(Model, frozen=True, kw_only=True):
    """A tag that the cloud itself keeps (API reference table 4-17)."""

    key: Text = None
    value: Text = None


if TYPE_CHECKING:
    _Addresses: TypeAlias = Mapping[str, tuple[Address, ...]]
    _Links: TypeAlias = tuple[Link, ...]
    _Image: TypeAlias = "Image | None"
    _Flavor: TypeAlias = ServerFlavor | None
    _Groups: TypeAlias = tuple[SecurityGroup, ...]
    _Fault: TypeAlias = Fault | None
    _Volumes: TypeAlias = tuple[AttachedVolume, ...]
    _Hints: TypeAlias = SchedulerHints | None
    _SystemTags: TypeAlias = tuple[SystemTag, ...]
    _Power: TypeAlias = PowerState | None
    _Status: TypeAlias = ServerStatus | None
else:
    _Addresses = _table(_many(Address))
    _Links = _many(Link)
    _Flavor = _one(ServerFlavor)
    _Groups = _many(SecurityGroup)
    _Fault = _one(Fault)
    _Volumes = _many(AttachedVolume)
    _Hints = _one(SchedulerHints)
    _SystemTags = _many(SystemTag)

    class _Power(_Reader):
        @classmethod
        def read(cls, raw):
            number = Whole.read(raw)
            return None if number is None else PowerState(number)

    class _Status(_Reader):
        @classmethod
        def read(cls, raw):
            return ServerStatus(raw) if isinstance(raw, str) and raw else None


class Image(Model, frozen=True, kw_only=True, rename={"os_type": "__os_type"}):
    """The image a server was made from (API reference table 4-9)."""

    id: Text = None
    name: Text = None
    os_type: Text = None
    links: _Links = ()


if not TYPE_CHECKING:
    _Image = _one(Image)

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
    "launched_at": "OS-SRV-USG:launched_at",
    "power_state": "OS-EXT-STS:power_state",
    "ramdisk_id": "OS-EXT-SRV-ATTR:ramdisk_id",
    "reservation_id": "OS-EXT-SRV-ATTR:reservation_id",
    "root_device_name": "OS-EXT-SRV-ATTR:root_device_name",
    "scheduler_hints": "os:scheduler_hints",
    "task_state": "OS-EXT-STS:task_state",
    "terminated_at": "OS-SRV-USG:terminated_at",
    "user_data": "OS-EXT-SRV-ATTR:user_data",
    "vm_state": "OS-EXT-STS:vm_state",
    "volumes_attached": "os-extended-volumes:volumes_attached",
}


class Server(Model, frozen=True, kw_only=True, rename=_SERVER_FIELDS):
    """A server (API reference 4.3.1, table 4-7).

    Whatever the cloud leaves out, prints as ``null`` or as ``""`` is None here, or empty where a field holds many.

    Attributes:
        id: The id that every call takes.
        status: What the server is as a whole; ``vm_state``, ``task_state`` and ``power_state`` are finer.
        task_state: What is being done with it now (``powering-off``, ``reboot_started_hard``...), None when idle.
        addresses: From the id of a VPC to the addresses in it.
        user_data: The injected data, base64; kept out of the repr.
    """

    _secret: ClassVar[frozenset[str]] = frozenset({"user_data"})

    id: str
    name: Text = None
    status: _Status = None
    vm_state: Text = None
    task_state: Text = None
    power_state: _Power = None
    created: Moment = None
    updated: Moment = None
    launched_at: Moment = None
    terminated_at: Moment = None
    tenant_id: Text = None
    user_id: Text = None
    enterprise_project_id: Text = None
    availability_zone: Text = None
    addresses: _Addresses = EMPTY
    access_ipv4: Text = None
    access_ipv6: Text = None
    flavor: _Flavor = None
    image: _Image = None
    key_name: Text = None
    security_groups: _Groups = ()
    volumes_attached: _Volumes = ()
    metadata: TextTable = EMPTY
    tags: Texts = ()
    sys_tags: _SystemTags = ()
    description: Text = None
    locked: Flag = None
    fault: _Fault = None
    progress: Whole = None
    config_drive: Text = None
    disk_config: Text = None
    host: Text = None
    host_id: Text = None
    host_status: Text = None
    hostname: Text = None
    hypervisor_hostname: Text = None
    instance_name: Text = None
    reservation_id: Text = None
    launch_index: Whole = None
    kernel_id: Text = None
    ramdisk_id: Text = None
    root_device_name: Text = None
    user_data: Text = None
    scheduler_hints: _Hints = None

    @property
    def is_bare_metal(self) -> bool:
        """Whether this is a bare-metal server and not a virtual machine that shares the list."""
        flavor = self.flavor.id or self.flavor.name if self.flavor else None
        return BARE_METAL_TAG in self.tags or (flavor or "").startswith("physical.")
