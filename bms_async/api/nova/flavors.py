"""Flavors of the native API (API reference 5.6)."""

from __future__ import annotations

from typing import Literal, TypeAlias

from bms_async.api._pages import next_link, read_pages
from bms_async.models import ExtraSpecs, Flavor
from bms_async.session import Session
from bms_async.validation.native import FLAVOR_SORT_KEYS, check_int, check_sorting
from bms_async.wire import Query

from ._resource import Resource
from .bare_metal import BareMetal, BareMetalFilter
from .flavor_operations import EXTRA_SPECS, GET, LIST

FlavorSortKey: TypeAlias = Literal["name", "memory_mb", "vcpus", "root_gb", "flavorid"]


class NovaFlavors(Resource):
    """Flavors: ``bms.nova.flavors``."""

    def __init__(self, session: Session, bare_metal: BareMetalFilter, *, check: bool) -> None:
        super().__init__(session, check=check)
        self._bare_metal = bare_metal

    async def list(
        self,
        *,
        min_disk: int | None = None,
        min_ram: int | None = None,
        sort_key: FlavorSortKey | None = None,
        sort_dir: Literal["asc", "desc"] | None = None,
        is_public: bool | None = None,
        bare_metal_only: bool | BareMetal = True,
    ) -> tuple[Flavor, ...]:
        """Return the flavors that match.

        Args:
            min_disk: Minimum disk size in GB.
            min_ram: Minimum memory in MB.
            sort_key: The key to sort by; the cloud's default is ``flavorid``.
            sort_dir: ``asc``, the cloud's default, or ``desc``.
            is_public: Only flavors open to all projects, or only others; known from an example of the reference.
            bare_metal_only: Whether to leave out flavors of virtual machines, which the cloud lists too: by the
                client's setting, or by a `BareMetal`; one by a tag alone leaves out none.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            DecodeError: The response links to a next page that has nothing new.

        Source: API reference 5.6.1.
        """
        setting = self._bare_metal.choose(bare_metal_only, check=self._check)
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
        kept = [each for each in flavors if await self._bare_metal.is_flavor_wanted(self._session, each, setting)]
        self._bare_metal.note_end(LIST.name, setting, read=len(flavors), kept=len(kept))
        return tuple(kept)

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
