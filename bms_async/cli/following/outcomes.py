"""Outcomes as rows: what became of each server, in columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bms_async import Outcome
from bms_async.cli.access.known import KnownServers
from bms_async.cli.terminal.rows import Table
from bms_async.cli.terminal.words import message_of
from bms_async.redaction import shown_text

from .failures import explain_code

__all__ = ["TABLE", "outcome_table"]


def outcome_table(known: KnownServers, fields: Callable[[Outcome], object]) -> Table[Outcome]:
    """Return the columns of outcomes.

    Args:
        known: What is known of servers beside their ids.
        fields: Returns the object of an outcome in JSON.
    """
    return Table[Outcome](
        columns={
            "id": lambda outcome: outcome.server_id,
            "name": lambda outcome: known.get(outcome.server_id).name,
            "zone": lambda outcome: known.get(outcome.server_id).zone,
            "flavor": lambda outcome: known.get(outcome.server_id).flavor,
            "tags": lambda outcome: known.get(outcome.server_id).tags,
            "state": lambda outcome: outcome.state,
            "code": lambda outcome: shown_text(outcome.code),
            "meaning": _meaning,
            "said": _said,
            "error": lambda outcome: None if outcome.error is None else str(outcome.error),
            "job": lambda outcome: outcome.job_id,
            "attempts": lambda outcome: outcome.attempts,
            "seconds": lambda outcome: None if outcome.seconds is None else round(outcome.seconds, 3),
            "started": lambda outcome: outcome.started,
            "ended": lambda outcome: outcome.ended,
        },
        usual=("id", "name", "state", "code", "seconds", "meaning"),
        ids=lambda outcome: outcome.server_id,
        fields=fields,
        right=frozenset({"attempts", "seconds"}),
        keep=5,
    )


def _meaning(outcome: Outcome) -> str | None:
    return None if outcome.error is None else explain_code(outcome.code)


def _said(outcome: Outcome) -> str | None:
    message = message_of(outcome)
    return None if message is None else message.text


TABLE: Final = outcome_table(KnownServers(), lambda outcome: outcome)
"""The columns, for completion."""
