"""Metadata: merged by one API, and set and deleted one by one by the other (API reference 4.8 and 5.4)."""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.routing import Route

from bms_async.simulator.core.attributes import metadata_of
from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.refusals import Refusal, bad_request, native, parameter
from bms_async.simulator.core.servers import Server
from bms_async.simulator.http.gateway import Call, Gateway, Reply
from bms_async.simulator.http.microversions import microversion
from bms_async.simulator.http.requests import read_native_wish, read_wish

__all__ = ["check_metadata", "metadata_routes"]

_ENCODE: Final = msgspec.json.Encoder().encode
_MAX_LENGTH: Final = 255
_MAX_ENTRIES: Final = 128
_STEADY: Final = {"active", "stopped", "paused"}
_KEY: Final = re.compile(r"[\w\-:.]{1,255}")


def metadata_routes(cloud: Cloud, gateway: Gateway) -> list[Route]:
    """The routes for metadata, of both APIs."""
    calls, guard = _MetadataRoutes(cloud), gateway.guard
    metadata = "/v2.1/{project_id}/servers/{server_id}/metadata"
    one = f"{metadata}/{{key:path}}"
    return [
        Route(
            "/v1/{project_id}/baremetalservers/{server_id}/metadata",
            guard("servers.update_metadata", calls.update),
            methods=["POST"],
        ),
        Route(metadata, guard("nova.metadata.get", calls.get)),
        Route(metadata, guard("nova.metadata.update", calls.update_natively), methods=["POST"]),
        Route(one, guard("nova.metadata.set", calls.set), methods=["PUT"]),
        Route(one, guard("nova.metadata.delete", calls.delete), methods=["DELETE"]),
    ]


def check_metadata(given: object, refuse: Callable[[str], Refusal]) -> dict[str, str]:
    """Check what is to become metadata.

    Raises:
        Refusal: It cannot.
    """
    if not isinstance(given, dict):
        raise refuse("metadata must be an object.")
    for key, value in given.items():
        if not _KEY.fullmatch(key):
            raise refuse(f"a key has 1 to {_MAX_LENGTH} letters, digits, - _ : and . and not {key!r}.")
        if not isinstance(value, str) or len(value) > _MAX_LENGTH:
            raise refuse(f"the value of {key} must be a text of at most {_MAX_LENGTH} characters.")
    return given


class _MetadataRoutes:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def update(self, call: Call) -> bytes:
        """API reference 4.8.1."""
        await self._cloud.settle()
        server = self._cloud.server(call.path("server_id"))
        if server.vm_state not in _STEADY:
            raise Refusal(400, "BMS.1006", "The server is neither on nor off.")
        given = check_metadata(read_wish(call.content, "metadata"), parameter)
        return _ENCODE({"metadata": self._merge(server, given, parameter)})

    async def get(self, call: Call) -> bytes:
        """API reference 5.4.1."""
        server = await self._machine(call)
        return _ENCODE({"metadata": metadata_of(server, self._cloud.attributes_of(server))})

    async def update_natively(self, call: Call) -> bytes:
        """API reference 5.4.2."""
        server = await self._machine(call, steady=True)
        given = check_metadata(read_native_wish(call.content, "metadata"), bad_request)
        return _ENCODE({"metadata": self._merge(server, given, lambda why: native(403, why))})

    async def set(self, call: Call) -> bytes:
        """API reference 5.4.3."""
        server, key = await self._machine(call, steady=True), call.path("key")
        given = check_metadata(read_native_wish(call.content, "meta"), bad_request)
        if list(given) != [key]:
            raise bad_request("meta must hold the key of the URL, and no other.")
        self._merge(server, given, lambda why: native(403, why))
        return _ENCODE({"meta": given})

    async def delete(self, call: Call) -> Reply:
        """API reference 5.4.4."""
        server, key = await self._machine(call, steady=True), call.path("key")
        metadata = metadata_of(server, self._cloud.attributes_of(server))
        if key not in metadata:
            raise native(404, "Metadata item was not found")
        del metadata[key]
        self._cloud.change(server).metadata = metadata
        return Reply(204)

    def _merge(self, server: Server, given: dict[str, str], refuse: Callable[[str], Refusal]) -> dict[str, Any]:
        metadata = metadata_of(server, self._cloud.attributes_of(server)) | given
        if len(metadata) > _MAX_ENTRIES:
            raise refuse(f"a server has at most {_MAX_ENTRIES} entries.")
        if given:
            self._cloud.change(server).metadata = metadata
        return metadata

    async def _machine(self, call: Call, *, steady: bool = False) -> Server:
        microversion(call.request)
        await self._cloud.settle()
        server = self._cloud.machine(call.path("server_id"))
        if steady and server.vm_state not in _STEADY:
            raise native(409, f"Cannot change metadata while it is in vm_state {server.vm_state}")
        return server
