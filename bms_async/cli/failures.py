"""Failures by their reason, so that ten thousand of one kind take one line: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bms_async import Outcome, OutcomeState, explain

from .tally import Tally
from .words import Words, words_of

__all__ = ["Failures", "Reason", "Said", "explain_code"]

_EXAMPLES = 3


class Said(NamedTuple):
    """What the cloud said of some servers.

    Attributes:
        words: Its words, of the first of them.
        server: The first of them.
        total: How many there are.
    """

    words: Words
    server: str
    total: int


class Reason(NamedTuple):
    """Why servers are not as asked.

    Attributes:
        code: The cloud's code or, without one, the name of the error or the state.
        what: What it means, and what to do.
        servers: The first few of them.
        total: How many there are.
        said: What the cloud said of them, what it said most often first.
        unkept: Of how many it said what is not kept.
    """

    code: str
    what: str
    servers: Sequence[str]
    total: int
    said: Sequence[Said]
    unkept: int


class _Group:
    def __init__(self, code: str, what: str) -> None:
        self.code = code
        self.what = what
        self.servers: list[str] = []
        self.total = 0
        self.said = Tally[tuple[Words, str]]()

    def add(self, server: str, words: Words | None) -> bool:
        """Take a server in; tell whether there is something new in it."""
        self.total += 1
        if len(self.servers) < _EXAMPLES:
            self.servers.append(server)
        if words is None:
            return self.total == 1
        # What names the server in its midst is the same of all servers but for that.
        is_new = self.said.add(words.text.replace(server or "\0", "\0"), (words, server))
        return is_new and self.said.seen <= _EXAMPLES

    def reason(self) -> Reason:
        said = [Said(words, server, total) for total, (words, server) in self.said.ranked()]
        return Reason(self.code, self.what, tuple(self.servers), self.total, said, self.said.lost)


class Failures:
    """Counts the outcomes that are not as asked."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}

    def __len__(self) -> int:
        return sum(group.total for group in self._groups.values())

    def add(self, outcome: Outcome) -> str | None:
        """Take an outcome in; returns what to tell of it if it is the first of its kind."""
        if outcome.state.is_success:
            return None
        words = words_of(outcome)
        return self.add_reason(outcome.reason, _what(outcome, words), outcome.server_id, words)

    def add_reason(self, code: str, what: str, server_id: str, words: Words | None = None) -> str | None:
        """Take a server in that something is wrong with; returns what to tell of it if it is the first of its kind.

        Args:
            code: The cloud's code or, without one, what stands in its place.
            what: What it means, and what to do.
            server_id: The server.
            words: What the cloud said.
        """
        group = self._groups.get(code)
        if group is None:
            self._groups[code] = group = _Group(code, what)
        if not group.add(server_id, words):
            return None
        return what if words is None else f"{what} The cloud said: {words.text}{words.case}"

    def reasons(self) -> list[Reason]:
        """Return the reasons, those first that most servers have."""
        return sorted((group.reason() for group in self._groups.values()), key=lambda reason: -reason.total)

    def counts(self) -> Mapping[str, int]:
        """Return how many servers each reason has."""
        groups = sorted(self._groups.values(), key=lambda group: -group.total)
        return {group.code: group.total for group in groups}


def explain_code(code: str | None, words: Words | None = None, otherwise: str = "") -> str:
    """Return what a code means and what to do about it, as the reference has it; the cloud's words stand beside it.

    Args:
        code: The code.
        words: What the cloud said.
        otherwise: What else is known, where the reference has no such code and the cloud said nothing.
    """
    documented = explain(code)
    if documented is not None:
        return f"{documented.meaning} {documented.measure}"
    if words is None:
        return otherwise
    return "The API reference has no word on this code." if code else "The cloud gave no code for it."


def _what(outcome: Outcome, words: Words | None) -> str:
    if outcome.error is None:
        if outcome.state is OutcomeState.UNKNOWN:
            return "It was asked for, and was not waited for; its job goes on in the cloud."
        return "Nothing was done to it: the run was ended before its turn."
    return explain_code(outcome.code, words, str(outcome.error))
