"""Who the caller is to the cloud (API reference A.1)."""

from __future__ import annotations

from bms_async.api._define import define
from bms_async.auth import TOKEN_OPERATION
from bms_async.errors import InvalidRequestError, PermissionDeniedError
from bms_async.models import Model, Project
from bms_async.session import Session
from bms_async.wire import Operation, Safety, Service


class ProjectsAnswer(Model, frozen=True, kw_only=True):
    """Projects in their envelope."""

    projects: tuple[Project, ...] = ()


PROJECTS = define(
    "identity.projects",
    "GET",
    "/v3/projects",
    ProjectsAnswer,
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
    result=ProjectsAnswer,
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

        Source: API reference A.1; no limit is documented.
        """
        if self._check and name is not None and (not isinstance(name, str) or not name.strip()):
            raise InvalidRequestError("name", name, "the name of a project, or None for all of them")
        try:
            answer = await self._session.call(PROJECTS, query={"name": name})
        except PermissionDeniedError:
            answer = await self._session.call(_OWN_PROJECTS)
        # The second call has no filter of its own.
        return tuple(project for project in answer.projects if name is None or project.name == name)
