"""Reads which cloud is meant, and opens a client that shares the limits with earlier commands."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio

from bms_async import BmsClient, Limits
from bms_async.config import Settings, read_cloud, read_environment

from .exit import print_error
from .limit_usage import LimitUsage, state_dir
from .output import strip_control_chars

__all__ = ["OpenClient", "open_client", "read_settings", "usage_of"]

_CREDENTIALS = ("OS_TOKEN", "OS_AUTH_TOKEN", "OS_PASSWORD", "HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK")
_SAVE_INTERVAL = 5.0


class OpenClient(NamedTuple):
    """An open client, and its settings."""

    bms: BmsClient
    settings: Settings

    @property
    def where(self) -> str:
        """The project and the address, for people."""
        project = self.bms.project_id or self.settings.project_name or "?"
        return f"project {strip_control_chars(project)} at {self.settings.endpoint}"


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


def usage_of(settings: Settings) -> LimitUsage:
    """Return the recorded usage of this cloud's limits."""
    project = settings.project_id or settings.project_name or ""
    try:
        return LimitUsage(settings.endpoint, project, state_dir())
    except OSError as error:
        return LimitUsage(settings.endpoint, project, None, no_folder=str(error))


@asynccontextmanager
async def open_client(settings: Settings) -> AsyncIterator[OpenClient]:
    """Open a client; the slots that it uses are recorded for the next command, also if this one is interrupted."""
    limits, usage = Limits(), usage_of(settings)
    client = BmsClient.from_settings(settings, limits=limits)

    async def save_repeatedly() -> None:
        # So that a killed process has recorded most of its usage.
        while True:
            await anyio.sleep(_SAVE_INTERVAL)
            await usage.save(limits)

    await usage.load(limits)
    error: Exception | None = None
    try:
        async with client as bms, anyio.create_task_group() as tasks:
            tasks.start_soon(save_repeatedly)
            try:
                yield OpenClient(bms, settings)
            except Exception as raised:  # noqa: BLE001 - raised again below, outside of the task group, which would wrap it
                error = raised
            finally:
                tasks.cancel_scope.cancel()
    finally:
        await usage.save(limits)
        if usage.failure is not None:
            print_error(
                f"the used rate-limit slots cannot be recorded ({usage.failure}): the next command does not know them,"
                " and the cloud may refuse its calls"
            )
    if error is not None:
        raise error
