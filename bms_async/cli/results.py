"""What became of all servers of a run, on standard output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from bms_async import FleetReport

from .cells import wrap
from .exit import print_error
from .failures import Failures, Reason
from .output import duration, json_line, pluralize, strip_control_chars, terminal_width, write

__all__ = ["print_results", "reason_line", "reason_lines"]

_MOST_SAID = 3
_MOST_SAID_IN_JSON = 20


def print_results(
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
                    "reasons": [each for reason in failures.reasons() for each in _plain_words(reason)],
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
    head = f"{action}: {pluralize(len(report), 'server')} of {where} in {duration(seconds)}: {states or 'none'}"
    if quiet:
        if failures:
            counts = ", ".join(f"{count:,} {strip_control_chars(name)}" for name, count in failures.counts().items())
            print_error(f"{head}; {counts}")
        return
    lines = [head, f"{pluralize(calls[0], 'call')} and {pluralize(calls[1], 'poll')}"]
    if report.aborted:
        lines.append(f"aborted: {report.aborted}")
    if report.unverified:
        lines.append(f"{pluralize(report.unverified, 'outcome')} could not be verified: no state could be read")
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
        told = f"{reason.total:,} {strip_control_chars(reason.code)}: {strip_control_chars(reason.what)}"
        servers = f"{', '.join(map(strip_control_chars, reason.servers))}{more}"
        lines += wrap(told, width, first="  ", rest="    ")
        for text in (*_words(reason), servers):
            lines += wrap(text, width, first="    ", rest="      ")
    return lines


def reason_line(reason: Reason) -> Text:
    """Return the line that tells of a reason while it goes on: what the cloud says most often, which fits best."""
    words = reason.said[0].words.text if reason.said else reason.what
    return Text.assemble(
        "  ", (f"{reason.total:,} {strip_control_chars(reason.code)}", "red"), f"  {strip_control_chars(words)}"
    )


def _words(reason: Reason) -> Iterator[str]:
    """Tell what the cloud said, most often first, each with a server and what names the case to its support."""
    for said in reason.said[:_MOST_SAID]:
        many = "" if said.total == 1 else f"{pluralize(said.total, 'server')}, such as "
        yield f"the cloud said of {many}{strip_control_chars(said.server)}{said.words.case}: {said.words.text}"
    rest = sum(said.total for said in reason.said[_MOST_SAID:]) + reason.unkept
    if rest:
        yield f"and other words of {pluralize(rest, 'server')}; --json tells all"


def _plain_words(reason: Reason) -> Iterator[dict[str, object]]:
    for said in reason.said[:_MOST_SAID_IN_JSON]:
        yield {
            "code": reason.code,
            "said": said.words.text,
            "servers": said.total,
            "server_id": said.server,
            "job_id": said.words.job_id,
            "request_id": said.words.request_id,
        }
