"""What a server has beyond its power: it follows from its place in line until somebody changes it."""

from typing import Final, NamedTuple

from bms_async.simulator.core.flavors import FLAVORS, VIRTUAL_FLAVORS, ZONES, Flavor
from bms_async.simulator.core.servers import RACK_SIZE, Server

__all__ = [
    "BARE_METAL_TAG",
    "CREATED",
    "GROUP",
    "IMAGE",
    "KEY_NAME",
    "NETWORK",
    "SUBNET",
    "USER",
    "VPC",
    "Attributes",
    "CreationSpec",
    "Disk",
    "Nic",
    "address_of",
    "disks_of",
    "first_metadata",
    "flavor_of",
    "metadata_of",
    "name_of",
    "nics_of",
    "reservation_of",
    "root_volume_of",
    "tags_of",
    "zone_of",
]

BARE_METAL_TAG: Final = "__type_baremetal"
VPC: Final = "5d3b6d0e-0f63-4c51-8a5e-6b0d5f6f1c01"
IMAGE: Final = "5d3b6d0e-0f63-4c51-8a5e-6b0d5f6f1c02"
GROUP: Final = "5d3b6d0e-0f63-4c51-8a5e-6b0d5f6f1c03"
USER: Final = "5d3b6d0e0f634c518a5e6b0d5f6f1c04"
NETWORK: Final = "5d3b6d0e-0f63-4c51-8a5e-6b0d5f6f1c06"
SUBNET: Final = "5d3b6d0e-0f63-4c51-8a5e-6b0d5f6f1c07"
KEY_NAME: Final = "KeyPair-simulated"
CREATED: Final = -90 * 86400.0
"""When the servers of the beginning were made, in seconds before it."""


class Disk(NamedTuple):
    """An EVS disk of a server."""

    volume_id: str
    device: str


class Nic(NamedTuple):
    """A network card, and the address behind it."""

    port_id: str
    mac: str
    address: str
    network: str
    subnet: str
    vpc: str


class CreationSpec(NamedTuple):
    """How a server was asked for that was not there at the beginning.

    Attributes:
        at: When, in seconds of the cloud's clock.
        networks: The network and the subnet of each NIC, and the address if one was asked for.
    """

    at: float
    flavor: Flavor
    image: str
    zone: str
    key_name: str | None
    user_data: str
    networks: tuple[tuple[str, str, str | None], ...]
    vpc: str
    groups: tuple[str, ...]
    reservation: str
    launch_index: int


class Attributes:
    """What is known of one server and does not follow from its place; None is as at the beginning.

    Attributes:
        name: Its name.
        tags: Its tags, in order.
        metadata: All of its metadata.
        disks: Its EVS disks.
        busy_disks: Disks that a job attaches or detaches, and what it does.
        birth: How it was asked for.
        windows: Whether it runs Windows.
        password: The encrypted password of its Windows; empty when it was deleted.
        fault: Why the last native operation failed, and when.
    """

    __slots__ = ("birth", "busy_disks", "disks", "fault", "metadata", "name", "password", "tags", "windows")

    def __init__(self) -> None:
        self.name: str | None = None
        self.tags: list[str] | None = None
        self.metadata: dict[str, str] | None = None
        self.disks: list[Disk] | None = None
        self.busy_disks: dict[str, Disk] = {}
        self.birth: CreationSpec | None = None
        self.windows = False
        self.password = ""
        self.fault: tuple[str, float] | None = None


def flavor_of(server: Server, extra: Attributes | None) -> Flavor:
    """What kind of machine it is."""
    if extra is not None and extra.birth is not None:
        return extra.birth.flavor
    flavors = VIRTUAL_FLAVORS if server.virtual else FLAVORS
    return flavors[server.index % len(flavors)]


def name_of(server: Server, extra: Attributes | None) -> str:
    """What it is called."""
    if extra is not None and extra.name is not None:
        return extra.name
    return f"{'ecs' if server.virtual else 'bms'}-{server.index:06d}"


def tags_of(server: Server, extra: Attributes | None) -> list[str]:
    """Its tags; the cloud's own one tells a bare-metal server from a virtual machine."""
    if extra is not None and extra.tags is not None:
        return extra.tags
    return [] if server.virtual else [BARE_METAL_TAG, f"rack-{server.index // RACK_SIZE}"]


