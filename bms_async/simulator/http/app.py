"""The cloud's HTTP face: a Starlette application that keeps nothing of its own."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

import anyio.lowlevel
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.refusals import Refusal, no_such_api
from bms_async.simulator.http.admin import admin_routes
from bms_async.simulator.http.documents import VERSION_IDS, server_document, version_document
from bms_async.simulator.http.gateway import Call, Gateway, refuse
from bms_async.simulator.http.microversions import NEWEST
from bms_async.simulator.http.native_documents import interfaces, native_document
from bms_async.simulator.http.requests import read_page, read_power, read_wish, sort_power
from bms_async.simulator.http.routes.creation import creation_routes
from bms_async.simulator.http.routes.flavors import flavor_routes
from bms_async.simulator.http.routes.identity import identity_routes
from bms_async.simulator.http.routes.keypairs import key_routes
from bms_async.simulator.http.routes.metadata import metadata_routes
from bms_async.simulator.http.routes.native_servers import native_routes
from bms_async.simulator.http.routes.passwords import password_routes
from bms_async.simulator.http.routes.quotas import quota_routes
from bms_async.simulator.http.routes.tags import tag_routes
from bms_async.simulator.http.routes.volumes import disk_routes
from bms_async.simulator.http.status_page import offer_page

__all__ = ["create_app"]

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_ENCODE: Final = msgspec.json.Encoder().encode

# A thousand servers take some ten milliseconds to write out; others get their turn in between.
_YIELD_EVERY: Final = 250


def create_app(cloud: Cloud) -> Starlette:
    """The application that serves a cloud, under uvicorn or in-process under `httpx.ASGITransport`.

    It needs no lifespan. A fault that cuts the connection leaves it as `SimulatedCut`.
    """
    calls = _BmsRoutes(cloud)
    gateway = Gateway(cloud)
    guard = gateway.guard
    project = "/v1/{project_id}"
    servers = f"{project}/baremetalservers"
    routes = [
        *admin_routes(cloud),
        # The hot ones first: routes are tried in order.
        Route(f"{project}/jobs/{{job_id}}", guard("jobs.get", calls.get_job)),
        Route(f"{servers}/detail", guard("servers.list", calls.list_servers)),
        Route(f"{servers}/action", guard(sort_power, calls.act), methods=["POST"]),
        *flavor_routes(cloud, gateway),
        *quota_routes(cloud, gateway),
        Route(f"{servers}/{{server_id}}", guard("servers.get", calls.get_server)),
        Route(f"{servers}/{{server_id}}", guard("servers.rename", calls.rename), methods=["PUT"]),
        Route(f"{servers}/{{server_id}}/os-interface", guard("servers.list_interfaces", calls.list_interfaces)),
        *creation_routes(cloud, gateway),
        *disk_routes(cloud, gateway),
        *metadata_routes(cloud, gateway),
        *password_routes(cloud, gateway),
        *native_routes(cloud, gateway),
        *tag_routes(cloud, gateway),
        *key_routes(cloud, gateway),
        *identity_routes(cloud, gateway),
        Route("/", offer_page(guard("versions.list", calls.list_versions, public=True))),
        Route("/{api_version}", guard("versions.get", calls.get_version, public=True)),
        Route("/{api_version}/", guard("versions.get", calls.get_version, public=True)),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _nothing_here(cloud)})
    app.router.redirect_slashes = False
    return app


class _BmsRoutes:
    """The documented calls that the simulator serves."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def list_versions(self, call: Call) -> bytes:
        """API reference 4.2.1."""
        return _ENCODE({"versions": [version_document(each, call.base) for each in VERSION_IDS]})

    async def get_version(self, call: Call) -> bytes:
        """API reference 4.2.2."""
        version = call.path("api_version")
        if version not in VERSION_IDS:
            raise no_such_api(404, "GET", call.request.url.path)
        return _ENCODE({"version": version_document(version, call.base)})

    async def get_server(self, call: Call) -> bytes:
        """API reference 4.3.1."""
        cloud = self._cloud
        server = cloud.server(call.path("server_id"))
        return b'{"server":%b}' % server_document(server, cloud.attributes_of(server), cloud.view, full=True)

    async def rename(self, call: Call) -> bytes:
        """API reference 4.4.1."""
        cloud = self._cloud
        server = cloud.server(call.path("server_id"))
        name = read_wish(call.content, "server").get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Refusal(400, "BMS.0206", "A name has 1 to 63 letters, digits, and _ - and .")
        cloud.change(server).name = name
        # The response has the native shape, including the links.
        extra = cloud.attributes_of(server)
        return _ENCODE({"server": native_document(server, extra, cloud.view, call.base, NEWEST, listed=True)})

    async def list_interfaces(self, call: Call) -> bytes:
        """API reference 4.6.1."""
        server = self._cloud.server(call.path("server_id"))
        nics = interfaces(server, self._cloud.attributes_of(server))
        for index, nic in enumerate(nics):
            nic |= {"driver_mode": "hinic", "pci_address": f"0000:{index + 2:02x}:00.0"}
        return _ENCODE({"interfaceAttachments": nics})

    async def list_servers(self, call: Call) -> bytes:
        """API reference 4.3.2."""
        cloud = self._cloud
        settings = cloud.settings
        page = read_page(dict(call.request.query_params), cap=settings.page_cap)
        count, servers = await cloud.find(page.filters, page.first, page.most)
        written = []
        for number, server in enumerate(servers, 1):
            written.append(server_document(server, cloud.attributes_of(server), cloud.view, full=False))
            if number % _YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()
        if settings.list_count == "none":
            return b'{"servers":[%b]}' % b",".join(written)
        if settings.list_count == "page":
            count = len(written)
        return b'{"count":%d,"servers":[%b]}' % (count, b",".join(written))

    async def act(self, call: Call) -> bytes:
        """API reference 4.4.3 to 4.4.5."""
        request = read_power(call.content)
        await self._cloud.settle()
        return b'{"job_id":"%b"}' % self._cloud.act(*request).id.encode()

    async def get_job(self, call: Call) -> bytes:
        """API reference 4.11.1."""
        return self._cloud.job_document(call.path("job_id"))


def _nothing_here(cloud: Cloud) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return refuse(cloud, no_such_api(status, request.method, request.url.path))

    return handle
