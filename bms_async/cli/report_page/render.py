"""Renders a report and its calls as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from statistics import quantiles
from typing import Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from bms_async import FleetReport, OutcomeState

from .charts import HEIGHT, Piece, bucket_of, ceiling, duration, peaks, stack, steps, ticks
from .history import CallHistory
from .lanes import lanes_of
from .reasons import failures_of, printable

__all__ = ["render_report"]

_HERE: Final = Path(__file__).parent
_STYLE: Final = _HERE.parents[1] / "_assets" / "page.css"
_COLUMNS: Final = 240
_SLOWEST: Final = 10
_QUANTILES: Final = 20
_ROUNDS_TO_NONE: Final = 0.1
_ROUNDS_TO_ALL: Final = 99.9

STATES: Final[Mapping[OutcomeState, tuple[str, str, str]]] = {
    OutcomeState.SUCCEEDED: ("✓", "succeeded", "done as asked"),
    OutcomeState.UNCHANGED: ("=", "unchanged", "it already was so"),
    OutcomeState.FAILED: ("✕", "failed", "asked for, and not done"),
    OutcomeState.UNKNOWN: ("?", "unknown", "asked for, and nothing proves how it ended"),
    OutcomeState.SKIPPED: ("\N{EN DASH}", "skipped", "never asked for, or never taken"),
}
"""By state: a sign, so that no colour has to be recognised, its name, and its meaning."""


class Mark(NamedTuple):
    """A label of an axis, and its position in per cent."""

    text: str
    at: float


class Column(NamedTuple):
    """One column of the timeline."""

    begin: str
    end: str
    x: float
    pieces: Sequence[Piece]
    words: str
    bad: bool


class Timeline(NamedTuple):
    """The servers that ended, over time."""

    columns: Sequence[Column]
    width: int
    bucket: str
    across: Sequence[Mark]
    up: Sequence[Mark]
    words: str


class Calls(NamedTuple):
    """The calls in the running minute, over time."""

    title: str
    of: str
    path: str
    limit: Mark | None
    over: bool
    across: Sequence[Mark]
    up: Sequence[Mark]
    words: str


def render_report(report: FleetReport, calls: CallHistory, left: int = 0) -> str:
    """Return the page about a run: self-contained HTML, without scripts and without links.

    It stays below 300 kB, however many servers there are. It takes about a second for 100,000 servers, and reads its
    template from a file: from a coroutine, call it in a thread.

    Args:
        report: What became of the servers.
        calls: The calls that the run made.
        left: How many servers have not ended, so that they are not in the report.
    """
    asked = [outcome for outcome in report.outcomes if outcome.state is not OutcomeState.SKIPPED]
    timed = [(outcome.ended - report.started).total_seconds() for outcome in asked if outcome.ended is not None]
    last = max(timed, default=0.0)
    end = max(report.seconds, last, 0.0)
    offset = (calls.started - report.started).total_seconds()
    failures = failures_of(report)
    return _template().render(
        action=printable(report.action),
        verb=printable(report.action).rpartition(".")[2],
        total=len(report),
        left=left,
        good=sum(report.by_state.get(state, 0) for state in OutcomeState if state.is_success),
        report=report,
        aborted=printable(report.aborted, 400) if report.aborted else "",
        states=[(state, *STATES[state], report.by_state.get(state, 0)) for state in OutcomeState],
        signs={state.value: STATES[state][0] for state in OutcomeState},
        timeline=_timeline(report, last),
        lanes=lanes_of(report, end),
        across=_across(max(end, 0.1)),
        untimed=len(asked) - len(timed),
        skipped=len(report) - len(asked),
        charts=[
            chart
            for chart in (
                _calls("Calls", "call", calls.calls, calls.limit, end=end - offset, of=printable(calls.operation)),
                _calls("Polls", "poll", calls.polls, calls.poll_limit, end=end - offset),
            )
            if chart is not None
        ],
        operation=printable(calls.operation),
        failures=failures,
        most=max((failure.servers for failure in failures), default=1),
        codes=len(report.by_code),
        slowest=[
            (printable(outcome.server_id, 64), outcome.state.value, outcome.seconds)
            for outcome in report.slowest(_SLOWEST)
        ],
        speed=_speed(report),
        style=Markup(_STYLE.read_text(encoding="utf-8")),  # noqa: S704 - our own
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    loader = FileSystemLoader(_HERE)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": _number,
        "many": _many,
        "percent": _percent,
        "duration": duration,
        "moment": _moment,
    }
    environment.globals["HEIGHT"] = HEIGHT
    return environment.get_template("report.html")


def _timeline(report: FleetReport, last: float) -> Timeline | None:
    width = bucket_of(max(0.0, last))
    # Skipped servers did not end: all of them at one moment would dwarf the others.
    buckets: list[Mapping[OutcomeState, int]] = [
        {state: count for state, count in counts.items() if state is not OutcomeState.SKIPPED}
        for counts in report.timeline(width)
    ]
    if not any(buckets):
        return None
    top = ceiling(max(sum(counts.values()) for counts in buckets))
    columns = []
    for index, counts in enumerate(buckets):
        if counts:
            words = ", ".join(
                f"{_number(counts[state])} {STATES[state][1]}" for state in OutcomeState if state in counts
            )
            bad = any(state.is_failure for state in counts)
            begin, end = duration(index * width), duration((index + 1) * width)
            columns.append(Column(begin, end, index * 10.0, stack(counts, top), words, bad))
    fullest = max(range(len(buckets)), key=lambda index: sum(buckets[index].values()))
    words = (
        f"{_many(sum(sum(counts.values()) for counts in buckets), 'server')} ended within {duration(last)}, the most,"
        f" {_number(sum(buckets[fullest].values()))}, between {duration(fullest * width)}"
        f" and {duration((fullest + 1) * width)}."
    )
    return Timeline(columns, len(buckets), duration(width), _across(len(buckets) * width), _up(top), words)


def _calls(
    title: str, noun: str, history: Sequence[tuple[float, int]], limit: int | None, *, end: float, of: str = ""
) -> Calls | None:
    if not history or not history[-1][1]:
        return None
    end = max(end, history[-1][0], 0.1)
    held = peaks(history, end, _COLUMNS)
    fullest = max(held)
    top = ceiling(max(fullest, limit or 0) * 23 // 20)
    path = "".join(f"V{HEIGHT - HEIGHT * count / top:.0f}h1" for count in held)
    words = f"{_many(history[-1][1], noun)} in all, at most {_number(fullest)} in any 60 seconds"
    words += "." if limit is None else f"; {_number(limit)} are allowed."
    mark = None if limit is None else Mark(f"limit {_number(limit)}", 100 - 100 * limit / top)
    over = limit is not None and fullest > limit
    return Calls(title, of, f"M0 {HEIGHT:.0f}{path}V{HEIGHT:.0f}Z", mark, over, _across(end), _up(top), words)


def _across(end: float) -> list[Mark]:
    return [Mark(duration(at), 100 * at / end) for at in steps(end) if at <= end]


def _up(top: int) -> list[Mark]:
    return [Mark(_number(at), 100 - 100 * at / top) for at in ticks(top)]


def _speed(report: FleetReport) -> tuple[float, float] | None:
    """Return the seconds within which half of the servers, and 19 of 20, had their outcome."""
    taken = [seconds for outcome in report.outcomes if (seconds := outcome.seconds) is not None]
    if len(taken) < _QUANTILES:
        return None
    parts = quantiles(taken, n=_QUANTILES, method="inclusive")
    return parts[9], parts[18]


def _number(value: int) -> str:
    return f"{value:,}"


def _many(value: int, noun: str) -> str:
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def _percent(share: float) -> str:
    """Return a share in per cent; one between 0 and 1 is never rounded to either of them."""
    hundredths = share * 100
    if 0 < hundredths < _ROUNDS_TO_NONE:
        return "< 0.1\N{NO-BREAK SPACE}%"
    if hundredths > _ROUNDS_TO_ALL and share < 1:
        return "> 99.9\N{NO-BREAK SPACE}%"
    return f"{hundredths:.1f}".removesuffix(".0") + "\N{NO-BREAK SPACE}%"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
