"""Checks of names, tags, metadata, passwords and injected data against the reference's rules."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping

from bms_async.errors import InvalidRequestError
from bms_async.redaction import kind_of, wrap_secrets

from .common import ENCODABLE_RULE, is_encodable

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_DEVICE = re.compile(r"/dev/[a-z][a-z0-9]*")
_METADATA_KEY = re.compile(r"[\w:.-]{1,255}")
_SPECIAL = "!@#$%^_=+[{}]:,./?-;"
_MAX_TAG_LENGTH = 80
_MAX_TAGS = 50
_MAX_METADATA_LENGTH = 255
_MAX_NATIVE_NAME_LENGTH = 255
_MIN_PASSWORD_LENGTH, _MAX_PASSWORD_LENGTH = 8, 26
_MIN_CHARACTER_CLASSES = 3
_MAX_PUBLIC_KEY_BYTES = 1024
_MAX_USER_DATA_BYTES = 32 * 1024
_WINDOWS_ACCOUNT = "administrator"
_ACCOUNTS = ("root", _WINDOWS_ACCOUNT)
_ACCOUNT_TRIPLES = frozenset(_WINDOWS_ACCOUNT[index : index + 3] for index in range(len(_WINDOWS_ACCOUNT) - 2))


def check_name(argument: str, value: object) -> str:
    """Return a server's new name: 1 to 63 letters, digits, ``_``, ``-`` and ``.`` (API reference 4.4.1)."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidRequestError(argument, value, "expected 1 to 63 letters, digits, '_', '-' and '.'")
    return value


def check_native_name(argument: str, value: object) -> str:
    """Return the name of a server or key pair to be created: 1 to 255 characters (API reference 5.2.1)."""
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_NATIVE_NAME_LENGTH:
        rule = f"expected a name of 1 to {_MAX_NATIVE_NAME_LENGTH} characters, not all of them blank"
        raise InvalidRequestError(argument, value, rule)
    return value


def check_tag(argument: str, value: object) -> str:
    """Return a tag: 1 to 80 characters, the first not ``.`` (API reference 5.10.4).

    Nova accepts neither ``/`` nor ``,`` in a tag: the former ends its path segment, the latter separates tags.
    """
    is_text = isinstance(value, str) and 0 < len(value) <= _MAX_TAG_LENGTH
    if not isinstance(value, str) or not is_text or value[0] == "." or {"/", ","} & set(value):
        rule = f"expected a tag of 1 to {_MAX_TAG_LENGTH} characters, without '/' or ',' and not beginning with '.'"
        raise InvalidRequestError(argument, value, rule)
    return value


