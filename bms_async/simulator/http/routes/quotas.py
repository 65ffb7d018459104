"""Quotas and what is used of them (API reference 4.9)."""

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.routing import Route

from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.flavors import Flavor
from bms_async.simulator.http.gateway import Call, Gateway

__all__ = ["exceeded", "quota_routes"]

_ENCODE: Final = msgspec.json.Encoder().encode


def quota_routes(cloud: Cloud, gateway: Gateway) -> list[Route]:
    """The route for quotas."""

    async def get(_call: Call) -> bytes:
        settings = cloud.settings
        servers, cores, ram = cloud.used
        absolute = {
            "maxTotalInstances": settings.quota_instances,
            "maxTotalCores": settings.quota_cores,
            "maxTotalRAMSize": settings.quota_ram,
            "maxTotalKeypairs": settings.quota_keypairs,
            "maxServerMeta": 128,
            "maxPersonality": 5,
            "maxPersonalitySize": 10240,
            "maxServerGroups": -1,
            "maxServerGroupMembers": -1,
            "totalServerGroupsUsed": 0,
            "maxSecurityGroups": 10,
            "maxSecurityGroupRules": 20,
            "maxTotalFloatingIps": 10,
            "maxImageMeta": 128,
            "totalInstancesUsed": servers,
            "totalCoresUsed": cores,
            "totalRAMUsed": ram,
            "totalSecurityGroupsUsed": 1,
            "totalFloatingIpsUsed": 0,
        }
        return _ENCODE({"absolute": absolute})

    return [Route("/v1/{project_id}/baremetalservers/limits", gateway.guard("quotas.get", get))]


def exceeded(cloud: Cloud, flavor: Flavor, count: int) -> Sequence[str]:
    """Which quotas some more servers would exceed: of `instances`, `cores` and `ram`."""
    if not flavor.board:
        return ()
    settings = cloud.settings
    most = {"instances": settings.quota_instances, "cores": settings.quota_cores, "ram": settings.quota_ram}
    more = (count, count * int(flavor.vcpus), count * int(flavor.ram))
    used = zip(most.items(), cloud.used, more, strict=True)
    return tuple(name for (name, limit), have, want in used if 0 <= limit < have + want)
