"""The id of the project that a command means, by which a store of limits knows its account.

Settings may have the project's name alone. A command that works with the cloud finds the id, and leaves it in a small
file of the state folder, one for each name and user. What only reads the limits takes it from there, so that it needs
no cloud; if no command has found it yet, it is asked for, within `_PATIENCE`.

A token is no user's name that can be kept, so that for a token and the project's name the id is asked for each time.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bms_async import BmsError, CallTimeoutError, ConfigurationError
from bms_async._addresses import state_folder
from bms_async.cli.terminal.texts import strip_control_chars
from bms_async.limits.account import Account

if TYPE_CHECKING:
    from bms_async.client import BmsClient
    from bms_async.config import Settings

__all__ = ["find_account", "known_account", "note_project"]

_FOLDER = "projects"
_LONGEST = 200
_PATIENCE = 10.0
"""Seconds that the cloud has to say which id a project has."""


def known_account(settings: Settings) -> str | None:
    """Return the name of the account in a store of limits; None if the project's id is not known on this machine.

    Args:
        settings: The cloud.
    """
    return settings.limits_account or Account.at(settings.endpoint, settings.project_id or _load(settings)).name


async def find_account(settings: Settings, bms: BmsClient | None = None) -> str:
    """Return the name of the account in a store of limits; the project's id is asked for if it is not known.

    Args:
        settings: The cloud.
        bms: An open client of it; None if there is none yet.

    Raises:
        BmsError: It is not known, and the cloud does not say it.
    """
    import anyio.to_thread

    own = None if bms is None else bms.project_id
    found = None if own else await anyio.to_thread.run_sync(known_account, settings)
    if found is None:
        try:
            project_id = own or await _ask(settings, bms)
        except BmsError as error:
            _explain(error, settings)
            raise
        await anyio.to_thread.run_sync(note_project, settings, project_id)
        found = settings.limits_account or Account.at(settings.endpoint, project_id).name
    if found is None:
        raise TypeError("expected the id of a project")
    return found


def note_project(settings: Settings, project_id: str | None) -> None:
    """Leave a project's id for later commands; where that cannot be, nothing is kept.

    Args:
        settings: The cloud, with the project's name.
        project_id: The id that the cloud has for it; None if it has not been asked.
    """
    if project_id is None or settings.project_id is not None or project_id == _load(settings):
        return
    path = _path(settings)
    if path is None:
        return
    with suppress(OSError, UnicodeEncodeError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_text(project_id, encoding="utf-8")
        unfinished.replace(path)


def _load(settings: Settings) -> str | None:
    path = None if settings.project_id is not None else _path(settings)
    if path is not None:
        with suppress(OSError, UnicodeDecodeError):
            text = path.read_text(encoding="utf-8")
            # What a crash or a user has left there is no id.
            return text if 0 < len(text) <= _LONGEST and text.isprintable() else None
    return None


def _path(settings: Settings) -> Path | None:
    """Return the file of a project's name; None where nobody can say whose project it is."""
    from bms_async import AkSkAuth, PasswordAuth

    auth = settings.auth
    whose: object = None
    if isinstance(auth, PasswordAuth):
        client = auth._client  # noqa: SLF001 - the domains of a name have no other place
        whose = (client.auth_url, client.user, client.project)
    elif isinstance(auth, AkSkAuth):
        whose = auth.access_key
    if whose is None:
        return None
    import hashlib

    place = (settings.endpoint, settings.identity_endpoint, settings.project_name, whose)
    # Not every name in the environment is text.
    with suppress(OSError, UnicodeEncodeError):
        # A digest, since a name may be long, and an access key is nobody else's business.
        return state_folder() / _FOLDER / hashlib.sha256(msgspec.json.encode(place)).hexdigest()[:32]
    return None


async def _ask(settings: Settings, bms: BmsClient | None) -> str:
    import anyio

    from bms_async import Limits

    # Not the public name, which brings the fleet.
    from bms_async.client import BmsClient

    with anyio.move_on_after(_PATIENCE):
        if bms is not None:
            return await bms._session.find_project_id("limits")  # noqa: SLF001 - programs have no use for it alone
        alone = msgspec.structs.replace(settings, limits=None, runs=None)
        async with BmsClient.from_settings(alone, limits=Limits()) as own:
            return await own._session.find_project_id("limits")  # noqa: SLF001
    raise CallTimeoutError(f"no answer within {_PATIENCE:g} s", maybe_delivered=True, operation="limits")


def _explain(error: BmsError, settings: Settings) -> None:
    """Have the user learn why an id is needed, and how to do without the cloud."""
    from bms_async import AuthenticationError
    from bms_async.cli.terminal.exit import print_error

    from .refusals import note_refusal

    name = settings.project_name or getattr(settings.auth, "project_name", None)
    if not isinstance(error, ConfigurationError):
        print_error(
            strip_control_chars(
                f"the limits of project {name} are kept by its id, which no command on this machine has found yet, and"
                " the cloud does not say it now. Set OS_PROJECT_ID, or the account's name, BMS_LIMITS_ACCOUNT"
            )
        )
    if isinstance(error, AuthenticationError):
        note_refusal(error, settings.auth)
