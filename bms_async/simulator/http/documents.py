"""Servers and versions written out as the reference's examples show them."""

from typing import Any, Final

import msgspec

from bms_async.simulator.core.attributes import (
    BARE_METAL_TAG,
    GROUP,
    IMAGE,
    KEY_NAME,
    USER,
    VPC,
    Attributes,
    disks_of,
    first_metadata,
    flavor_of,
    metadata_of,
    name_of,
    nics_of,
    reservation_of,
    root_volume_of,
    tags_of,
)
from bms_async.simulator.core.clock import View
from bms_async.simulator.core.flavors import FLAVORS, ZONES
from bms_async.simulator.core.servers import Server

__all__ = ["VERSION_IDS", "server_document", "server_fields", "version_document"]

VERSION_IDS: Final = ("v1",)

_HOST: Final = "5d3b6d0e0f634c518a5e6b0d5f6f1c055d3b6d0e0f634c518a5e6b0d"
_SYSTEM_TAGS: Final = msgspec.Raw(b'[{"key":"_sys_enterprise_project_id","value":"0"}]')
_KINDS: Final = len(FLAVORS)
_ZONES: Final = len(ZONES)
_ENCODE: Final = msgspec.json.Encoder().encode


def server_document(server: Server, extra: Attributes | None, view: View, *, full: bool) -> bytes:
    """One server (API reference 4.3.1); lists leave `user_data` out, as 4.3.2 does."""
    document = server_fields(server, extra, view)
    if full:
        born = extra.birth if extra is not None else None
        document["OS-EXT-SRV-ATTR:user_data"] = "" if born is None else born.user_data
    return _ENCODE(document)


def server_fields(server: Server, extra: Attributes | None, view: View) -> dict[str, Any]:
    """One server, as the BMS API shows it."""
    # A thousand of these make one page: what most of them are is written out here, and amended for the few.
    index, server_id = server.index, server.id
    rack = server.rack
    flavor = FLAVORS[index % _KINDS]
    name = f"bms-{index:06d}"
    port = f"{server_id[:24]}{index:012x}"
    created = view.created
    status, vm_state, power_state = server.shown
    disks: list[dict[str, str]] = []
    if flavor.boots_from_volume:
        disks.append(_disk_document(root_volume_of(server), "/dev/sda"))
    document: dict[str, Any] = {
        "id": server_id,
        "name": name,
        "addresses": {
            VPC: [
                {
                    "version": "4",
                    "addr": f"10.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}",
                    "OS-EXT-IPS-MAC:mac_addr": f"fa:16:{index >> 24 & 255:02x}:{index >> 16 & 255:02x}"
                    f":{index >> 8 & 255:02x}:{index & 255:02x}",
                    "OS-EXT-IPS:port_id": port,
                    "OS-EXT-IPS:type": "fixed",
                }
            ]
        },
        "flavor": {
            "disk": flavor.disk,
            "vcpus": flavor.vcpus,
            "ram": flavor.ram,
            "id": flavor.name,
            "name": flavor.name,
        },
        "accessIPv4": "",
        "accessIPv6": "",
        "status": status,
        "progress": 0,
        "hostId": _HOST,
        "updated": created if server.updated is None else view.wall.seconds(server.updated),
        "created": created,
        "metadata": first_metadata(flavor, port),
        "tags": [BARE_METAL_TAG, f"rack-{rack}"],
        "description": name,
        "locked": server.locked,
        "image": {"id": IMAGE},
        "config_drive": "",
        "tenant_id": view.project_id,
        "user_id": USER,
        "key_name": KEY_NAME,
        "security_groups": [{"name": "default", "id": GROUP}],
        "os-extended-volumes:volumes_attached": disks,
        "OS-EXT-STS:task_state": server.task_state,
        "OS-EXT-STS:power_state": power_state,
        "OS-EXT-STS:vm_state": vm_state,
        "OS-EXT-SRV-ATTR:host": "bms.sim1",
        "OS-EXT-SRV-ATTR:instance_name": f"instance-{index:08x}",
        "OS-EXT-SRV-ATTR:hypervisor_hostname": f"nova{rack % 8:03d}@2",
        "OS-DCF:diskConfig": "MANUAL",
        "OS-EXT-AZ:availability_zone": ZONES[rack % _ZONES],
        "os:scheduler_hints": {},
        "OS-EXT-SRV-ATTR:root_device_name": "/dev/sda",
        "OS-EXT-SRV-ATTR:ramdisk_id": "",
        "enterprise_project_id": "0",
        "OS-SRV-USG:launched_at": f"{created[:-1]}.000000",
        "OS-EXT-SRV-ATTR:kernel_id": "",
        "OS-EXT-SRV-ATTR:launch_index": server.place,
        "host_status": "UP",
        "OS-EXT-SRV-ATTR:reservation_id": f"r-rack{rack}",
        "OS-EXT-SRV-ATTR:hostname": name,
        "sys_tags": _SYSTEM_TAGS,
    }
    if extra is not None or server.virtual:
        _amend(document, server, extra or Attributes(), view)
    return document


