"""The native calls for servers (API reference 5.2, 5.3, 5.5 and 5.7)."""

import re
from typing import Any, Final

import anyio.lowlevel
import msgspec
from starlette.routing import Route

from bms_async.simulator.core.attributes import name_of
from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.refusals import bad_request, native
from bms_async.simulator.core.servers import PowerAction, Server
from bms_async.simulator.http.gateway import Call, Gateway, Reply
from bms_async.simulator.http.microversions import compute_version, microversion
from bms_async.simulator.http.native_documents import (
    addresses,
    brief_document,
    interfaces,
    native_document,
    renamed_document,
)
from bms_async.simulator.http.native_lists import find_machines
from bms_async.simulator.http.requests import read_native_wish
from bms_async.simulator.http.routes.native_creation import create_natively

__all__ = ["native_routes"]

_ENCODE: Final = msgspec.json.Encoder().encode
_ACTIONS: Final[dict[str, PowerAction]] = {"os-start": "start", "os-stop": "stop", "reboot": "reboot"}
_NAME: Final = re.compile(r"\S(.{0,253}\S)?", re.DOTALL)

# As in the BMS API's lists, others get their turn in between.
_YIELD_EVERY: Final = 250


def native_routes(cloud: Cloud, gateway: Gateway) -> list[Route]:
    """The routes for servers, and for the documents by which clients find the native API."""
    calls, guard = _NativeServerRoutes(cloud), gateway.guard
    servers = "/v2.1/{project_id}/servers"
    one = f"{servers}/{{server_id}}"
    version = guard("nova.versions", calls.version, public=True)
    return [
        Route("/v2.1", version),
        Route("/v2.1/", version),
        Route(servers, guard("nova.servers.list", calls.list)),
        Route(servers, guard("nova.servers.create", calls.create), methods=["POST"]),
        Route(f"{servers}/detail", guard("nova.servers.list_details", calls.list_details)),
        Route(one, guard("nova.servers.get", calls.get)),
        Route(one, guard("nova.servers.rename", calls.rename), methods=["PUT"]),
        Route(one, guard("nova.servers.delete", calls.delete), methods=["DELETE"]),
        Route(f"{one}/action", guard(_sort_action, calls.act), methods=["POST"]),
        Route(f"{one}/ips", guard("nova.addresses.list", calls.list_addresses)),
        Route(f"{one}/ips/{{vpc_id}}", guard("nova.addresses.get", calls.get_address)),
        Route(f"{one}/os-interface", guard("nova.interfaces.list", calls.list_interfaces)),
        Route(f"{one}/os-interface/{{port_id}}", guard("nova.interfaces.get", calls.get_interface)),
    ]


def _sort_action(content: dict[str, Any] | None) -> str:
    named = [action for key, action in _ACTIONS.items() if key in (content or ())]
    return f"nova.servers.{named[0] if len(named) == 1 else 'action'}"


