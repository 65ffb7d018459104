"""``bms servers tag``, ``untag``, ``metadata`` and ``reinstall``: what is done to each server."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import click
import msgspec

from bms_async import BmsClient, NotFoundError
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.files import read_file
from bms_async.cli.terminal.texts import describe_os_error, strip_control_chars
from bms_async.models import BARE_METAL_TAG
from bms_async.validation.native import check_metadata_lookup
from bms_async.validation.text import check_metadata, check_native_name, check_password, check_tag

from .common import CommonOptions
from .each import carry_out
from .task import CallOne, CallTask, check_argument

__all__ = ["Login", "change_metadata", "reinstall", "tag"]

_VARIABLE: Final = "BMS_ADMIN_PASSWORD"
"""The variable that holds the password of a reinstallation, where there is no terminal to ask on."""

_OLD_SPELLING: Final = frozenset({"add", "remove"})
"""What stood before the tag in an earlier version: it must not become a tag, and the tag not a server."""

_SHOWN: Final = 3
_SECRET_KEYS: Final = frozenset({"admin_pass", "user_data"})
"""Keys of the metadata whose values are secrets: other users of the machine can read a command's arguments."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """How to log in to a reinstalled server, as it was typed.

    Attributes:
        key_pair: The key pair.
        key_user: The user that owns it.
        asks_password: Whether a password is asked for, or taken from the environment.
        script: A file with a script for the first start.
    """

    key_pair: str | None = None
    key_user: str | None = None
    asks_password: bool = False
    script: str | None = None


class _Tag(CallTask):
    def __init__(self, tag: str, *, adds: bool) -> None:
        self._tag = tag
        self._adds = adds
        self.verb = "tag" if adds else "untag"
        self.operation = "nova.tags.add" if adds else "nova.tags.remove"

    @property
    def phrase(self) -> str:
        return f"add the tag {self._tag} to" if self._adds else f"remove the tag {self._tag} from"

    def make_call(self, bms: BmsClient) -> CallOne:
        tags, tag = bms.nova.tags, self._tag

        async def remove(server_id: str) -> None:
            try:
                await tags.remove(server_id, tag)
            except NotFoundError:
                # It is raised again where it is the server that is not there.
                if await tags.has(server_id, tag):
                    raise
                self.unchanged += 1

        return (lambda server_id: tags.add(server_id, tag)) if self._adds else remove


class _SetMetadata(CallTask):
    verb = "metadata"
    operation = "servers.update_metadata"

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    @property
    def phrase(self) -> str:
        given = ", ".join(f"{key}={value}" for key, value in self._values.items())
        return f"set {strip_control_chars(given)} in the metadata of"

    def make_call(self, bms: BmsClient) -> CallOne:
        values = self._values
        return lambda server_id: bms.servers.update_metadata(server_id, values)


class _RemoveMetadata(CallTask):
    verb = "metadata"
    operation = "nova.metadata.delete"

    def __init__(self, key: str) -> None:
        self._key = key

    @property
    def phrase(self) -> str:
        return f"remove {strip_control_chars(self._key)} from the metadata of"

    def make_call(self, bms: BmsClient) -> CallOne:
        metadata, key = bms.nova.metadata, self._key

        async def remove(server_id: str) -> None:
            try:
                await metadata.delete(server_id, key)
            except NotFoundError:
                # It is raised again where it is the server that is not there.
                if key in await metadata.get(server_id):
                    raise
                self.unchanged += 1

        return remove


class _Reinstall(CallTask):
    verb = "reinstall"
    operation = "servers.reinstall_os"
    loses_data = True

    def __init__(self, login: Login, password: str | None, script: bytes | None) -> None:
        self._login = login
        self._password = password
        self._script = script

    @property
    def how(self) -> str:
        if self._login.key_pair is not None:
            return f"with the key pair {self._login.key_pair}"
        return "with a new password" if self._login.asks_password else "with a script"

    def make_call(self, bms: BmsClient) -> CallOne:
        login, password, script = self._login, self._password, self._script
        return lambda server_id: bms.servers.reinstall_os(
            server_id,
            admin_password=password,
            key_name=login.key_pair,
            user_id=login.key_user,
            user_data=script,
        )


def tag(ids: Sequence[str], options: CommonOptions, *, tag: str, adds: bool) -> int:
    """Add a tag to servers, or remove it, and return the exit code.

    Args:
        ids: Servers, or a ``-``.
        options: Which servers, and how.
        tag: The tag.
        adds: Whether it is added.

    Raises:
        UsageError: It is no tag, or the one that the cloud tells bare metal by.
    """
    if ids and tag in _OLD_SPELLING:
        verb = "tag" if tag == "add" else "untag"
        raise UsageError(
            f"the tag comes first now: bms servers {verb} {strip_control_chars(' '.join(ids[:_SHOWN]))}"
            f"{' ...' if len(ids) > _SHOWN else ''}; for a tag that is called {tag!r}, choose the servers by --file or"
            " a filter"
        )
    check_argument(lambda: check_tag("tag", tag))
    if tag == BARE_METAL_TAG and not adds:
        raise UsageError(f"the cloud's console tells bare metal by the tag {tag}: it is not removed by this command")
    return carry_out(_Tag(tag, adds=adds), ids, options)


def change_metadata(words: Sequence[str], options: CommonOptions, *, sets: bool) -> int:
    """Set keys of the metadata of servers, or remove one, and return the exit code.

    Args:
        words: ``KEY=VALUE`` once or more, or the one key that is removed; then servers, or a ``-``.
        options: Which servers, and how.
        sets: Whether keys are set.

    Raises:
        UsageError: There is no key, or its value is a secret.
    """
    if not sets:
        key, *ids = words
        check_argument(lambda: check_metadata_lookup("key", key))
        return carry_out(_RemoveMetadata(key), ids, options)
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            break
        values[key] = value
    if not values:
        raise UsageError(f"expected KEY=VALUE before the servers, got {words[0]!r}")
    if secret := _SECRET_KEYS.intersection(values):
        raise UsageError(
            f"{min(secret)}: its value is a secret, and others can read a command's arguments; set it with `bms api"
            " POST /v1/{project_id}/baremetalservers/ID/metadata --data @FILE`"
        )
    check_argument(lambda: check_metadata("metadata", values))
    return carry_out(_SetMetadata(values), words[len(values) :], options)


def reinstall(ids: Sequence[str], options: CommonOptions, *, login: Login) -> int:
    """Reinstall the operating systems of servers, and return the exit code.

    Args:
        ids: Servers, or a ``-``.
        options: Which servers, and how.
        login: How to log in afterwards.

    Raises:
        UsageError: There is no way to log in, or more than one.
    """
    if login.key_pair is not None and login.asks_password:
        raise UsageError("--password: expected one login, got --key-pair as well; leave out one of them")
    if login.key_pair is None and not login.asks_password and login.script is None:
        raise UsageError("expected a way to log in: give --key-pair, --password or --user-data FILE")
    if login.key_user is not None and login.key_pair is None:
        raise UsageError("--key-user: expected --key-pair beside it")
    key_pair = login.key_pair
    if key_pair is not None:
        check_argument(lambda: check_native_name("--key-pair", key_pair))
    script = None if login.script is None else _read_script(login.script)
    password = _ask_password() if login.asks_password and not options.dry_run else None
    return carry_out(_Reinstall(login, password, script), ids, options)


def _read_script(file: str) -> bytes:
    try:
        return read_file(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"--user-data {file}: it cannot be read: {describe_os_error(error)}") from error


def _ask_password() -> str:
    """Return the password: that of the environment, or what is typed twice, unseen."""
    given = os.environ.get(_VARIABLE)
    if given is None and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"--password: there is no terminal to ask on; set {_VARIABLE}")
    password = given
    if password is None:
        password = str(click.prompt("Administrator's password", hide_input=True, confirmation_prompt=True, err=True))
    check_argument(lambda: check_password("the password", password))
    return password
