"""The projects of an account (API reference A.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bms_async.api._pages import next_of, read_pages
from bms_async.api._registry import define
from bms_async.auth import TOKEN_OPERATION
from bms_async.errors import (
    ApiError,
    AuthenticationError,
    CallError,
    CallTimeoutError,
    ConfigurationError,
    DecodeError,
    InvalidRequestError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    TransportError,
)
from bms_async.models import Model, Project
from bms_async.session import Session
from bms_async.wire import Operation, Query, Safety, Service


class ProjectsResponse(Model, frozen=True, kw_only=True):
    """All projects, or one page of them.

    Attributes:
        links: The addresses of other pages, by their relation.
        truncated: Whether the service has left out projects, which no link leads to.
    """

    projects: tuple[Project, ...] | Literal[""] | None
    links: Mapping[str, str | None] | None = None
    truncated: bool | None = None


PROJECTS = define(
    "identity.projects",
    "GET",
    "/v3/projects",
    ProjectsResponse,
    title="List the projects",
    chapter="A.1",
    safety=Safety.READ,
    service=Service.IDENTITY,
)
# Without a method: `PasswordAuth` makes this call, and reads the response with its headers.
CREATE_TOKEN = define(
    TOKEN_OPERATION,
    "POST",
    "/v3/auth/tokens",
    bytes,
    title="Get a token for a user's password",
    chapter="3.2",
    safety=Safety.IDEMPOTENT,
    success=(201,),
    service=Service.IDENTITY,
)
# Keystone's call for users that are not administrators; not in the table, for it is undocumented here.
_OWN_PROJECTS = Operation(
    name=PROJECTS.name,
    method="GET",
    path="/v3/auth/projects",
    result=ProjectsResponse,
    chapter=PROJECTS.chapter,
    safety=Safety.READ,
    service=Service.IDENTITY,
)


class Identity:
    """The account's projects: ``bms.identity``. The calls go to the client's ``identity_endpoint``."""

    def __init__(self, session: Session, *, check: bool) -> None:
        self._session = session
        self._check = check

    async def projects(self, *, name: str | None = None) -> tuple[Project, ...]:
        """Return the projects; a `Project.id` can be a client's ``project_id``.

        If only administrators may list all projects, these are the caller's own, at the cost of a second call.

        Args:
            name: Return only the project of this name; the cloud's own projects are named after their regions.

        Raises:
            InvalidRequestError: The name is empty; nothing was sent.
            PermissionDeniedError: The caller may not list any projects.
            DecodeError: The service has left out projects.

        Source: API reference A.1; no limit is documented.
        """
        if self._check and name is not None and (not isinstance(name, str) or not name.strip()):
            raise InvalidRequestError("name", name, "expected the name of a project, or None for all projects")
        try:
            projects = await self._read(PROJECTS, {"name": name})
        except PermissionDeniedError:
            projects = await self._read(_OWN_PROJECTS, {})
        # The second call has no filter.
        return tuple(project for project in projects if name is None or project.name == name)

    async def _read(self, operation: Operation[ProjectsResponse], query: Query) -> tuple[Project, ...]:
        async def fetch(query: Query) -> ProjectsResponse:
            response = await self._session.call(operation, query=query)
            if response.truncated:
                raise DecodeError(
                    f"expected all projects, got {len(response.projects or ())} of a list that the identity service "
                    "truncates; pass a name",
                    status=200,
                    operation=operation.name,
                )
            return response

        return await read_pages(
            fetch,
            query,
            items=lambda response: [(project.id, project) for project in response.projects or ()],
            link=lambda response: next_of(response.links),
            operation=operation.name,
        )


async def find_project(identity: Identity, name: str) -> str:
    """Return the id of the project of this name, for a call whose path needs it.

    Raises:
        ConfigurationError: There is no such project or more than one, or the identity service refuses the request.
        AuthenticationError: The credentials were refused.
        PermissionDeniedError: The caller may not list any projects.
        TransportError: There was no useful response; the call itself was not sent.
    """
    try:
        projects = await identity.projects(name=name)
    except (AuthenticationError, PermissionDeniedError):
        raise
    except CallError as error:
        if isinstance(error, ApiError) and not isinstance(error, RateLimitedError | ServerError):
            # A 404 of the identity service must not be read as "no such server".
            raise ConfigurationError(
                f"project_name={name!r}: {PROJECTS.name} answered {error.status} ({error.code or 'no code'}); "
                "check identity_endpoint, or pass project_id"
            ) from error
        kind = CallTimeoutError if isinstance(error, CallTimeoutError) else TransportError
        # Whatever happened to the look-up, the call that needs the id was not sent.
        text = f"the project {name!r} could not be looked up ({type(error).__name__}), so the call was not sent"
        raise kind(text, maybe_delivered=False, operation=PROJECTS.name) from error
    if len(projects) == 1:
        return projects[0].id
    found = f"{len(projects)}: {', '.join(project.id for project in projects)}" if projects else "none"
    raise ConfigurationError(
        f"project_name={name!r}: expected one project of this name, got {found}; pass project_id, or another name"
    )
