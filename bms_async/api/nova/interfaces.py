"""Network interfaces of servers in the native API (API reference 5.7)."""

from __future__ import annotations

from bms_async.api._envelopes import InterfacesResponse
from bms_async.api._registry import define
from bms_async.models import Interface, Model
from bms_async.wire import Safety, Service

from ._resource import SERVER, Resource


class InterfaceResponse(Model, frozen=True, kw_only=True, rename={"interface": "interfaceAttachment"}):
    """One NIC of a server."""

    interface: Interface


LIST = define(
    "nova.interfaces.list",
    "GET",
    SERVER + "/os-interface",
    InterfacesResponse,
    title="Read a server's NICs",
    chapter="5.7.1",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
GET = define(
    "nova.interfaces.get",
    "GET",
    SERVER + "/os-interface/{id}",
    InterfaceResponse,
    title="Read one NIC of a server",
    chapter="5.7.2",
    safety=Safety.READ,
    service=Service.COMPUTE,
)


class NovaInterfaces(Resource):
    """Network interfaces of servers: ``bms.nova.interfaces``."""

    async def list(self, server_id: str) -> tuple[Interface, ...]:
        """Return a server's NICs, with their MAC addresses and private addresses.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.7.1.
        """
        response = await self._session.call(LIST, path={"server_id": self._id("server_id", server_id)})
        return response.interfaces or ()

    async def get(self, server_id: str, port_id: str) -> Interface:
        """Return one NIC of a server.

        Args:
            server_id: The server.
            port_id: The id of the NIC's port.

        Raises:
            InvalidRequestError: An id is invalid; nothing was sent.
            NotFoundError: The server has no such NIC, or does not exist.

        Source: API reference 5.7.2.
        """
        path = {"server_id": self._id("server_id", server_id), "id": self._id("port_id", port_id)}
        response = await self._session.call(GET, path=path)
        return response.interface
