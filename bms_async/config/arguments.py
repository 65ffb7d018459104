"""Arguments of `BmsClient` that depend on each other."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from bms_async.auth import Auth, ScopedAuth
from bms_async.errors import ConfigurationError
from bms_async.transport import DefaultTransport, Transport

if TYPE_CHECKING:
    from bms_async.hooks import Hook


def project_of(auth: Auth) -> str | None:
    """Return the id of the project that credentials are for, if it is known without a request."""
    own: object = getattr(auth, "project_id", None)
    return own if isinstance(own, str) else None


def choose_project_name(project_id: str | None, project_name: str | None, auth: Auth) -> str | None:
    """Return the name to look the project up by; None if no lookup will be needed."""
    # Credentials may have the name of their project without knowing its id.
    own: str | None = getattr(auth, "project_name", None)
    if project_name is None:
        return own if project_id is None else None
    if project_id is not None:
        raise ConfigurationError("project_id, project_name: expected one of them, got both")
    if not isinstance(project_name, str) or not project_name.strip():
        raise ConfigurationError(f"project_name={project_name!r}: expected the name of a project, such as 'ae-ad-1'")
    if isinstance(auth, ScopedAuth) and own != project_name.strip():
        raise ConfigurationError(
            f"project_name={project_name!r}: {type(auth).__name__} has a project of its own; name it there"
        )
    return project_name.strip()


def read_hooks(given: Hook | Iterable[Hook] | None) -> tuple[Hook, ...]:
    """Return the hooks of a client."""
    if given is None:
        return ()
    from bms_async import hooks  # noqa: PLC0415 - most clients have none

    return hooks.read_hooks(given)


def choose_transport(
    given: Transport | None, ca_bundle: str | os.PathLike[str] | None, max_response_bytes: int | None
) -> Transport:
    """Return the given transport, or the default one with the arguments that only it takes."""
    if given is None:
        return DefaultTransport(ca_bundle=ca_bundle, max_response_bytes=max_response_bytes)
    for name, value in (("ca_bundle", ca_bundle), ("max_response_bytes", max_response_bytes)):
        if value is not None:
            raise ConfigurationError(
                f"{name}: applies to the default transport only; pass it to {type(given).__name__}(...)"
            )
    return given
