"""The flavors, and their documents in both APIs (API reference 4.5.1 and 5.6)."""

from typing import Any, Final, NamedTuple

__all__ = [
    "CATALOG",
    "FLAVORS",
    "VIRTUAL_FLAVORS",
    "ZONES",
    "Flavor",
    "bms_flavor",
    "extra_specs",
    "native_flavor",
    "sold_in",
]

ZONES: Final = ("az-sim-1", "az-sim-2", "az-sim-3")
"""The availability zones."""


class Flavor(NamedTuple):
    """A flavor.

    Attributes:
        name: Its name and its id.
        vcpus: Cores; a text, as most of these numbers in the reference.
        ram: Memory in MB.
        disk: Space for the system in GB.
        board: Its short name; empty for a virtual machine.
        boots_from_volume: Whether its system is on an EVS disk.
        takes_volumes: Whether EVS disks can be attached.
        zones: Where its state differs from the ordinary one, as `cond:operation:az` says it.
        state: The ordinary state, as `cond:operation:status` says it; empty says nothing.
    """

    name: str
    vcpus: str
    ram: str
    disk: str
    board: str = ""
    boots_from_volume: bool = False
    takes_volumes: bool = True
    zones: str = ""
    state: str = ""


FLAVORS: Final = (
    Flavor("physical.o2.medium", "32", "193047", "9309", "o2m"),
    Flavor("physical.s1.medium", "32", "131072", "1200", "s1m"),
    Flavor("physical.h2.large", "64", "262144", "600", "h2l", boots_from_volume=True),
)
"""The flavors of the initial servers, in turn."""

CATALOG: Final = (
    *FLAVORS,
    # Local disks only, and not available in all zones.
    Flavor("physical.d1.large", "48", "262144", "7200", "d1l", takes_volumes=False, state="abandon",
           zones="az-sim-1(normal), az-sim-2(sellout)"),
    Flavor("physical.kl1.3xlarge", "24", "321729", "6707", "kl13xl", state="promotion"),
)  # fmt: skip
"""All bare-metal flavors."""

VIRTUAL_FLAVORS: Final = (Flavor("s3.large.2", "2", "4096", "0"), Flavor("c6.xlarge.4", "4", "16384", "0"))
"""The flavors of virtual machines, which only native lists show."""


def sold_in(flavor: Flavor, zone: str) -> bool:
    """Return whether a flavor is available in a zone (API reference, table 4-62)."""
    for entry in flavor.zones.split(", "):
        name, _, state = entry.rstrip(")").partition("(")
        if name == zone:
            return state not in {"abandon", "sellout"}
    return flavor.state not in {"abandon", "sellout"}


def extra_specs(flavor: Flavor) -> dict[str, str]:
    """Return the extra specs of a flavor; those of virtual machines have few."""
    if not flavor.board:
        return {"ecs:performancetype": "normal", "resource_type": "iaas"}
    specs = {
        "resource_type": "ironic",
        "capabilities:cpu_arch": "x86_64",
        "capabilities:hypervisor_type": "ironic",
        "capabilities:board_type": flavor.board,
        "baremetal:disk_detail": f"{flavor.disk} GB",
        "baremetal:extBootType": "Volume" if flavor.boots_from_volume else "LocalDisk",
        "baremetal:net_num": "2",
        "baremetal:netcard_detail": "2 x 2*10GE",
        "baremetal:cpu_detail": f"{flavor.vcpus} cores",
        "baremetal:memory_detail": f"{flavor.ram} MB",
    }
    if flavor.takes_volumes:
        specs["baremetal:__support_evs"] = "true"
    if flavor.state:
        specs["cond:operation:status"] = flavor.state
    if flavor.zones:
        specs["cond:operation:az"] = flavor.zones
    return specs


def bms_flavor(flavor: Flavor, base: str, project_id: str) -> dict[str, Any]:
    """Return a flavor as in the BMS API: cores and disk are texts, memory is a number."""
    links = [{**link, "type": None} for link in _links(flavor, base, project_id)]
    return {
        **_both(flavor),
        "vcpus": flavor.vcpus,
        "disk": flavor.disk,
        "os-flavor-access:is_public": False,
        "rxtx_quota": None,
        "rxtx_cap": None,
        "links": links,
        "os_extra_specs": extra_specs(flavor),
    }


def native_flavor(flavor: Flavor, base: str, project_id: str) -> dict[str, Any]:
    """Return a flavor as in the native API: all numbers are numbers."""
    return {
        **_both(flavor),
        "vcpus": int(flavor.vcpus),
        "disk": int(flavor.disk),
        "os-flavor-access:is_public": True,
        "links": _links(flavor, base, project_id),
    }


def _both(flavor: Flavor) -> dict[str, Any]:
    return {
        "id": flavor.name,
        "name": flavor.name,
        "ram": int(flavor.ram),
        "swap": "",
        "rxtx_factor": 1.0,
        "OS-FLV-EXT-DATA:ephemeral": 0,
        "OS-FLV-DISABLED:disabled": False,
    }


def _links(flavor: Flavor, base: str, project_id: str) -> list[dict[str, str]]:
    return [
        {"rel": "self", "href": f"{base}/v2.1/{project_id}/flavors/{flavor.name}"},
        {"rel": "bookmark", "href": f"{base}/{project_id}/flavors/{flavor.name}"},
    ]
