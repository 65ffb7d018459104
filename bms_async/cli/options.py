"""The options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from .completing import complete_clouds, complete_runs, complete_seen
from .declaring import (
    OUTPUT,
    ROLLOUT,
    RUN,
    SERVERS,
    F,
    apply,
    argument,
    complete,
    complete_columns,
    complete_file,
    groups_known,
    once,
    option,
    statuses_known,
)
from .numbers import Number
from .rolling import Allowed, GroupName, HoursType, Probe, Seconds
from .shared import pick_cloud
from .terminal.forms import FORMS, OutputOptions

__all__ = [
    "cloud",
    "each",
    "failed_to",
    "filters",
    "ids",
    "journal",
    "json",
    "output",
    "power",
    "quiet",
    "report",
    "rollout",
    "serve",
]

cloud = option(
    "--cloud", metavar="NAME", callback=pick_cloud, shell_complete=complete_clouds,
    help="A cloud of clouds.yaml; default: OS_CLOUD.",
)  # fmt: skip
json = option("--json", is_flag=True, section=OUTPUT, help="One JSON object a line, for scripts.")


def output(place: str | None) -> Callable[[F], F]:
    """Add the options about rows; the command gets them as one, `output`.

    Args:
        place: Where the columns are, as of `complete_columns`; None for one record, whose columns are its fields.
    """
    completed = {} if place is None else {
        "columns": complete_columns(place), "sort": complete_columns(place, is_list=False),
    }  # fmt: skip
    add = apply(
        option("--output", "-o", "form", type=click.Choice(FORMS), metavar="FORM", section=OUTPUT,
               help="The form: table, json, jsonl, yaml, csv, or ids alone."),
        json,
        option("--columns", metavar="A,B,...", section=OUTPUT, shell_complete=completed.get("columns"),
               help="The columns, in this order; a name that is unknown prints all names."),
        option("--sort", metavar="COLUMN", section=OUTPUT, shell_complete=completed.get("sort"),
               help="Order the rows by a column; -COLUMN reverses the order."),
        option("--header/--no-header", default=None, section=OUTPUT,
               help="The names of the columns in the first line, or not."),
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
                raise click.UsageError(f"--json means -o jsonl: leave it out beside -o {form}")
            output = OutputOptions("jsonl" if json else form, columns, sort, header)
            return function(*args, output=output, **typed)

        return add(gathering)  # type: ignore[return-value]  # it is called with what click has read

    return decorated


quiet = option("--quiet", "-q", is_flag=True, section=OUTPUT, help="Print failures only, without progress and results.")
_JOURNAL = "The journal of runs; default: BMS_RUNS, or this machine's file."
journal = option("--journal", metavar="URL", help=_JOURNAL)
_key = option("--key", metavar="KEY", section=RUN, help="What the run is called: the same key is the same run.")
filters = apply(
    option("--tag", multiple=True, metavar="TAG", section=SERVERS, shell_complete=complete_seen("tags"),
           help="Servers with this tag; repeat it: with all of these."),
    option("--tag-any", multiple=True, metavar="TAG", section=SERVERS, shell_complete=complete_seen("tags"),
           help="Servers with this tag; repeat it: with any of these."),
    option("--not-tag", multiple=True, metavar="TAG", section=SERVERS, shell_complete=complete_seen("tags"),
           help="Servers without this tag; repeat it: without any of these."),
    option("--zone", multiple=True, metavar="ZONE", section=SERVERS, shell_complete=complete_seen("zones"),
           help="Servers in this availability zone, or in any of several."),
    option("--name", multiple=True, metavar="NAME", section=SERVERS,
           help="Servers with this name, as the cloud matches it, or with any of several."),
    option("--status", multiple=True, metavar="STATUS", section=SERVERS, shell_complete=complete(statuses_known),
           help="Servers in this status: ACTIVE, SHUTOFF, ERROR..., or in any of several."),
    option("--flavor", multiple=True, metavar="FLAVOR", section=SERVERS, shell_complete=complete_seen("flavors"),
           help="Servers of this flavor, by its id or name, or of any of several."),
    option("--enterprise-project", metavar="ID", section=SERVERS, help="Servers of this enterprise project."),
    option("--allow-unknown", is_flag=True, section=SERVERS,
           help="Accept a status or a --not-tag that no server has; else it is refused."),
)  # fmt: skip
ids = argument(
    "ids", nargs=-1, metavar="[ID]...", section=SERVERS,
    description="Ids or names of servers; - reads them from standard input.",
)  # fmt: skip
_file = option(
    "--file", "-f", multiple=True, callback=once, metavar="FILE", section=SERVERS, shell_complete=complete_file,
    help="A file of ids or names: one a line, CSV, JSON, or a list of servers that was printed.",
)  # fmt: skip
_excluded = apply(
    option("--except", "excluded", multiple=True, metavar="FILE", section=SERVERS, shell_complete=complete_file,
           help="Leave out the servers of this file, in any form that --file takes."),
    option("--fail-if-none", is_flag=True, section=SERVERS,
           help="Exit with 2, and not with 0, where there is nothing to do."),
)  # fmt: skip
_bounds = apply(
    option("--wave", type=Number(min=1), metavar="N", section=RUN,
           help="At most N servers under way at once; default: any number, or as many as --abort-above allows."),
    option("--abort-above", metavar="SHARE", section=RUN,
           help="Ask no further server once more than this share of those that have ended failed: 0.02 or 2%; "
                "0: at the first failure. Without --wave, only as many are under way at once as may fail."),
    option("--abort-sample", type=Number(min=1), metavar="N", section=RUN,
           help="For --abort-above: let the first N servers end before it counts; default: 1."),
)  # fmt: skip
_yes = option("--yes", "-y", is_flag=True, section=RUN, help="Do not ask for confirmation.")
report = option(
    "--report", multiple=True, callback=once, metavar="FILE", section=OUTPUT, shell_complete=complete_file,
    help="Write a report: FILE.html is a page, FILE.txt text to be mailed, FILE.csv a row for each server.",
)  # fmt: skip
failed_to = option(
    "--failed-to", multiple=True, callback=once, metavar="FILE", section=OUTPUT, shell_complete=complete_file,
    help="Write the ids of all servers that are not as asked, one a line, as --file reads them.",
)  # fmt: skip
serve = option(
    "--serve", type=Number(0, 65535), metavar="PORT", section=OUTPUT,
    help="Show the page on this machine while the run goes on, at http://127.0.0.1:PORT/; 0: any free port.",
)  # fmt: skip
rollout = apply(
    option("--canary", type=Number(min=1), metavar="N", section=ROLLOUT,
           help="N servers first, alone; the others only if all of these are well."),
    option("--group-by", type=GroupName(), metavar="FIELD", section=ROLLOUT, shell_complete=complete(groups_known),
           help="What makes a group: az, flavor, tag:rack, metadata:KEY..."),
    option("--max-unavailable", type=Allowed(), metavar="N", section=ROLLOUT,
           help="At most N servers of each group unavailable at once, or a share: 10%."),
    option("--max-groups", type=Number(min=1), metavar="N", section=ROLLOUT,
           help="At most N groups at once."),
    option("--ready", type=Probe(), multiple=True, metavar="CHECK", section=ROLLOUT,
           help="When a server is well again: tcp:22, http:80/path or https:443/path; all of several."),
    option("--ready-address", type=click.Choice(["fixed", "floating", "any"]), metavar="KIND", section=ROLLOUT,
           help="Which addresses are asked: fixed (default), floating or any."),
    option("--ready-timeout", type=Seconds(least=1), metavar="TIME", section=ROLLOUT,
           help="How long a server has to be well again: 900, 15m; default: 15m."),
    option("--settle", type=Seconds(), metavar="TIME", section=ROLLOUT,
           help="Time between a server that is well again and the next of its group."),
    option("--window", type=HoursType(), multiple=True, metavar="HOURS", section=ROLLOUT,
           help='Begin something in these hours only: "Sat,Sun 22:00-04:00 Europe/Berlin"; repeat it for several.'),
    option("--window-zone", metavar="NAME", section=ROLLOUT,
           help="The time zone of the windows; default: that of this machine."),
    option("--order-by", type=click.Choice(["name"]), metavar="name", section=ROLLOUT,
           help="Go through the servers by their names; default: as they are given."),
)  # fmt: skip
_selection = apply(_file, filters, _excluded)
"""Which servers a command changes, beside ids."""
_printing = apply(output("following.outcomes:TABLE"), quiet, failed_to, report, serve, cloud)
"""What a command prints of the servers that it changes, and where."""
power = apply(
    ids,
    _selection,
    _bounds,
    option("--verify", is_flag=True, section=RUN, help="Read the status of each server at the end, and compare."),
    option("--plan", "--dry-run", "dry_run", is_flag=True, section=RUN,
           help="Print the calls, the waves of a rollout and the times, and change nothing."),
    option("--server-takes", type=Seconds(least=1), metavar="TIME", section=RUN,
           help="For --plan: how long one server takes until it is well; default: 5m."),
    _yes,
    _key,
    option("--detach", is_flag=True, section=RUN,
           help="Write the run into the journal, and leave it to `bms worker`."),
    option("--resume", metavar="KEY", section=RUN, shell_complete=complete_runs,
           help="Go on with a run that was interrupted: its key (see `bms runs list`), or last."),
    option("--retry-failed", metavar="KEY", section=RUN, shell_complete=complete_runs,
           help="Ask again for the servers of an ended run that are not as asked: its key, or last."),
    option("--journal", metavar="URL", section=RUN, help=_JOURNAL),
    option("--no-journal", is_flag=True, section=RUN,
           help="Keep the run in memory alone: if it is killed, it cannot be resumed."),
    rollout,
    option("--save", hidden=True),
    _printing,
)  # fmt: skip
each = apply(
    _selection,
    _bounds,
    option("--plan", "--dry-run", "dry_run", is_flag=True, section=RUN,
           help="Print the calls and the time that they take, and change nothing."),
    _yes,
    rollout,
    _printing,
)  # fmt: skip
