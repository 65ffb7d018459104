"""``bms servers rename``, ``tag``, ``metadata`` and ``reinstall``: what is done to each server."""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import click
import msgspec

from bms_async import BmsClient, FleetRun, InvalidRequestError
from bms_async.cli.selection.rollouts import ListedServers
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.texts import strip_control_chars
from bms_async.models import BARE_METAL_TAG
from bms_async.models.ids import canonical_id
from bms_async.validation.native import check_metadata_lookup
from bms_async.validation.text import check_metadata, check_name, check_native_name, check_password, check_tag

from .common import CommonOptions
from .each import RunArguments, Task, carry_out

__all__ = ["Login", "change_metadata", "reinstall", "rename", "tag"]

_VARIABLE: Final = "BMS_ADMIN_PASSWORD"
"""The variable that holds the password of a reinstallation, where there is no terminal to ask on."""

CallOne: TypeAlias = Callable[[str], Awaitable[object]]
"""A coroutine function of a server's id."""

_SHOWN: Final = 3
_PLACE: Final = re.compile(r"\{(n|id)(?::(0?[1-9]))?\}")
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


class _CallTask(Task):
    """What is one call a server."""

    def make_call(self, bms: BmsClient) -> CallOne:
        """Return the function that makes the call.

        Args:
            bms: The client.
        """
        raise NotImplementedError

    def begin(self, bms: BmsClient, servers: Sequence[str] | ListedServers, options: RunArguments) -> FleetRun:
        """Begin the run."""
        return bms.fleet.each(servers, self.make_call(bms), action=self.operation, keep_results=False, **options)


class _Rename(_CallTask):
    verb = "rename"
    operation = "servers.rename"

    def __init__(self, names: Mapping[str, str], template: str | None, first: int) -> None:
        self._names = names
        self._template = template
        self._first = first

    def describe(self, ids: Sequence[str]) -> str:
        if self._template is not None:
            self._names = _names_of(ids, self._template, self._first)
        shown = [f"{server_id} to {self._names[canonical_id(server_id)]}" for server_id in ids[:_SHOWN]]
        return f"({strip_control_chars(', '.join(shown))}{', ...' if len(ids) > _SHOWN else ''})"

    def make_call(self, bms: BmsClient) -> CallOne:
        names = self._names
        return lambda server_id: bms.servers.rename(server_id, names[server_id])


class _Tag(_CallTask):
    def __init__(self, tag: str, *, adds: bool) -> None:
        self._tag = tag
        self._adds = adds
        self.verb = "tag" if adds else "untag"
        self.operation = "nova.tags.add" if adds else "nova.tags.remove"

    def describe(self, ids: Sequence[str]) -> str:  # noqa: ARG002 - the same for all
        return f"with {self._tag}" if self._adds else f"of {self._tag}"

    def make_call(self, bms: BmsClient) -> CallOne:
        call = bms.nova.tags.add if self._adds else bms.nova.tags.remove
        tag = self._tag
        return lambda server_id: call(server_id, tag)


class _SetMetadata(_CallTask):
    verb = "change"
    operation = "servers.update_metadata"

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def describe(self, ids: Sequence[str]) -> str:  # noqa: ARG002 - the same for all
        return f"to {strip_control_chars(', '.join(f'{key}={value}' for key, value in self._values.items()))}"

    def make_call(self, bms: BmsClient) -> CallOne:
        values = self._values
        return lambda server_id: bms.servers.update_metadata(server_id, values)


class _RemoveMetadata(_CallTask):
    verb = "change"
    operation = "nova.metadata.delete"

    def __init__(self, key: str) -> None:
        self._key = key

    def describe(self, ids: Sequence[str]) -> str:  # noqa: ARG002 - the same for all
        return f"to be without {strip_control_chars(self._key)}"

    def make_call(self, bms: BmsClient) -> CallOne:
        key = self._key
        return lambda server_id: bms.nova.metadata.delete(server_id, key)


class _Reinstall(_CallTask):
    verb = "reinstall"
    operation = "servers.reinstall_os"
    loses_data = True

    def __init__(self, login: Login, password: str | None, script: bytes | None) -> None:
        self._login = login
        self._password = password
        self._script = script

    def describe(self, ids: Sequence[str]) -> str:  # noqa: ARG002 - the same for all
        if self._login.key_pair is not None:
            return f"with the key pair {self._login.key_pair}"
        return "with a new password" if self._password is not None else "with a script"

    def make_call(self, bms: BmsClient) -> CallOne:
        login, password, script = self._login, self._password, self._script
        return lambda server_id: bms.servers.reinstall_os(
            server_id,
            admin_password=password,
            key_name=login.key_pair,
            user_id=login.key_user,
            user_data=script,
        )


