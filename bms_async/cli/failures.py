"""Failures by their reason, so that ten thousand of one kind take one line: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bms_async import Outcome, OutcomeState, explain

__all__ = ["Failures", "Reason"]

_EXAMPLES = 3


class Reason(NamedTuple):
    """Why servers are not as asked.

    Attributes:
        code: The cloud's code or, without one, the name of the error or the state.
        what: What it means, and what to do.
        servers: The first few of them.
        total: How many there are.
    """

    code: str
    what: str
    servers: tuple[str, ...]
    total: int


class Failures:
    """Counts the outcomes that are not as asked."""

    def __init__(self) -> None:
        self._reasons: dict[str, Reason] = {}

    def __len__(self) -> int:
        return sum(reason.total for reason in self._reasons.values())

    def add(self, outcome: Outcome) -> Reason | None:
        """Take an outcome in; returns its reason if it is the first for it."""
        if outcome.state.is_good:
            return None
        code = outcome.code or (type(outcome.error).__name__ if outcome.error else outcome.state.value)
        return self.add_reason(code, _what(outcome), outcome.server_id)

    def add_reason(self, code: str, what: str, server_id: str) -> Reason | None:
        """Take a server in that something is wrong with; returns the reason if it is the first for it."""
        known = self._reasons.get(code)
        if known is None:
            self._reasons[code] = made = Reason(code, what, (server_id,), 1)
            return made
        servers = known.servers if known.total >= _EXAMPLES else (*known.servers, server_id)
        self._reasons[code] = known._replace(servers=servers, total=known.total + 1)
        return None

    def reasons(self) -> list[Reason]:
        """Return the reasons, those first that most servers have."""
        return sorted(self._reasons.values(), key=lambda reason: -reason.total)

    def counts(self) -> Mapping[str, int]:
        """Return how many servers each reason has."""
        return {reason.code: reason.total for reason in self.reasons()}


def explain_code(code: str | None, otherwise: str) -> str:
    """Return what a code means and what to do about it; what else is known where the reference has no such code."""
    documented = explain(code)
    return f"{documented.meaning} {documented.measure}" if documented else otherwise


def _what(outcome: Outcome) -> str:
    if outcome.error is None:
        if outcome.state is OutcomeState.UNKNOWN:
            return "It was asked for, and was not waited for; its job goes on in the cloud."
        return "Nothing was done to it: the run was ended before its turn."
    return explain_code(outcome.code, str(outcome.error))
