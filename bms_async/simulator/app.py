"""The cloud's HTTP face: a Starlette application that keeps nothing of its own."""

from collections.abc import Awaitable, Callable
from typing import Final

import anyio.lowlevel
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bms_async.simulator.admin import admin_routes
from bms_async.simulator.cloud import Cloud
from bms_async.simulator.documents import VERSION_IDS, server_document, version_document
from bms_async.simulator.gateway import Call, Gateway, refuse
from bms_async.simulator.refusals import no_such_api
from bms_async.simulator.requests import read_page, read_power

__all__ = ["create_app"]

_ENCODE: Final = msgspec.json.Encoder().encode

# A thousand servers take some ten milliseconds to write out; others get their turn in between.
_AT_A_TIME: Final = 250


def create_app(cloud: Cloud) -> Starlette:
    """The application that serves a cloud, under uvicorn or in-process under `httpx.ASGITransport`.

    It needs no lifespan. A fault that cuts the connection leaves it as `SimulatedCut`.
    """
    calls = _Calls(cloud)
    guard = Gateway(cloud).guard
    project = "/v1/{project_id}"
    servers = f"{project}/baremetalservers"
    routes = [
        *admin_routes(cloud),
        Route("/", guard("versions.list", calls.list_versions, public=True)),
        Route("/{api_version}", guard("versions.get", calls.get_version, public=True)),
        Route("/{api_version}/", guard("versions.get", calls.get_version, public=True)),
        Route(f"{servers}/detail", guard("servers.list", calls.list_servers)),
        Route(f"{servers}/action", guard(None, calls.act), methods=["POST"]),
        Route(f"{servers}/{{server_id}}", guard("servers.get", calls.get_server)),
        Route(f"{project}/jobs/{{job_id}}", guard("jobs.get", calls.get_job)),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _nothing_here(cloud)})
    app.router.redirect_slashes = False
    return app


class _Calls:
    """The documented calls that the simulator serves."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def list_versions(self, call: Call) -> bytes:
        """API reference 4.2.1."""
        base = str(call.request.base_url).rstrip("/")
        return _ENCODE({"versions": [version_document(each, base) for each in VERSION_IDS]})

    async def get_version(self, call: Call) -> bytes:
        """API reference 4.2.2."""
        version = call.request.path_params["api_version"]
        if version not in VERSION_IDS:
            raise no_such_api(404, "GET", call.request.url.path)
        base = str(call.request.base_url).rstrip("/")
        return _ENCODE({"version": version_document(version, base)})

    async def get_server(self, call: Call) -> bytes:
        """API reference 4.3.1."""
        cloud = self._cloud
        server = cloud.server(call.request.path_params["server_id"])
        return b'{"server":%b}' % server_document(
            server,
            project_id=cloud.settings.project_id,
            wall=cloud.wall,
            born=cloud.born,
            full=True,
        )

    async def list_servers(self, call: Call) -> bytes:
        """API reference 4.3.2."""
        cloud = self._cloud
        page = read_page(dict(call.request.query_params))
        count, servers = await cloud.find(page.filters, page.first, page.most)
        written = []
        for number, server in enumerate(servers, 1):
            written.append(
                server_document(
                    server,
                    project_id=cloud.settings.project_id,
                    wall=cloud.wall,
                    born=cloud.born,
                    full=False,
                )
            )
            if number % _AT_A_TIME == 0:
                await anyio.lowlevel.checkpoint()
        return b'{"count":%d,"servers":[%b]}' % (count, b",".join(written))

    async def act(self, call: Call) -> bytes:
        """API reference 4.4.3 to 4.4.5."""
        request = read_power(call.content)
        await self._cloud.settle()
        return b'{"job_id":"%b"}' % self._cloud.act(*request).id.encode()

    async def get_job(self, call: Call) -> bytes:
        """API reference 4.11.1."""
        return self._cloud.job_document(call.request.path_params["job_id"])


def _nothing_here(cloud: Cloud) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return refuse(cloud, no_such_api(status, request.method, request.url.path))

    return handle
