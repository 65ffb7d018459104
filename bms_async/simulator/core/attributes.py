"""The attributes of a server. They follow from its index until a client changes them."""

from typing import Final, NamedTuple

from bms_async.simulator.core.flavors import FLAVORS, VIRTUAL_FLAVORS, ZONES, Flavor
from bms_async.simulator.core.servers import Server

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
"""When the initial servers were created, in seconds before the start."""


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
    """The request for a server that was created after the start.

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
    """The attributes of one server that differ from those by its index; None is as at the start.

    Attributes:
        name: Its name.
        tags: Its tags, in order.
        metadata: All of its metadata.
        disks: Its EVS disks.
        busy_disks: Disks that a job is attaching or detaching, by the kind of job.
        birth: The request for it.
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
    """Return its flavor."""
    if extra is not None and extra.birth is not None:
        return extra.birth.flavor
    flavors = VIRTUAL_FLAVORS if server.virtual else FLAVORS
    return flavors[server.index % len(flavors)]


def name_of(server: Server, extra: Attributes | None) -> str:
    """Return its name."""
    if extra is not None and extra.name is not None:
        return extra.name
    return f"{'ecs' if server.virtual else 'bms'}-{server.index:06d}"


def tags_of(server: Server, extra: Attributes | None) -> list[str]:
    """Return its tags; the cloud's own tag marks a bare-metal server."""
    if server.is_deleted:
        # Nova forgets the tags at once, though it still lists the server among the changes.
        return []
    if extra is not None and extra.tags is not None:
        return extra.tags
    return [] if server.virtual else [BARE_METAL_TAG, f"rack-{server.rack}"]


def zone_of(server: Server, extra: Attributes | None) -> str:
    """Return its availability zone."""
    if extra is not None and extra.birth is not None:
        return extra.birth.zone
    return ZONES[server.rack % len(ZONES)]


def reservation_of(server: Server, extra: Attributes | None) -> str:
    """Return the reservation id, which servers of one request share."""
    if extra is not None and extra.birth is not None:
        return extra.birth.reservation
    return f"r-ecs{server.index}" if server.virtual else f"r-rack{server.rack}"


def address_of(server: Server, nth: int = 0) -> str:
    """Return the default address of its nth NIC."""
    index = server.index
    if server.virtual:
        return f"172.{16 + (index >> 16 & 15)}.{index >> 8 & 255}.{index & 255}"
    return f"10.{(index >> 16) + 64 * nth & 255}.{index >> 8 & 255}.{index & 255}"


def nics_of(server: Server, extra: Attributes | None) -> list[Nic]:
    """Return its NICs, the primary one first."""
    birth = extra.birth if extra is not None else None
    if birth is None:
        return [_nic(server, 0, (NETWORK, SUBNET, None), VPC)]
    return [_nic(server, nth, network, birth.vpc) for nth, network in enumerate(birth.networks)]


def _nic(server: Server, nth: int, network_spec: tuple[str, str, str | None], vpc: str) -> Nic:
    network, subnet, address = network_spec
    index = server.index
    family = 0x16 + (0x10 if server.virtual else 0) + nth
    mac = f"fa:{family:02x}:{index >> 24 & 255:02x}:{index >> 16 & 255:02x}:{index >> 8 & 255:02x}:{index & 255:02x}"
    port = f"{server.id[:24]}{nth << 40 | index:012x}"
    return Nic(port, mac, address or address_of(server, nth), network, subnet, vpc)


def disks_of(server: Server, extra: Attributes | None) -> list[Disk]:
    """Return its EVS disks, including the root volume if its flavor boots from one."""
    if extra is not None and extra.disks is not None:
        return extra.disks
    if flavor_of(server, extra).boots_from_volume:
        return [Disk(root_volume_of(server), "/dev/sda")]
    return []


def root_volume_of(server: Server) -> str:
    """Return the id of its root volume."""
    return f"{server.id[:24]}5d3b{server.index:08x}"


def metadata_of(server: Server, extra: Attributes | None) -> dict[str, str]:
    """Return all of its metadata, including the cloud's own entries; a new dict."""
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
    """Return the metadata of an initial server."""
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
