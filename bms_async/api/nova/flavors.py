"""Flavors of the native API (API reference 5.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from bms_async.api._envelopes import FlavorsResponse
from bms_async.api._pages import next_link, read_pages
from bms_async.api._registry import define
from bms_async.models import ExtraSpecs, Flavor, Model
from bms_async.validation.native import FLAVOR_SORT_KEYS, check_int, check_sorting
from bms_async.wire import Query, Safety, Service

from ._resource import Resource

FlavorSortKey: TypeAlias = Literal["name", "memory_mb", "vcpus", "root_gb", "flavorid"]


class FlavorResponse(Model, frozen=True, kw_only=True):
    """One flavor."""

    flavor: Flavor


class ExtraSpecsResponse(Model, frozen=True, kw_only=True):
    """The extra specs of a flavor."""

    extra_specs: Mapping[str, str] | Literal[""] | None


_FLAVORS = "/v2.1/{project_id}/flavors"

LIST = define(
    "nova.flavors.list",
    "GET",
    _FLAVORS + "/detail",
    FlavorsResponse,
    title="List the flavors, including those of virtual machines",
    chapter="5.6.1",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
GET = define(
    "nova.flavors.get",
    "GET",
    _FLAVORS + "/{flavor_id}",
    FlavorResponse,
    title="Read one flavor",
    chapter="5.6.2",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
EXTRA_SPECS = define(
    "nova.flavors.extra_specs",
    "GET",
    _FLAVORS + "/{flavor_id}/os-extra_specs",
    ExtraSpecsResponse,
    title="Read a flavor's extra specs",
    chapter="5.6.3",
    safety=Safety.READ,
    service=Service.COMPUTE,
)


class NovaFlavors(Resource):
    """Flavors: ``bms.nova.flavors``."""

    async def list(
        self,
        *,
        min_disk: int | None = None,
        min_ram: int | None = None,
        sort_key: FlavorSortKey | None = None,
        sort_dir: Literal["asc", "desc"] | None = None,
        is_public: bool | None = None,
        bare_metal_only: bool = True,
    ) -> tuple[Flavor, ...]:
        """Return the flavors that match.

        Args:
            min_disk: Minimum disk size in GB.
            min_ram: Minimum memory in MB.
            sort_key: The key to sort by; the cloud's default is ``flavorid``.
            sort_dir: ``asc``, the cloud's default, or ``desc``.
            is_public: Only flavors open to all projects, or only others; known from an example of the reference.
            bare_metal_only: Whether to leave out flavors of virtual machines; the cloud lists both.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            DecodeError: The response links to a next page that has nothing new.

        Source: API reference 5.6.1.
        """
        if self._check:
            for name, value in (("min_disk", min_disk), ("min_ram", min_ram)):
                if value is not None:
                    check_int(name, value, minimum=0)
            check_sorting(sort_key, sort_dir, allowed=FLAVOR_SORT_KEYS)
        sizes = {"minDisk": min_disk, "minRam": min_ram}
        query: Query = {**sizes, "sort_key": sort_key, "sort_dir": sort_dir, "is_public": is_public}
        flavors = await read_pages(
            lambda query: self._session.call(LIST, query=query),
            query,
            items=lambda response: [(flavor.id, flavor) for flavor in response.flavors or ()],
            link=lambda response: next_link(response.links),
            operation=LIST.name,
        )
        return tuple(flavor for flavor in flavors if flavor.is_bare_metal or not bare_metal_only)

    async def get(self, flavor_id: str) -> Flavor:
        """Return one flavor.

        Args:
            flavor_id: The flavor, such as ``physical.o2.medium``.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such flavor.

        Source: API reference 5.6.2.
        """
        response = await self._session.call(GET, path={"flavor_id": self._id("flavor_id", flavor_id)})
        return response.flavor

    async def extra_specs(self, flavor_id: str) -> ExtraSpecs:
        """Return a flavor's extra specs: the machine's parts, its boot source, whether EVS disks can be attached.

        Args:
            flavor_id: The flavor, such as ``physical.o2.medium``.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such flavor.

        Source: API reference 5.6.3.
        """
        response = await self._session.call(EXTRA_SPECS, path={"flavor_id": self._id("flavor_id", flavor_id)})
        return ExtraSpecs(response.extra_specs or {})
