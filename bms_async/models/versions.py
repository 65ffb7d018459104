"""Versions of the API (API reference 4.2)."""

from __future__ import annotations

from .base import Model, Moment, OpenEnum
from .servers import Link


class VersionStatus(OpenEnum):
    """The status of an API version (API reference table 4-1). An undocumented status is kept."""

    CURRENT = "CURRENT"
    SUPPORTED = "SUPPORTED"
    DEPRECATED = "DEPRECATED"


class ApiVersion(Model, frozen=True, kw_only=True):
    """A version of the API (API reference table 4-1 and 4-4).

    Attributes:
        id: The name that paths use, such as ``v1``.
        updated: When the version was released.
        min_version: The earliest microversion, empty if there is none; ``version`` is the latest.
    """

    id: str
    status: VersionStatus | None = None
    updated: Moment = None
    min_version: str | None = None
    version: str | None = None
    links: tuple[Link, ...] = ()
