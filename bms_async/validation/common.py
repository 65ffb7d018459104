"""Refusing a bad argument before anything is sent."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Iterable
from ipaddress import ip_address

from bms_async.errors import InvalidRequestError
from bms_async.models.ids import canonical_id

MAX_BATCH_SIZE = 1000
"""How many servers one batch may name (API reference 4.4.3)."""

_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:-]{1,255}")
# As catalogs, templates, shells and pages of a manual write what their reader has to put there.
_UNFILLED = re.compile(r"%(?:25)?\(\w*\)s?|\$\(\w*\)s?|\$?\{\w*\}|\$\w+|<\w+>|(?<=/):\w+")
_ID_RULE = "an id has letters, digits, '-', '_', '.' or ':' and no space or slash"


def check_id(argument: str, value: object) -> str:
    """Return an id that is fit for a path, in its canonical form.

    Raises:
        InvalidRequestError: It is not a string, is empty, or has a character that no id has.
    """
    if not issubclass(type(value), str):
        rule = "an id is wanted, its .id and not the whole of it" if _has_id(value) else _rule_of(argument)
        raise InvalidRequestError(argument, value, rule)
    # What is derived from str may call itself equal to anything, and a path is made of text.
    text = str.__str__(value)
    if not _ID.fullmatch(text):
        raise InvalidRequestError(argument, text, _rule_of(argument))
    return canonical_id(text)


def find_unfilled(address: str) -> str | None:
    """Return what in an address was to be filled in and is not, such as ``%(project_id)s``; None for nothing."""
    found = _UNFILLED.search(address)
    return None if found is None else found[0]


def read_id(argument: str, value: str, *, check: bool) -> str:
    """Return an id in its canonical form, checked if that is asked for.

    Raises:
        InvalidRequestError: It is checked and unfit.
    """
    if check:
        return check_id(argument, value)
    return canonical_id(str.__str__(value)) if issubclass(type(value), str) else value


def _rule_of(argument: str) -> str:
    return _ID_RULE + "; copy it from servers.list()" * argument.startswith(("ids", "server_id"))


def _has_id(value: object) -> bool:
    try:
        return issubclass(type(value.id), str)  # type: ignore[attr-defined]  # asked for
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a property is foreign code, and one that raises is no id
        return False


def is_header_safe(value: str) -> bool:
    """Tell whether a header can carry a token or a key: ASCII that prints, and no blanks."""
    return bool(value) and value.isascii() and value.isprintable() and " " not in value


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself, the only one that plain HTTP may go to."""
    try:
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:
        return False


def check_batch(argument: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return the ids of one batch in their canonical form: 1 to 1000, each fit and none twice (API reference 4.4.3).

    Raises:
        InvalidRequestError: There are none or too many, one is invalid, or one comes twice.
    """
    if isinstance(values, str | bytes):
        raise InvalidRequestError(argument, values, "a list of ids is wanted, not one string: put it in brackets")
    if isinstance(values, AsyncIterable):
        rule = "a list of ids is wanted: [server.id async for server in ...]; bms.fleet reads an async iterable itself"
        raise InvalidRequestError(argument, values, rule)
    if not isinstance(values, Iterable):
        raise InvalidRequestError(argument, values, "a list of ids is wanted")
    ids = tuple(values)
    if not ids:
        raise InvalidRequestError(argument, ids, "at least one id is needed")
    if len(ids) > MAX_BATCH_SIZE:
        raise InvalidRequestError(
            argument,
            f"{len(ids)} ids",
            f"one call takes {MAX_BATCH_SIZE} at most; bms.fleet takes any number and batches them",
        )
    fit = tuple(check_id(f"{argument}[{position}]", value) for position, value in enumerate(ids))
    if len(set(fit)) < len(fit):
        twice = next(value for position, value in enumerate(fit) if value in fit[:position])
        raise InvalidRequestError(argument, twice, "the same id comes twice")
    return fit
