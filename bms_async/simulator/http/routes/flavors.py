"""The calls for flavors (API reference 4.5.1 and 5.6)."""

from typing import Any, Final

import msgspec
from starlette.routing import Route

from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.flavors import (
    CATALOG,
    VIRTUAL_FLAVORS,
    ZONES,
    Flavor,
    bms_flavor,
    extra_specs,
    native_flavor,
)
from bms_async.simulator.core.refusals import Refusal, bad_request, native
from bms_async.simulator.http.gateway import Call, Gateway
from bms_async.simulator.http.microversions import microversion

__all__ = ["flavor_routes"]

_ENCODE: Final = msgspec.json.Encoder().encode
_ALL: Final = (*CATALOG, *VIRTUAL_FLAVORS)
_SORTABLE: Final = {"flavorid": "id", "name": "name", "memory_mb": "ram", "vcpus": "vcpus", "root_gb": "disk"}


def flavor_routes(cloud: Cloud, gateway: Gateway) -> list[Route]:
    """The routes for flavors, of both APIs."""
    calls, guard = _FlavorRoutes(cloud), gateway.guard
    flavors = "/v2.1/{project_id}/flavors"
    return [
        Route("/v1/{project_id}/baremetalservers/flavors", guard("flavors.list", calls.list)),
        Route(f"{flavors}/detail", guard("nova.flavors.list", calls.list_natively)),
        Route(f"{flavors}/{{flavor_id}}", guard("nova.flavors.get", calls.get)),
        Route(f"{flavors}/{{flavor_id}}/os-extra_specs", guard("nova.flavors.extra_specs", calls.extra_specs)),
    ]


class _FlavorRoutes:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def list(self, call: Call) -> bytes:
        """API reference 4.5.1."""
        zone = call.request.query_params.get("availability_zone")
        if zone and zone not in ZONES:
            raise Refusal(400, "BMS.0208", f"There is no zone {zone}.")
        project = self._cloud.settings.project_id
        return _ENCODE({"flavors": [bms_flavor(flavor, call.base, project) for flavor in CATALOG]})

    async def list_natively(self, call: Call) -> bytes:
        """API reference 5.6.1."""
        microversion(call.request)
        query = call.request.query_params
        disk, ram = _read_number(query.get("minDisk"), "minDisk"), _read_number(query.get("minRam"), "minRam")
        key, direction = query.get("sort_key", "flavorid"), query.get("sort_dir", "asc")
        if key not in _SORTABLE or direction not in {"asc", "desc"}:
            raise bad_request(f"Cannot sort by {key} {direction}.")
        found = [self._show(call, flavor) for flavor in _ALL]
        found = [each for each in found if each["disk"] >= disk and each["ram"] >= ram]
        found.sort(key=lambda each: (each[_SORTABLE[key]], each["id"]), reverse=direction == "desc")
        return _ENCODE({"flavors": _page(found, query.get("marker"), query.get("limit"))})

    async def get(self, call: Call) -> bytes:
        """API reference 5.6.2."""
        microversion(call.request)
        return _ENCODE({"flavor": self._show(call, _find(call.path("flavor_id")))})

    async def extra_specs(self, call: Call) -> bytes:
        """API reference 5.6.3."""
        microversion(call.request)
        return _ENCODE({"extra_specs": extra_specs(_find(call.path("flavor_id")))})

    def _show(self, call: Call, flavor: Flavor) -> dict[str, Any]:
        return native_flavor(flavor, call.base, self._cloud.settings.project_id)


def _find(name: str) -> Flavor:
    for flavor in _ALL:
        if flavor.name == name:
            return flavor
    raise native(404, f"Flavor {name} could not be found.")


def _page(found: list[dict[str, Any]], marker: str | None, limit: str | None) -> list[dict[str, Any]]:
    if marker:
        positions = [index for index, flavor in enumerate(found) if flavor["id"] == marker]
        if not positions:
            raise bad_request(f"marker [{marker}] not found")
        found = found[positions[0] + 1 :]
    return found[: _read_number(limit, "limit")] if limit else found


def _read_number(text: str | None, name: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()):
        raise bad_request(f"{name} must be a number: {text}")
    return int(text)
