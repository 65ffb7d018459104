"""The documented calls about servers, as data (API reference 5.2 and 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bms_async.api._envelopes import ServerResponse
from bms_async.api._registry import define
from bms_async.models import CreatedServer, Model
from bms_async.wire import Safety, Service

from ._resource import SERVER, SERVERS
from .server_pages import NativePage


class CreatedResponse(Model, frozen=True, kw_only=True):
    """A server that is being created."""

    server: CreatedServer


CREATE = define(
    "nova.servers.create",
    "POST",
    SERVERS,
    CreatedResponse,
    title="Create a server",
    chapter="5.2.1",
    safety=Safety.UNSAFE,
    service=Service.COMPUTE,
)
DELETE = define(
    "nova.servers.delete",
    "DELETE",
    SERVER,
    type(None),
    title="Delete a server",
    chapter="5.2.2",
    safety=Safety.IDEMPOTENT,
    success=(204,),
    service=Service.COMPUTE,
)
GET = define(
    "nova.servers.get",
    "GET",
    SERVER,
    ServerResponse,
    title="Read one server",
    chapter="5.2.3",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
LIST = define(
    "nova.servers.list",
    "GET",
    SERVERS,
    NativePage,
    title="List ids and names of the servers that match, including virtual machines",
    chapter="5.2.4",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
LIST_DETAILS = define(
    "nova.servers.list_details",
    "GET",
    SERVERS + "/detail",
    NativePage,
    title="List the servers that match, including virtual machines",
    chapter="5.2.5",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
RENAME = define(
    "nova.servers.rename",
    "PUT",
    SERVER,
    ServerResponse,
    title="Rename a server",
    chapter="5.3.1",
    safety=Safety.IDEMPOTENT,
    service=Service.COMPUTE,
)
START = define(
    "nova.servers.start",
    "POST",
    SERVER + "/action",
    type(None),
    title="Start one server",
    chapter="5.3.2",
    safety=Safety.IDEMPOTENT,
    success=(204,),
    service=Service.COMPUTE,
)
REBOOT = define(
    "nova.servers.reboot",
    "POST",
    SERVER + "/action",
    type(None),
    title="Restart one server",
    chapter="5.3.3",
    safety=Safety.UNSAFE,
    success=(204,),
    service=Service.COMPUTE,
)
STOP = define(
    "nova.servers.stop",
    "POST",
    SERVER + "/action",
    type(None),
    title="Stop one server",
    chapter="5.3.4",
    safety=Safety.IDEMPOTENT,
    success=(204,),
    service=Service.COMPUTE,
)

ACTION_BODIES: Final[Mapping[str, Mapping[str, object]]] = {
    START.name: {"os-start": {}},
    STOP.name: {"os-stop": {}},
    REBOOT.name: {"reboot": {"type": "HARD"}},
}
"""The body of each power action; a reboot is a hard one (API reference 5.3.3)."""
