"""Reads which cloud is meant.

An option wins over the environment, and the environment over a profile that nobody named on the line. Where the
environment names two clouds, by its variables and by ``OS_CLOUD``, a line on standard error says which one is meant.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

import click

from bms_async import ConfigurationError
from bms_async.cli.context import CLOUD
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.texts import strip_control_chars
from bms_async.config import Settings, read_cloud, read_environment

from .profiles import profile_of

__all__ = ["IncompleteError", "chosen_by", "read_settings"]

_CREDENTIALS: Final = ("OS_TOKEN", "OS_AUTH_TOKEN", "OS_PASSWORD", "HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK")
_MORE: Final = "More: `bms help settings`."
_ROOM: Final = 71
"""The width of a line of an error on a narrow terminal, indented and cut off."""


class IncompleteError(ConfigurationError):
    """Settings are missing; the text says which, and the shortest way to set them."""


def read_settings(name: str | None) -> Settings:
    """Return the settings of a cloud.

    Args:
        name: A cloud of ``clouds.yaml``; None for the one that a profile or the environment leads to. ``OS_CLOUD``
            counts where the environment has no complete settings of its own.

    Raises:
        ConfigurationError: Something is missing or contradicts another.
    """
    profile = profile_of(click.get_current_context(silent=True))
    if name is None and profile is not None and profile.is_typed:
        name = profile.cloud
    if name is not None:
        return _read_cloud(name)
    named, credentials = os.environ.get("OS_CLOUD"), [each for each in _CREDENTIALS if os.environ.get(each)]
    other = None if profile is None else profile.cloud
    if not credentials:
        return _read_cloud(named or other) if named or other else _read_environment()
    if not named and other is None:
        return _read_environment()
    typed = " and ".join(credentials)
    source = f"OS_CLOUD={named}" if named else f"{other}, of the profile {profile.name if profile else ''}"
    try:
        settings = read_environment()
    except ConfigurationError as error:
        if not error.missing:
            raise
        print_error(strip_control_chars(f"the cloud is {source}; {typed} in the environment is not used"))
        return _read_cloud(named or other)
    option = f"--cloud {named}" if named else f"--profile {profile.name if profile else ''}"
    print_error(
        strip_control_chars(
            f"the cloud is that of the variables ({typed}), and not {source}: for that one, add {option}"
        )
    )
    return settings


def chosen_by(settings: Settings) -> str | None:
    """Return what chose a cloud of ``clouds.yaml``, for people; None for the environment's variables.

    Args:
        settings: The settings of the cloud.
    """
    if settings.cloud is None:
        return None
    context = click.get_current_context(silent=True)
    if context is not None and context.meta.get(CLOUD) == settings.cloud:
        return "--cloud"
    profile = profile_of(context)
    is_of_profile = profile is not None and profile.cloud == settings.cloud
    if profile is not None and is_of_profile and (profile.is_typed or not os.environ.get("OS_CLOUD")):
        return f"{'--profile' if profile.is_typed else 'profile'} {profile.name}"
    return "OS_CLOUD"


def _read_environment() -> Settings:
    try:
        return read_environment()
    except ConfigurationError as error:
        if not error.missing:
            raise
        lines = [
            f"not set in the environment: {', '.join(error.missing)}",
            _export(reversed(list(error.missing.values()))),
            f"Or: --cloud NAME. {_MORE} To try it: `bms simulator`.",
        ]
        raise IncompleteError("\n".join(lines)) from None


def _read_cloud(name: str | None) -> Settings:
    try:
        return read_cloud(name)
    except ConfigurationError as error:
        if not error.missing:
            raise
        where = re.match(r"not set in (cloud .*?)(?: \(without| with its profile|: )", str(error))
        keys = ", ".join(error.missing.values())
        export = ", or export BMS_ENDPOINT" if "endpoint" in error.missing else ""
        lines = [
            f"not set in {where[1] if where else 'the cloud'}: {', '.join(error.missing)}",
            f"Add {keys}{export}. {_MORE}",
        ]
        raise IncompleteError("\n".join(lines)) from None


def _export(names: Iterable[str]) -> str:
    """Return a line for a shell, as far as it fits."""
    line = "export"
    for name in names:
        added = f" {name}={'https://' if name.endswith(('_ENDPOINT', '_URL')) else ''}..."
        if len(line + added) > _ROOM:
            return f"{line} ..."
        line += added
    return line
