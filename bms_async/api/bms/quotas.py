"""Quotas (API reference 4.9)."""

from __future__ import annotations

from bms_async.api._registry import define
from bms_async.models import Model, Quotas
from bms_async.session import Session
from bms_async.wire import Safety

from ._base import SERVERS


class QuotasResponse(Model, frozen=True, kw_only=True):
    """The project's quotas and usage."""

    absolute: Quotas


GET = define(
    "quotas.get",
    "GET",
    SERVERS + "/limits",
    QuotasResponse,
    title="Read the project's quotas and usage",
    chapter="4.9.1",
    safety=Safety.READ,
    permission="bms:serverQuotas:get",
)


class ProjectQuotas:
    """The project's quotas: ``bms.quotas``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self) -> Quotas:
        """Return the project's quotas and usage.

        Raises:
            ApiError: The cloud refused.

        Source: API reference 4.9.1; 500 calls a minute.
        """
        return (await self._session.call(GET)).absolute
