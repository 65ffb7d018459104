"""Which project a name means."""

from __future__ import annotations

from bms_async.api.identity import PROJECTS, Identity
from bms_async.errors import (
    ApiError,
    AuthenticationError,
    CallError,
    CallTimeoutError,
    ConfigurationError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    TransportError,
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
