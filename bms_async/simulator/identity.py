"""The identity service's lists of projects (API reference A.1)."""

from typing import Any, Final

import msgspec
from starlette.routing import Route

from bms_async.simulator.cloud import Cloud
from bms_async.simulator.gateway import Call, Gateway
from bms_async.simulator.refusals import Refusal

__all__ = ["identity_routes"]

_ENCODE: Final = msgspec.json.Encoder().encode
_DOMAIN: Final = "5d3b6d0e0f634c518a5e6b0d5f6f1c08"


def identity_routes(cloud: Cloud, gateway: Gateway) -> list[Route]:
    """The routes for projects."""

    async def all_projects(call: Call) -> bytes:
        if not cloud.settings.administrator:
            raise Refusal(403, "Forbidden", "This is for administrators.", "keystone")
        return projects(call, "projects")

    async def own_projects(call: Call) -> bytes:
        return projects(call, "auth/projects")

    def projects(call: Call, path: str) -> bytes:
        settings, query = cloud.settings, call.request.query_params
        project: dict[str, Any] = {
            "id": settings.project_id,
            "name": settings.project_name,
            "domain_id": _DOMAIN,
            "parent_id": _DOMAIN,
            "is_domain": False,
            "enabled": True,
            "description": "",
            "links": {"next": None, "previous": None, "self": f"{call.base}/v3/projects/{settings.project_id}"},
        }
        wanted = all(query.get(name) in {None, project[name]} for name in ("name", "domain_id", "parent_id"))
        links = {"next": None, "previous": None, "self": f"{call.base}/v3/{path}"}
        return _ENCODE({"projects": [project] if wanted else [], "links": links})

    guard = gateway.guard
    return [
        Route("/v3/projects", guard("identity.projects", all_projects)),
        Route("/v3/auth/projects", guard("identity.projects", own_projects)),
    ]
