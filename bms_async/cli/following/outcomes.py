"""Outcomes as rows: what became of each server, in columns."""

from __future__ import annotations

from typing import Final

from bms_async import Outcome
from bms_async.cli.access.known import NOTHING_KNOWN, KnownServers
from bms_async.cli.terminal.rows import Table
from bms_async.cli.terminal.words import message_of
from bms_async.redaction import shown_text

from .failures import explain_code

__all__ = ["TABLE", "describe", "outcome_table"]


def outcome_table(known: KnownServers) -> Table[Outcome]:
    """Return the columns of outcomes.

    Args:
        known: What is known of servers beside their ids.
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
        fields=lambda outcome: describe(outcome, known),
        right=frozenset({"attempts", "seconds"}),
        keep=4,
    )


def describe(outcome: Outcome, known: KnownServers) -> dict[str, object]:
    """Return an outcome as the fields of its line of JSON.

    Args:
        outcome: The outcome.
        known: What is known of servers beside their ids.
    """
    fields: dict[str, object] = {"type": "outcome", "server_id": outcome.server_id, "state": outcome.state.value}
    if outcome.server_id in known:
        server = known.get(outcome.server_id)
        fields |= {"name": server.name, "zone": server.zone, "flavor": server.flavor, "tags": server.tags}
    if outcome.error is not None:
        fields["code"] = shown_text(outcome.code)
        fields["error"] = str(outcome.error)
        fields["what"] = explain_code(outcome.code)
        message = message_of(outcome)
        if message is not None:
            fields["said"] = message.text
        if message is not None and message.request_id is not None:
            fields["request_id"] = message.request_id
    if outcome.job_id is not None:
        fields["job_id"] = outcome.job_id
    fields["attempts"] = outcome.attempts
    if outcome.seconds is not None:
        fields["seconds"] = round(outcome.seconds, 3)
    return fields


def _meaning(outcome: Outcome) -> str | None:
    return None if outcome.error is None else explain_code(outcome.code)


def _said(outcome: Outcome) -> str | None:
    message = message_of(outcome)
    return None if message is None else message.text


TABLE: Final = outcome_table(NOTHING_KNOWN)
"""The columns, for completion."""
