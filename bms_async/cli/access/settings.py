"""Reads which cloud is meant."""

from __future__ import annotations

import os

from bms_async.config import Settings, read_cloud, read_environment

__all__ = ["read_settings"]

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
