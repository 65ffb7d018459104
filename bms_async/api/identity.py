"""Who the caller is to the cloud (API reference A.1)."""

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
    """Projects in their envelope.

    Attributes:
        links: The addresses of the next page and of others, by their kind.
        truncated: Whether there are more than the service gives, and no way to the others.
    """

    projects: tuple[Project, ...] | Literal[""] | None
    links: Mapping[str, str | None] | None = None
    truncated: bool | None = None


PROJECTS = define(
    "identity.projects",
    "GET",
    "/v3/projects",
    ProjectsResponse,
    title="Read which projects there are",
    chapter="A.1",
    safety=Safety.READ,
    service=Service.IDENTITY,
)
# No method makes it, for `PasswordAuth` does so by itself, and reads the answer with its headers.
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
# Keystone's call for those who are no administrators: the reference does not tell of it, and so it is not in the table.
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
    """The account's projects: ``bms.identity``. Asked is the ``identity_endpoint`` of the client."""

    def __init__(self, session: Session, *, check: bool) -> None:
        self._session = session
        self._check = check

    async def projects(self, *, name: str | None = None) -> tuple[Project, ...]:
        """Return the projects; a `Project.id` is what a client takes as its ``project_id``.

        Where only administrators may see all of them, these are the caller's own, which costs a second call.

        Args:
            name: Only the one of this name, which is that of its region for the cloud's own projects.

        Raises:
            InvalidRequestError: The name is empty; nothing was sent.
            PermissionDeniedError: The caller may see no projects at all.
            DecodeError: The service says that there are more projects, and does not give them.

        Source: API reference A.1; no limit is documented.
        """
        if self._check and name is not None and (not isinstance(name, str) or not name.strip()):
            raise InvalidRequestError("name", name, "the name of a project, or None for all of them")
        try:
            projects = await self._read(PROJECTS, {"name": name})
        except PermissionDeniedError:
            projects = await self._read(_OWN_PROJECTS, {})
        # The second call has no filter of its own.
        return tuple(project for project in projects if name is None or project.name == name)

    async def _read(self, operation: Operation[ProjectsResponse], query: Query) -> tuple[Project, ...]:
        async def fetch(query: Query) -> ProjectsResponse:
            response = await self._session.call(operation, query=query)
            if response.truncated:
                raise DecodeError(
                    f"expected all projects, got {len(response.projects or ())} and the word that there are more, which "
                    "the identity service does not give; ask for one by its name",
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
    """Return the id of the project of this name, for a call that cannot be made without it.

    Raises:
        ConfigurationError: There is none or more than one, or the identity service does not know the question.
        AuthenticationError: The credentials were refused.
        PermissionDeniedError: The caller may see no projects at all.
        TransportError: No answer came that helps; the call itself was not sent.
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
                "check identity_endpoint, or give project_id"
            ) from error
        kind = CallTimeoutError if isinstance(error, CallTimeoutError) else TransportError
        # Whatever became of the question, the call that needed the answer was not sent.
        text = f"the project {name!r} could not be looked up ({type(error).__name__}), so that the call was not sent"
        raise kind(text, maybe_delivered=False, operation=PROJECTS.name) from error
    if len(projects) == 1:
        return projects[0].id
    found = "there is none" if not projects else f"there are {len(projects)}: {', '.join(each.id for each in projects)}"
    raise ConfigurationError(f"project_name={name!r}: {found}; give project_id, or another name")
