"""What a source of settings says, put together: one kind of credentials, a project, three endpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from bms_async.auth import AkSkAuth, Auth, PasswordAuth, StaticToken
from bms_async.errors import ConfigurationError
from bms_async.redaction import wrap_address, wrap_secrets

from .endpoints import check_domain, check_region, find_endpoints, read_endpoint

Kind: TypeAlias = Literal["token", "password", "keys"]

_TYPES: Final[Mapping[str, Kind]] = {
    "token": "token",
    "v3token": "token",
    "password": "password",
    "v3password": "password",
    # OpenStack has no word for it, but who has all kinds set must be able to choose this one too.
    "aksk": "keys",
}
# Keystone's own address is that of the identity service.
_ADDRESSES: Final[Mapping[str, str]] = {
    **{each: each for each in ("endpoint", "compute_endpoint", "identity_endpoint")},
    "auth_url": "identity_endpoint",
}
_USER_DOMAIN: Final = ("user_domain_name", "user_domain_id")
_PROJECT_DOMAIN: Final = ("project_domain_name", "project_domain_id")
# What YAML takes for a truth and for none; here they are texts.
_YES, _NO = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})
# What each kind cannot do without: one setting of each group.
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
# What shows that somebody means this kind. A domain or an address does not: they stay in the shell for other tools.
_INDICATORS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "token": ("token",),
    "password": ("username", "user_id", "password"),
    "keys": ("access_key", "secret_key"),
}


# What shows nothing: the secrets, and what takes the place of one when somebody mixes settings up.
_UNSHOWN: Final = frozenset({"token", "password", "secret_key", "security_token", "region", "domain", "auth_type"})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is made of.

    Attributes:
        auth: The credentials.
        project_id: The project.
        project_name: What to look it up by, where it was given by name and the credentials do not tell its id.
        endpoint: The address of the BMS service.
        compute_endpoint: The address of the ECS service.
        identity_endpoint: The address of the IAM service.
        ca_bundle: The certificates that TLS trusts; None for the usual ones.
    """

    auth: Auth
    project_id: str | None
    project_name: str | None
    endpoint: str
    compute_endpoint: str
    identity_endpoint: str
    ca_bundle: Path | None

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # A Struct has one of its own, which goes into every field. Credentials are named by their class alone.
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [(name, type(value).__name__ if name == "auth" else value) for name, value in fields]


class SettingsSource:
    """Settings as somebody wrote them, by the names that they have there.

    Args:
        where: What the source is, for errors.
        aliases: The names that each setting may have; several are other names of the same, and must agree.
        values: What was found, by name, as texts that do not show themselves. An empty value counts as not set.
    """

    def __init__(self, where: str, names: Mapping[str, tuple[str, ...]], values: Mapping[str, str]) -> None:
        self.where = where
        self._names = names
        self._values = {name: wrap_secrets(value) for name, value in values.items() if value.strip()}

    def __repr__(self) -> str:
        return f"<Source {self.where}>"

    def get(self, setting: str) -> str | None:
        """Return a setting, or None.

        Raises:
            ConfigurationError: It is set twice, and differently.
        """
        found = self._found(setting)
        if len({self._values[name] for name in found}) > 1:
            raise ConfigurationError(f"{' and '.join(found)} contradict each other in {self.where}: unset one")
        if not found:
            return None
        value = self._values[found[0]]
        return value if setting in _UNSHOWN else wrap_address(str(value))

    def require(self, setting: str) -> str:
        """Return a setting that is known to be there."""
        value = self.get(setting)
        if value is None:
            raise LookupError(setting)
        return value

    def has(self, *settings: str) -> bool:
        """Tell whether one of these is set."""
        return any(self._found(setting) for setting in settings)

    def aliases(self, *settings: str) -> str:
        """Return what these can be called, for an error that asks for one of them."""
        return " or ".join(name for setting in settings for name in self._names[setting])

    def used_names(self, settings: Iterable[str]) -> str:
        """Return what those of these that are set are called."""
        return ", ".join(name for setting in settings for name in self._found(setting))

    def _found(self, setting: str) -> list[str]:
        return [name for name in self._names[setting] if name in self._values]


