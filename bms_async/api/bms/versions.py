"""Versions of the API (API reference 4.2)."""

from __future__ import annotations

from typing import Literal

from bms_async.api._registry import define
from bms_async.models import ApiVersion, Model
from bms_async.session import Session
from bms_async.validation.common import check_id
from bms_async.wire import Safety


class VersionsResponse(Model, frozen=True, kw_only=True):
    """All versions of the API."""

    versions: tuple[ApiVersion, ...] | Literal[""] | None


class VersionResponse(Model, frozen=True, kw_only=True):
    """One version of the API."""

    version: ApiVersion


LIST = define(
    "versions.list",
    "GET",
    "/",
    VersionsResponse,
    title="List the versions of the API",
    chapter="4.2.1",
    safety=Safety.READ,
)
GET = define(
    "versions.get",
    "GET",
    "/{api_version}",
    VersionResponse,
    title="Read one version of the API",
    chapter="4.2.2",
    safety=Safety.READ,
)


class Versions:
    """Versions of the API: ``bms.versions``."""

    def __init__(self, session: Session, *, check: bool) -> None:
        self._session = session
        self._check = check

    async def list(self) -> tuple[ApiVersion, ...]:
        """Return the versions of the API that the service supports.

        Raises:
            ApiError: The cloud refused.

        Source: API reference 4.2.1; 2000 calls a minute.
        """
        return (await self._session.call(LIST)).versions or ()

    async def get(self, version: str) -> ApiVersion:
        """Return one version of the API.

        Args:
            version: Its id, such as ``v1``.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such version.

        Source: API reference 4.2.2; 2000 calls a minute.
        """
        if self._check:
            check_id("version", version)
        return (await self._session.call(GET, path={"api_version": version})).version
