"""The words that all forms of a report have in common. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bms_async import FleetReport, OutcomeState
from bms_async.cli.terminal.texts import pluralize

from .head import PageHead
from .reasons import printable

__all__ = ["ENDED", "STATES", "percent", "title_of", "verb_of"]

_ROUNDS_TO_NONE: Final = 0.1
_ROUNDS_TO_ALL: Final = 99.9

ENDED: Final = "end"
"""The version of the last page of a run that was followed."""

STATES: Final[Mapping[OutcomeState, tuple[str, str, str]]] = {
    OutcomeState.SUCCEEDED: ("✓", "succeeded", "done as asked"),
    OutcomeState.UNCHANGED: ("=", "unchanged", "it already was so"),
    OutcomeState.FAILED: ("✕", "failed", "asked for, and not done"),
    OutcomeState.UNKNOWN: ("?", "unknown", "asked for, and nothing proves how it ended"),
    OutcomeState.SKIPPED: ("\N{EN DASH}", "skipped", "never asked for, or never taken"),
}
"""By state: a sign, so that no colour has to be recognised, its name, and its meaning."""


def title_of(report: FleetReport, head: PageHead, left: int = 0) -> str:
    """Return what was done to how many servers of which project.

    Args:
        report: What became of the servers.
        head: Where and how it ran.
        left: How many servers have not ended.
    """
    where = f" in {printable(head.project, 64)}" if head.project else ""
    return f"{verb_of(report, head)} of {pluralize(len(report) + left, 'server')}{where}"


def verb_of(report: FleetReport, head: PageHead) -> str:
    """Return what was done to each server, in a word.

    Args:
        report: What became of the servers.
        head: Where and how it ran.
    """
    return printable(head.verb or report.action.rpartition(".")[2])


def percent(share: float) -> str:
    """Return a share in per cent; one between 0 and 1 is never rounded to either of them.

    Args:
        share: From 0 to 1.
    """
    hundredths = share * 100
    if 0 < hundredths < _ROUNDS_TO_NONE:
        return "< 0.1\N{NO-BREAK SPACE}%"
    if hundredths > _ROUNDS_TO_ALL and share < 1:
        return "> 99.9\N{NO-BREAK SPACE}%"
    return f"{hundredths:.1f}".removesuffix(".0") + "\N{NO-BREAK SPACE}%"
