"""A report as CSV: a row for each server (RFC 4180, UTF-8).

A field that a spreadsheet would take for a formula begins with an apostrophe: names, tags and messages come from the
cloud, and whoever may name a server could otherwise have whoever opens the file run something.
"""

from __future__ import annotations

import csv
from io import StringIO
from typing import Final

from bms_async import FleetReport
from bms_async.cli.access.known import KnownServers
from bms_async.cli.terminal.words import message_of
from bms_async.cli.terminal.writers import is_formula

from .reasons import own_text, printable
from .servers import seconds_of

__all__ = ["COLUMNS", "render_csv"]

COLUMNS: Final = (
    "id", "name", "zone", "flavor", "tags", "state", "code", "said", "job_id", "request_id", "sent", "started", "ended",
    "seconds",
)  # fmt: skip
_MAX_TEXT: Final = 1000


def render_csv(report: FleetReport, known: KnownServers) -> str:
    """Return a row for each server, in the order in which their outcomes became known.

    Args:
        report: What became of the servers.
        known: What is known of the servers.
    """
    text = StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for outcome in report.outcomes:
        server, is_bad = known.get(outcome.server_id), not outcome.state.is_success
        message = message_of(outcome) if is_bad else None
        fields = (
            outcome.server_id,
            server.name,
            server.zone,
            server.flavor,
            " ".join(server.tags),
            outcome.state.value.lower(),
            outcome.reason if is_bad else "",
            own_text(outcome, message) if is_bad else "",
            outcome.job_id or "",
            (message.request_id or "") if message is not None else "",
            str(outcome.attempts),
            outcome.started.isoformat() if outcome.started else "",
            outcome.ended.isoformat() if outcome.ended else "",
            seconds_of(outcome),
        )
        writer.writerow([_guarded(field) for field in fields])
    return text.getvalue()


def _guarded(field: str) -> str:
    clean = (
        field if field.isascii() and field.isprintable() and len(field) <= _MAX_TEXT else printable(field, _MAX_TEXT)
    )
    # As it was before control characters are replaced, which may be blanks to a spreadsheet.
    return f"'{clean}" if is_formula(field) else clean
