"""The servers that are not as asked, by code; the size is bounded however many there are. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from bms_async import FleetReport, Outcome, OutcomeState, explain
from bms_async.cli.access.known import NOTHING_KNOWN, KnownServers
from bms_async.cli.terminal.tally import BoundedCounter
from bms_async.cli.terminal.words import CloudMessage, message_of, shown_code
from bms_async.errors import SubJobFailedError

__all__ = ["Failure", "Row", "failures_of", "own_text", "printable", "share_out"]

CODES: Final = 20
"""How many codes are shown, the commonest first."""
ROWS: Final = 1000
"""How many servers are listed by their codes, of all codes together; the table of all servers has every one."""
_MAX_TEXT: Final = 220
_MAX_NAME: Final = 64
_MAX_TAGS: Final = 120
_MAX_MESSAGES: Final = 5

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")

# Where the cloud gave no code: the name of the error's class, or the state.
_OTHERS: Final[Mapping[str, tuple[str, str]]] = {
    "SKIPPED": ("They were never asked for: the run ended before their turn.", "Run it again for these servers."),
    "UNKNOWN": (
        "They were asked for, and nothing proves how it ended.",
        "Look at each server's state before anything is asked again.",
    ),
    "InvalidRequestError": ("The value cannot be the id of a server; it was not sent.", "Correct the list of ids."),
    "TransportError": (
        "No answer came.",
        "Look at each server's state, check the network, then run it again for those that need it.",
    ),
    "CallTimeoutError": (
        "No answer came in time.",
        "Look at each server's state, then run it again for those that need it, with more time.",
    ),
    "JobLostError": (
        "The cloud no longer has the job, so its end is not known.",
        "Look at each server's state, then run it again for those that need it.",
    ),
    "ServerStateError": (
        "The server's own state is not the one that was asked for.",
        "Look at its task, then run it again.",
    ),
    "NotReadyError": (
        "Its job ended, but it was not well in time.",
        "Look at what it answered, and at the server itself.",
    ),
    "GroupBlockedError": (
        "As many servers of its group as may be are unavailable; it was not sent.",
        "See why those are, then run it again for the rest.",
    ),
    "WaitTooLongError": ("The limit would have made it wait longer than was allowed.", "Run it again, or wait longer."),
    "ClientClosedError": ("The client was closed before the end.", "Look at each server's state before going on."),
    "SubJobFailedError": (
        "The cloud gave no code for it.",
        "Read its message; if that does not help, ask support with the job's id.",
    ),
}
_ELSE: Final = ("The API reference does not have it.", "Read the message; if that does not help, ask support.")


class Row(NamedTuple):
    """One server."""

    server_id: str
    name: str
    zone: str
    tags: str
    state: str
    message: str
    job_id: str
    attempts: int
    seconds: float | None


class MessageCount(NamedTuple):
    """A message, how many servers it is about, and the first of them."""

    text: str
    servers: int
    server_id: str


class Failure(NamedTuple):
    """All servers of one code.

    Attributes:
        code: The code or, without one, the name of the error or the state.
        servers: How many there are.
        share: Of all servers of the run.
        state: The state of the first server, most likely that of all.
        meaning: The meaning by the reference.
        measure: What to do about it.
        message: The cloud's message, if it is the same for all servers.
        messages: The most frequent messages, if they differ and not all servers are listed.
        rows: The first of the servers.
    """

    code: str
    servers: int
    share: float
    state: str
    meaning: str
    measure: str
    message: str
    messages: Sequence[MessageCount]
    rows: Sequence[Row]

    @property
    def left_out(self) -> int:
        """How many servers are not listed."""
        return self.servers - len(self.rows)


def failures_of(report: FleetReport, known: KnownServers = NOTHING_KNOWN, max_rows: int = ROWS) -> list[Failure]:
    """Return the commonest codes with the first servers of each; skipped servers come last.

    Args:
        report: The report of the run.
        known: What is known of the servers.
        max_rows: How many servers are listed, of all codes together.
    """
    ranked = sorted(report.by_code.items(), key=lambda pair: (pair[0] == "SKIPPED", -pair[1], pair[0]))[:CODES]
    room = share_out(max_rows, dict(ranked))
    groups = {code: _Group(known) for code, _ in ranked}
    for outcome in report.outcomes:
        if outcome.state.is_success:
            continue
        group = groups.get(outcome.reason)
        if group is not None:
            group.add(outcome, room[outcome.reason])
    return [_failure(code, count, len(report), groups[code]) for code, count in ranked]


def share_out(rows: int, counts: Mapping[str, int]) -> dict[str, int]:
    """Return how many servers of each code are listed: none has fewer so that another one may have more.

    Args:
        rows: How many are listed in all.
        counts: How many servers each code has.
    """
    room, left = {}, rows
    for place, (code, count) in enumerate(sorted(counts.items(), key=lambda pair: pair[1])):
        room[code] = min(count, left // (len(counts) - place))
        left -= room[code]
    return room


class _Group:
    """The first servers of a code, and the messages about all of them."""

    def __init__(self, known: KnownServers) -> None:
        self.known = known
        self.rows: list[Row] = []
        self.messages = BoundedCounter[tuple[Outcome, CloudMessage | None]]()

    def add(self, outcome: Outcome, max_rows: int) -> None:
        message = message_of(outcome)
        text = own_text(outcome, message)
        # Messages that differ in nothing but the server's id count as one.
        self.messages.add(text.replace(outcome.server_id or "\0", "\0"), (outcome, message))
        if len(self.rows) < max_rows:
            self.rows.append(_row(outcome, text, message, self.known))


def printable(text: object, max_length: int = _MAX_TEXT) -> str:
    """Return a text without characters that HTML cannot hold, cut to a length.

    Args:
        text: The text.
        max_length: How many characters are left.
    """
    whole = str(text)
    clean = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", whole[:max_length])
    return clean if len(whole) <= max_length else clean[: max_length - 1] + "…"


def _failure(code: str, count: int, total: int, group: _Group) -> Failure:
    rows = group.rows
    documented = explain(code)
    meaning, measure = (documented.meaning, documented.measure) if documented else _OTHERS.get(code, _ELSE)
    state = rows[0].state if rows else OutcomeState.FAILED.value
    common, messages = "", list[MessageCount]()
    if group.messages.distinct == 1:
        common = rows[0].message
        rows = [row._replace(message="") for row in rows]
    elif len(rows) < count:
        for servers, (first, message) in group.messages.ranked()[:_MAX_MESSAGES]:
            row = _row(first, own_text(first, message), message, group.known)
            messages.append(MessageCount(row.message or "nothing", servers, row.server_id))
    share = count / max(1, total)
    return Failure(
        printable(shown_code(code), _MAX_NAME), count, share, state, meaning, measure, common, messages, rows
    )


def _row(outcome: Outcome, text: str, message: CloudMessage | None, known: KnownServers) -> Row:
    server = known.get(outcome.server_id)
    request = f" (request {message.request_id})" if message is not None and message.request_id else ""
    return Row(
        printable(outcome.server_id, _MAX_NAME),
        printable(server.name, _MAX_NAME),
        printable(server.zone, _MAX_NAME),
        printable(", ".join(server.tags), _MAX_TAGS),
        outcome.state.value,
        printable(text) + printable(request, _MAX_NAME),
        printable(outcome.job_id or "", _MAX_NAME),
        outcome.attempts,
        outcome.seconds,
    )


def own_text(outcome: Outcome, message: CloudMessage | None) -> str:
    """Return what was said of a server and stands nowhere else on the page.

    Args:
        outcome: What became of it.
        message: What the cloud said.
    """
    # An error's text repeats the server and the meaning, which the page shows beside it.
    if message is not None:
        return message.text
    error = outcome.error
    return "" if error is None or explain(outcome.code) or isinstance(error, SubJobFailedError) else str(error)
