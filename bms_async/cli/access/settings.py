"""Reads which cloud is meant."""

from __future__ import annotations

import os

import click

from bms_async.cli.shared import CLOUD
from bms_async.config import Settings, read_cloud, read_environment

__all__ = ["chosen_by", "read_settings"]

_CREDENTIALS = ("OS_TOKEN", "OS_AUTH_TOKEN", "OS_PASSWORD", "HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK")


def read_settings(name: str | None) -> Settings:
    """Return the settings of a cloud.

    Args:
        name: A cloud of ``clouds.yaml``; None for the one that the environment leads to. ``OS_CLOUD`` counts where the
            environment has no credentials of its own.

    Raises:
        ConfigurationError: Something is missing or contradicts another.
    """
    if name is not None:
        return read_cloud(name)
    if os.environ.get("OS_CLOUD") and not any(os.environ.get(name) for name in _CREDENTIALS):
        return read_cloud()
    return read_environment()


def chosen_by(settings: Settings) -> str | None:
    """Return what chose a cloud of ``clouds.yaml``, for people; None for the environment's variables.

    Args:
        settings: The settings of the cloud.
    """
    if settings.cloud is None:
        return None
    context = click.get_current_context(silent=True)
    return "--cloud" if context is not None and context.meta.get(CLOUD) == settings.cloud else "OS_CLOUD"
