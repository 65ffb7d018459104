"""Settings from clouds.yaml, by OpenStack's rules."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Final

import msgspec

from bms_async.errors import ConfigurationError
from bms_async.redaction import wrap_secrets

from .files import Tree, candidate_paths, merge, read_first
from .settings import Settings, read_settings
from .source import SettingsSource

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "endpoint": ("bms_endpoint_override",),
    "compute_endpoint": ("compute_endpoint_override",),
    "identity_endpoint": ("identity_endpoint_override",),
    "region": ("region_name",),
    "domain": ("bms_domain",),
    "project_id": ("auth.project_id", "auth.tenant_id"),
    "project_name": ("auth.project_name", "auth.tenant_name"),
    "project_domain_name": ("auth.project_domain_name",),
    "project_domain_id": ("auth.project_domain_id",),
    "auth_type": ("auth_type",),
    "auth_url": ("auth.auth_url",),
    "token": ("auth.token",),
    "username": ("auth.username",),
    "user_id": ("auth.user_id",),
    "password": ("auth.password",),
    "user_domain_name": ("auth.user_domain_name",),
    "user_domain_id": ("auth.user_domain_id",),
    # OpenStack's tools use these for the user and for the project, unless more specific ones are set.
    "default_domain_name": ("auth.default_domain_name", "auth.domain_name"),
    "default_domain_id": ("auth.default_domain_id", "auth.domain_id", "default_domain"),
    "access_key": ("auth.ak",),
    "secret_key": ("auth.sk",),
    "security_token": ("auth.security_token",),
    "cacert": ("cacert",),
    "insecure": ("insecure",),
    "verify": ("verify",),
    "limits": ("bms_limits",),
    "limits_account": ("bms_limits_account",),
    "runs": ("bms_runs",),
    "bare_metal": ("bms_bare_metal",),
}

_ALSO_VARIABLES = {
    "bms_limits": "BMS_LIMITS",
    "bms_limits_account": "BMS_LIMITS_ACCOUNT",
    "bms_runs": "BMS_RUNS",
    "bms_bare_metal": "BMS_BARE_METAL",
}
"""Keys that a variable stands in for where the cloud does not set them."""

_ENDPOINT_VARIABLES: Final[Mapping[str, str]] = {
    "endpoint": "BMS_ENDPOINT",
    "compute_endpoint": "BMS_COMPUTE_ENDPOINT",
    "region": "OS_REGION_NAME",
    "domain": "BMS_DOMAIN",
}
"""Settings that a variable stands in for where the cloud does not say where its BMS service is.

Files that were made for OpenStack's tools have no place for that; a cloud that has an endpoint keeps it, whatever a
shell has of another one.
"""


def read_cloud(name: str | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read a cloud's settings from clouds.yaml, merged with secure.yaml.

    Of the environment only ``OS_CLOUD``, the variables that locate the files, and those that stand in for what the
    cloud does not set are used: ``BMS_LIMITS``, ``BMS_LIMITS_ACCOUNT``, ``BMS_RUNS`` and ``BMS_BARE_METAL``; and, if it
    does not say where its BMS service is, ``BMS_ENDPOINT`` and ``BMS_COMPUTE_ENDPOINT``, or ``OS_REGION_NAME`` and
    ``BMS_DOMAIN``.

    Args:
        name: The cloud; by default the one that ``OS_CLOUD`` names, or the only one in the files.
        environment: The variables; by default those of the process.

    Raises:
        ConfigurationError: A file cannot be read, the cloud does not exist, or its settings are invalid. The text names
            the files that were read, and never quotes their content.
    """
    environment = wrap_secrets(os.environ if environment is None else environment)
    clouds, files = _read_files(environment)
    name = _select(name or str(environment.get("OS_CLOUD", "")) or None, list(map(str, clouds)), files)
    where = f"cloud {name!r} of {files}"
    cloud, where = _with_profile(_normalized(_branch(clouds, name, where)), where, environment)
    cloud = _pick_region(cloud, where)
    values = _flatten(cloud, where)
    for key, variable in _ALSO_VARIABLES.items():
        values[key] = values.get(key) or environment.get(variable, "")
    source = _with_endpoint(SettingsSource(where, KEYS, values), where, values, environment)
    return msgspec.structs.replace(read_settings(source), cloud=name)


def _with_endpoint(
    source: SettingsSource, where: str, values: Mapping[str, str], environment: Mapping[str, str]
) -> SettingsSource:
    """Return the settings with those of the variables, where they do not say where the BMS service is."""
    if source.has("endpoint") or (source.has("region") and source.has("domain")):
        return source
    added = {setting: name for setting, name in _ENDPOINT_VARIABLES.items() if not source.has(setting)}
    aliases = {setting: (*names, *filter(None, [added.get(setting)])) for setting, names in KEYS.items()}
    return SettingsSource(where, aliases, {**values, **{name: environment.get(name, "") for name in added.values()}})


