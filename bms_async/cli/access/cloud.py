"""Opens a client that shares the limits with the other commands and programs of this machine, or of a store."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from bms_async import AuthenticationError, ConfigurationError, Limits
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.logs import NOTES
from bms_async.cli.terminal.texts import duration, strip_control_chars

# Not the public name, which brings the fleet, that many commands do without.
from bms_async.client import BmsClient, shared_limits
from bms_async.config import Settings

from .known import KnownServers
from .place import Place
from .project_ids import note_project
from .settings import chosen_by

if TYPE_CHECKING:
    from bms_async import Runs, Transport

__all__ = ["OpenClient", "open_client"]

_PATIENCE = 1.5
"""Seconds without an answer of the store until the user learns what the command waits for."""

_TICK = 0.25


class OpenClient:
    """An open client.

    Args:
        bms: The client.
        settings: Its settings.
        known: What is known of the servers that the command has read.

    Attributes:
        bms: The client.
        settings: Its settings.
        known: What is known of the servers that the command has read.
        cloud: The name of its cloud in clouds.yaml; None for the one that the environment names.
        is_place_read: Whether `place` is complete.
    """

    def __init__(self, bms: BmsClient, settings: Settings, known: KnownServers) -> None:
        self.bms = bms
        self.settings = settings
        self.known = known
        self.cloud = settings.cloud
        self.is_place_read = False
        self._place = Place(
            endpoint=settings.endpoint,
            cloud=settings.cloud,
            chosen_by=chosen_by(settings),
            project_id=settings.project_id,
            project_name=settings.project_name or getattr(settings.auth, "project_name", None),
        )

    @property
    def place(self) -> Place:
        """The cloud, the project and the user, as far as they are known; `whoami.read_place` completes it."""
        return msgspec.structs.replace(self._place, project_id=self.bms.project_id or self._place.project_id)

    def complete_place(self, place: Place) -> None:
        """Note where the command acts, once that is read.

        Args:
            place: The cloud, the project and the user.
        """
        self._place, self.is_place_read = place, True


@asynccontextmanager
async def open_client(
    settings: Settings, runs: Runs | None = None, *, transport: Transport | None = None
) -> AsyncIterator[OpenClient]:
    """Open a client; what it has to wait for because of the limits' store is printed.

    Args:
        settings: The cloud. If they name no store, the limits are kept in the file of this machine, or alone if that
            cannot be used. A journal that they name is not opened.
        runs: The journal.
        transport: What sends; None for the default one.

    Raises:
        ConfigurationError: The store that they name does not exist, or refuses to be used.
    """
    limits = shared_limits(settings) if settings.limits is not None else _own_limits(settings)
    # A command that needs no journal must not wait for one.
    alone = msgspec.structs.replace(settings, runs=None)
    client = BmsClient.from_settings(alone, limits=limits, runs=runs, transport=transport)
    waits = _Waits(limits, settings)
    error: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits.watch)
        try:
            async with client as bms:
                waits.note_opened()
                yield OpenClient(bms, settings, KnownServers())
        except Exception as raised:  # noqa: BLE001 - raised again below, outside of the task group, which would wrap it
            error = raised
            if isinstance(raised, AuthenticationError):
                # It knows all kinds of credentials, of which most commands need one.
                from .refusals import note_refusal

                note_refusal(raised, settings.auth)
        finally:
            tasks.cancel_scope.cancel()
    waits.look()
    if settings.project_id is None:
        await anyio.to_thread.run_sync(note_project, settings, client.project_id)
    if error is not None:
        raise error


def _own_limits(settings: Settings) -> Limits:
    """Return limits in the file of this machine, which nobody asked for, and which are done without where need be."""
    try:
        limits = Limits.shared(account=settings.limits_account, without_store=1.0)
    except (ConfigurationError, ImportError) as error:
        _warn(str(error))
        return Limits()
    if limits._exchange is not None:  # noqa: SLF001 - programs cannot ask for this
        limits._exchange.is_optional = True  # noqa: SLF001
    return limits


class _Waits:
    """What the user has to know of the limits' store.

    Args:
        limits: The limits of the client.
        settings: The cloud.
    """

    def __init__(self, limits: Limits, settings: Settings) -> None:
        self._exchange = limits._exchange  # noqa: SLF001 - its statistics are those of each limiter
        self._settings = settings
        self._is_open = self._has_warned = self._has_said_closed = False

    def note_opened(self) -> None:
        """Note that the store answered, or failed for a reason that is known."""
        self._is_open = True
        self.look()

    async def watch(self) -> None:
        """Look from time to time, until it is cancelled."""
        if self._exchange is None:
            return
        await anyio.sleep(_PATIENCE)
        if not self._is_open:
            _say(
                f"waiting for the store of the limits at {self._exchange.store.label}, which has not answered yet;"
                " Ctrl-C ends the command"
            )
        while True:
            self.look()
            await anyio.sleep(_TICK)

    def look(self) -> None:
        """Print what is new."""
        if self._exchange is None:
            return
        shared = self._exchange.statistics
        if shared.is_alone and not self._has_warned:
            self._has_warned = True
            _warn(shared.error or "")
        is_closed = shared.closed_for >= 1 and not shared.is_alone
        if is_closed and not self._has_said_closed:
            wait, where = duration(math.ceil(shared.closed_for)), f"the limits of {shared.account} at {shared.store}"
            # Once calls were made nobody can vouch that there were none.
            _say(
                f"calls wait for {wait}: {where} are closed again, since the store may have lost calls that still count"
                if self._exchange.calls > 0
                else f"calls wait for {wait}: {where} are closed at first, since calls that are not known there may"
                f" still count. If there were none: {_opening(shared.account, self._settings)}"
            )
        self._has_said_closed = is_closed


def _opening(account: str | None, settings: Settings) -> str:
    """Return the command that opens an account."""
    # What another setting than the environment names is not repeated, for it may hold a password.
    cloud = "" if settings.limits in {None, os.environ.get("BMS_LIMITS")} else " --cloud NAME"
    return f"bms limits open --account {shlex.quote(account or '')}{cloud}"


def _warn(reason: str) -> None:
    _say(
        f"the limits cannot be shared with other commands and programs ({reason}): they do not know of the calls of"
        " this one, and the cloud may refuse calls"
    )


def _say(text: str) -> None:
    """Print a line above the progress, or at once if there is none."""
    line = f"bms: {strip_control_chars(text)}"
    if NOTES.sink is None:
        print_error(line, first="")
    else:
        NOTES.sink(line)
