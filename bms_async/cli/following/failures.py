"""Failures grouped by reason, so that ten thousand of one kind take one line. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bms_async import GroupBlockedError, InvalidRequestError, Outcome, OutcomeState, explain
from bms_async.cli.terminal.exit import in_words_of_a_shell
from bms_async.cli.terminal.tally import BoundedCounter
from bms_async.cli.terminal.words import CloudMessage, message_of

__all__ = ["Failures", "MessageCount", "Reason", "explain_code"]

_EXAMPLES = 3
_CALL = re.compile(r"[a-z_]+(\.[a-z_]+)+: ")


class MessageCount(NamedTuple):
    """A message of the cloud, and the servers that it is about.

    Attributes:
        message: The message about the first server.
        server: The first server.
        total: How many there are.
    """

    message: CloudMessage
    server: str
    total: int


class Reason(NamedTuple):
    """Why servers are not as asked.

    Attributes:
        code: The cloud's code or, without one, the name of the error or the state.
        meaning: What it means, and what to do.
        servers: The first few servers.
        total: How many there are.
        messages: What the cloud said of them, the most frequent first.
        dropped: The number of servers whose message was not kept.
    """

    code: str
    meaning: str
    servers: Sequence[str]
    total: int
    messages: Sequence[MessageCount]
    dropped: int


class _Group:
    def __init__(self, code: str, meaning: str) -> None:
        self.code = code
        self.meaning = meaning
        self.servers: list[str] = []
        self.total = 0
        self.messages = BoundedCounter[tuple[CloudMessage, str]]()

    def add(self, server: str, message: CloudMessage | None) -> bool:
        """Add a server; return whether its message is a new one that is worth showing."""
        self.total += 1
        if len(self.servers) < _EXAMPLES:
            self.servers.append(server)
        if message is None:
            return self.total == 1
        # Messages that differ in nothing but the server's id count as one.
        is_new = self.messages.add(message.text.replace(server or "\0", "\0"), (message, server))
        return is_new and self.messages.distinct <= _EXAMPLES

    def reason(self) -> Reason:
        messages = [MessageCount(message, server, total) for total, (message, server) in self.messages.ranked()]
        return Reason(self.code, self.meaning, tuple(self.servers), self.total, messages, self.messages.dropped)


class Failures:
    """Counts the outcomes that are not as asked."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._blocked = BoundedCounter[str]()

    def __len__(self) -> int:
        return sum(group.total for group in self._groups.values())

    def add(self, outcome: Outcome) -> str | None:
        """Add an outcome; return its explanation if it is the first of its kind."""
        if outcome.state.is_success:
            return None
        if isinstance(outcome.error, GroupBlockedError):
            self._blocked.add(outcome.error.group, outcome.error.group)
        message = message_of(outcome)
        return self.add_reason(outcome.reason, _meaning(outcome, message), outcome.server_id, message)

    def add_reason(self, code: str, meaning: str, server_id: str, message: CloudMessage | None = None) -> str | None:
        """Add a server that failed; return the explanation if it is the first of its kind.

        Args:
            code: The cloud's code or, without one, the name of the error or the state.
            meaning: What it means, and what to do.
            server_id: The server.
            message: What the cloud said.
        """
        group = self._groups.get(code)
        if group is None:
            self._groups[code] = group = _Group(code, meaning)
        if not group.add(server_id, message):
            return None
        return meaning if message is None else f"{meaning} The cloud said: {message.text}{message.case}"

    def reasons(self) -> list[Reason]:
        """Return the reasons, the most frequent first."""
        return sorted((group.reason() for group in self._groups.values()), key=lambda reason: -reason.total)

    def blocked(self) -> list[tuple[int, str]]:
        """Return the groups of a rollout that are blocked, and how many of their servers were not asked for."""
        return self._blocked.ranked()

    def counts(self) -> Mapping[str, int]:
        """Return how many servers each reason has."""
        groups = sorted(self._groups.values(), key=lambda group: -group.total)
        return {group.code: group.total for group in groups}

    def named_counts(self) -> Mapping[str, int]:
        """Return the same for reasons that say more than a state, which is counted anyway."""
        return {code: count for code, count in self.counts().items() if code not in OutcomeState.__members__}


def explain_code(code: str | None, message: CloudMessage | None = None, otherwise: str = "") -> str:
    """Return what a code means and what to do, by the reference; the cloud's message is shown beside it.

    Args:
        code: The code.
        message: What the cloud said.
        otherwise: Returned where the reference does not have the code and the cloud said nothing.
    """
    documented = explain(code)
    if documented is not None:
        return f"{documented.meaning} {documented.measure}"
    if message is None:
        return otherwise
    return "The API reference does not have this code." if code else "The cloud gave no code for it."


def _meaning(outcome: Outcome, message: CloudMessage | None) -> str:
    if outcome.error is None:
        if outcome.state is OutcomeState.UNKNOWN:
            return "The job was accepted, and the run did not wait for it; it continues in the cloud."
        return "Nothing was done to it: the run ended before its turn."
    error = outcome.error
    # Which call it was is known from the command.
    said = in_words_of_a_shell(error) if isinstance(error, InvalidRequestError) else _CALL.sub("", str(error), count=1)
    return explain_code(outcome.code, message, said)
