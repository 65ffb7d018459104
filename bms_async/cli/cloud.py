"""Opens a client that shares the limits with earlier commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio

from bms_async import BmsClient, Limits
from bms_async.config import Settings

from .exit import print_error
from .settings import read_settings, usage_of
from .texts import strip_control_chars

__all__ = ["OpenClient", "open_client", "read_settings"]

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
