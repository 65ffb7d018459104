"""Flavors: the kinds of machine on offer (API reference 4.5 and 5.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from .base import Model, Number, OpenEnum
from .servers import Link

_VOLUMES = ("baremetal:__support_evs", "baremetal:_support_evs")
_ZONE = re.compile(r"([^\s,()]+)\s*\(\s*([^\s,()]+)\s*\)")


class FlavorStatus(OpenEnum):
    """Whether a flavor is available (API reference table 4-62). An undocumented status is kept."""

    NORMAL = "normal"
    ABANDON = "abandon"
    SELLOUT = "sellout"
    OBT = "obt"
    PROMOTION = "promotion"


class BootSource(OpenEnum):
    """What servers of a flavor boot from (API reference table 4-62); a volume makes for quick provisioning."""

    LOCAL_DISK = "LocalDisk"
    VOLUME = "Volume"


class FlavorLink(Link, frozen=True, kw_only=True):
    """A link to a flavor (API reference table 4-61)."""

    type: str | None = None


class ExtraSpecs(Mapping[str, str]):
    """The extra specs of a flavor (API reference table 4-62 and 5.6.3).

    A mapping as the cloud sent it, with a property for each documented name::

        flavor.extra_specs.boot_source
        flavor.extra_specs["baremetal:extBootType"]

    Args:
        values: The cloud's texts by the cloud's names.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"ExtraSpecs({dict(self._values)!r})"

    @property
    def resource_type(self) -> str | None:
        """The kind of resource: ``ironic`` for bare metal."""
        return self.get("resource_type") or None

    @property
    def cpu_arch(self) -> str | None:
        """The architecture: ``x86_64`` or ``aarch64``."""
        return self.get("capabilities:cpu_arch") or None

    @property
    def hypervisor_type(self) -> str | None:
        """What runs the machine: ``ironic``."""
        return self.get("capabilities:hypervisor_type") or None

    @property
    def board_type(self) -> str | None:
        """The flavor's short name: ``o2m`` for ``physical.o2.medium``."""
        return self.get("capabilities:board_type") or None

    @property
    def cpu_detail(self) -> str | None:
        """The processors, in words."""
        return self.get("baremetal:cpu_detail") or None

    @property
    def memory_detail(self) -> str | None:
        """The memory, in words."""
        return self.get("baremetal:memory_detail") or None

    @property
    def disk_detail(self) -> str | None:
        """The local disks, in words."""
        return self.get("baremetal:disk_detail") or None

    @property
    def nic_detail(self) -> str | None:
        """The network cards, in words."""
        return self.get("baremetal:netcard_detail") or None

    @property
    def max_nics(self) -> int | None:
        """How many NICs a server can have."""
        try:
            return int(self.get("baremetal:net_num", ""))
        except ValueError:
            return None

    @property
    def boot_source(self) -> BootSource | None:
        """What a server boots from, None if the cloud does not say."""
        source = self.get("baremetal:extBootType")
        return BootSource(source) if source else None

    @property
    def supports_volumes(self) -> bool:
        """Whether EVS disks can be attached; False if the cloud does not say."""
        # In places the reference prints the name with one underscore less.
        return any(self.get(name, "").strip().lower() == "true" for name in _VOLUMES)

    @property
    def status(self) -> FlavorStatus:
        """Whether the flavor is available, outside the zones of `status_by_zone`; NORMAL if the cloud does not say."""
        return FlavorStatus(self.get("cond:operation:status", "").strip() or FlavorStatus.NORMAL.value)

    @property
    def status_by_zone(self) -> Mapping[str, FlavorStatus]:
        """The status in those zones in which it differs from `status`."""
        return {zone: FlavorStatus(status) for zone, status in _ZONE.findall(self.get("cond:operation:az", ""))}

    def status_in(self, availability_zone: str) -> FlavorStatus:
        """Return whether the flavor is available in a zone.

        Args:
            availability_zone: The zone's name.
        """
        return self.status_by_zone.get(availability_zone, self.status)


_FIELDS = {
    "disabled": "OS-FLV-DISABLED:disabled",
    "ephemeral": "OS-FLV-EXT-DATA:ephemeral",
    "_extra_specs": "os_extra_specs",
    "is_public": "os-flavor-access:is_public",
}


class Flavor(Model, frozen=True, kw_only=True, rename=_FIELDS):
    """A kind of machine (API reference table 4-60 and 5-60).

    Attributes:
        id: The id that `create` and the native calls take.
        vcpus: How many cores.
        ram: Memory in MB.
        disk: The system disk in GB; 0 if it is not limited.
        extra_specs: All further properties. The native calls leave them out, and have a call of their own for them.
    """

    id: str
    name: str | None = None
    vcpus: int | None = None
    ram: int | None = None
    disk: int | None = None
    _extra_specs: Mapping[str, str] = msgspec.field(default_factory=dict)
    is_public: bool | None = None
    disabled: bool | None = None
    ephemeral: int | None = None
    swap: int | None = None
    rxtx_factor: Number = None
    rxtx_quota: str | None = None
    rxtx_cap: str | None = None
    links: tuple[FlavorLink, ...] = ()

    @property
    def extra_specs(self) -> ExtraSpecs:
        """All further properties, as a mapping with typed properties."""
        return ExtraSpecs(self._extra_specs)

    @property
    def is_bare_metal(self) -> bool:
        """Whether the flavor is for bare metal, and not for the virtual machines that share the list."""
        return (self.id or self.name or "").startswith("physical.")

    @property
    def boot_source(self) -> BootSource | None:
        """What a server boots from, None if the cloud does not say."""
        return self.extra_specs.boot_source

    @property
    def supports_volumes(self) -> bool:
        """Whether EVS disks can be attached."""
        return self.extra_specs.supports_volumes

    @property
    def status(self) -> FlavorStatus:
        """Whether the flavor is available, outside the zones of `extra_specs.status_by_zone`."""
        return self.extra_specs.status

    def status_in(self, availability_zone: str) -> FlavorStatus:
        """Return whether the flavor is available in a zone.

        Args:
            availability_zone: The zone's name.
        """
        return self.extra_specs.status_in(availability_zone)
