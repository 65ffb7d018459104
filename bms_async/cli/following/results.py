"""The results of a run, on standard output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
from rich.text import Text

from bms_async import Outcome, OutcomeState, explain
from bms_async.cli.access.known import NOTHING_KNOWN, KnownServers
from bms_async.cli.terminal.cells import wrap
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.output import folded, terminal_width, write
from bms_async.cli.terminal.rows import RowWriter
from bms_async.cli.terminal.texts import duration, pluralize, strip_control_chars
from bms_async.cli.terminal.words import shown_code
from bms_async.errors.fleet import shown_group

from .failures import Failures, Reason

__all__ = ["Results", "failure_line", "plain_reasons", "print_results", "reason_line", "reason_lines"]

_MAX_MESSAGES = 3
_MAX_MESSAGES_IN_JSON = 20
_MAX_BLOCKED = 5
_MAX_BLOCKED_IN_JSON = 100


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run when the command ends.

    Attributes:
        verb: What was done, in a word, such as ``stop``.
        operation: The call that did it, such as ``servers.stop``.
        key: Its key in the journal, None where it has none.
        servers: How many servers it has.
        by_state: How many of these have ended in each state.
        is_interrupted: Whether it was stopped before its end.
        aborted: The reason, if too many failures ended it.
        unverified: How many outcomes could not be verified.
        seconds: How long it took, or was followed.
        calls: How many calls and polls were made for it, None if it was only watched.
        failed_to: The file that has a list of its servers that are not as asked; None if there is none.
    """

    verb: str
    operation: str
    key: str | None
    servers: int
    by_state: Mapping[OutcomeState, int]
    is_interrupted: bool
    aborted: str | None
    unverified: int | None
    seconds: float
    calls: tuple[int, int] | None
    failed_to: str | None = None

    @property
    def left(self) -> int:
        """How many servers have not ended."""
        return self.servers - sum(self.by_state.values())


def print_results(
    results: Results,
    failures: Failures,
    *,
    where: str,
    quiet: bool,
    rows: RowWriter[Outcome] | None,
    code: int,
    known: KnownServers = NOTHING_KNOWN,
) -> None:
    """Print what became of all servers of a run.

    Args:
        results: The results.
        failures: Why servers are not as asked.
        where: The cloud.
        quiet: Print failures only, on standard error.
        rows: The rows that were written, of which this is the end; None for text. Beside a table the text is on
            standard error.
        code: The exit code.
        known: The names of servers.
    """
    if rows is not None and rows.has_objects:
        calls, polls = results.calls or (None, None)
        summary: dict[str, object] = {
            "type": "summary",
            "action": results.operation,
            "run": results.key,
            "servers": results.servers,
            "left": results.left,
            "by_state": {state.value: count for state, count in results.by_state.items()},
            "by_code": dict(failures.counts()),
            "measures": _measures(failures),
            "reasons": plain_reasons(failures, known),
            "seconds": round(results.seconds, 3),
            "calls": calls,
            "polls": polls,
            "interrupted": results.is_interrupted,
            "aborted": results.aborted,
            "failed_to": results.failed_to,
            "blocked_groups": {group: count for count, group in failures.blocked()[:_MAX_BLOCKED_IN_JSON]},
            "exit_code": int(code),
        }
        rows.add_object(summary)
        rows.finish()
        return
    states = [f"{count:,} {state.lower()}" for state, count in results.by_state.items() if count]
    if results.left:
        states.append(f"{results.left:,} not ended")
    servers, took = pluralize(results.servers, "server"), duration(results.seconds)
    head = f"{results.verb}: {servers} of {where} in {took}: {', '.join(states) or 'none'}"
    if quiet:
        if failures:
            counts = ", ".join(f"{count:,} {shown_code(name)}" for name, count in failures.named_counts().items())
            print_error(f"{head}; {counts}" if counts else head)
        return
    lines = [head]
    if results.calls is not None:
        lines.append(f"{pluralize(results.calls[0], 'call')} and {pluralize(results.calls[1], 'poll')}")
    if results.aborted:
        lines.append(f"aborted: {results.aborted}")
    if results.unverified:
        lines.append(f"{pluralize(results.unverified, 'outcome')} could not be verified: no state could be read")
    if blocked := failures.blocked():
        named = [
            f"{shown_group(strip_control_chars(group))} ({pluralize(count, 'server')})"
            for count, group in blocked[:_MAX_BLOCKED]
        ]
        more = f" and {len(blocked) - len(named):,} more" if len(blocked) > len(named) else ""
        lines.append(f"groups that are blocked: {', '.join(named)}{more}")
    lines += reason_lines(failures, known)
    if rows is None:
        write(folded("\n".join(lines)) + "\n")
    else:
        print_error("\n".join(lines), first="")