def check_tags(argument: str, values: object) -> tuple[str, ...]:
    """Return the tags of a server: at most 50, each of them valid (API reference 5.10.2)."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidRequestError(argument, values, "expected a list of tags")
    tags = tuple(check_tag(f"{argument}[{index}]", value) for index, value in enumerate(values))
    if len(set(tags)) > _MAX_TAGS:
        raise InvalidRequestError(argument, f"{len(set(tags))} tags", f"expected at most {_MAX_TAGS}")
    return tags


def check_metadata(argument: str, values: object) -> dict[str, str]:
    """Return metadata: keys and values of at most 255 characters (API reference 4.8.1).

    A key has letters, digits, ``-``, ``_``, ``:`` and ``.``; a value may be any text.
    A value may be a password, and so appears in no error.
    """
    if not isinstance(values, Mapping):
        rule = f"expected a mapping of keys to values, got {kind_of(values)}"
        raise InvalidRequestError(argument, values, rule, secret=True)
    for key, value in values.items():
        if not isinstance(key, str) or not _METADATA_KEY.fullmatch(key):
            rule = f"expected a key of 1 to {_MAX_METADATA_LENGTH} letters, digits, '-', '_', ':' and '.'"
            raise InvalidRequestError(argument, key, rule)
        check_metadata_value(f"{argument}[{key!r}]", value)
    return dict(values)


def check_metadata_value(argument: str, value: object) -> None:
    """Refuse a metadata value that is not a str of at most 255 characters; it appears in no error."""
    if not isinstance(value, str):
        raise InvalidRequestError(argument, value, f"expected a str, got {kind_of(value)}", secret=True)
    if len(value) > _MAX_METADATA_LENGTH:
        rule = f"expected at most {_MAX_METADATA_LENGTH} characters, got {len(value)}"
        raise InvalidRequestError(argument, value, rule, secret=True)
    _check_secret_encodable(argument, value)


def check_password(argument: str, value: object, *, windows: bool = False) -> str:
    """Return an administrator's password (API reference 4.4.2); it appears in no error.

    8 to 26 characters of at least three classes (upper case, lower case, digits, special), without the account's name,
    forwards or backwards.

    Args:
        argument: The argument's name.
        value: The password.
        windows: Whether it is for Windows, which also refuses any three consecutive characters of the account's name.
    """
    if not isinstance(value, str) or not _MIN_PASSWORD_LENGTH <= len(value) <= _MAX_PASSWORD_LENGTH:
        rule = f"expected a password of {_MIN_PASSWORD_LENGTH} to {_MAX_PASSWORD_LENGTH} characters"
        raise InvalidRequestError(argument, value, rule, secret=True)
    _check_secret_encodable(argument, value)
    if _count_character_classes(value) < _MIN_CHARACTER_CLASSES:
        rule = f"expected three of: upper case, lower case, digits, special characters ({_SPECIAL})"
        raise InvalidRequestError(argument, value, rule, secret=True)
    # In expressions only: lower() returns a plain text, which a local variable would show.
    for account in _ACCOUNTS:
        if account in value.lower() or account[::-1] in value.lower():
            rule = f"expected a password without {account!r}, forwards or backwards"
            raise InvalidRequestError(argument, value, rule, secret=True)
    if windows and any(triple in value.lower() for triple in _ACCOUNT_TRIPLES):
        rule = f"expected a Windows password without three consecutive characters of {_WINDOWS_ACCOUNT!r}"
        raise InvalidRequestError(argument, value, rule, secret=True)
    return value


def _count_character_classes(password: str) -> int:
    return sum(
        (
            any(character.isascii() and character.isupper() for character in password),
            any(character.isascii() and character.islower() for character in password),
            any(character.isascii() and character.isdigit() for character in password),
            any(character in _SPECIAL for character in password),
        )
    )


def check_one_login(password: object, key_name: object) -> None:
    """Refuse a password together with a key pair (API reference 4.4.2, BMS.0111)."""
    if password is not None and key_name is not None:
        raise InvalidRequestError("key_name", key_name, "expected a password or a key pair, got both")


def check_public_key(argument: str, value: object) -> str:
    """Return a public key to be imported: at most 1024 bytes (API reference 5.9.3)."""
    if not isinstance(value, str) or not value.strip() or len(value.encode(errors="replace")) > _MAX_PUBLIC_KEY_BYTES:
        rule = f"expected a public key of 1 to {_MAX_PUBLIC_KEY_BYTES} bytes"
        raise InvalidRequestError(argument, value, rule, secret=True)
    return value


def check_device(argument: str, value: object) -> str:
    """Return a disk's device name, such as ``/dev/sdb`` (API reference 4.7.1)."""
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        rule = "expected a device such as '/dev/sdb'; leave it out and the cloud picks one"
        raise InvalidRequestError(argument, value, rule)
    return value


def encode_user_data(argument: str, value: str | bytes, *, check: bool = True) -> str:
    """Return injected data as base64, from text or bytes of at most 32 KB (API reference 5.2.1).

    It may hold passwords, and so appears in no error.
    """
    if not isinstance(value, str | bytes | bytearray):
        raise InvalidRequestError(argument, value, f"expected str or bytes, got {kind_of(value)}", secret=True)
    if isinstance(value, str):
        _check_secret_encodable(argument, value)
    data = wrap_secrets(value.encode() if isinstance(value, str) else value)
    if check and len(data) > _MAX_USER_DATA_BYTES:
        rule = f"expected at most {_MAX_USER_DATA_BYTES} bytes, got {len(data)}"
        raise InvalidRequestError(argument, value, rule, secret=True)
    return wrap_secrets(b64encode(data).decode())


def user_data_as_text(user_data: str | bytes | None) -> str | None:
    """Return injected data as a response might quote it, to be masked there; None if there is none."""
    if user_data is None or isinstance(user_data, str):
        return user_data
    return wrap_secrets(user_data).decode(errors="replace")


def _check_secret_encodable(argument: str, value: str) -> None:
    if not is_encodable(value):
        raise InvalidRequestError(argument, value, ENCODABLE_RULE, secret=True)
