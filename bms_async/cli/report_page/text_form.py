"""A report as text of 80 columns, to be mailed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Final

from bms_async import FleetReport, OutcomeState
from bms_async.cli.access.known import KnownServers
from bms_async.cli.terminal.texts import pluralize

from .facts import facts_of
from .head import PageHead
from .reasons import Failure, Row, failures_of, printable
from .shares import Shares, shares_of
from .words import STATES, percent, title_of

__all__ = ["WIDTH", "render_text"]

WIDTH: Final = 80
"""How wide a line is at most."""
_ROWS: Final = 2000
_LABEL: Final = 16


def render_text(report: FleetReport, left: int = 0, *, head: PageHead, known: KnownServers) -> str:
    """Return a report as text: what was done, what became of it, and the servers that are not as asked.

    Args:
        report: What became of the servers.
        left: How many servers have not ended, so that they are not in the report.
        head: Where and how it ran.
        known: What is known of the servers.
    """
    return "\n".join(line.rstrip() for line in _lines(report, left, head, known)) + "\n"


def _lines(report: FleetReport, left: int, head: PageHead, known: KnownServers) -> Iterator[str]:
    total = len(report)
    good = sum(report.by_state.get(state, 0) for state in OutcomeState if state.is_success)
    title = wrap(title_of(report, head, left), WIDTH)
    yield from title
    yield "=" * max(map(len, title), default=0)
    yield from _wrapped(_verdict(report, good, left))
    if report.aborted:
        yield from _wrapped(f"Ended early: {printable(report.aborted, 400)}")
    if report.cancelled:
        yield "Cancelled: what was not sent by then is skipped."
    if report.unverified:
        yield from _wrapped(f"Of {pluralize(report.unverified, 'server')} no state could be read back.")
    yield ""
    for name, value in facts_of(report, head):
        yield from _labelled(name, value)
    yield from _heading("States")
    for state in OutcomeState:
        count = report.by_state.get(state, 0)
        if count:
            yield f"{STATES[state][1]:<{_LABEL}}{count:>9,}  {percent(count / max(1, total)):>8}  {STATES[state][2]}"
    failures = failures_of(report, known, _ROWS)
    for shares in shares_of(report, known):
        yield from _heading(f"Not as asked, by {shares.kind}")
        yield from _share_lines(shares)
    if failures:
        yield from _heading("Reasons")
    for failure in failures:
        yield from _reason(failure)
    if len(report.by_code) > len(failures):
        yield f"and {pluralize(len(report.by_code) - len(failures), 'other reason')}"
    for failure in failures:
        yield from _servers(failure)


def _verdict(report: FleetReport, good: int, left: int) -> str:
    total = len(report)
    if left:
        return (
            f"{left:,} of {pluralize(total + left, 'server')} have not ended yet; of the others {good:,} are as asked."
        )
    if not total:
        return "There was no server."
    if good == total:
        return "The server is as asked." if total == 1 else f"All {total:,} servers are as asked."
    bad = total - good
    return (
        f"{bad:,} of {pluralize(total, 'server')} {'is' if bad == 1 else 'are'} not as asked ({percent(bad / total)})."
    )


def _heading(text: str) -> Iterable[str]:
    return ("", text, "-" * len(text))


def _share_lines(shares: Shares) -> Iterator[str]:
    for row in shares.rows:
        name = row.name or ("(no tag)" if shares.kind == "tag" else "(not known)")
        yield f"{name[:40]:<40}{row.bad:>9,} of {row.servers:>9,}  {percent(row.share):>8}"
    if shares.left_out:
        yield f"and {pluralize(shares.left_out, shares.kind)} more"


def _reason(failure: Failure) -> Iterator[str]:
    yield f"{failure.code}: {pluralize(failure.servers, 'server')}, {percent(failure.share)} of all"
    yield from _wrapped(f"{failure.meaning} {failure.measure}", "  ")
    if failure.message:
        yield from _wrapped(f"What was said: {failure.message}", "  ")
    for message in failure.messages:
        yield from _wrapped(f"Said of {pluralize(message.servers, 'server')}: {message.text}", "  ")


def _servers(failure: Failure) -> Iterator[str]:
    yield from _heading(f"{failure.code}: {pluralize(failure.servers, 'server')}")
    for row in failure.rows:
        yield from _server(row)
    if failure.left_out:
        yield f"and {failure.left_out:,} more, which a report as .csv or .html has"


def _server(row: Row) -> Iterator[str]:
    rest = ", ".join(part for part in (row.zone, row.tags) if part)
    label = f"{row.server_id}  {row.name}".rstrip()
    yield from _wrapped(f"{label}  ({rest})" if rest else label, "", "    ")
    if row.message:
        yield from _wrapped(row.message, "    ")


def _labelled(name: str, value: str) -> Iterator[str]:
    parts = wrap(value, WIDTH - _LABEL) or [""]
    for place, part in enumerate(parts):
        yield f"{name if place == 0 else '':<{_LABEL}}{part}"


def _wrapped(text: str, first: str = "", later: str | None = None) -> list[str]:
    return wrap(text, WIDTH, initial_indent=first, subsequent_indent=first if later is None else later) or [""]