def zone_of(server: Server, extra: Attributes | None) -> str:
    """Where it stands."""
    if extra is not None and extra.birth is not None:
        return extra.birth.zone
    return ZONES[server.index // RACK_SIZE % len(ZONES)]


def reservation_of(server: Server, extra: Attributes | None) -> str:
    """What all servers have in common that were asked for together."""
    if extra is not None and extra.birth is not None:
        return extra.birth.reservation
    return f"r-ecs{server.index}" if server.virtual else f"r-rack{server.index // RACK_SIZE}"


def address_of(server: Server, nth: int = 0) -> str:
    """The address of its nth NIC, unless another one was asked for."""
    index = server.index
    if server.virtual:
        return f"172.{16 + (index >> 16 & 15)}.{index >> 8 & 255}.{index & 255}"
    return f"10.{(index >> 16) + 64 * nth & 255}.{index >> 8 & 255}.{index & 255}"


def nics_of(server: Server, extra: Attributes | None) -> list[Nic]:
    """Its network cards; the first one is the primary."""
    birth = extra.birth if extra is not None else None
    if birth is None:
        return [_nic(server, 0, (NETWORK, SUBNET, None), VPC)]
    return [_nic(server, nth, network, birth.vpc) for nth, network in enumerate(birth.networks)]


def _nic(server: Server, nth: int, place: tuple[str, str, str | None], vpc: str) -> Nic:
    network, subnet, address = place
    index = server.index
    family = 0x16 + (0x10 if server.virtual else 0) + nth
    mac = f"fa:{family:02x}:{index >> 24 & 255:02x}:{index >> 16 & 255:02x}:{index >> 8 & 255:02x}:{index & 255:02x}"
    port = f"{server.id[:24]}{nth << 40 | index:012x}"
    return Nic(port, mac, address or address_of(server, nth), network, subnet, vpc)


def disks_of(server: Server, extra: Attributes | None) -> list[Disk]:
    """Its EVS disks; a flavor that boots from one has its system there."""
    if extra is not None and extra.disks is not None:
        return extra.disks
    if flavor_of(server, extra).boots_from_volume:
        return [Disk(root_volume_of(server), "/dev/sda")]
    return []


def root_volume_of(server: Server) -> str:
    """The id of the disk that it was made to boot from."""
    return f"{server.id[:24]}5d3b{server.index:08x}"


def metadata_of(server: Server, extra: Attributes | None) -> dict[str, str]:
    """All of its metadata, the cloud's own entries too; a fresh dict."""
    if extra is not None and extra.metadata is not None:
        return dict(extra.metadata)
    flavor = flavor_of(server, extra)
    birth = extra.birth if extra is not None else None
    system = "Windows" if extra is not None and extra.windows else "Linux"
    image = IMAGE if birth is None else birth.image
    if not flavor.board:
        return {"metering.image_id": image, "os_type": system, "vpc_id": VPC}
    ports = ",".join(nic.port_id for nic in nics_of(server, extra))
    metadata = first_metadata(flavor, ports)
    if extra is not None:
        metadata |= {
            "metering.image_id": image,
            "metering.resourcespeccode": f"{flavor.name}.{system.lower()}",
            "image_name": f"simulated_{system.lower()}",
            "vpc_id": VPC if birth is None else birth.vpc,
            "os_type": system,
        }
        if not flavor.takes_volumes:
            del metadata["__bms_support_evs"]
    return metadata


def first_metadata(flavor: Flavor, ports: str) -> dict[str, str]:
    """The metadata of a server that is as it was at the beginning."""
    return {
        "metering.image_id": IMAGE,
        "metering.imagetype": "gold",
        "baremetalPortIDList": f"[{ports}]",
        "metering.resourcespeccode": f"{flavor.name}.linux",
        "image_name": "simulated_linux",
        "op_svc_userid": USER,
        "metering.resourcetype": BARE_METAL_TAG,
        "os_bit": "64",
        "vpc_id": VPC,
        "os_type": "Linux",
        "chargingMode": "0",
        "__bms_support_evs": "true",
    }
