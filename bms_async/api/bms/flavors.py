"""Flavors (API reference 4.5)."""

from __future__ import annotations

from bms_async.api._envelopes import FlavorsResponse
from bms_async.api._registry import define
from bms_async.models import Flavor
from bms_async.session import Session
from bms_async.validation.common import check_id
from bms_async.wire import Safety

from ._base import SERVERS

LIST = define(
    "flavors.list",
    "GET",
    SERVERS + "/flavors",
    FlavorsResponse,
    title="List the flavors",
    chapter="4.5.1",
    safety=Safety.READ,
    permission="bms:serverFlavors:get",
)


class Flavors:
    """Flavors, the available kinds of machine: ``bms.flavors``."""

    def __init__(self, session: Session, *, check: bool) -> None:
        self._session = session
        self._check = check

    async def list(self, availability_zone: str | None = None) -> tuple[Flavor, ...]:
        """Return the flavors with all their details.

        ::

            flavors = await bms.flavors.list("az1")
            on_sale = [flavor for flavor in flavors if flavor.status_in("az1") is FlavorStatus.NORMAL]

        Args:
            availability_zone: Only flavors of this zone; of all zones if None.

        Raises:
            InvalidRequestError: The zone's name is invalid; nothing was sent.

        Source: API reference 4.5.1; 500 calls a minute.
        """
        if self._check and availability_zone is not None:
            check_id("availability_zone", availability_zone)
        response = await self._session.call(LIST, query={"availability_zone": availability_zone})
        return response.flavors or ()