def plain_reasons(failures: Failures, known: KnownServers = NOTHING_KNOWN) -> list[dict[str, object]]:
    """Return what the cloud said of servers that are not as asked, for JSON.

    Args:
        failures: The reasons.
        known: The names of servers.
    """
    return [message for reason in failures.reasons() for message in _plain_messages(reason, known)]


def _measures(failures: Failures) -> dict[str, str]:
    documented = {code: explain(code) for code in failures.counts()}
    return {code: row.measure for code, row in documented.items() if row is not None}


def reason_lines(failures: Failures, known: KnownServers = NOTHING_KNOWN) -> list[str]:
    """Return lines with the reasons why servers are not as asked, wrapped at the terminal's width.

    Args:
        failures: The reasons.
        known: The names of servers.
    """
    width, lines = terminal_width(), list[str]()
    for reason in failures.reasons():
        more = "" if reason.total == len(reason.servers) else f" and {reason.total - len(reason.servers):,} more"
        head = f"{reason.total:,} {shown_code(reason.code)}: {strip_control_chars(reason.meaning)}"
        servers = f"{', '.join(map(known.label, reason.servers))}{more}"
        lines += wrap(head, width, first="  ", rest="    ")
        for text in (*_message_lines(reason, known), servers):
            lines += wrap(text, width, first="    ", rest="      ")
    return lines


def reason_line(reason: Reason) -> Text:
    """Return the line of a reason in the progress block: the cloud's most frequent message, which fits best."""
    text = reason.messages[0].message.text if reason.messages else reason.meaning
    return Text.assemble("  ", (f"{reason.total:,} {shown_code(reason.code)}", "red"), f"  {strip_control_chars(text)}")


def failure_line(label: str, code: str, explanation: str) -> Text:
    """Return the line above the progress block about the first failure of its kind.

    Args:
        label: The server, for people.
        code: The cloud's code or, without one, the name of the error or the state.
        explanation: What it means, and what the cloud said.
    """
    return Text.assemble(
        f"{strip_control_chars(label)} ", (shown_code(code), "red"), f": {strip_control_chars(explanation)}"
    )


def _message_lines(reason: Reason, known: KnownServers) -> Iterator[str]:
    """Yield what the cloud said, most frequent first, each with a server and the ids that support asks for."""
    for message, server, total in reason.messages[:_MAX_MESSAGES]:
        many = "" if total == 1 else f"{pluralize(total, 'server')}, such as "
        yield f"the cloud said of {many}{known.label(server)}{message.case}: {message.text}"
    rest = sum(count.total for count in reason.messages[_MAX_MESSAGES:]) + reason.dropped
    if rest:
        yield f"and other messages about {pluralize(rest, 'server')}; --json has them all"


def _plain_messages(reason: Reason, known: KnownServers) -> Iterator[dict[str, object]]:
    for message, server, total in reason.messages[:_MAX_MESSAGES_IN_JSON]:
        yield {
            "code": reason.code,
            "said": message.text,
            "servers": total,
            "server_id": server,
            "name": known.get(server).name,
            "job_id": message.job_id,
            "request_id": message.request_id,
        }
