"""New servers by the native API (API reference 5.2.1)."""

import string
from typing import Any, Final

from bms_async.simulator.core.attributes import NETWORK, SUBNET, VPC, CreationSpec, metadata_of
from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.flavors import CATALOG, VIRTUAL_FLAVORS, ZONES, Flavor, sold_in
from bms_async.simulator.core.refusals import Refusal, bad_request, native
from bms_async.simulator.http.routes.creation import is_address
from bms_async.simulator.http.routes.metadata import check_metadata
from bms_async.simulator.http.routes.passwords import check_user_data
from bms_async.simulator.http.routes.quotas import exceeded

__all__ = ["create_natively"]

_MAX_NAME: Final = 255
_MAX_NETWORKS: Final = 4
_PASSWORD_LENGTH: Final = 12


def create_natively(cloud: Cloud, wish: dict[str, Any], base: str) -> dict[str, Any]:
    """Begin to make one server, and say what the native API does of it.

    Raises:
        Refusal: It cannot be made.
    """
    name = wish.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= _MAX_NAME:
        raise bad_request(f"name must be a text of 1 to {_MAX_NAME} characters.")
    if any(wish.get(word) not in {None, 1} for word in ("min_count", "max_count")):
        raise bad_request("Servers are made one by one here.")
    birth = _read_birth(cloud, wish)
    metadata = check_metadata(wish.get("metadata") or {}, bad_request)
    too_much = exceeded(cloud, birth.flavor, 1)
    if too_much:
        raise native(403, f"Quota exceeded for {', '.join(too_much)}: Requested 1")
    server = cloud.create(birth, name)
    extra = cloud.change(server)
    # The caller sets the cloud's own bare-metal tag, or leaves it out.
    extra.tags = []
    extra.metadata = metadata_of(server, extra) | metadata
    cloud.work("create", server)
    path = f"{cloud.settings.project_id}/servers/{server.id}"
    document: dict[str, Any] = {
        "id": server.id,
        "security_groups": [{"name": group} for group in birth.groups],
        "OS-DCF:diskConfig": "MANUAL",
        "links": [{"rel": "self", "href": f"{base}/v2.1/{path}"}, {"rel": "bookmark", "href": f"{base}/{path}"}],
    }
    if birth.key_name is None:
        rng = cloud.draw(f"password/{server.id}")
        drawn = "".join(rng.choices(string.ascii_letters + string.digits, k=_PASSWORD_LENGTH))
        document["adminPass"] = wish.get("adminPass") or drawn
    return document


def _read_birth(cloud: Cloud, wish: dict[str, Any]) -> CreationSpec:
    zone = wish.get("availability_zone")
    if zone not in ZONES:
        raise bad_request(f"The requested availability zone is not available: {zone}")
    image = _reference(wish.get("imageRef"), "imageRef")
    key = wish.get("key_name")
    if key is not None and key not in cloud.keys:
        raise bad_request("Invalid key_name provided.")
    try:
        user_data = check_user_data(wish.get("user_data"))
    except Refusal as refusal:
        raise bad_request(refusal.message) from None
    return CreationSpec(
        at=cloud.now(),
        flavor=_read_flavor(wish, zone),
        image=image,
        zone=zone,
        key_name=key,
        user_data=user_data,
        networks=_read_networks(wish.get("networks")),
        vpc=VPC,
        groups=_read_groups(wish.get("security_groups")),
        reservation=f"r-{cloud.draw(f'reservation/{len(cloud.machines())}').getrandbits(40):010x}",
        launch_index=0,
    )


def _reference(value: object, name: str) -> str:
    """An id, or the end of a URL that leads to it."""
    if not isinstance(value, str) or not value:
        raise bad_request(f"{name} must be an id or a URL.")
    return value.rstrip("/").rpartition("/")[2]


def _read_flavor(wish: dict[str, Any], zone: str) -> Flavor:
    wanted = _reference(wish.get("flavorRef"), "flavorRef")
    for flavor in (*CATALOG, *VIRTUAL_FLAVORS):
        if flavor.name == wanted:
            if not sold_in(flavor, zone):
                raise bad_request(f"There is no {wanted} left in {zone}.")
            return flavor
    raise bad_request(f"Flavor {wanted} could not be found.")


def _read_networks(networks: object) -> tuple[tuple[str, str, str | None], ...]:
    if not isinstance(networks, list) or not 1 <= len(networks) <= _MAX_NETWORKS:
        raise bad_request(f"networks must be a list of 1 to {_MAX_NETWORKS}.")
    found = []
    for network in networks:
        if not isinstance(network, dict) or not (network.get("uuid") or network.get("port")):
            raise bad_request("Every network must have a uuid or a port.")
        address = network.get("fixed_ip")
        if address is not None and not (network.get("uuid") and is_address(address)):
            raise bad_request("A fixed_ip is an address, and takes the uuid of its network.")
        found.append((str(network.get("uuid") or NETWORK), SUBNET, address))
    return tuple(found)


def _read_groups(groups: object) -> tuple[str, ...]:
    if groups is None:
        return ("default",)
    if not isinstance(groups, list) or len(groups) > 1 or any(not isinstance(group, dict) for group in groups):
        raise bad_request("security_groups must be a list of one object.")
    return tuple(str(group.get("name")) for group in groups) or ("default",)
