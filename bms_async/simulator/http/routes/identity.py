"""The identity service: tokens (API reference 3.1) and lists of projects (API reference A.1)."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from starlette.routing import Route

from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.refusals import Refusal
from bms_async.simulator.http.gateway import Call, Gateway, Reply
from bms_async.simulator.http.token_requests import Login, admit, read_login

__all__ = ["identity_routes"]

_ENCODE: Final = msgspec.json.Encoder().encode
_REGION: Final = "sim-1"
_SERVICES: Final = (("identity", "iam", "/v3"), ("compute", "nova", "/v2.1/{}"), ("bms", "bms", "/v1/{}"))


def identity_routes(cloud: Cloud, gateway: Gateway) -> list[Route]:
    """The routes for tokens and projects."""
    calls, guard = _Identity(cloud), gateway.guard
    return [
        Route("/v3", guard("identity.version", calls.get_version, public=True)),
        Route("/v3/", guard("identity.version", calls.get_version, public=True)),
        Route("/v3/auth/tokens", guard("identity.create_token", calls.create_token, public=True), methods=["POST"]),
        Route("/v3/projects", guard("identity.projects", calls.list_projects)),
        Route("/v3/auth/projects", guard("identity.projects", calls.list_own_projects)),
    ]


class _Identity:
    """The calls that Keystone serves."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def get_version(self, call: Call) -> bytes:
        """The version document, for clients that have an address and do not know whose it is."""
        links = [{"rel": "self", "href": f"{call.base}/v3/"}]
        return _ENCODE(
            {"version": {"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z", "links": links}}
        )

    async def create_token(self, call: Call) -> Reply:
        """API reference 3.1."""
        login = read_login(call.content)
        project_id = admit(login, self._cloud.settings)
        token = self._cloud.issue_token(project_id)
        body = self._token_document(login, project_id)
        if project_id is not None and "nocatalog" not in call.request.query_params:
            body["catalog"] = _catalog(call.base, project_id)
        return Reply(201, _ENCODE({"token": body}), {"X-Subject-Token": token})

    async def list_projects(self, call: Call) -> bytes:
        """API reference A.1."""
        if not self._cloud.settings.administrator:
            raise Refusal(403, "Forbidden", "This is for administrators.", "keystone")
        return self._projects(call, "projects")

    async def list_own_projects(self, call: Call) -> bytes:
        """The projects of the caller, for callers that are not administrators; not in the reference."""
        return self._projects(call, "auth/projects")

    def _token_document(self, login: Login, project_id: str | None) -> dict[str, Any]:
        settings, now = self._cloud.settings, self._cloud.unix_now()
        domain = {"id": settings.user_domain_id, "name": settings.user_domain_name}
        document: dict[str, Any] = {
            "methods": ["password"],
            "issued_at": _moment(now),
            "expires_at": _moment(now + settings.token_lifetime),
            "user": {"id": settings.user_id, "name": settings.username, "domain": domain, "password_expires_at": None},
        }
        if login.scope is not None:
            name = "admin" if settings.administrator else "member"
            document["roles"] = [{"id": f"role-{name}", "name": name}]
            document["catalog"] = []
        if login.scope == "domain":
            document["domain"] = domain
        if project_id is not None:
            name = next(name for name, each in settings.projects.items() if each == project_id)
            document["project"] = {"id": project_id, "name": name, "domain": domain}
        return document

    def _projects(self, call: Call, path: str) -> bytes:
        settings, query = self._cloud.settings, call.request.query_params
        projects: list[dict[str, Any]] = [
            {
                "id": project_id,
                "name": name,
                "domain_id": settings.user_domain_id,
                "parent_id": settings.user_domain_id,
                "is_domain": False,
                "enabled": True,
                "description": "",
                "links": {"next": None, "previous": None, "self": f"{call.base}/v3/projects/{project_id}"},
            }
            for name, project_id in settings.projects.items()
        ]
        wanted = [
            project
            for project in projects
            if all(query.get(name) in {None, project[name]} for name in ("name", "domain_id", "parent_id"))
        ]
        links = {"next": None, "previous": None, "self": f"{call.base}/v3/{path}"}
        return _ENCODE({"projects": wanted, "links": links})


def _catalog(base: str, project_id: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"service-{name}",
            "type": kind,
            "name": name,
            "endpoints": [
                {
                    "id": f"endpoint-{name}",
                    "interface": "public",
                    "region": _REGION,
                    "region_id": _REGION,
                    "url": base + path.format(project_id),
                }
            ],
        }
        for kind, name, path in _SERVICES
    ]


def _moment(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