def rename(ids: Sequence[str], options: CommonOptions, *, names: str | None, template: str | None, first: int) -> int:
    """Rename servers, and return the exit code.

    Args:
        ids: Servers, or a ``-``.
        options: Which servers, and how.
        names: A file with an id and a name a line.
        template: What all names are made of.
        first: The number of the first server.

    Raises:
        UsageError: There is no name for a server, or more than one.
    """
    if (names is None) == (template is None):
        raise UsageError("expected new names: give either --to, such as --to web-{n:03}, or --from FILE")
    if names is None:
        return carry_out(_Rename({}, template, first), ids, options)
    if ids or options.file or options.filters:
        raise UsageError("--from: the file names the servers; leave out ids, --file and filters")
    read = _read_names(names)
    found = {canonical_id(server_id): name for server_id, name in read.items()}
    return carry_out(_Rename(found, None, first), (), options, named=list(read))


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
    _check(lambda: check_tag("tag", tag))
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
        _check(lambda: check_metadata_lookup("key", key))
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
            f"{min(secret)}: its value is a secret, and others can read a command's arguments; set it with"
            " bms.servers.update_metadata"
        )
    _check(lambda: check_metadata("metadata", values))
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
        _check(lambda: check_native_name("--key-pair", key_pair))
    script = None if login.script is None else _read_script(login.script)
    password = _ask_password() if login.asks_password and not options.dry_run else None
    return carry_out(_Reinstall(login, password, script), ids, options)


def _check(check: Callable[[], object]) -> None:
    """Refuse what the reference does not allow before anything is sent."""
    try:
        check()
    except InvalidRequestError as error:
        raise UsageError(str(error)) from error


def _names_of(ids: Sequence[str], template: str, first: int) -> Mapping[str, str]:
    """Return the names that a template gives servers."""
    places = _PLACE.findall(template)
    if "{" in _PLACE.sub("", template) or "}" in _PLACE.sub("", template):
        raise UsageError(f"--to {template}: expected {{n}}, {{n:03}} or {{id}} in it, and no other braces")
    if not places and len(ids) > 1:
        raise UsageError(f"--to {template}: {len(ids):,} servers would have one name; put {{n}} or {{id}} into it")
    names: dict[str, str] = {}
    for number, server_id in enumerate(ids, first):
        values = {"n": number, "id": server_id}
        name = _PLACE.sub(lambda place: _filled(place, values), template)  # noqa: B023 - called at once
        _check(lambda: check_name("--to", name))  # noqa: B023 - called at once
        names[canonical_id(server_id)] = name
    return names


def _filled(place: re.Match[str], values: Mapping[str, object]) -> str:
    width = place[2] or ""
    return str(values[place[1]]).rjust(int(width or 0), "0" if width.startswith("0") else " ")


def _read_names(file: str) -> Mapping[str, str]:
    """Return the name of each server, as a file has them."""
    names: dict[str, str] = {}
    try:
        if file == "-":
            rows = list(_rows(sys.stdin))
        else:
            with Path(file).open(encoding="utf-8-sig", newline="") as lines:
                rows = list(_rows(lines))
    except (OSError, UnicodeError, csv.Error) as error:
        raise UsageError(f"--from {file}: cannot read the names: {error}") from error
    known: dict[str, str] = {}
    for server_id, name in rows:
        before = known.setdefault(canonical_id(server_id), name)
        if before != name:
            raise UsageError(f"--from {file}: server {server_id} has two names, {before} and {name}; leave out one")
        _check(lambda: check_name(f"--from {file}", name))  # noqa: B023 - called at once
        names.setdefault(server_id, name)
    if not names:
        raise UsageError(f"--from {file}: there are no names; expected an id and a name a line, such as ID,web-1")
    return names


def _rows(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for row in csv.reader(line for line in lines if line.strip() and not line.lstrip().startswith("#")):
        cells = [cell.strip() for cell in row]
        if [cell.lower() for cell in cells] == ["id", "name"]:
            continue
        if len(cells) != 2 or not all(cells):  # noqa: PLR2004 - an id and a name
            raise UsageError(f"--from: expected an id and a name, such as ID,web-1; got {','.join(row)[:60]!r}")
        yield cells[0], cells[1]


def _read_script(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"--user-data: cannot read the script: {error}") from error


def _ask_password() -> str:
    """Return the password: that of the environment, or what is typed twice, unseen."""
    given = os.environ.get(_VARIABLE)
    if given is None and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"--password: there is no terminal to ask on; set {_VARIABLE}")
    password = given
    if password is None:
        password = str(click.prompt("Administrator's password", hide_input=True, confirmation_prompt=True, err=True))
    _check(lambda: check_password("the password", password))
    return password
