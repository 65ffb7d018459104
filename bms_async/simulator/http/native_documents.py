"""Servers as the native API shows them (API reference 5.2 and 5.3.1)."""

from typing import Any, Final

from bms_async.simulator.core.attributes import Attributes, nics_of, tags_of
from bms_async.simulator.core.clock import View
from bms_async.simulator.core.servers import Server
from bms_async.simulator.http.documents import server_fields
from bms_async.simulator.http.microversions import HOST, LOCKED, LONG_NAMES, NOTES, TAGS, Microversion

__all__ = ["addresses", "brief_document", "interfaces", "native_document", "renamed_document"]

_SINCE: Final = {
    "OS-EXT-SRV-ATTR:hostname": LONG_NAMES,
    "OS-EXT-SRV-ATTR:reservation_id": LONG_NAMES,
    "OS-EXT-SRV-ATTR:launch_index": LONG_NAMES,
    "OS-EXT-SRV-ATTR:kernel_id": LONG_NAMES,
    "OS-EXT-SRV-ATTR:ramdisk_id": LONG_NAMES,
    "OS-EXT-SRV-ATTR:root_device_name": LONG_NAMES,
    "OS-EXT-SRV-ATTR:user_data": LONG_NAMES,
    "locked": LOCKED,
    "host_status": HOST,
    "description": NOTES,
    "tags": TAGS,
}
"""From which microversion on a field is there (API reference, table 5-11)."""

_OF_LISTS: Final = ("sys_tags", "enterprise_project_id", "os:scheduler_hints")

_RENAMED: Final = (
    "tenant_id", "image", "accessIPv4", "addresses", "metadata", "accessIPv6", "created", "hostId", "flavor",
    "OS-DCF:diskConfig", "user_id", "name", "progress", "links", "id", "updated", "status", "locked", "description",
    "tags",
)  # fmt: skip
"""The fields in the response to a native rename."""


def native_document(
    server: Server, extra: Attributes | None, view: View, base: str, version: Microversion, *, listed: bool
) -> dict[str, Any]:
    """One server, with as much as its microversion shows; lists say a little more than 5.2.3 does."""
    document = server_fields(server, extra, view)
    birth = extra.birth if extra is not None else None
    document["OS-EXT-SRV-ATTR:user_data"] = "" if birth is None else birth.user_data
    for name, since in _SINCE.items():
        if version < since:
            del document[name]
    if not listed:
        for name in _OF_LISTS:
            del document[name]
    flavor, image = document["flavor"]["id"], document["image"]["id"]
    path = f"{base}/{view.project_id}"
    document |= {
        "addresses": {
            vpc: [{**each, "version": int(each["version"])} for each in found]
            for vpc, found in document["addresses"].items()
        },
        "flavor": {"id": flavor, "links": [{"rel": "bookmark", "href": f"{path}/flavors/{flavor}"}]},
        "image": {"id": image, "links": [{"rel": "bookmark", "href": f"{path}/images/{image}"}]},
        "security_groups": [{"name": group["name"]} for group in document["security_groups"]],
        "os-extended-volumes:volumes_attached": [
            {"id": disk["id"]} | ({"delete_on_termination": False} if version >= LONG_NAMES else {})
            for disk in document["os-extended-volumes:volumes_attached"]
        ],
        "links": _links(server.id, view, base),
        "OS-SRV-USG:terminated_at": None,
    }
    if server.is_deleted:
        document |= {
            "addresses": {},
            "hostId": "",
            "os-extended-volumes:volumes_attached": [],
            "OS-SRV-USG:terminated_at": f"{document['updated'][:-1]}.000000",
        }
        if "tags" in document:
            document["tags"] = tags_of(server, extra)
    return document


def brief_document(server: Server, name: str, view: View, base: str) -> dict[str, Any]:
    """One server in a short list (API reference 5.2.4)."""
    return {"id": server.id, "name": name, "links": _links(server.id, view, base)}


def renamed_document(
    server: Server, extra: Attributes | None, view: View, base: str, version: Microversion
) -> dict[str, Any]:
    """One server after a native change of name (API reference 5.3.1)."""
    document = native_document(server, extra, view, base, version, listed=False)
    document["addresses"] = addresses(server, extra)
    return {name: document[name] for name in _RENAMED if name in document}


def addresses(server: Server, extra: Attributes | None) -> dict[str, list[dict[str, Any]]]:
    """A server's addresses by VPC (API reference 5.5.1)."""
    found: dict[str, list[dict[str, Any]]] = {}
    for nic in nics_of(server, extra):
        found.setdefault(nic.vpc, []).append({"version": 4, "addr": nic.address})
    return found


def interfaces(server: Server, extra: Attributes | None) -> list[dict[str, Any]]:
    """A server's network cards (API reference 5.7.1)."""
    state = {"BUILD": "BUILD", "ERROR": "DOWN"}.get(server.status, "ACTIVE")
    return [
        {
            "port_state": state,
            "fixed_ips": [{"subnet_id": nic.subnet, "ip_address": nic.address}],
            "net_id": nic.network,
            "port_id": nic.port_id,
            "mac_addr": nic.mac,
        }
        for nic in nics_of(server, extra)
    ]


def _links(server_id: str, view: View, base: str) -> list[dict[str, str]]:
    path = f"{view.project_id}/servers/{server_id}"
    return [{"rel": "self", "href": f"{base}/v2.1/{path}"}, {"rel": "bookmark", "href": f"{base}/{path}"}]
