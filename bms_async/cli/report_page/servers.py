"""All servers of a run as lines of text, those that are not as asked first; the size is bounded. Pure.

The lines are in the page once: a browser makes the table that filters out of them, and without scripts they can be read
as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final, NamedTuple

from bms_async import FleetReport, Outcome
from bms_async.cli.access.known import KnownServer, KnownServers
from bms_async.cli.terminal.words import message_of, shown_code

from .reasons import own_text, printable

__all__ = ["MAX_BYTES", "ServerLines", "lines_of", "seconds_of"]

MAX_BYTES: Final = 20_000_000
"""How long all lines are together at most, as HTML; 100,000 servers with the usual names need 12 MB."""

_MAX_NAME: Final = 64
_MAX_TAGS: Final = 120
_MAX_MESSAGE: Final = 160
# What turns the rest of a line around, in a text that has one element for all lines.
_TURNS: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class ServerLines(NamedTuple):
    """The servers as text.

    Attributes:
        columns: The names of the columns; one in which nothing would stand is left out.
        text: A line for each server, whose fields have tabs between them, as HTML.
        servers: How many servers have a line.
        left_out: How many have none.
    """

    columns: Sequence[str]
    text: str
    servers: int
    left_out: int


def lines_of(report: FleetReport, known: KnownServers, max_bytes: int = MAX_BYTES) -> ServerLines:
    """Return the lines of the servers, those that are not as asked first.

    Args:
        report: The report of the run.
        known: What is known of the servers.
        max_bytes: How long all lines are together at most.
    """
    has = _known_columns(report, known)
    bad = any(not state.is_success and count for state, count in report.by_state.items())
    columns = ["id", *has, "state", *(["code"] if bad else []), "seconds", *(["what was said"] if bad else [])]
    failed = (outcome for outcome in report.outcomes if not outcome.state.is_success)
    others = (outcome for outcome in report.outcomes if outcome.state.is_success)
    clean = _Cleaner()
    lines, room = list[str](), max_bytes
    for outcome in chain(failed, others):
        fields = [clean(outcome.server_id)]
        if has:
            fields += _known_fields(known.get(outcome.server_id), has, clean)
        fields.append(outcome.state.value.lower())
        if bad:
            is_bad = not outcome.state.is_success
            fields += [
                clean(shown_code(outcome.reason)) if is_bad else "",
                seconds_of(outcome),
                _said(outcome) if is_bad else "",
            ]
        else:
            fields.append(seconds_of(outcome))
        line = "\t".join(fields)
        if "&" in line or "<" in line:
            line = line.replace("&", "&amp;").replace("<", "&lt;")
        room -= 1 + (len(line) if line.isascii() else len(line.encode()))
        if room < 0:
            break
        lines.append(line)
    return ServerLines(columns, "\n".join(lines), len(lines), len(report.outcomes) - len(lines))


def seconds_of(outcome: Outcome) -> str:
    """Return for how many seconds a server was waited for, as text; empty if it never was."""
    seconds = outcome.seconds
    return "" if seconds is None else f"{seconds:.1f}"


_COLUMNS: Final[dict[str, Callable[[KnownServer], object]]] = {
    "name": lambda server: server.name,
    "zone": lambda server: server.zone,
    "flavor": lambda server: server.flavor,
    "tags": lambda server: server.tags,
}


def _known_columns(report: FleetReport, known: KnownServers) -> list[str]:
    if not len(known):
        return []
    left, found = dict(_COLUMNS), set[str]()
    for outcome in report.outcomes:
        server = known.get(outcome.server_id)
        for name in [name for name, read in left.items() if read(server)]:
            del left[name]
            found.add(name)
        if not left:
            break
    return [name for name in _COLUMNS if name in found]


def _known_fields(server: KnownServer, has: Sequence[str], clean: _Cleaner) -> list[str]:
    fields = []
    for name in has:
        value = _COLUMNS[name](server)
        fields.append(clean(", ".join(value), _MAX_TAGS) if isinstance(value, tuple) else clean(str(value)))
    return fields


class _Cleaner:
    """Makes texts fit for a field; the usual ones, which need nothing, in next to no time."""

    def __call__(self, text: str, max_length: int = _MAX_NAME) -> str:
        if text.isascii() and text.isprintable() and len(text) <= max_length:
            return text
        return _TURNS.sub("\N{REPLACEMENT CHARACTER}", printable(text, max_length))


def _said(outcome: Outcome) -> str:
    text = own_text(outcome, message_of(outcome))
    return _TURNS.sub("\N{REPLACEMENT CHARACTER}", printable(text, _MAX_MESSAGE))
