"""The journal of durable runs, as the commands open it, and the keys of the runs that they begin."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bms_async import BmsClient, ConfigurationError, JournalError, Runs
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.texts import strip_class_names

if TYPE_CHECKING:
    from bms_async.config import Settings

__all__ = ["NOTHING_SENT", "OWN_PREFIX", "PATIENCE", "made_up_key", "open_journal", "prune_own"]

PATIENCE = 10.0
"""Seconds for which a journal that does not answer is asked again before anything is sent."""

OWN_PREFIX = "bms-"
"""What the keys begin with that the command makes up."""

_KEPT_SECONDS = 30 * 86400.0

NOTHING_SENT = "Nothing was sent. With --no-journal the run is in memory alone, and cannot be resumed if it is killed. "


@asynccontextmanager
async def open_journal(settings: Settings | None, address: str | None, *, otherwise: str = "") -> AsyncIterator[Runs]:
    """Open the journal.

    Args:
        settings: The cloud, which may name one; without any it is the file of this machine.
        address: The one that was typed.
        otherwise: What can be done without it.

    Raises:
        UsageError: It cannot be used.
        ConfigurationError: What was named is no journal, or needs an extra that is not installed.
    """
    named = address is not None or (settings is not None and settings.runs is not None)
    advice = f"\n{otherwise}Name another journal by BMS_RUNS or --journal."
    try:
        runs = _find(settings, address)
    except ConfigurationError as error:
        if named:
            raise
        raise UsageError(f"{error}{advice}") from error
    try:
        await runs.journal.open(patience=PATIENCE)
    except JournalError as error:
        raise UsageError(f"{strip_class_names(str(error))}{advice}") from error
    try:
        yield runs
    finally:
        await runs.journal.aclose()


def _find(settings: Settings | None, address: str | None) -> Runs:
    if address is not None:
        try:
            return Runs(address)
        except ConfigurationError as error:
            raise ConfigurationError(f"--journal: {str(error).removeprefix('store=')}") from None
    if settings is None or settings.runs is None:
        return Runs()
    from bms_async.client import find_runs

    return find_runs(settings)


def made_up_key(action: str) -> str:
    """Return a key for a run that was given none."""
    return f"{OWN_PREFIX}{action}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


async def prune_own(bms: BmsClient) -> None:
    """Delete runs of the command's own that ended long ago."""
    # Nobody waits for it, and the next command tries again.
    with suppress(JournalError):
        await bms.runs.prune(older_than=_KEPT_SECONDS, all_places=True, prefix=OWN_PREFIX)
