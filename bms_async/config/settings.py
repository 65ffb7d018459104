"""Settings of one source, resolved: one kind of credentials, a project, three endpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from bms_async import auth
from bms_async.auth import Auth
from bms_async.errors import ConfigurationError

from .endpoints import Endpoints, check_domain, check_region, find_endpoints, read_endpoint
from .source import SettingsSource

Kind: TypeAlias = Literal["token", "password", "keys"]

_TYPES: Final[Mapping[str, Kind]] = {
    "token": "token",
    "v3token": "token",
    "password": "password",
    "v3password": "password",
    # OpenStack has no type for access keys, but a user with several kinds set must be able to choose them.
    "aksk": "keys",
}
# Keystone's address (auth_url) is that of the identity service.
_ENDPOINT_OF: Final[Mapping[str, str]] = {
    **{name: name for name in ("endpoint", "compute_endpoint", "identity_endpoint")},
    "auth_url": "identity_endpoint",
}
_USER_DOMAIN: Final = ("user_domain_name", "user_domain_id")
_PROJECT_DOMAIN: Final = ("project_domain_name", "project_domain_id")
# The words that YAML reads as booleans; here they arrive as text.
_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})
# What each kind requires: one setting of each group.
_REQUIRED: Final[Mapping[Kind, tuple[tuple[str, ...], ...]]] = {
    "token": (("token",),),
    "password": (
        ("username", "user_id"),
        ("password",),
        _USER_DOMAIN,
        ("auth_url", "identity_endpoint"),
    ),
    "keys": (("access_key",), ("secret_key",)),
}
# Settings that show that a kind is meant. A domain or an address does not: shells have them for other tools too.
_INDICATORS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "token": ("token",),
    "password": ("username", "user_id", "password"),
    "keys": ("access_key", "secret_key"),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a client.

    Attributes:
        auth: The credentials.
        project_id: The project's id, if it is known.
        project_name: The name to look the project up by; None if no lookup will be needed.
        endpoint: The address of the BMS service.
        compute_endpoint: The address of the ECS service.
        identity_endpoint: The address of the IAM service.
        ca_bundle: The certificates that TLS trusts; None for the default ones.
        limits: The store of limits that processes share, or ``machine`` for the file of this machine; None for limits
            of this process alone.
        limits_account: The name of the account in that store; None for that of the project, by its id.
        runs: The journal of durable runs, or ``machine`` for the file of this machine; None for none.
        bare_metal: The sign of bare-metal servers, as a text; None for that of the API reference.
        cloud: The name of the cloud in clouds.yaml; None for settings of the environment.
    """

    auth: Auth
    project_id: str | None
    project_name: str | None
    endpoint: str
    compute_endpoint: str
    identity_endpoint: str
    ca_bundle: Path | None
    limits: str | None = None
    limits_account: str | None = None
    runs: str | None = None
    bare_metal: str | None = None
    cloud: str | None = None

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # A Struct's default would show the credentials; here they are named by their class alone.
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [(name, type(value).__name__ if name == "auth" else value) for name, value in fields]


class _Missing(NamedTuple):
    """What is missing: its title, the setting that is the shortest way to it, and all ways as a text."""

    title: str
    setting: str
    text: str


def read_settings(source: SettingsSource) -> Settings:
    """Resolve the settings of a source.

    Raises:
        ConfigurationError: Settings are missing or contradict each other; the text names all that are missing.
    """
    kind, missing = _choose_kind(source)
    # The cloud makes a project for each region, with the region's name; the vendor's SDK looks that one up too.
    project = ("project_id", "project_name", *(("region",) if kind == "keys" else ()))
    if not source.has(*project):
        missing.append(_Missing("project", project[0], f"project ({source.aliases(*project)})"))
    missing += _missing_endpoint(source)
    if missing or kind is None:
        error = ConfigurationError(f"not set in {source.where}: {'; '.join(each.text for each in missing)}")
        error.missing = {each.title: source.shortest_name(each.setting) for each in missing}
        raise error
    _check_verified(source)
    endpoints, auth_url = _read_endpoints(source)
    project_id, project_name = source.get("project_id"), source.get("project_name")
    if kind == "keys":
        project_name = project_name or _checked(source, "region", check_region)
    cacert = source.get("cacert")
    return Settings(
        auth=_build(source, kind, auth_url),
        project_id=project_id,
        # A password's token is for its project already, and has the project's id.
        project_name=None if project_id is not None or kind == "password" else project_name,
        endpoint=endpoints.bms,
        compute_endpoint=endpoints.compute,
        identity_endpoint=endpoints.identity,
        ca_bundle=None if cacert is None else Path(os.path.expanduser(cacert)),  # noqa: PTH111 - knows no home, no error
        limits=source.get("limits"),
        runs=source.get("runs"),
        bare_metal=source.get("bare_metal"),
        limits_account=source.get("limits_account"),
    )


