"""The native API as the reference prints it: addresses, ids and answers."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.support.mocked import ENDPOINT, PROJECT, SERVER_ID

NOVA = f"{ENDPOINT}/v2.1/{PROJECT}"
SERVERS = f"{NOVA}/servers"
SERVER = f"{SERVERS}/{SERVER_ID}"
VOLUME_ID = "b53f23bd-ee8f-49ec-9420-d1acfeaf91d6"
PORT_ID = "ce531f90-199f-48c0-816c-13e38010b442"
VPC_ID = "08a7715f-7de6-4ff9-a343-95ba4209f24a"
MICROVERSION = "X-OpenStack-Nova-API-Version"

VOLUME = {"device": "/dev/vdb", "serverId": SERVER_ID, "id": VOLUME_ID, "volumeId": VOLUME_ID}
NIC = {
    "port_state": "ACTIVE",
    "fixed_ips": [{"subnet_id": "f8a6e8f8-c2ec-497c-9f23-da9616de54ef", "ip_address": "192.168.1.3"}],
    "net_id": "3cb9bc59-5699-4588-a4b1-b87f96708bc6",
    "port_id": PORT_ID,
    "mac_addr": "fa:16:3e:4c:2c:30",
}
FLAVOR = {
    "name": "physical.o2.medium",
    "links": [{"href": "https://openstack.example.com/v2/c6/flavors/physical.o2.medium", "rel": "self"}],
    "ram": 321725,
    "OS-FLV-DISABLED:disabled": False,
    "vcpus": 56,
    "swap": "",
    "os-flavor-access:is_public": True,
    "rxtx_factor": 1,
    "OS-FLV-EXT-DATA:ephemeral": 0,
    "disk": 3725,
    "id": "physical.o2.medium",
}
GONE = {"itemNotFound": {"message": f"Instance {SERVER_ID} could not be found.", "code": 404}}
NO_TAG = {"itemNotFound": {"message": f"Server {SERVER_ID} has no tag 'abc'", "code": 404}}


def a_server(
    status: str = "ACTIVE", *, task: str | None = None, server_id: str = SERVER_ID, **more: Any
) -> dict[str, Any]:
    return {"id": server_id, "status": status, "OS-EXT-STS:task_state": task, **more}


def body_of(request: httpx.Request) -> Any:
    return json.loads(request.content) if request.content else None
