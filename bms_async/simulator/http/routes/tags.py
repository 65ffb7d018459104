"""Tags (API reference 5.10)."""

from typing import Final

import msgspec
from starlette.routing import Route

from bms_async.simulator.core.attributes import tags_of
from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.refusals import bad_request, native
from bms_async.simulator.core.servers import Server
from bms_async.simulator.http.gateway import Call, Gateway, Reply
from bms_async.simulator.http.microversions import with_tags

__all__ = ["tag_routes"]

_ENCODE: Final = msgspec.json.Encoder().encode
_MAX_LENGTH: Final = 80
_MAX_TAGS: Final = 50


def tag_routes(cloud: Cloud, gateway: Gateway) -> list[Route]:
    """The routes for tags."""
    calls, guard = _TagRoutes(cloud), gateway.guard
    tags = "/v2.1/{project_id}/servers/{server_id}/tags"
    # Tags come percent-encoded, and a server sees them decoded.
    one = f"{tags}/{{tag:path}}"
    return [
        Route(tags, guard("nova.tags.list", calls.show)),
        Route(tags, guard("nova.tags.replace", calls.replace), methods=["PUT"]),
        Route(tags, guard("nova.tags.clear", calls.clear), methods=["DELETE"]),
        Route(one, guard("nova.tags.has", calls.has)),
        Route(one, guard("nova.tags.add", calls.add), methods=["PUT"]),
        Route(one, guard("nova.tags.remove", calls.remove), methods=["DELETE"]),
    ]


class _TagRoutes:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def show(self, call: Call) -> bytes:
        """API reference 5.10.1."""
        _, tags = await self._tags(call)
        return _ENCODE({"tags": tags})

    async def replace(self, call: Call) -> bytes:
        """API reference 5.10.2."""
        server, _ = await self._tags(call)
        given = None if call.content is None else call.content.get("tags")
        if not isinstance(given, list):
            raise bad_request("The body must be a JSON object that holds tags, a list.")
        tags = sorted({_check(tag) for tag in given})
        if len(given) > _MAX_TAGS:
            raise bad_request(f"A server has at most {_MAX_TAGS} tags.")
        self._cloud.change(server).tags = tags
        return _ENCODE({"tags": tags})

    async def clear(self, call: Call) -> Reply:
        """API reference 5.10.3."""
        server, _ = await self._tags(call)
        self._cloud.change(server).tags = []
        return Reply(204)

    async def add(self, call: Call) -> Reply:
        """API reference 5.10.4."""
        server, tags = await self._tags(call)
        tag = _check(call.path("tag"))
        if tag in tags:
            return Reply(204)
        if len(tags) >= _MAX_TAGS:
            raise bad_request(f"A server has at most {_MAX_TAGS} tags.")
        self._cloud.change(server).tags = sorted([*tags, tag])
        return Reply(201, headers={"Location": str(call.request.url)})

    async def has(self, call: Call) -> Reply:
        """API reference 5.10.5."""
        server, tags = await self._tags(call)
        tag = call.path("tag")
        if tag not in tags:
            raise native(404, f"Server {server.id} has no tag '{tag}'")
        return Reply(204)

    async def remove(self, call: Call) -> Reply:
        """API reference 5.10.6."""
        server, tags = await self._tags(call)
        tag = call.path("tag")
        if tag not in tags:
            raise native(404, f"Server {server.id} has no tag '{tag}'")
        self._cloud.change(server).tags = [each for each in tags if each != tag]
        return Reply(204)

    async def _tags(self, call: Call) -> tuple[Server, list[str]]:
        with_tags(call.request)
        await self._cloud.settle()
        server = self._cloud.machine(call.path("server_id"))
        return server, tags_of(server, self._cloud.attributes_of(server))


def _check(tag: object) -> str:
    if not isinstance(tag, str) or not 1 <= len(tag) <= _MAX_LENGTH:
        raise bad_request(f"A tag is a text of 1 to {_MAX_LENGTH} characters.")
    if tag.startswith(".") or "/" in tag or "," in tag:
        raise bad_request(f"A tag must not begin with a period, nor hold a comma or a slash: {tag}")
    return tag