def _read_endpoints(source: SettingsSource) -> tuple[Endpoints, str]:
    """Return the endpoints, and the address of Keystone."""
    addresses = {
        setting: read_endpoint(source.used_names([setting]), endpoint, value, source.get("project_id"))
        for setting, endpoint in _ENDPOINT_OF.items()
        if (value := source.get(setting)) is not None
    }
    auth_url = addresses.get("auth_url")
    endpoints = find_endpoints(
        endpoint=addresses.get("endpoint"),
        compute_endpoint=addresses.get("compute_endpoint"),
        identity_endpoint=addresses.get("identity_endpoint") or auth_url,
        region=_checked(source, "region", check_region),
        domain=_checked(source, "domain", check_domain),
    )
    return endpoints, auth_url or endpoints.identity


def _choose_kind(source: SettingsSource) -> tuple[Kind | None, list[_Missing]]:
    """Return the kind of credentials, None if it is unclear, and which settings are missing."""
    asked = source.get("auth_type")
    if asked is not None:
        name = source.used_names(["auth_type"])
        if asked.strip().lower() not in _TYPES:
            raise ConfigurationError(
                f"{name} in {source.where}: expected one of {', '.join(_TYPES)}, got {str(asked)!r}"
            )
        chosen = _TYPES[asked.strip().lower()]
        return chosen, _missing(source, chosen)
    complete = [kind for kind in _REQUIRED if not _missing(source, kind)]
    if len(complete) > 1:
        names = "; and ".join(
            source.used_names(setting for group in _REQUIRED[kind] for setting in group) for kind in complete
        )
        raise ConfigurationError(
            f"{len(complete)} kinds of credentials contradict each other in {source.where}: {names}. "
            f"Unset all but one, or choose with {source.aliases('auth_type')}: token, password or aksk"
        )
    if complete:
        return complete[0], []
    partial = [kind for kind in _REQUIRED if source.has(*_INDICATORS[kind])]
    if len(partial) == 1:
        return partial[0], _missing(source, partial[0])
    choices = (", ".join(each.text for each in _missing(source, kind)) for kind in partial or _REQUIRED)
    first = _missing(source, (partial or list(_REQUIRED))[0])[0]
    return None, [_Missing("credentials", first.setting, f"credentials: {', or else '.join(choices)}")]


def _missing(source: SettingsSource, kind: Kind) -> list[_Missing]:
    missing = []
    for group in _REQUIRED[kind]:
        not_needed = group == _USER_DOMAIN and source.has("user_id", "default_domain_name", "default_domain_id")
        derived = "identity_endpoint" in group and source.has("region") and source.has("domain")
        if not (source.has(*group) or not_needed or derived):
            title = group[0].removesuffix("_name").replace("_", " ")
            missing.append(_Missing(title, group[0], f"{title} ({source.aliases(*group)})"))
    return missing


def _missing_endpoint(source: SettingsSource) -> list[_Missing]:
    if source.has("endpoint"):
        return []
    parts = [source.aliases(part) for part in ("region", "domain") if not source.has(part)]
    if not parts:
        return []
    text = f"endpoint ({source.aliases('endpoint')}, or else {' together with '.join(parts)})"
    return [_Missing("endpoint", "endpoint", text)]


def _build(source: SettingsSource, kind: Kind, auth_url: str) -> Auth:
    if kind == "token":
        return auth.StaticToken(source.require("token"))
    if kind == "keys":
        return auth.AkSkAuth(source.require("access_key"), source.require("secret_key"), source.get("security_token"))
    # An id is unambiguous; a name beside it, which shells often have too, could only contradict it.
    by_user_id, by_project_id = source.has("user_id"), source.has("project_id")
    user_domain_name, user_domain_id = (None, None) if by_user_id else _domain(source, *_USER_DOMAIN)
    project_domain_name, project_domain_id = (None, None) if by_project_id else _domain(source, *_PROJECT_DOMAIN)
    return auth.PasswordAuth(
        auth_url=auth_url,
        username=None if by_user_id else source.get("username"),
        user_id=source.get("user_id"),
        password=source.require("password"),
        user_domain_name=user_domain_name,
        user_domain_id=user_domain_id,
        project_name=None if by_project_id else source.get("project_name"),
        project_id=source.get("project_id"),
        project_domain_name=project_domain_name,
        project_domain_id=project_domain_id,
    )


def _domain(source: SettingsSource, name: str, by_id: str) -> tuple[str | None, str | None]:
    """Return a domain's name and id; the default domain if none is set."""
    if not source.has(name, by_id):
        name, by_id = "default_domain_name", "default_domain_id"
    return None if source.has(by_id) else source.get(name), source.get(by_id)


def _check_verified(source: SettingsSource) -> None:
    """Refuse settings that turn certificate verification off: the credentials could be intercepted."""
    for setting, accepted, refused in (("verify", _TRUE, _FALSE), ("insecure", _FALSE, _TRUE)):
        value = source.get(setting)
        if value is None or value.strip().lower() in accepted:
            continue
        name, where = source.used_names([setting]), source.where
        if value.strip().lower() not in refused:
            raise ConfigurationError(f"{name} in {where}: expected true or false")
        raise ConfigurationError(
            f"{name} in {where}: the cloud's certificate is always verified; "
            f"name the certificates to trust with {source.aliases('cacert')}"
        )


def _checked(source: SettingsSource, setting: str, check: Callable[[str, object], str]) -> str | None:
    value = source.get(setting)
    return None if value is None else check(source.used_names([setting]), value)
