"""What is told of the servers that are not as asked: by code, bounded however many there are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from bms_async import FleetReport, Outcome, OutcomeState, explain
from bms_async.cli.tally import Tally
from bms_async.cli.words import Words, words_of
from bms_async.errors import SubJobFailedError

__all__ = ["Failure", "Row", "failures_of", "printable"]

CODES: Final = 20
"""How many codes are told of, the commonest first."""
ROWS: Final = 140
"""How many servers are listed, of all codes together."""
_MOST_OF_A_CODE: Final = 40
_LONGEST_TEXT: Final = 220
_LONGEST_NAME: Final = 64
_MOST_WORDS: Final = 5

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")

# What stands in the place of a code where the cloud gave none: an error's class, or the state.
_OTHERS: Final[Mapping[str, tuple[str, str]]] = {
    "SKIPPED": ("They were never asked for: the run ended before their turn came.", "Run it again for these servers."),
    "UNKNOWN": (
        "They were asked for, and nothing proves how it ended.",
        "Look at each server's state before anything is asked again.",
    ),
    "InvalidRequestError": ("What was given as an id cannot be one; it was not sent.", "Correct the list of ids."),
    "TransportError": (
        "No answer came.",
        "Look at each server's state, check the network, then run it again for those that need it.",
    ),
    "CallTimeoutError": (
        "No answer came in time.",
        "Look at each server's state, then run it again for those that need it, with more time.",
    ),
    "JobLostError": (
        "The cloud no longer tells how the job ended.",
        "Look at each server's state, then run it again for those that need it.",
    ),
    "ServerStateError": (
        "The server's own state is not the one that was asked for.",
        "Look at what is being done with it, then run it again.",
    ),
    "WaitTooLongError": ("The limit would have made it wait longer than was allowed.", "Run it again, or wait longer."),
    "ClientClosedError": ("The client was closed before the end.", "Look at each server's state before going on."),
    "SubJobFailedError": (
        "The cloud gave no code for it.",
        "Read what it said; if that does not tell, ask support with the job's id.",
    ),
}
_ELSE: Final = ("The API reference has no word on it.", "Read what was said; if that does not tell, ask support.")


class Row(NamedTuple):
    """One server."""

    server_id: str
    state: str
    said: str
    job_id: str
    attempts: int
    seconds: float | None


class Said(NamedTuple):
    """What was said of some servers, and of which first."""

    words: str
    servers: int
    server_id: str


class Failure(NamedTuple):
    """All servers of one code.

    Attributes:
        code: The code or what stands in its place.
        servers: How many there are.
        share: Of all servers of the run.
        state: What most likely became of them: the state of the first.
        meaning: What the reference says of it.
        measure: What to do about it.
        said: What the cloud said, if it said the same of all.
        often: What it said most often, if it did not, and not all servers are listed.
        rows: The first of the servers.
    """

    code: str
    servers: int
    share: float
    state: str
    meaning: str
    measure: str
    said: str
    often: Sequence[Said]
    rows: Sequence[Row]

    @property
    def left_out(self) -> int:
        """How many servers are not listed."""
        return self.servers - len(self.rows)


def failures_of(report: FleetReport) -> list[Failure]:
    """Tell of the commonest codes, and list the first servers of each; what was never asked for comes last.

    Args:
        report: What became of the servers.
    """
    ranked = sorted(report.by_code.items(), key=lambda pair: (pair[0] == "SKIPPED", -pair[1], pair[0]))[:CODES]
    most = min(_MOST_OF_A_CODE, ROWS // max(1, len(ranked)))
    groups = {code: _Group() for code, _ in ranked}
    for outcome in report.outcomes:
        if outcome.state.is_success:
            continue
        group = groups.get(outcome.reason)
        if group is not None:
            group.add(outcome, most)
    return [_failure(code, count, len(report), groups[code]) for code, count in ranked]


class _Group:
    """The first servers of a code, and what was said of all of them."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.said = Tally[tuple[Outcome, Words | None]]()

    def add(self, outcome: Outcome, most: int) -> None:
        words = words_of(outcome)
        text = _text(outcome, words)
        # What names the server in its midst is the same of all servers but for that.
        self.said.add(text.replace(outcome.server_id or "\0", "\0"), (outcome, words))
        if len(self.rows) < most:
            self.rows.append(_row(outcome, text, words))


def printable(text: object, most: int = _LONGEST_TEXT) -> str:
    """Return a text from elsewhere without what no page can hold, cut to a bearable length.

    Args:
        text: The text.
        most: How many characters are left.
    """
    whole = str(text)
    strip_control_chars = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", whole[:most])
    return strip_control_chars if len(whole) <= most else strip_control_chars[: most - 1] + "…"


def _failure(code: str, count: int, total: int, group: _Group) -> Failure:
    rows = group.rows
    documented = explain(code)
    meaning, measure = (documented.meaning, documented.measure) if documented else _OTHERS.get(code, _ELSE)
    state = rows[0].state if rows else OutcomeState.FAILED.value
    same, often = "", list[Said]()
    if group.said.seen == 1:
        same = rows[0].said
        rows = [row._replace(said="") for row in rows]
    elif len(rows) < count:
        for servers, (first, words) in group.said.ranked()[:_MOST_WORDS]:
            row = _row(first, _text(first, words), words)
            often.append(Said(row.said or "nothing", servers, row.server_id))
    share = count / max(1, total)
    return Failure(printable(code, _LONGEST_NAME), count, share, state, meaning, measure, same, often, rows)


def _row(outcome: Outcome, text: str, words: Words | None) -> Row:
    request = f" (request {words.request_id})" if words is not None and words.request_id else ""
    return Row(
        printable(outcome.server_id, _LONGEST_NAME),
        outcome.state.value,
        printable(text) + printable(request, _LONGEST_NAME),
        printable(outcome.job_id or "", _LONGEST_NAME),
        outcome.attempts,
        outcome.seconds,
    )


def _text(outcome: Outcome, words: Words | None) -> str:
    # An error's text repeats the server and the meaning, which stand beside it here.
    if words is not None:
        return words.text
    error = outcome.error
    return "" if error is None or explain(outcome.code) or isinstance(error, SubJobFailedError) else str(error)