class _NativeServerRoutes:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def version(self, call: Call) -> bytes:
        """The version document, with the supported microversions."""
        return _ENCODE({"version": compute_version(call.base)})

    async def create(self, call: Call) -> bytes:
        """API reference 5.2.1."""
        microversion(call.request)
        await self._cloud.settle()
        return _ENCODE({"server": create_natively(self._cloud, read_native_wish(call.content, "server"), call.base)})

    async def delete(self, call: Call) -> Reply:
        """API reference 5.2.2."""
        server = self._machine(call)
        if server.action != "delete":
            self._cloud.delete(server)
        return Reply(204)

    async def get(self, call: Call) -> bytes:
        """API reference 5.2.3."""
        cloud, server, version = self._cloud, self._machine(call), microversion(call.request)
        document = native_document(server, cloud.attributes_of(server), cloud.view, call.base, version, listed=False)
        return _ENCODE({"server": document})

    async def list(self, call: Call) -> bytes:
        """API reference 5.2.4."""
        cloud = self._cloud
        found, more = await find_machines(cloud, call.request.query_params, microversion(call.request))
        servers = [
            _ENCODE(brief_document(server, name_of(server, cloud.attributes_of(server)), cloud.view, call.base))
            for server in found
        ]
        return _listed(call, servers, found[-1].id if more and cloud.settings.list_links else None)

    async def list_details(self, call: Call) -> bytes:
        """API reference 5.2.5."""
        cloud, version = self._cloud, microversion(call.request)
        found, more = await find_machines(cloud, call.request.query_params, version)
        servers = []
        for number, server in enumerate(found, 1):
            extra = cloud.attributes_of(server)
            servers.append(_ENCODE(native_document(server, extra, cloud.view, call.base, version, listed=True)))
            if number % _YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()
        return _listed(call, servers, found[-1].id if more and cloud.settings.list_links else None)

    async def rename(self, call: Call) -> bytes:
        """API reference 5.3.1."""
        cloud, server, version = self._cloud, self._machine(call), microversion(call.request)
        name = read_native_wish(call.content, "server").get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise bad_request("name must be a text of 1 to 255 characters.")
        cloud.change(server).name = name
        return _ENCODE(
            {"server": renamed_document(server, cloud.attributes_of(server), cloud.view, call.base, version)}
        )

    async def act(self, call: Call) -> Reply:
        """API reference 5.3.2 to 5.3.4."""
        server, content = self._machine(call), call.content
        if content is None or len(content) != 1 or not content.keys() <= _ACTIONS.keys():
            raise bad_request("The body must hold one of os-start, os-stop and reboot.")
        key, wish = next(iter(content.items()))
        if wish is not None and not isinstance(wish, dict):
            raise bad_request(f"{key} must be an object or null.")
        # The type of a stop counts for nothing; that of a restart must be there, and means HARD whatever it is.
        if key == "reboot" and (wish or {}).get("type") not in {"HARD", "SOFT"}:
            raise bad_request("reboot must have a type, HARD or SOFT.")
        action = _ACTIONS[key]
        if server.objection(action) is not None:
            if server.locked and not server.action:
                raise native(409, f"Instance {server.id} is locked")
            doing = f"task_state {server.task_state}" if server.action else f"vm_state {server.vm_state}"
            raise native(409, f"Cannot '{action}' instance {server.id} while it is in {doing}")
        self._cloud.work(action, server)
        return Reply(202)

    async def list_addresses(self, call: Call) -> bytes:
        """API reference 5.5.1."""
        server = self._machine(call)
        return _ENCODE({"addresses": addresses(server, self._cloud.attributes_of(server))})

    async def get_address(self, call: Call) -> bytes:
        """API reference 5.5.2."""
        server, vpc = self._machine(call), call.path("vpc_id")
        found = addresses(server, self._cloud.attributes_of(server))
        if vpc not in found:
            raise native(404, f"Network name {vpc} not found")
        return _ENCODE({vpc: found[vpc]})

    async def list_interfaces(self, call: Call) -> bytes:
        """API reference 5.7.1."""
        server = self._machine(call)
        return _ENCODE({"interfaceAttachments": interfaces(server, self._cloud.attributes_of(server))})

    async def get_interface(self, call: Call) -> bytes:
        """API reference 5.7.2."""
        server, port = self._machine(call), call.path("port_id")
        for interface in interfaces(server, self._cloud.attributes_of(server)):
            if interface["port_id"] == port:
                return _ENCODE({"interfaceAttachment": interface})
        raise native(404, f"Instance {server.id} has no port {port}")

    def _machine(self, call: Call) -> Server:
        microversion(call.request)
        return self._cloud.machine(call.path("server_id"))


def _listed(call: Call, servers: "list[bytes]", last: str | None) -> bytes:
    links = b""
    if last is not None:
        address = call.request.url.include_query_params(marker=last)
        links = b',"servers_links":%b' % _ENCODE([{"rel": "next", "href": str(address)}])
    return b'{"servers":[%b]%b}' % (b",".join(servers), links)
