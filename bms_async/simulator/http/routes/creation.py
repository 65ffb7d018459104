"""New servers by the BMS API (API reference 7.2 and 6.3.2)."""

import ipaddress
import re
from typing import Any, Final

from starlette.routing import Route

from bms_async.simulator.core.attributes import BARE_METAL_TAG, NETWORK, CreationSpec, Disk, metadata_of
from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.flavors import CATALOG, ZONES, Flavor, sold_in
from bms_async.simulator.core.refusals import Refusal
from bms_async.simulator.core.servers import Server
from bms_async.simulator.http.gateway import Call, Gateway
from bms_async.simulator.http.requests import read_wish
from bms_async.simulator.http.routes.metadata import check_metadata
from bms_async.simulator.http.routes.passwords import check_password, check_user_data
from bms_async.simulator.http.routes.quotas import exceeded

__all__ = ["creation_routes"]

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_MAX_SERVERS: Final = 24
_MAX_NICS: Final = 2
_MAX_TAGS: Final = 10
_MAX_VOLUMES: Final = 24
_QUOTA_CODES: Final = {
    ("instances",): "BMS.0025",
    ("cores",): "BMS.0026",
    ("ram",): "BMS.0027",
    ("instances", "cores"): "BMS.0028",
    ("instances", "ram"): "BMS.0029",
    ("cores", "ram"): "BMS.0030",
    ("instances", "cores", "ram"): "BMS.0031",
}


def creation_routes(cloud: Cloud, gateway: Gateway) -> list[Route]:
    """The route that makes servers."""

    async def create(call: Call) -> bytes:
        await cloud.settle()
        wish = read_wish(call.content, "server")
        count = _read_count(wish)
        birth = _read_birth(cloud, wish, count)
        metadata = check_metadata(wish.get("metadata") or {}, lambda why: Refusal(400, "BMS.0217", why))
        name, tags = _read_name(wish), _read_tags(wish)
        too_much = tuple(exceeded(cloud, birth.flavor, count))
        if too_much:
            raise Refusal(400, _QUOTA_CODES[too_much], f"The quota does not allow more: {', '.join(too_much)}.")
        servers: list[Server] = []
        rng = cloud.draw(f"order/{len(cloud.activity)}")
        reservation = f"r-{rng.getrandbits(40):010x}"
        for nth in range(count):
            called = name if count == 1 else f"{name}-{nth + 1:04d}"
            server = cloud.create(birth._replace(reservation=reservation, launch_index=nth), called)
            extra = cloud.change(server)
            extra.tags = tags
            extra.metadata = metadata_of(server, extra) | metadata
            _give_disks(cloud, server, len(wish.get("data_volumes") or []))
            servers.append(server)
        job = cloud.activity.start_batch("create", servers)
        return b'{"order_id":"CS%010X","job_id":"%b"}' % (rng.getrandbits(40), job.id.encode())

    return [Route("/v1/{project_id}/baremetalservers", gateway.guard("servers.create", create), methods=["POST"])]


def _give_disks(cloud: Cloud, server: Server, count: int) -> None:
    disks = list(cloud.disks_of(server))
    for nth in range(count):
        disks.append(Disk(f"{server.id[:24]}da7a{nth:02x}{server.index:06x}", f"/dev/sd{chr(ord('b') + nth)}"))
        cloud.volumes[disks[-1].volume_id] = server.id
    cloud.change(server).disks = disks


def _read_birth(cloud: Cloud, wish: dict[str, Any], count: int) -> CreationSpec:
    for name in ("imageRef", "vpcid"):
        if not isinstance(wish.get(name), str) or not wish[name]:
            raise Refusal(400, "BMS.0010" if name == "imageRef" else "BMS.0246", f"{name} must be an id.")
    zone = wish.get("availability_zone")
    if zone not in ZONES:
        raise Refusal(400, "BMS.0208", f"There is no zone {zone}.")
    _check_volumes(wish)
    return CreationSpec(
        at=cloud.now(),
        flavor=_read_flavor(wish, zone),
        image=wish["imageRef"],
        zone=zone,
        key_name=_read_login(cloud, wish),
        user_data=check_user_data(wish.get("user_data")),
        networks=_read_nics(wish, count),
        vpc=wish["vpcid"],
        groups=_read_groups(wish),
        reservation="",
        launch_index=0,
    )


