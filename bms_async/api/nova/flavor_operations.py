"""The documented calls about flavors, as data (API reference 5.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bms_async.api._envelopes import FlavorsResponse
from bms_async.api._registry import define
from bms_async.models import Flavor, Model
from bms_async.wire import Safety, Service


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
