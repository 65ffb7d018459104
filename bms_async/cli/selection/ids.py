"""Which servers a command is about: ids from arguments, a file or a pipe, or filters of the server list."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from bms_async.cli.terminal.exit import UsageError
from bms_async.models.ids import canonical_id

from .filters import Filters

__all__ = ["read_ids"]


def read_ids(arguments: Sequence[str], file: str | None, *, filters: Filters | None = None) -> list[str] | None:
    """Return the ids that were given, each once and in order; None where filters choose the servers.

    Args:
        arguments: As typed; a ``-`` stands for standard input.
        file: A file with an id a line; ``-`` for standard input.
        filters: The filters that were given.

    Raises:
        UsageError: No ids and no filters were given, or more than one of them, or a file cannot be read.
    """
    if file is not None and not file.strip():
        # An unset variable of a script must not lead to another source of ids.
        raise UsageError("--file is empty: expected a file; name one, or leave the option out")
    sources = [source for source, given in (("ids", arguments), ("--file", file), ("filters", filters)) if given]
    if len(sources) > 1:
        raise UsageError(f"expected one source of servers, got {' and '.join(sources)}; leave out all but one")
    if filters:
        return None
    if file and file != "-":
        try:
            with Path(file).open(encoding="utf-8-sig") as lines:
                return _distinct(_ids_of(lines), f"{file} has no ids; expected one a line")
        except (OSError, UnicodeError) as error:
            raise UsageError(f"cannot read the ids: {error}") from error
    if arguments and "-" not in arguments:
        return _distinct(map(_writable, arguments), "no ids were given")
    if not file and not arguments and sys.stdin.isatty():
        raise UsageError("expected servers: give ids, pipe them in, or use another option of --help")
    named = [_writable(argument) for argument in arguments if argument != "-"]
    try:
        return _distinct([*named, *_ids_of(sys.stdin)], "standard input has no ids; expected one a line")
    except UnicodeError as error:
        raise UsageError(f"cannot read the ids: {error}") from error


def _distinct(ids: Iterable[str], otherwise: str) -> list[str]:
    found: dict[str, str] = {}
    for server_id in ids:
        # One id may be spelled in two ways.
        found.setdefault(canonical_id(server_id), server_id)
    if not found:
        raise UsageError(otherwise)
    return list(found.values())


def _ids_of(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        text = line.strip()
        if text.startswith("{"):
            yield _id_in(text)
        elif text := text.partition("#")[0].rstrip():
            yield _writable(text)


def _writable(text: str) -> str:
    """Return a text that can be encoded; arguments may have bytes that are not text."""
    return text.encode(errors="backslashreplace").decode()


def _id_in(line: str) -> str:
    """Return the id in a line of JSON, as ``--json`` prints them."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"this line is neither an id nor JSON: {line[:60]!r}") from error
    found = fields.get("server_id") or fields.get("id")
    if not isinstance(found, str):
        raise UsageError(f"this line of JSON has no id: {line[:60]!r}")
    return found
