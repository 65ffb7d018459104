"""As much of the API of Kubernetes as kopf asks for: objects of one kind that are listed, watched and patched."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import jsonpatch
import msgspec
from aiohttp import web

GROUP, VERSION, PLURAL, KIND = "bms.example.com", "v1", "baremetalpowers", "BareMetalPower"
NAMESPACE = "default"

_VERSIONS = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
_ANY = {"singularName": "", "verbs": ["get", "list", "watch", "patch"]}
_ABOUT_ITSELF = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {"resources": [_ANY | {"name": "namespaces", "kind": "Namespace", "namespaced": False}]},
    "/apis": {"groups": [{"name": GROUP, "preferredVersion": _VERSIONS, "versions": [_VERSIONS]}]},
    f"/apis/{GROUP}/{VERSION}": {
        "resources": [_ANY | {"name": name, "kind": KIND, "namespaced": True} for name in (PLURAL, f"{PLURAL}/status")]
    },
}


class Kubernetes:
    """A cluster that has objects of one kind.

    Attributes:
        objects: The objects, by their names.
        address: Where it listens.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.address = ""
        self.patches = 0
        self._version = 0
        self._watchers: set[asyncio.Queue[bytes]] = set()
        self._changed = asyncio.Event()

    def create(self, name: str, spec: Mapping[str, object]) -> None:
        meta = {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "generation": 1}
        self.objects[name] = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": meta | {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": dict(spec),
        }
        self._tell("ADDED", name)

    def edit(self, name: str, spec: Mapping[str, object]) -> None:
        self.objects[name]["spec"] |= spec
        self.objects[name]["metadata"]["generation"] += 1
        self._tell("MODIFIED", name)

    def delete(self, name: str) -> None:
        self.objects[name]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        self._tell("MODIFIED", name)
        self._collect(name)

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.objects[name].get("status", {})
        return found

    def conditions(self) -> Counter[str | None]:
        """How many objects are in each condition."""
        return Counter(self.status(name).get("condition") for name in self.objects)

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait until the objects are so."""
        while not is_so():
            await self._changed.wait()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()

    def _tell(self, kind: str, name: str) -> None:
        self._version += 1
        self.objects[name]["metadata"]["resourceVersion"] = str(self._version)
        line = msgspec.json.encode({"type": kind, "object": self.objects[name]}) + b"\n"
        for watcher in self._watchers:
            watcher.put_nowait(line)
        self._changed.set()
        self._changed = asyncio.Event()

    def _collect(self, name: str) -> None:
        meta = self.objects[name]["metadata"]
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            self._tell("DELETED", name)
            del self.objects[name]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        match request.method, request.path.strip("/").removesuffix("/status").split("/"):
            case "GET", [*_, plural] if plural == PLURAL:
                return await self._list(request)
            case "PATCH", [*_, name] if name in self.objects:
                return await self._patch(request, name)
            case _:
                found = _ABOUT_ITSELF.get(request.path)
                return web.json_response(found or {}, status=404 if found is None else 200)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            items = list(self.objects.values())
            return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        seen = int(request.query.get("resourceVersion", 0))
        for each in self.objects.values():
            # What has changed since the list that the watch goes on from.
            if int(each["metadata"]["resourceVersion"]) > seen:
                lines.put_nowait(msgspec.json.encode({"type": "MODIFIED", "object": each}) + b"\n")
        self._watchers.add(lines)
        try:
            while True:
                await response.write(await lines.get())
        finally:
            self._watchers.discard(lines)

    async def _patch(self, request: web.Request, name: str) -> web.Response:
        self.patches += 1
        before = msgspec.json.encode(self.objects[name])
        patch = await request.json()
        if isinstance(patch, list):
            self.objects[name] = jsonpatch.apply_patch(self.objects[name], patch)
        else:
            _merge(self.objects[name], patch)
        if msgspec.json.encode(self.objects[name]) != before:
            self._tell("MODIFIED", name)
        answer = web.json_response(self.objects[name])
        self._collect(name)
        return answer


def _merge(target: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """Apply a merge patch."""
    for key, value in patch.items():
        if isinstance(value, Mapping):
            _merge(target.setdefault(key, {}), value)
        elif value is None:
            target.pop(key, None)
        else:
            target[key] = value
