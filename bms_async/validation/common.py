"""Checks that all rooms share: ids, batches of ids, addresses and header values."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Iterable
from ipaddress import ip_address
from typing import TypeGuard

from bms_async.errors import InvalidRequestError
from bms_async.models.ids import canonical_id

MAX_BATCH_SIZE = 1000
"""Maximum number of servers in one batch (API reference 4.4.3)."""

ENCODABLE_RULE = "expected text that can be encoded as UTF-8, got a lone surrogate"

_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:-]{1,255}")
# Placeholders as service catalogs, templates, shells and manuals write them.
_PLACEHOLDER = re.compile(r"%(?:25)?\(\w*\)s?|\$\(\w*\)s?|\$?\{\w*\}|\$\w+|<\w+>|(?<=/):\w+")
_ID_RULE = "expected an id of letters, digits, '-', '_', '.' and ':', without a space or a slash"


def check_id(argument: str, value: object) -> str:
    """Return an id in its canonical form, safe to be part of a path.

    Raises:
        InvalidRequestError: It is not a str, is empty, or has a character that ids do not have.
    """
    if not issubclass(type(value), str):
        rule = f"expected an id; pass its .id, not the {type(value).__name__}" if _has_id(value) else _rule_of(argument)
        raise InvalidRequestError(argument, value, rule)
    # A subclass of str may override __eq__ and __str__: only its text counts.
    text = str.__str__(value)
    if not _ID.fullmatch(text):
        raise InvalidRequestError(argument, text, _rule_of(argument))
    # One without a capital letter is in its canonical form: the way of nearly every id.
    return text if text.islower() else canonical_id(text)


def is_id(text: str) -> bool:
    """Return whether `check_id` takes a text for an id."""
    return _ID.fullmatch(text) is not None


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a number, which True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def find_unfilled(address: str) -> str | None:
    """Return the first placeholder left in an address, such as ``%(project_id)s``; None if there is none."""
    found = _PLACEHOLDER.search(address)
    return None if found is None else found[0]


def read_id(argument: str, value: str, *, check: bool) -> str:
    """Return an id in its canonical form, checked if `check` is true.

    Raises:
        InvalidRequestError: It is checked and invalid.
    """
    if check:
        return check_id(argument, value)
    return canonical_id(str.__str__(value)) if issubclass(type(value), str) else value


def _rule_of(argument: str) -> str:
    return _ID_RULE + "; copy it from servers.list()" * argument.startswith(("ids", "server_id"))


def _has_id(value: object) -> bool:
    try:
        return issubclass(type(getattr(value, "id", None)), str)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a property is foreign code; one that raises is not an id
        return False


def is_encodable(value: str) -> bool:
    """Return whether a text can be encoded as UTF-8.

    Encoding it would show that too, but by an error that carries the text, which may be a secret.
    """
    return not any("\ud800" <= character <= "\udfff" for character in value)


def is_header_safe(value: str) -> bool:
    """Return whether a header can carry a token or a key: printable ASCII without spaces."""
    return bool(value) and value.isascii() and value.isprintable() and " " not in value


def is_loopback(host: str) -> bool:
    """Return whether a host is the local machine, the only one that plain HTTP is allowed for."""
    try:
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:
        return False


def check_batch(argument: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return the ids of one batch in their canonical form: 1 to 1000, without duplicates (API reference 4.4.3).

    Raises:
        InvalidRequestError: There are none or too many, one is invalid, or one is a duplicate.
    """
    if isinstance(values, str | bytes):
        raise InvalidRequestError(argument, values, "expected a list of ids, got one string; put it in brackets")
    if isinstance(values, AsyncIterable):
        rule = "expected a list of ids; pass [server.id async for server in ...], or use bms.fleet"
        raise InvalidRequestError(argument, values, rule)
    if not isinstance(values, Iterable):
        raise InvalidRequestError(argument, values, "expected a list of ids")
    given = tuple(values)
    if not given:
        raise InvalidRequestError(argument, given, "expected at least one id")
    if len(given) > MAX_BATCH_SIZE:
        rule = f"expected at most {MAX_BATCH_SIZE}; use bms.fleet, which batches any number"
        raise InvalidRequestError(argument, f"{len(given)} ids", rule)
    ids = tuple(check_id(f"{argument}[{index}]", value) for index, value in enumerate(given))
    if len(set(ids)) < len(ids):
        duplicate = next(value for index, value in enumerate(ids) if value in ids[:index])
        raise InvalidRequestError(argument, duplicate, "expected each id once; remove the duplicate")
    return ids