def read_cloud_names(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Read the names of all clouds in clouds.yaml, in the order of the file.

    Args:
        environment: The variables that locate the files; by default those of the process.

    Raises:
        ConfigurationError: A file cannot be read, or there is none.
    """
    clouds, _ = _read_files(wrap_secrets(os.environ if environment is None else environment))
    return tuple(map(str, clouds))


def _read_files(environment: Mapping[str, str]) -> tuple[Tree, str]:
    """Return all clouds, and the files that they are in."""
    paths = candidate_paths("clouds", "OS_CLIENT_CONFIG_FILE", environment)
    secure_paths = candidate_paths("secure", "OS_CLIENT_SECURE_FILE", environment)
    file, tree = read_first(paths)
    secure_file, secure = read_first(secure_paths)
    if file is None and (secure_file is None or environment.get("OS_CLIENT_CONFIG_FILE")):
        raise ConfigurationError(f"no clouds.yaml found; looked for {', '.join(map(str, paths))}")
    if secure_file is None and environment.get("OS_CLIENT_SECURE_FILE"):
        raise ConfigurationError(f"{secure_paths[0]}: no such file, though OS_CLIENT_SECURE_FILE names it")
    files = " with ".join(str(path) for path in (file, secure_file) if path is not None)
    return merge(_branch(tree, "clouds", str(file)), _branch(secure, "clouds", str(secure_file))), files


def _select(name: str | None, names: list[str], files: str) -> str:
    there = f"there {'is' if len(names) == 1 else 'are'} {', '.join(map(repr, names)) or 'none'}"
    if name is None:
        if len(names) != 1:
            raise ConfigurationError(
                f"expected the name of a cloud in {files}: call from_cloud(name) or set OS_CLOUD; {there}"
            )
        return names[0]
    if name not in names:
        raise ConfigurationError(f"no cloud {name!r} in {files}; {there}")
    return name


def _branch(tree: Tree, key: str, where: str) -> Tree:
    value = tree.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where}: expected a mapping for {key!r}")
    return value


def _normalized(tree: Tree) -> Tree:
    """Return the mapping with underscores in its keys; OpenStack accepts hyphens too."""
    return {str(key).replace("-", "_"): value for key, value in tree.items()}


def _with_profile(cloud: Tree, where: str, environment: Mapping[str, str]) -> tuple[Tree, str]:
    """Return a cloud merged over the profile that it names, and where these settings come from."""
    # 'cloud' is the older name of 'profile'.
    profile = cloud.get("profile", cloud.get("cloud"))
    if not profile:
        return cloud, where
    file, public_clouds = read_first(candidate_paths("clouds-public", "", environment))
    profiles = _branch(public_clouds, "public-clouds", str(file))
    if not isinstance(profile, str) or profile not in profiles:
        # Not an error in itself; if a setting turns out to be missing, the error mentions this.
        why = "there is no clouds-public.yaml" if file is None else f"it is not in {file}"
        return cloud, f"{where} (without its 'profile': {why}, and those built into OpenStack's tools are not known)"
    where = f"{where} with its profile of {file}"
    public = _normalized(_branch(profiles, profile, where))
    for tree in (public, cloud):
        tree["auth"] = _normalized(_branch(tree, "auth", where))
    return merge(public, cloud), where


def _pick_region(cloud: Tree, where: str) -> Tree:
    """Return a cloud merged with the values of its region: the named one, or the first one, as OpenStack does."""
    regions = cloud.get("regions")
    if not regions:
        return cloud
    if not isinstance(regions, list):
        raise ConfigurationError(
            f"{where}: expected 'regions' to be a list of names, or of mappings with name and values"
        )
    choices = [region if isinstance(region, dict) else {"name": region} for region in regions]
    name = cloud.get("region_name") or choices[0].get("name")
    chosen = next((region for region in choices if region.get("name") == name), None)
    if chosen is None:
        raise ConfigurationError(f"{where}: expected region_name to be one of 'regions'")
    return merge(cloud, {**_normalized(_branch(chosen, "values", where)), "region_name": name})


def _flatten(cloud: Tree, where: str) -> dict[str, str]:
    """Return the settings, keyed by their paths, such as ``auth.username``."""
    auth = _normalized(_branch(cloud, "auth", where))
    flat = {**cloud, **{f"auth.{key}": value for key, value in auth.items()}}
    values: dict[str, str] = {}
    for key in itertools.chain.from_iterable(KEYS.values()):
        value = flat.get(key)
        if isinstance(value, str):
            values[key] = value
        elif isinstance(value, bool):
            # Only JSON has booleans here; from YAML they are read as text.
            values[key] = str(value).lower()
        elif value is not None:
            raise ConfigurationError(f"{where}: expected a text for {key}, got {type(value).__name__}")
    return values
