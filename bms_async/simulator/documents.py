"""Servers and versions written out as the reference's examples show them."""

from typing import Any, Final

import msgspec

from bms_async.simulator.clock import Wall
from bms_async.simulator.state import FLAVORS, RACK_SIZE, Server

__all__ = ["VERSION_IDS", "server_document", "version_document"]

VERSION_IDS: Final = ("v1",)

_VPC: Final = "5d3b6d0e-0f63-4c51-8a5e-6b0d5f6f1c01"
_IMAGE: Final = "5d3b6d0e-0f63-4c51-8a5e-6b0d5f6f1c02"
_GROUP: Final = "5d3b6d0e-0f63-4c51-8a5e-6b0d5f6f1c03"
_USER: Final = "5d3b6d0e0f634c518a5e6b0d5f6f1c04"
_HOST: Final = "5d3b6d0e0f634c518a5e6b0d5f6f1c055d3b6d0e0f634c518a5e6b0d"
_CREATED: Final = -90 * 86400.0
_ENCODE: Final = msgspec.json.Encoder().encode


def server_document(server: Server, *, project_id: str, wall: Wall, born: float, full: bool) -> bytes:
    """One server (API reference 4.3.1); lists leave `user_data` out, as 4.3.2 does."""
    index = server.index
    rack = index // RACK_SIZE
    flavor = FLAVORS[index % len(FLAVORS)]
    name = f"bms-{index:06d}"
    port = f"{server.id[:24]}{index:012x}"
    mac = ":".join(("fa:16", f"{index >> 24 & 255:02x}", f"{index >> 16 & 255:02x}",
                    f"{index >> 8 & 255:02x}", f"{index & 255:02x}"))  # fmt: skip
    address = f"10.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}"
    created = wall.seconds(born + _CREATED)
    document: dict[str, Any] = {
        "id": server.id,
        "name": name,
        "addresses": {
            _VPC: [
                {
                    "version": "4",
                    "addr": address,
                    "OS-EXT-IPS-MAC:mac_addr": mac,
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
        "status": server.status,
        "progress": 0,
        "hostId": _HOST,
        "updated": created if server.updated is None else wall.seconds(server.updated),
        "created": created,
        "metadata": {
            "metering.image_id": _IMAGE,
            "metering.imagetype": "gold",
            "baremetalPortIDList": f"[{port}]",
            "metering.resourcespeccode": f"{flavor.name}.linux",
            "image_name": "simulated_linux",
            "op_svc_userid": _USER,
            "metering.resourcetype": "__type_baremetal",
            "os_bit": "64",
            "vpc_id": _VPC,
            "os_type": "Linux",
            "chargingMode": "0",
        },
        "tags": ["__type_baremetal", f"rack-{rack}"],
        "description": name,
        "locked": False,
        "image": {"id": _IMAGE},
        "config_drive": "",
        "tenant_id": project_id,
        "user_id": _USER,
        "key_name": "KeyPair-simulated",
        "security_groups": [{"name": "default", "id": _GROUP}],
        "os-extended-volumes:volumes_attached": [],
        "OS-EXT-STS:task_state": server.task_state,
        "OS-EXT-STS:power_state": 1 if server.powered else 4,
        "OS-EXT-STS:vm_state": "active" if server.powered else "stopped",
        "OS-EXT-SRV-ATTR:host": "bms.sim1",
        "OS-EXT-SRV-ATTR:instance_name": f"instance-{index:08x}",
        "OS-EXT-SRV-ATTR:hypervisor_hostname": f"nova{rack % 8:03d}@2",
        "OS-DCF:diskConfig": "MANUAL",
        "OS-EXT-AZ:availability_zone": f"az-sim-{rack % 3 + 1}",
        "os:scheduler_hints": {},
        "OS-EXT-SRV-ATTR:root_device_name": "/dev/sda",
        "OS-EXT-SRV-ATTR:ramdisk_id": "",
        "enterprise_project_id": "0",
        "OS-SRV-USG:launched_at": f"{created[:-1]}.000000",
        "OS-EXT-SRV-ATTR:kernel_id": "",
        "OS-EXT-SRV-ATTR:launch_index": index % RACK_SIZE,
        "host_status": "UP",
        "OS-EXT-SRV-ATTR:reservation_id": f"r-rack{rack}",
        "OS-EXT-SRV-ATTR:hostname": name,
        "sys_tags": [{"key": "_sys_enterprise_project_id", "value": "0"}],
    }
    if full:
        document["OS-EXT-SRV-ATTR:user_data"] = ""
    return _ENCODE(document)


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