def _disk_document(volume_id: str, device: str) -> dict[str, str]:
    return {
        "id": volume_id,
        "delete_on_termination": "false",
        "bootIndex": "0" if device == "/dev/sda" else "-1",
        "device": device,
    }


def _amend(document: dict[str, Any], server: Server, extra: Attributes, view: View) -> None:
    """Say what is not as it was at the beginning."""
    flavor, birth = flavor_of(server, extra), extra.birth
    addresses: dict[str, list[dict[str, str]]] = {}
    for nic in nics_of(server, extra):
        addresses.setdefault(nic.vpc, []).append(
            {
                "version": "4",
                "addr": nic.address,
                "OS-EXT-IPS-MAC:mac_addr": nic.mac,
                "OS-EXT-IPS:port_id": nic.port_id,
                "OS-EXT-IPS:type": "fixed",
            }
        )
    document |= {
        "name": name_of(server, extra),
        "addresses": addresses,
        "flavor": {
            "disk": flavor.disk,
            "vcpus": flavor.vcpus,
            "ram": flavor.ram,
            "id": flavor.name,
            "name": flavor.name,
        },
        "metadata": metadata_of(server, extra),
        "tags": tags_of(server, extra),
        "os-extended-volumes:volumes_attached": [
            _disk_document(disk.volume_id, disk.device) for disk in disks_of(server, extra)
        ],
    }
    if server.virtual:
        document |= {
            "description": document["name"],
            "OS-EXT-SRV-ATTR:hostname": document["name"],
            "OS-EXT-SRV-ATTR:instance_name": f"instance-8{server.index:07x}",
            "OS-EXT-SRV-ATTR:reservation_id": reservation_of(server, extra),
            "OS-EXT-SRV-ATTR:launch_index": 0,
        }
    fault = extra.fault
    if server.status == "ERROR" and server.updated is not None:
        fault = fault or ("No valid host was found.", server.updated)
    if fault is not None:
        message, at = fault
        document["fault"] = {"message": message, "code": 500, "details": message, "created": view.wall.seconds(at)}
    if birth is None:
        return
    created = view.wall.seconds(birth.at)
    running = server.vm_state not in {"building", "error"}
    document |= {
        "description": document["name"],
        "OS-EXT-SRV-ATTR:hostname": document["name"],
        "image": {"id": birth.image},
        "key_name": birth.key_name,
        "created": created,
        "updated": created if server.updated is None else view.wall.seconds(server.updated),
        "security_groups": [{"name": name, "id": name if "-" in name else GROUP} for name in birth.groups],
        "OS-EXT-AZ:availability_zone": birth.zone,
        "OS-EXT-SRV-ATTR:reservation_id": birth.reservation,
        "OS-EXT-SRV-ATTR:launch_index": birth.launch_index,
        "OS-SRV-USG:launched_at": f"{created[:-1]}.000000" if running else None,
        "host_status": "UP" if running else "",
    }


def version_document(version: str, base_url: str) -> dict[str, Any]:
    """A version of the API (API reference 4.2)."""
    return {
        "id": version,
        "links": [{"href": f"{base_url}/{version}/", "rel": "self"}],
        "min_version": "",
        "status": "CURRENT",
        "updated": "2018-09-30T00:00:00Z",
        "version": "",
    }
