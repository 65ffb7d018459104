"""Settings from clouds.yaml, by OpenStack's rules."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from bms_async.errors import ConfigurationError
from bms_async.redaction import wrap_secrets

from .files import Tree, candidate_paths, merge, read_first
from .settings import Settings, SettingsSource, read_settings

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
    # OpenStack's tools take these for the user and for the project, where nothing says otherwise.
    "default_domain_name": ("auth.default_domain_name", "auth.domain_name"),
    "default_domain_id": ("auth.default_domain_id", "auth.domain_id", "default_domain"),
    "access_key": ("auth.ak",),
    "secret_key": ("auth.sk",),
    "security_token": ("auth.security_token",),
    "cacert": ("cacert",),
    "insecure": ("insecure",),
    "verify": ("verify",),
}


def read_cloud(name: str | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read a cloud's settings from clouds.yaml, with secure.yaml laid over it.

    Of the environment only ``OS_CLOUD`` and what says where the files are is used; a cloud is what its files say.

    Args:
        name: The cloud; by default the one that ``OS_CLOUD`` names, or the only one that there is.
        environment: Instead of the process's own.

    Raises:
        ConfigurationError: A file cannot be read, there is no such cloud, or its settings do not do. The text says
            which files were looked at, and never what stands in them.
    """
    environment = wrap_secrets(os.environ if environment is None else environment)
    paths = candidate_paths("clouds", "OS_CLIENT_CONFIG_FILE", environment)
    secure_places = candidate_paths("secure", "OS_CLIENT_SECURE_FILE", environment)
    file, tree = read_first(paths)
    secure_file, secure = read_first(secure_places)
    if file is None and (secure_file is None or environment.get("OS_CLIENT_CONFIG_FILE")):
        raise ConfigurationError(f"there is no clouds.yaml; looked for {', '.join(map(str, paths))}")
    if secure_file is None and environment.get("OS_CLIENT_SECURE_FILE"):
        raise ConfigurationError(f"{secure_places[0]}: there is no such file; OS_CLIENT_SECURE_FILE names it")
    looked = " with ".join(str(each) for each in (file, secure_file) if each is not None)
    clouds = merge(_branch(tree, "clouds", str(file)), _branch(secure, "clouds", str(secure_file)))
    name = _select(name or str(environment.get("OS_CLOUD", "")) or None, [str(each) for each in clouds], looked)
    where = f"cloud {name!r} of {looked}"
    cloud, where = _with_profile(_normalized(_branch(clouds, name, where)), where, environment)
    cloud = _pick_region(cloud, where)
    return read_settings(SettingsSource(where, KEYS, _flatten(cloud, where)))


def _select(name: str | None, names: list[str], looked: str) -> str:
    there = f"there {'is' if len(names) == 1 else 'are'} {', '.join(map(repr, names)) or 'none'}"
    if name is None:
        if len(names) != 1:
            raise ConfigurationError(f"which cloud of {looked}? Say from_cloud(name) or set OS_CLOUD; {there}")
        return names[0]
    if name not in names:
        raise ConfigurationError(f"no cloud {name!r} in {looked}; {there}")
    return name


def _branch(tree: Tree, key: str, where: str) -> Tree:
    value = tree.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where}: a mapping is needed for {key!r}")
    return value


def _normalized(tree: Tree) -> Tree:
    """Return keys with underscores; OpenStack takes both."""
    return {str(key).replace("-", "_"): value for key, value in tree.items()}


def _with_profile(cloud: Tree, where: str, environment: Mapping[str, str]) -> tuple[Tree, str]:
    """Lay a cloud over the profile that it names, and tell where its settings come from now."""
    # The second is the older name of the same.
    profile = cloud.get("profile", cloud.get("cloud"))
    if not profile:
        return cloud, where
    file, tree = read_first(candidate_paths("clouds-public", "", environment))
    profiles = _branch(tree, "public-clouds", str(file))
    if not isinstance(profile, str) or profile not in profiles:
        # No reason to fail as long as nothing is missing; if something is, this is what to know.
        files = "there is no clouds-public.yaml" if file is None else f"it is not in {file}"
        return cloud, f"{where} (without its 'profile': {files}, and those built into OpenStack's tools are not known)"
    where = f"{where} with its profile of {file}"
    public = _normalized(_branch(profiles, profile, where))
    for each in (public, cloud):
        each["auth"] = _normalized(_branch(each, "auth", where))
    return merge(public, cloud), where


def _pick_region(cloud: Tree, where: str) -> Tree:
    """Choose the first of several regions where none is named, as OpenStack does, and lay its values over the rest."""
    regions = cloud.get("regions")
    if not regions:
        return cloud
    if not isinstance(regions, list):
        raise ConfigurationError(f"{where}: 'regions' is a list of names, or of mappings with name and values")
    choices = [each if isinstance(each, dict) else {"name": each} for each in regions]
    wanted = cloud.get("region_name") or choices[0].get("name")
    chosen = next((each for each in choices if each.get("name") == wanted), None)
    if chosen is None:
        raise ConfigurationError(f"{where}: its region_name is none of its regions")
    return merge(cloud, {**_normalized(_branch(chosen, "values", where)), "region_name": wanted})


def _flatten(cloud: Tree, where: str) -> dict[str, str]:
    """Return the settings by their paths, such as ``auth.username``."""
    auth = _normalized(_branch(cloud, "auth", where))
    flat = {**cloud, **{f"auth.{key}": value for key, value in auth.items()}}
    values: dict[str, str] = {}
    for key in (each for several in KEYS.values() for each in several):
        value = flat.get(key)
        if isinstance(value, str):
            values[key] = value
        elif isinstance(value, bool):
            # Only JSON has them; in YAML they are the texts that they are written as.
            values[key] = str(value).lower()
        elif value is not None:
            raise ConfigurationError(f"{where}: a text is needed for {key}, not a {type(value).__name__}")
    return values
