"""The network interfaces of a server (API reference 4.6 and 5.7)."""

from __future__ import annotations

from .base import Model, OpenEnum


class PortState(OpenEnum):
    """The state of a NIC's port (API reference table 4-64). An undocumented state is kept."""

    ACTIVE = "ACTIVE"
    BUILD = "BUILD"
    DOWN = "DOWN"


class FixedIp(Model, frozen=True, kw_only=True):
    """A private address of a NIC (API reference table 4-65)."""

    ip_address: str | None = None
    subnet_id: str | None = None


class Interface(Model, frozen=True, kw_only=True, rename={"mac_address": "mac_addr"}):
    """A NIC of a server (API reference table 4-64 and 5-67).

    Attributes:
        port_id: The NIC's own id.
        net_id: The network that it is in.
        driver_mode: ``virtio`` or ``hnic``, as the server's system sees it.
        pci_address: Its PCI address in a Linux system: bus, device and function.
    """

    port_id: str | None = None
    port_state: PortState | None = None
    net_id: str | None = None
    mac_address: str | None = None
    fixed_ips: tuple[FixedIp, ...] = ()
    driver_mode: str | None = None
    pci_address: str | None = None
