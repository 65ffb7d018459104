"""Renders a report and its calls as a page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from statistics import quantiles
from typing import Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from bms_async import FleetReport, OutcomeState
from bms_async.cli.access.known import NOTHING_KNOWN, KnownServers
from bms_async.cli.terminal.texts import pluralize

from .charts import HEIGHT, Piece, bucket_of, ceiling, duration, peaks, stack, steps, ticks
from .facts import facts_of
from .head import PageHead
from .history import CallHistory
from .lanes import lanes_of
from .reasons import failures_of, printable
from .servers import lines_of
from .shares import shares_of
from .words import ENDED, STATES, percent, title_of, verb_of

__all__ = ["render_report"]

_HERE: Final = Path(__file__).parent
_STYLE: Final = _HERE.parents[1] / "_assets" / "page.css"
_COLUMNS: Final = 240
_SLOWEST: Final = 10
_QUANTILES: Final = 20
_RESUMED: Final = 5.0
"""Seconds after the beginning of a run from which on its calls are those of a command that has resumed it."""


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


def render_report(
    report: FleetReport,
    calls: CallHistory,
    left: int = 0,
    *,
    head: PageHead | None = None,
    known: KnownServers = NOTHING_KNOWN,
    version: str | None = None,
) -> str:
    """Return the page about a run: self-contained HTML without links, whose only script is its own.

    Without scripts all of it can be read, too. It holds every server: 100,000 with names, zones and tags are about
    12 MB, 300 are 80 kB. It never has more than about 25 MB, and says how many servers are not in it. It takes about a
    second for 100,000 servers, and reads its template from a file: from a coroutine, call it in a thread.

    Args:
        report: What became of the servers.
        calls: The calls that the run made.
        left: How many servers have not ended, so that they are not in the report.
        head: Where and how it ran.
        known: What is known of the servers.
        version: Which page of a run that is followed this is, `ENDED` for its last one; None if nobody follows it.
    """
    head = head or PageHead()
    asked = [outcome for outcome in report.outcomes if outcome.state is not OutcomeState.SKIPPED]
    timed = [(outcome.ended - report.started).total_seconds() for outcome in asked if outcome.ended is not None]
    last = max(timed, default=0.0)
    end = max(report.seconds, last, 0.0)
    offset = (calls.started - report.started).total_seconds()
    failures = failures_of(report, known)
    rows = [row for failure in failures for row in failure.rows]
    servers, (script, script_hash) = lines_of(report, known), _script()
    return _template().render(
        title=title_of(report, head, left),
        title_start=verb_of(report, head),
        project=printable(head.project, 64),
        facts=facts_of(report, head, is_over=version in {None, ENDED}),
        version=version,
        script=Markup(script),  # noqa: S704 - our own
        script_hash=script_hash,
        verb=verb_of(report, head),
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
                _calls(
                    "Calls", "call", calls.calls, calls.limit, end=end, offset=offset, of=printable(calls.operation)
                ),
                _calls("Polls", "poll", calls.polls, calls.poll_limit, end=end, offset=offset),
            )
            if chart is not None
        ],
        operation=printable(calls.operation),
        failures=failures,
        listed=len(rows),
        has={"zone": any(row.zone for row in rows), "tags": any(row.tags for row in rows)},
        shares=shares_of(report, known),
        most=max((failure.servers for failure in failures), default=1),
        codes=len(report.by_code),
        slowest=[
            (
                printable(outcome.server_id, 64),
                printable(known.get(outcome.server_id).name, 64),
                outcome.state.value,
                outcome.seconds,
            )
            for outcome in report.slowest(_SLOWEST)
        ],
        speed=_speed(report),
        servers=servers,
        lines=Markup(servers.text),  # noqa: S704 - escaped there
        style=Markup(_STYLE.read_text(encoding="utf-8")),  # noqa: S704 - our own
    )


@lru_cache(maxsize=1)
def _script() -> tuple[str, str]:
    """Return the script, and its hash as a content security policy has it."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return script, f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"


@lru_cache(maxsize=1)
def _template() -> Template:
    loader = FileSystemLoader(_HERE)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": _number,
        "many": pluralize,
        "percent": percent,
        "duration": duration,
        "often": _often,
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
    most, when = max(sum(counts.values()) for counts in buckets), duration((fullest + 0.5) * width)
    words = (
        f"{pluralize(sum(sum(counts.values()) for counts in buckets), 'server')} ended within {duration(last)}; the"
        f" fullest column, about {when} after the beginning, has {_number(most)}."
    )
    return Timeline(columns, len(buckets), duration(width), _across(len(buckets) * width), _up(top), words)


def _calls(
    title: str,
    noun: str,
    history: Sequence[tuple[float, int]],
    limit: int | None,
    *,
    end: float,
    offset: float,
    of: str = "",
) -> Calls | None:
    if not history or not history[-1][1]:
        return None
    # On the axis of the run, which another command may have begun.
    shift = offset if offset >= _RESUMED else 0.0
    history = [(at + shift, count) for at, count in history] if shift else history
    end = max(end if shift else end - offset, history[-1][0], 0.1)
    held = peaks(history, end, _COLUMNS)
    fullest = max(held)
    top = ceiling(max(fullest, limit or 0) * 23 // 20)
    path = "".join(f"V{HEIGHT - HEIGHT * count / top:.0f}h1" for count in held)
    words = f"{pluralize(history[-1][1], noun)} in all, at most {_number(fullest)} in any 60 seconds"
    words += "." if limit is None else f"; {_number(limit)} are allowed."
    if shift:
        words += f" What was called before this command took the run over, after {duration(shift)}, is not in it."
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


def _often(times: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(times, f"{times:,} times")
