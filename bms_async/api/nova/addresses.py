"""IP addresses of servers (API reference 5.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bms_async.api._registry import define
from bms_async.errors import DecodeError
from bms_async.models import Address, Model
from bms_async.wire import Safety, Service

from ._resource import SERVER, Resource


class AddressesResponse(Model, frozen=True, kw_only=True):
    """All addresses of a server; required, for a body without them does not mean that there are none."""

    addresses: Mapping[str, tuple[Address, ...]] | Literal[""] | None


LIST = define(
    "nova.addresses.list",
    "GET",
    SERVER + "/ips",
    AddressesResponse,
    title="Read a server's addresses",
    chapter="5.5.1",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
GET = define(
    "nova.addresses.get",
    "GET",
    SERVER + "/ips/{vpc_id}",
    dict[str, tuple[Address, ...]],
    title="Read a server's addresses in one VPC",
    chapter="5.5.2",
    safety=Safety.READ,
    service=Service.COMPUTE,
)


class Addresses(Resource):
    """IP addresses of servers: ``bms.nova.addresses``."""

    async def list(self, server_id: str) -> Mapping[str, tuple[Address, ...]]:
        """Return a server's addresses, keyed by the id of their VPC.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.5.1.
        """
        response = await self._session.call(LIST, path={"server_id": self._id("server_id", server_id)})
        return response.addresses or {}

    async def get(self, server_id: str, vpc_id: str) -> tuple[Address, ...]:
        """Return a server's addresses in one VPC.

        Args:
            server_id: The server.
            vpc_id: The VPC, a key in the result of `list`.

        Raises:
            InvalidRequestError: An id is invalid; nothing was sent.
            NotFoundError: There is no such server, or it is not in this VPC.

        Source: API reference 5.5.2.
        """
        path = {"server_id": self._id("server_id", server_id), "vpc_id": self._id("vpc_id", vpc_id)}
        response = await self._session.call(GET, path=path)
        if vpc_id in response:
            return response[vpc_id]
        # A single key is the VPC, however the cloud spells it.
        if len(response) > 1:
            raise DecodeError(f"expected the VPC {vpc_id}, got {len(response)} others", status=200, operation=GET.name)
        return next(iter(response.values()), ())
