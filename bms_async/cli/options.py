"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from .help import OPTIONS, Argument, Option
from .rolling import GROUPS_KNOWN, Allowed, GroupName, HoursType, Probe, Seconds
from .shared import pick_cloud

# fmt: off
__all__ = [
    "OUTPUT", "ROLLOUT", "RUN", "SERVERS", "apply", "argument", "bounds", "cloud", "columns_known", "complete",
    "complete_file", "each", "file", "filters", "groups_known", "ids", "journal", "json", "key", "limits_known",
    "option", "power", "quiet", "report", "rollout", "statuses_known", "yes",
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


def columns_known() -> list[str]:
    """Return the columns for completion."""
    from .reading.servers import COLUMNS

    return list(COLUMNS)


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
quiet = option("--quiet", "-q", is_flag=True, section=OUTPUT, help="Print failures only, without progress and results.")
_JOURNAL = "The journal of runs; default: BMS_RUNS, or this machine's file."
journal = option("--journal", metavar="URL", help=_JOURNAL)
key = option("--key", metavar="KEY", section=RUN, help="The run's name: the same key is the same run.")
filters = apply(
    option("--tag", multiple=True, metavar="TAG", section=SERVERS,
           help="Servers with this tag; repeat it for several tags."),
    option("--name", multiple=True, metavar="NAME", section=SERVERS,
           help="Servers with this name, as the cloud matches it."),
    option("--status", multiple=True, metavar="STATUS", section=SERVERS, shell_complete=complete(statuses_known),
           help="Servers in this status: ACTIVE, SHUTOFF, ERROR..."),
    option("--flavor", metavar="ID", section=SERVERS, help="Servers of this flavor."),
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
    "--report", metavar="FILE.html", section=OUTPUT, shell_complete=complete_file,
    help="Write a page about the run: what ended when, and why not.",
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
    option("--zone", metavar="NAME", section=ROLLOUT,
           help="The time zone of the windows; default: that of this machine."),
    option("--order-by", type=click.Choice(["name"]), metavar="name", section=ROLLOUT,
           help="Servers go by their names; default: as they are given."),
)  # fmt: skip
power = apply(
    ids,
    file,
    filters,
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
    json,
    quiet,
    report,
    cloud,
)  # fmt: skip
each = apply(
    file,
    filters,
    bounds,
    option("--plan", "--dry-run", "dry_run", is_flag=True, section=RUN,
           help="Print the calls and the time that they take; change nothing."),
    yes,
    rollout,
    json,
    quiet,
    report,
    cloud,
)  # fmt: skip