def _read_flavor(wish: dict[str, Any], zone: str) -> Flavor:
    named = [flavor for flavor in CATALOG if flavor.name == wish.get("flavorRef")]
    if not named:
        raise Refusal(400, "BMS.0021", f"There is no flavor {wish.get('flavorRef')}.")
    if not sold_in(named[0], zone):
        raise Refusal(400, "BMS.0054", f"There is no {named[0].name} left in {zone}.")
    return named[0]


def _read_name(wish: dict[str, Any]) -> str:
    name = wish.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refusal(400, "BMS.0206", "A name has 1 to 63 letters, digits, and _ - and .")
    return name


def _read_count(wish: dict[str, Any]) -> int:
    count = wish.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MAX_SERVERS:
        raise Refusal(400, "BMS.0205", f"count must be a number from 1 to {_MAX_SERVERS}.")
    return count


def _read_login(cloud: Cloud, wish: dict[str, Any]) -> str | None:
    key, password = wish.get("key_name") or None, wish.get("adminPass") or None
    metadata = wish.get("metadata")
    injected = wish.get("user_data") or (isinstance(metadata, dict) and metadata.get("admin_pass"))
    if key is not None and password is not None:
        raise Refusal(400, "BMS.0111", "Name a password or a key pair, and not both.")
    if key is None and password is None and not injected:
        raise Refusal(400, "BMS.0111", "Name a password or a key pair.")
    if password is not None:
        check_password(password, "BMS.3026")
    if key is not None and key not in cloud.keys:
        raise Refusal(400, "BMS.0049", "No key pair has this name.")
    return None if key is None else str(key)


def _read_nics(wish: dict[str, Any], count: int) -> tuple[tuple[str, str, str | None], ...]:
    nics = wish.get("nics")
    if not isinstance(nics, list) or not 1 <= len(nics) <= _MAX_NICS:
        raise Refusal(400, "BMS.0201", f"nics must be a list of 1 to {_MAX_NICS}.")
    networks = []
    for nic in nics:
        subnet = nic.get("subnet_id") if isinstance(nic, dict) else None
        if not isinstance(subnet, str) or not subnet:
            raise Refusal(400, "BMS.3001", "Every NIC must have a subnet_id.")
        address = nic.get("ip_address") or None
        if address is not None and count > 1:
            raise Refusal(400, "BMS.0207", "An address can only be given to a single server.")
        if address is not None and not is_address(address):
            raise Refusal(400, "BMS.0201", f"{address} is not an address.")
        networks.append((NETWORK, subnet, address))
    return tuple(networks)


def is_address(text: object) -> bool:
    """Whether a text is an IP address."""
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True


def _read_groups(wish: dict[str, Any]) -> tuple[str, ...]:
    groups = wish.get("security_groups") or []
    if not isinstance(groups, list) or any(not isinstance(group, dict) for group in groups):
        raise Refusal(400, "BMS.3001", "security_groups must be a list of objects.")
    return tuple(str(group.get("id")) for group in groups) or ("default",)


def _read_tags(wish: dict[str, Any]) -> list[str]:
    tags = wish.get("server_tags") or []
    if not isinstance(tags, list) or len(tags) > _MAX_TAGS:
        raise Refusal(400, "BMS.0089", f"server_tags must be a list of at most {_MAX_TAGS}.")
    texts = [BARE_METAL_TAG]
    for tag in tags:
        if not isinstance(tag, dict) or not isinstance(tag.get("key"), str) or not tag["key"]:
            raise Refusal(400, "BMS.0089", "Every tag must have a key.")
        # As tags are shown: the value follows an equals sign, if there is one.
        texts.append(f"{tag['key']}={tag['value']}" if tag.get("value") else tag["key"])
    return texts


def _check_volumes(wish: dict[str, Any]) -> None:
    volumes = wish.get("data_volumes") or []
    if not isinstance(volumes, list) or any(not isinstance(volume, dict) for volume in volumes):
        raise Refusal(400, "BMS.0203", "data_volumes must be a list of objects.")
    if len(volumes) > _MAX_VOLUMES:
        raise Refusal(400, "BMS.0204", f"There can be {_MAX_VOLUMES} data disks, not {len(volumes)}.")
    if len({volume.get("volumetype") for volume in volumes}) > 1:
        raise Refusal(400, "BMS.0202", "All data disks must be of one type.")
    root = wish.get("root_volume")
    if root is not None and not (isinstance(root, dict) and root.get("volumetype")):
        raise Refusal(400, "BMS.0047", "root_volume must have a volumetype.")
