"""What several arguments of `BmsClient` mean together."""

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
    """Return the project that credentials are for, where they can tell it without asking."""
    own: object = getattr(auth, "project_id", None)
    return own if isinstance(own, str) else None


def choose_project_name(project_id: str | None, project_name: str | None, auth: Auth) -> str | None:
    """Return the name to look a project up by, where that may be needed."""
    # What the credentials are for, which they may not be able to tell the id of.
    own: str | None = getattr(auth, "project_name", None)
    if project_name is None:
        return own if project_id is None else None
    if project_id is not None:
        raise ConfigurationError("project_id, project_name: give one of them")
    if not isinstance(project_name, str) or not project_name.strip():
        raise ConfigurationError(f"project_name={project_name!r}: the name of a project is needed, such as 'ae-ad-1'")
    if isinstance(auth, ScopedAuth) and own != project_name.strip():
        raise ConfigurationError(
            f"project_name={project_name!r}: {type(auth).__name__} is for a project of its own; name it there"
        )
    return project_name.strip()


def read_hooks(given: Hook | Iterable[Hook] | None) -> tuple[Hook, ...]:
    """Return the hooks of a client, of which most have none."""
    if given is None:
        return ()
    from bms_async import hooks  # noqa: PLC0415 - who has none does not pay for them

    return hooks.read_hooks(given)


def choose_transport(
    given: Transport | None, ca_bundle: str | os.PathLike[str] | None, max_response_bytes: int | None
) -> Transport:
    """Return the transport that was given, or the default one, which takes what is for it alone."""
    if given is None:
        return DefaultTransport(ca_bundle=ca_bundle, max_response_bytes=max_response_bytes)
    for name, value in (("ca_bundle", ca_bundle), ("max_response_bytes", max_response_bytes)):
        if value is not None:
            raise ConfigurationError(f"{name}: it is for the default transport; give it to {type(given).__name__}(...)")
    return given
