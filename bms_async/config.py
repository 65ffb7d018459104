"""Where the cloud is, and who asks: endpoints, and settings from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec

from .errors import ConfigurationError

_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "endpoint": ("BMS_ENDPOINT",),
    "project_id": ("OS_PROJECT_ID", "HUAWEICLOUD_SDK_PROJECT_ID"),
    "token": ("OS_TOKEN", "OS_AUTH_TOKEN"),
}
_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "compute_endpoint": ("BMS_COMPUTE_ENDPOINT",),
    "identity_endpoint": ("OS_AUTH_URL",),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `BmsClient.from_env` found; the token stays out of the repr."""

    endpoint: str
    project_id: str
    token: str
    compute_endpoint: str | None = None
    identity_endpoint: str | None = None

    def __repr__(self) -> str:
        return f"Settings(endpoint={self.endpoint!r}, project_id={self.project_id!r}, token='***')"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # A Struct has one of its own, which shows every field to whatever prints with rich.
        return [("endpoint", self.endpoint), ("project_id", self.project_id), ("token", "***")]


def read_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read settings from variables that people already have.

    Args:
        environment: Instead of the process's own.

    Raises:
        ConfigurationError: Something is missing; the text names all of it, and where it was looked for.
    """
    environment = os.environ if environment is None else environment
    found: dict[str, str] = {}
    missing: list[str] = []
    for setting, names in {**_VARIABLES, **_OPTIONAL}.items():
        value = next((environment[name] for name in names if environment.get(name)), None)
        if value is not None:
            found[setting] = value
        elif setting in _VARIABLES:
            missing.append(f"{setting} ({' or '.join(names)})")
    if missing:
        raise ConfigurationError(f"not set in the environment: {', '.join(missing)}")
    return Settings(**found)


def check_endpoint(argument: str, value: object) -> str:
    """Return an endpoint that credentials may be sent to.

    Args:
        argument: The argument's name, for the error.
        value: What was given.

    Raises:
        ConfigurationError: It is no address, holds credentials or a query, or is plain HTTP to another machine.
    """
    if not isinstance(value, str) or not value.strip():
        given = repr(value) if value is None or isinstance(value, str) else type(value).__name__
        raise ConfigurationError(f"{argument}={given}: an address such as 'https://bms.region.example.com' is needed")
    text = value.strip().rstrip("/")
    if "@" in text:
        # Not shown, nor taken apart to see which half is the secret.
        raise ConfigurationError(f"{argument}: credentials do not belong into an address; pass them as auth=")
    # A query may be signed, and so is not shown either.
    plain, mark, _ = text.replace("#", "?").partition("?")
    shown = f"{argument}={plain + ('?...' if mark else '')!r}"
    if "://" not in plain:
        raise ConfigurationError(f"{shown}: the scheme is missing; did you mean {f'https://{plain}'!r}?")
    if mark:
        raise ConfigurationError(f"{shown}: an endpoint has no query and no fragment")
    if not text.isprintable() or " " in text:
        raise ConfigurationError(f"{shown}: an address has no blanks")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{shown}: {error}") from error
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError(f"{shown}: not an https address")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigurationError(
            f"{shown}: plain http would show the credentials to everybody on the way; use https "
            "(http is for loopback only)"
        )
    return text


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
