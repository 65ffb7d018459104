"""What became of all servers of a run, on standard output."""

from __future__ import annotations

import textwrap
from pathlib import Path

from bms_async import FleetReport

from .exit import say
from .failures import Failures
from .output import clean, duration, json_line, number, terminal_width, write

__all__ = ["reason_lines", "tell_results"]


def tell_results(
    report: FleetReport,
    failures: Failures,
    calls: tuple[int, int],
    *,
    seconds: float,
    where: str,
    quiet: bool,
    json: bool,
    code: int,
    saved: Path | None,
) -> None:
    """Tell what became of all servers of a run.

    Args:
        report: The run's report.
        failures: Why servers are not as asked.
        calls: How many calls and how many polls it took.
        seconds: How long it took.
        where: Which cloud it was.
        quiet: Tell nothing but failures, and those on standard error.
        json: Write one line of JSON.
        code: The exit code.
        saved: Where its jobs are, if they are.
    """
    action = report.action.removeprefix("servers.")
    if json:
        write(
            json_line(
                {
                    "type": "summary",
                    "action": report.action,
                    "servers": len(report),
                    "by_state": {state.value: count for state, count in report.by_state.items()},
                    "by_code": dict(report.by_code),
                    "measures": dict(report.measures),
                    "seconds": round(seconds, 3),
                    "calls": calls[0],
                    "polls": calls[1],
                    "interrupted": report.cancelled,
                    "aborted": report.aborted,
                    "saved": None if saved is None else str(saved),
                    "exit_code": int(code),
                }
            )
        )
        return
    states = ", ".join(f"{count:,} {state.lower()}" for state, count in report.by_state.items() if count)
    head = f"{action}: {number(len(report), 'server')} of {where} in {duration(seconds)}: {states or 'none'}"
    if quiet:
        if failures:
            say(f"{head}; {', '.join(f'{count:,} {name}' for name, count in failures.counts().items())}")
        return
    lines = [head, f"{number(calls[0], 'call')} and {number(calls[1], 'poll')}"]
    if report.aborted:
        lines.append(f"aborted: {report.aborted}")
    if report.unverified:
        lines.append(f"{number(report.unverified, 'outcome')} could not be verified: no state could be read")
    lines += reason_lines(failures)
    write("\n".join(lines) + "\n")


def reason_lines(failures: Failures) -> list[str]:
    """Return lines that tell why servers are not as asked, wrapped at the terminal's width.

    Args:
        failures: What is told.
    """
    width, lines = terminal_width(), list[str]()
    for reason in failures.reasons():
        more = "" if reason.total == len(reason.servers) else f" and {reason.total - len(reason.servers):,} more"
        told = f"{reason.total:,} {reason.code}: {clean(reason.what)}"
        servers = f"{', '.join(map(clean, reason.servers))}{more}"
        for text, first in ((told, "  "), (servers, "    ")):
            lines += textwrap.wrap(text, width, initial_indent=first, subsequent_indent="    ", break_on_hyphens=False)
    return lines
