"""What is to be known of a run in pairs of a name and a value, for all forms of a report."""

from __future__ import annotations

from datetime import UTC, datetime

from bms_async import FleetReport

from .charts import duration
from .head import PageHead
from .reasons import printable

__all__ = ["facts_of", "moment"]

_MAX_COMMAND = 1000
_MAX_VALUE = 300


def facts_of(report: FleetReport, head: PageHead, *, is_over: bool = True) -> list[tuple[str, str]]:
    """Return what is known of a run, names first.

    Args:
        report: The report of the run.
        head: Where and how it ran.
        is_over: Whether it does not go on.
    """
    place = head.place
    ran_by = f"{head.ran_by or '?'} on {head.host or '?'}" if head.ran_by or head.host else ""
    pairs = [
        ("Cloud", f"{place.cloud}, {place.endpoint}" if place and place.cloud else place.endpoint if place else ""),
        ("Project", place.project if place and (place.project_name or place.project_id) else ""),
        ("Cloud user", (place.user or "") if place else ""),
        ("Command", printable(head.command, _MAX_COMMAND)),
        ("Run by", ran_by),
        ("Run", head.key or ""),
        ("How", "; ".join(head.terms)),
        ("Began", moment(report.started)),
        ("Ended" if is_over else "Now", moment(report.ended)),
        ("Took" if is_over else "So far", duration(report.seconds)),
        ("Accepted calls", f"{report.batches:,}" if report.batches else ""),
        ("Extra calls", f"{report.extra_calls:,}, to find out what no job said" if report.extra_calls else ""),
        ("Verified", "yes, the states were read back" if report.unverified is not None else ""),
        ("Written by", f"bms {head.version}" if head.version else ""),
    ]
    return [(name, value if name == "Command" else printable(value, _MAX_VALUE)) for name, value in pairs if value]


def moment(at: datetime) -> str:
    """Return a moment in UTC and, where this machine has another time, in that as well."""
    here, there = at.astimezone(), at.astimezone(UTC)
    text = f"{there:%Y-%m-%d %H:%M:%S} UTC"
    return text if here.utcoffset() == there.utcoffset() else f"{text} ({here:%Y-%m-%d %H:%M:%S %Z})"