def read_settings(source: SettingsSource) -> Settings:
    """Put together what a source says.

    Raises:
        ConfigurationError: Something is missing or contradicts another; the text names all that is missing.
    """
    kind, missing = _choose_kind(source)
    # The cloud makes a project for each region and names it alike; the vendor's SDK looks for that one too.
    project = ("project_id", "project_name", *(("region",) if kind == "keys" else ()))
    if not source.has(*project):
        missing.append(f"project ({source.aliases(*project)})")
    missing += _missing_endpoint(source)
    if missing or kind is None:
        raise ConfigurationError(f"not set in {source.where}: {'; '.join(missing)}")
    _check_verified(source)
    checked = {
        setting: read_endpoint(source.used_names([setting]), kind_of_address, value, source.get("project_id"))
        for setting, kind_of_address in _ADDRESSES.items()
        if (value := source.get(setting)) is not None
    }
    keystone = checked.get("auth_url")
    region = _checked(source, "region", check_region)
    endpoints = find_endpoints(
        endpoint=checked.get("endpoint"),
        compute_endpoint=checked.get("compute_endpoint"),
        identity_endpoint=checked.get("identity_endpoint") or keystone,
        region=region,
        domain=_checked(source, "domain", check_domain),
    )
    project_id, project_name = source.get("project_id"), source.get("project_name")
    if kind == "keys":
        project_name = project_name or region
    cacert = source.get("cacert")
    return Settings(
        auth=_build(source, kind, keystone or endpoints.identity),
        project_id=project_id,
        # A password's token is for the project already, and tells its id.
        project_name=None if project_id is not None or kind == "password" else project_name,
        endpoint=endpoints.bms,
        compute_endpoint=endpoints.compute,
        identity_endpoint=endpoints.identity,
        ca_bundle=None if cacert is None else Path(os.path.expanduser(cacert)),  # noqa: PTH111 - knows no home, no error
    )


def _choose_kind(source: SettingsSource) -> tuple[Kind | None, list[str]]:
    """Return the kind of credentials, and what is missing of them; None where nothing tells which are meant."""
    asked = source.get("auth_type")
    if asked is not None:
        name = source.used_names(["auth_type"])
        if asked.strip().lower() not in _TYPES:
            raise ConfigurationError(f"{name} in {source.where} is {str(asked)!r}; known here are {', '.join(_TYPES)}")
        chosen = _TYPES[asked.strip().lower()]
        return chosen, _missing(source, chosen)
    complete = [kind for kind in _REQUIRED if not _missing(source, kind)]
    if len(complete) > 1:
        sets = "; and ".join(
            source.used_names(setting for group in _REQUIRED[kind] for setting in group) for kind in complete
        )
        raise ConfigurationError(
            f"{len(complete)} kinds of credentials contradict each other in {source.where}: {sets}. "
            f"Unset all but one, or say in {source.aliases('auth_type')} which: token, password or aksk"
        )
    if complete:
        return complete[0], []
    begun = [kind for kind in _REQUIRED if source.has(*_INDICATORS[kind])]
    if len(begun) == 1:
        return begun[0], _missing(source, begun[0])
    ways = (", ".join(_missing(source, kind)) for kind in begun or _REQUIRED)
    return None, [f"credentials: {', or else '.join(ways)}"]


def _missing(source: SettingsSource, kind: Kind) -> list[str]:
    lacking = []
    for group in _REQUIRED[kind]:
        by_id = group == _USER_DOMAIN and source.has("user_id", "default_domain_name", "default_domain_id")
        made = "identity_endpoint" in group and source.has("region") and source.has("domain")
        if not (source.has(*group) or by_id or made):
            title = group[0].removesuffix("_name").replace("_", " ")
            lacking.append(f"{title} ({source.aliases(*group)})")
    return lacking


def _missing_endpoint(source: SettingsSource) -> list[str]:
    if source.has("endpoint"):
        return []
    parts = [source.aliases(part) for part in ("region", "domain") if not source.has(part)]
    return [f"endpoint ({source.aliases('endpoint')}, or else {' together with '.join(parts)})"] if parts else []


def _build(source: SettingsSource, kind: Kind, auth_url: str) -> Auth:
    if kind == "token":
        return StaticToken(source.require("token"))
    if kind == "keys":
        return AkSkAuth(source.require("access_key"), source.require("secret_key"), source.get("security_token"))
    # An id names one thing; the name beside it, which shells often have too, could only contradict it.
    by_user_id, by_project_id = source.has("user_id"), source.has("project_id")
    user_domain_name, user_domain_id = (None, None) if by_user_id else _domain(source, *_USER_DOMAIN)
    project_domain_name, project_domain_id = (None, None) if by_project_id else _domain(source, *_PROJECT_DOMAIN)
    return PasswordAuth(
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
    """Return a domain's name or its id; the default one where none is set."""
    if not source.has(name, by_id):
        name, by_id = "default_domain_name", "default_domain_id"
    return None if source.has(by_id) else source.get(name), source.get(by_id)


def _check_verified(source: SettingsSource) -> None:
    """Refuse to leave the cloud's certificate unchecked: whoever is on the way could read the credentials."""
    for setting, fine, refused in (("verify", _YES, _NO), ("insecure", _NO, _YES)):
        value = source.get(setting)
        if value is None or value.strip().lower() in fine:
            continue
        name, where = source.used_names([setting]), source.where
        if value.strip().lower() not in refused:
            raise ConfigurationError(f"{name} in {where}: true or false is needed")
        raise ConfigurationError(
            f"{name} in {where}: the cloud's certificate is always verified; "
            f"name the certificates to trust by {source.aliases('cacert')}"
        )


def _checked(source: SettingsSource, setting: str, check: Callable[[str, object], str]) -> str | None:
    value = source.get(setting)
    return None if value is None else check(source.used_names([setting]), value)
