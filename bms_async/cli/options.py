"""The options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from .help import OPTIONS, Argument, Option
from .rolling import GROUPS_KNOWN, Allowed, GroupName, HoursType, Probe, Seconds
from .shared import pick_cloud
from .terminal.forms import FORMS, OutputOptions

# fmt: off
__all__ = [
    "OUTPUT",
    "ROLLOUT",
    "RUN",
    "SERVERS",
    "apply",
    "argument",
    "bounds",
    "cloud",
    "complete",
    "complete_columns",
    "complete_file",
    "each",
    "file",
    "filters",
    "groups_known",
    "ids",
    "journal",
    "json",
    "key",
    "limits_known",
    "option",
    "output",
    "power",
    "printing",
    "quiet",
    "report",
    "rollout",
    "selection",
    "serve",
    "statuses_known",
    "yes",
]
# fmt: on

F = TypeVar("F", bound=Callable[..., object])
Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem[Any]]"]

SERVERS: Final = "Servers"
RUN: Final = "Run"
ROLLOUT: Final = "Rollout"
OUTPUT: Final = "Output"


def statuses_known() -> list[str]:
    """Return the statuses for completion."""
    return ["ACTIVE", "BUILD", "ERROR", "HARD_REBOOT", "REBOOT", "SHUTOFF"]


def limits_known() -> list[str]:
    """Return what `bms limits` takes, for completion: the calls with a limit, and the word of its other form."""
    from bms_async.limits import DOCUMENTED_LIMITS

    return [*DOCUMENTED_LIMITS, "open"]


def groups_known() -> list[str]:
    """Return what servers are grouped by, for completion."""
    return list(GROUPS_KNOWN)


def complete(known: Callable[[], Sequence[str]]) -> Completer:
    """Return what click asks for the values that an option may have.

    Args:
        known: Returns the values.
    """

    def completed(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem[Any]]:
        return [CompletionItem(value) for value in known() if value.startswith(begun)]

    return completed


def complete_file(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem[Any]]:
    """Let the shell offer its files."""
    return [CompletionItem(begun, type="file")]


def complete_columns(place: str, *, is_list: bool = True) -> Completer:
    """Return what click asks for the columns of a command.

    Args:
        place: Where its `Table` is: a module of this package and a name in it, such as ``reading.servers:TABLE``.
        is_list: Whether several may be typed, with commas between them; else one, with ``-`` for the reverse order.
    """

    def completed(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem[Any]]:
        from importlib import import_module

        module, _, name = place.partition(":")
        known = getattr(import_module(f"{__package__}.{module}"), name).columns
        if is_list:
            before, comma, last = begun.rpartition(",")
            before += comma
        else:
            last = begun.removeprefix("-")
            before = begun[: len(begun) - len(last)]
        return [CompletionItem(before + value) for value in known if value.startswith(last)]

    return completed


def option(*names: str, section: str = OPTIONS, **attributes: Any) -> Callable[[F], F]:
    """Add an option to a command.

    Args:
        names: Its spellings.
        section: Its heading in the help.
        attributes: As of `click.option`.
    """
    return click.option(*names, cls=Option, section=section, **attributes)


def argument(name: str, **attributes: Any) -> Callable[[F], F]:
    """Add an argument to a command.

    Args:
        name: Its parameter.
        attributes: As of `Argument`.
    """
    return click.argument(name, cls=Argument, **attributes)


def apply(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator for several, whose options are shown in their order."""

    def decorated(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorated


cloud = option("--cloud", metavar="NAME", callback=pick_cloud, help="A cloud of clouds.yaml; default: OS_CLOUD.")
json = option("--json", is_flag=True, section=OUTPUT, help="One JSON object a line, for scripts.")


def output(place: str) -> Callable[[F], F]:
    """Add the options about rows; the command gets them as one, `output`.

    Args:
        place: Where the columns are, as of `complete_columns`.
    """
    add = apply(
        option("--output", "-o", "form", type=click.Choice(FORMS), metavar="FORM", section=OUTPUT,
               help="table, json, jsonl, yaml, csv, or ids alone."),
        json,
        option("--columns", metavar="A,B,...", section=OUTPUT, shell_complete=complete_columns(place),
               help="The columns; an unknown one lists all."),
        option("--sort", metavar="COLUMN", section=OUTPUT, shell_complete=complete_columns(place, is_list=False),
               help="The column that orders the rows; -COLUMN reverses the order."),
        option("--header/--no-header", default=None, section=OUTPUT,
               help="The names of the columns above them, or not."),
    )  # fmt: skip

    def decorated(function: F) -> F:
        @functools.wraps(function)
        def gathering(
            *args: Any,
            form: str | None,
            json: bool,
            columns: str | None,
            sort: str | None,
            header: bool | None,
            **typed: Any,
        ) -> object:
            if json and form not in {None, "jsonl"}:
                raise click.UsageError(f"--json is -o jsonl; leave it out beside -o {form}")
            output = OutputOptions("jsonl" if json else form, columns, sort, header)
            return function(*args, output=output, **typed)

        return add(gathering)  # type: ignore[return-value]  # it is called with what click has read

    return decorated


quiet = option("--quiet", "-q", is_flag=True, section=OUTPUT, help="Print failures only, without progress and results.")
_JOURNAL = "The journal of runs; default: BMS_RUNS, or this machine's file."
journal = option("--journal", metavar="URL", help=_JOURNAL)
key = option("--key", metavar="KEY", section=RUN, help="The run's name: the same key is the same run.")
filters = apply(
    option("--tag", multiple=True, metavar="TAG", section=SERVERS,
           help="Servers with this tag; repeat it: with all of these."),
    option("--tag-any", multiple=True, metavar="TAG", section=SERVERS,
           help="Servers with this tag; repeat it: with any of these."),
    option("--not-tag", multiple=True, metavar="TAG", section=SERVERS,
           help="Servers without this tag; repeat it: without any of these."),
    option("--zone", multiple=True, metavar="ZONE", section=SERVERS,
           help="Servers in this availability zone, or in any of several."),
    option("--name", multiple=True, metavar="NAME", section=SERVERS,
           help="Servers with this name, as the cloud matches it, or with any of several."),
    option("--status", multiple=True, metavar="STATUS", section=SERVERS, shell_complete=complete(statuses_known),
           help="Servers in this status: ACTIVE, SHUTOFF, ERROR..., or in any of several."),
    option("--flavor", multiple=True, metavar="FLAVOR", section=SERVERS,
           help="Servers of this flavor, by its id or name, or of any of several."),
    option("--enterprise-project", metavar="ID", section=SERVERS, help="Servers of this enterprise project."),
)  # fmt: skip
ids = argument(
    "ids", nargs=-1, metavar="[ID]...", section=SERVERS,
    description="Server ids; - reads them from standard input, one a line.",
)  # fmt: skip
file = option(
    "--file", "-f", metavar="FILE", section=SERVERS, shell_complete=complete_file,
    help="A file with one id a line; # starts a comment.",
)  # fmt: skip
bounds = apply(
    option("--wave", type=click.IntRange(min=1), metavar="N", section=RUN,
           help="Have at most N servers in flight at once."),
    option("--abort-above", metavar="SHARE", section=RUN,
           help="Abort when more than this share failed: 0.02 or 2%."),
    option("--abort-sample", type=click.IntRange(min=1), metavar="N", section=RUN,
           help="How many servers must have ended before --abort-above counts; default: 20."),
)  # fmt: skip
yes = option("--yes", "-y", is_flag=True, section=RUN, help="Do not ask for confirmation.")
report = option(
    "--report", metavar="FILE", section=OUTPUT, shell_complete=complete_file,
    help="Write a report: FILE.html is a page, FILE.txt text to be mailed, FILE.csv a row for each server.",
)  # fmt: skip
serve = option(
    "--serve", type=click.IntRange(0, 65535), metavar="PORT", section=OUTPUT,
    help="Show the page on this machine while the run goes on, at http://127.0.0.1:PORT/; 0: any free port.",
)  # fmt: skip
rollout = apply(
    option("--canary", type=click.IntRange(min=1), metavar="N", section=ROLLOUT,
           help="N servers first, alone; the others only if all of these are well."),
    option("--group-by", type=GroupName(), metavar="FIELD", section=ROLLOUT, shell_complete=complete(groups_known),
           help="What makes a group: az, flavor, tag:rack, metadata:KEY..."),
    option("--max-unavailable", type=Allowed(), metavar="N", section=ROLLOUT,
           help="At most N servers of each group unavailable at once, or a share: 10%."),
    option("--max-groups", type=click.IntRange(min=1), metavar="N", section=ROLLOUT,
           help="At most N groups touched at once."),
    option("--ready", type=Probe(), multiple=True, metavar="CHECK", section=ROLLOUT,
           help="When a server is well again: tcp:22, http:80/path or https:443/path; all of several."),
    option("--ready-address", type=click.Choice(["fixed", "floating", "any"]), metavar="KIND", section=ROLLOUT,
           help="Which addresses are asked: fixed (default), floating or any."),
    option("--ready-timeout", type=Seconds(least=1), metavar="TIME", section=ROLLOUT,
           help="How long a server has to be well again: 900, 15m; default: 15m."),
    option("--settle", type=Seconds(), metavar="TIME", section=ROLLOUT,
           help="Time between a server that is well again and the next of its group."),
    option("--window", type=HoursType(), multiple=True, metavar="HOURS", section=ROLLOUT,
           help='Nothing begins outside: "Sat,Sun 22:00-04:00 Europe/Berlin"; repeat it for several.'),
    option("--window-zone", metavar="NAME", section=ROLLOUT,
           help="The time zone of the windows; default: that of this machine."),
    option("--order-by", type=click.Choice(["name"]), metavar="name", section=ROLLOUT,
           help="Servers go by their names; default: as they are given."),
)  # fmt: skip
selection = apply(file, filters)
"""Which servers a command changes, beside ids."""
printing = apply(json, quiet, report, serve, cloud)
"""What a command prints of the servers that it changes, and where."""
power = apply(
    ids,
    selection,
    bounds,
    option("--verify", is_flag=True, section=RUN, help="Read the states of the servers back at the end."),
    option("--plan", "--dry-run", "dry_run", is_flag=True, section=RUN,
           help="Print the calls, the waves of a rollout and the times; change nothing."),
    option("--server-takes", type=Seconds(least=1), metavar="TIME", section=RUN,
           help="For --plan: how long one server takes until it is well; default: 5m."),
    yes,
    key,
    option("--detach", is_flag=True, section=RUN,
           help="Only write the run down, for bms worker to carry it out."),
    option("--resume", metavar="KEY", section=RUN, shell_complete=complete_file,
           help="Resume an interrupted run; `bms runs list` shows the keys."),
    option("--journal", metavar="URL", section=RUN, help=_JOURNAL),
    option("--no-journal", is_flag=True, section=RUN,
           help="Keep the run in memory alone: killed, it cannot be resumed."),
    rollout,
    option("--save", hidden=True),
    printing,
)  # fmt: skip
each = apply(
    selection,
    bounds,
    option("--plan", "--dry-run", "dry_run", is_flag=True, section=RUN,
           help="Print the calls and the time that they take; change nothing."),
    yes,
    rollout,
    printing,
)  # fmt: skip
