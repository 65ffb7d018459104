"""The results of a run, on standard output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from bms_async import FleetReport

from .cells import wrap
from .exit import print_error
from .failures import Failures, Reason
from .output import json_line, terminal_width, write
from .texts import duration, pluralize, strip_control_chars

__all__ = ["print_results", "reason_line", "reason_lines"]

_MAX_MESSAGES = 3
_MAX_MESSAGES_IN_JSON = 20


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
    """Print what became of all servers of a run.

    Args:
        report: The run's report.
        failures: Why servers are not as asked.
        calls: The number of calls and of polls.
        seconds: How long it took.
        where: The cloud.
        quiet: Print failures only, on standard error.
        json: Print one line of JSON.
        code: The exit code.
        saved: Where its jobs are saved, if they are.
    """
    if json:
        summary: dict[str, object] = {
            "type": "summary",
            "action": report.action,
            "servers": len(report),
            "by_state": {state.value: count for state, count in report.by_state.items()},
            "by_code": dict(report.by_code),
            "measures": dict(report.measures),
            "reasons": [message for reason in failures.reasons() for message in _plain_messages(reason)],
            "seconds": round(seconds, 3),
            "calls": calls[0],
            "polls": calls[1],
            "interrupted": report.cancelled,
            "aborted": report.aborted,
            "saved": None if saved is None else str(saved),
            "exit_code": int(code),
        }
        write(json_line(summary))
        return
    action = report.action.removeprefix("servers.")
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
    """Return lines with the reasons why servers are not as asked, wrapped at the terminal's width.

    Args:
        failures: The reasons.
    """
    width, lines = terminal_width(), list[str]()
    for reason in failures.reasons():
        more = "" if reason.total == len(reason.servers) else f" and {reason.total - len(reason.servers):,} more"
        head = f"{reason.total:,} {strip_control_chars(reason.code)}: {strip_control_chars(reason.meaning)}"
        servers = f"{', '.join(map(strip_control_chars, reason.servers))}{more}"
        lines += wrap(head, width, first="  ", rest="    ")
        for text in (*_message_lines(reason), servers):
            lines += wrap(text, width, first="    ", rest="      ")
    return lines


def reason_line(reason: Reason) -> Text:
    """Return the line of a reason in the progress block: the cloud's most frequent message, which fits best."""
    text = reason.messages[0].message.text if reason.messages else reason.meaning
    return Text.assemble(
        "  ", (f"{reason.total:,} {strip_control_chars(reason.code)}", "red"), f"  {strip_control_chars(text)}"
    )


def _message_lines(reason: Reason) -> Iterator[str]:
    """Yield what the cloud said, most frequent first, each with a server and the ids that support asks for."""
    for message, server, total in reason.messages[:_MAX_MESSAGES]:
        many = "" if total == 1 else f"{pluralize(total, 'server')}, such as "
        yield f"the cloud said of {many}{strip_control_chars(server)}{message.case}: {message.text}"
    rest = sum(count.total for count in reason.messages[_MAX_MESSAGES:]) + reason.dropped
    if rest:
        yield f"and other messages about {pluralize(rest, 'server')}; --json has them all"


def _plain_messages(reason: Reason) -> Iterator[dict[str, object]]:
    for message, server, total in reason.messages[:_MAX_MESSAGES_IN_JSON]:
        yield {
            "code": reason.code,
            "said": message.text,
            "servers": total,
            "server_id": server,
            "job_id": message.job_id,
            "request_id": message.request_id,
        }
