"""Answers of any call: their secrets masked, and their rows with columns. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from operator import methodcaller
from typing import Any, Final

from bms_async.cli.terminal.rows import Table
from bms_async.redaction import MASK

__all__ = ["SECRET_NAMES", "find_rows", "is_secret", "mask_secrets", "table_of"]

SECRET_NAMES: Final = (
    "adminpass", "password", "passwd", "passphrase", "passwordhash", "passcode", "privatekey", "secret", "secretkey",
    "secretaccesskey", "token", "apikey", "authorization", "cookie", "blob", "userdata",
)  # fmt: skip
"""How names of secrets end, in lower case and without signs between their words."""

_PAGING: Final = ("next", "page", "continuation")
_IN_ADDRESSES: Final = re.compile(
    # A console's address has another one in its query.
    r"((?:[?&]|%3F|%26)(?!next|page|continuation)(?:[\w-]{0,40}(?:token|signature|password|secret)|sig)(?:=|%3D))[^&#\s]+"
    r"|(?<=://)([^/@\s:]{0,80}:)[^/@\s]+(?=@)",
    re.IGNORECASE,
)
_IDS: Final = ("id", "server_id", "job_id", "uuid", "name")
_KEEP: Final = 3


def mask_secrets(value: object) -> tuple[object, int]:
    """Return an answer with its secrets masked, and how many there were.

    Args:
        value: The answer.
    """
    count = 0

    def masked(value: object, name: str = "", parent: str = "") -> object:
        nonlocal count
        if isinstance(value, Mapping):
            return {key: masked(item, str(key), name) for key, item in value.items()}
        if isinstance(value, list):
            return [masked(item, name, parent) for item in value]
        if value is None or value == "" or isinstance(value, bool):
            return value
        # The id of a token is the token.
        if is_secret(name) or (name == "id" and is_secret(parent)):
            count += 1
            return MASK
        if not isinstance(value, str):
            return value
        shown, hits = _IN_ADDRESSES.subn(lambda found: f"{found[1] or found[2]}{MASK}", value)
        count += hits
        return shown if hits else value

    return masked(value), count


def find_rows(answer: object) -> list[Mapping[str, object]]:
    """Return what the rows of an answer are: its list, its one object, or itself.

    Args:
        answer: The answer.
    """
    found = answer
    if isinstance(answer, Mapping):
        lists = [item for item in answer.values() if isinstance(item, list)]
        objects = [item for item in answer.values() if isinstance(item, Mapping)]
        rows = next((items for items in lists if items and isinstance(items[0], Mapping)), None)
        if rows is not None:
            # `servers_links` comes second.
            found = rows
        elif not objects and len(lists) == 1:
            found = lists[0]
        elif len(answer) == 1 and objects:
            found = objects[0]
    items = found if isinstance(found, list) else [] if found is None else [found]
    return [item if isinstance(item, Mapping) else {"value": item} for item in items]


def is_secret(name: str) -> bool:
    """Return whether what has this name is a secret: a key of JSON, or a header."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    is_named = plain.endswith(SECRET_NAMES) or plain.removesuffix("s").endswith(SECRET_NAMES)
    return is_named and not plain.startswith(_PAGING)


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table[Mapping[str, Any]]:
    """Return the columns of an answer: all fields of its rows; the usual ones are those that fit into a cell."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    nested = {name for row in rows for name, value in row.items() if isinstance(value, Mapping | list)}
    columns = {name.lower().replace("-", "_"): methodcaller("get", name) for name in names}
    flat = [name for name in names if name not in nested] or names
    usual = [*_ordered(name.lower().replace("-", "_") for name in flat)]
    return Table(columns, usual, _id_of, dict, keep=_KEEP)


def _ordered(names: Iterator[str]) -> Iterator[str]:
    """Yield names, those of ids first."""
    found = list(names)
    first = [name for name in _IDS if name in found]
    yield from dict.fromkeys([*first, *found])


def _id_of(row: Mapping[str, Any]) -> str | None:
    found = (row.get(name) for name in _IDS)
    return next((str(value) for value in found if value), None)
