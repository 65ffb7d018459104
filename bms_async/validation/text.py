"""Refusing names, tags, metadata, passwords and data that the reference says are not allowed."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping

from bms_async.errors import InvalidRequestError
from bms_async.redaction import kind_of, wrap_secrets

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_DEVICE = re.compile(r"/dev/[a-z][a-z0-9]*")
_METADATA_KEY = re.compile(r"[\w:.-]{1,255}")
_SPECIAL = "!@#$%^_=+[{}]:,./?-;"
_LONGEST_TAG = 80
_MOST_TAGS = 50
_LONGEST_METADATA = 255
_LONGEST_NATIVE_NAME = 255
_SHORTEST_PASSWORD, _LONGEST_PASSWORD = 8, 26
_FEWEST_CLASSES = 3
_LONGEST_KEY = 1024
_LONGEST_DATA = 32 * 1024
_WINDOWS_ACCOUNT = "administrator"
_ACCOUNTS = ("root", _WINDOWS_ACCOUNT)
_RUNS = frozenset(_WINDOWS_ACCOUNT[place : place + 3] for place in range(len(_WINDOWS_ACCOUNT) - 2))


def check_name(argument: str, value: object) -> str:
    """Return a server's new name: 1 to 63 letters, digits, ``_``, ``-`` and ``.`` (API reference 4.4.1)."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidRequestError(argument, value, "a name has 1 to 63 letters, digits, '_', '-' or '.'")
    return value


def check_native_name(argument: str, value: object) -> str:
    """Return the name of a server or key pair to be created: 1 to 255 characters (API reference 5.2.1)."""
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_NATIVE_NAME:
        raise InvalidRequestError(argument, value, f"a name has 1 to {_LONGEST_NATIVE_NAME} characters, not all blank")
    return value


def check_tag(argument: str, value: object) -> str:
    """Return a tag: 1 to 80 characters, the first not ``.`` (API reference 5.10.4).

    Nova takes neither ``/`` nor ``,`` in a tag, for the one ends its path and the other a list of tags.
    """
    fits = isinstance(value, str) and 0 < len(value) <= _LONGEST_TAG and value[0] != "." and not {"/", ","} & set(value)
    if not isinstance(value, str) or not fits:
        raise InvalidRequestError(
            argument, value, f"a tag has 1 to {_LONGEST_TAG} characters, no '/' or ',', and does not begin with '.'"
        )
    return value


def check_tags(argument: str, values: object) -> tuple[str, ...]:
    """Return the tags of a server: at most 50, each fit (API reference 5.10.2)."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidRequestError(argument, values, "a list of tags is wanted")
    tags = tuple(check_tag(f"{argument}[{position}]", value) for position, value in enumerate(values))
    if len(set(tags)) > _MOST_TAGS:
        raise InvalidRequestError(argument, f"{len(set(tags))} tags", f"a server has at most {_MOST_TAGS} tags")
    return tags


def check_metadata(argument: str, values: object) -> dict[str, str]:
    """Return metadata: keys and values of at most 255 characters (API reference 4.8.1).

    A key has letters, digits, ``-``, ``_``, ``:`` and ``.``; a value may be any text.
    The text of a value may be a password, and so is in no error.
    """
    if not isinstance(values, Mapping):
        raise InvalidRequestError(argument, kind_of(values), "a mapping of keys to values is wanted")
    for key, value in values.items():
        if not isinstance(key, str) or not _METADATA_KEY.fullmatch(key):
            raise InvalidRequestError(
                argument, key, f"a key has 1 to {_LONGEST_METADATA} letters, digits, '-', '_', ':' or '.'"
            )
        if not isinstance(value, str) or len(value) > _LONGEST_METADATA:
            raise InvalidRequestError(
                f"{argument}[{key!r}]", None, f"a value is a text of at most {_LONGEST_METADATA} characters"
            )
        _check_writable(f"{argument}[{key!r}]", value)
    return dict(values)


def check_password(argument: str, value: object, *, windows: bool = False) -> str:
    """Return an administrator's password (API reference 4.4.2); it is in no error.

    8 to 26 characters of at least three kinds (upper case, lower case, digits, special), and not the account's name
    forwards or backwards.

    Args:
        argument: The argument's name.
        value: What was given.
        windows: Whether it is surely for Windows, which takes no three characters in a row of the account's name.
    """
    if not isinstance(value, str) or not _SHORTEST_PASSWORD <= len(value) <= _LONGEST_PASSWORD:
        raise InvalidRequestError(
            argument, None, f"a password has {_SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} characters"
        )
    _check_writable(argument, value)
    kinds = (
        any(character.isascii() and character.isupper() for character in value),
        any(character.isascii() and character.islower() for character in value),
        any(character.isascii() and character.isdigit() for character in value),
        any(character in _SPECIAL for character in value),
    )
    if sum(kinds) < _FEWEST_CLASSES:
        raise InvalidRequestError(
            argument, None, f"a password has three of: upper case, lower case, digits, special ({_SPECIAL})"
        )
    for account in _ACCOUNTS:
        if account in value.lower() or account[::-1] in value.lower():
            raise InvalidRequestError(argument, None, f"a password does not hold {account!r}, forwards or backwards")
    if windows and any(run in value.lower() for run in _RUNS):
        raise InvalidRequestError(
            argument, None, f"a Windows password has no three characters in a row of {_WINDOWS_ACCOUNT!r}"
        )
    return value


def check_one_login(password: object, key_name: object) -> None:
    """Refuse a password and a key pair together: a server takes one of them (API reference 4.4.2, BMS.0111)."""
    if password is not None and key_name is not None:
        raise InvalidRequestError("key_name", key_name, "a password or a key pair, but not both")


def check_public_key(argument: str, value: object) -> str:
    """Return a public key to be imported: at most 1024 bytes (API reference 5.9.3)."""
    if not isinstance(value, str) or not value.strip() or len(value.encode(errors="replace")) > _LONGEST_KEY:
        raise InvalidRequestError(argument, None, f"a public key has 1 to {_LONGEST_KEY} bytes")
    return value


def check_device(argument: str, value: object) -> str:
    """Return the name of a disk's device, such as ``/dev/sdb`` (API reference 4.7.1)."""
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        raise InvalidRequestError(argument, value, "a device is like '/dev/sdb'; leave it out and the cloud picks one")
    return value


def encode_user_data(argument: str, value: str | bytes, *, check: bool = True) -> str:
    """Return injected data as base64, made from text or bytes of at most 32 KB (API reference 5.2.1).

    It may hold passwords, and so is in no error.
    """
    if not isinstance(value, str | bytes | bytearray):
        raise InvalidRequestError(argument, type(value).__name__, "text or bytes are wanted")
    if isinstance(value, str):
        _check_writable(argument, value)
    data = wrap_secrets(value.encode() if isinstance(value, str) else value)
    if check and len(data) > _LONGEST_DATA:
        raise InvalidRequestError(argument, f"{len(data)} bytes", f"injected data has at most {_LONGEST_DATA} bytes")
    return wrap_secrets(b64encode(data).decode())


def _check_writable(argument: str, value: str) -> None:
    """Refuse half a character, for what the JSON encoder would raise carries the text, which may be a secret."""
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidRequestError(argument, None, "text that can be written as UTF-8 is wanted")


def user_data_as_text(user_data: str | bytes | None) -> str | None:
    """Return injected data as an error may quote it; None for what is no text."""
    if user_data is None or isinstance(user_data, str):
        return user_data
    return wrap_secrets(user_data).decode(errors="replace")
