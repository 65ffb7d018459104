"""The commands that change nothing: lists, servers, jobs, limits, calls, quotas and credentials, and their options.

The code of a command is imported when it is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Unpack

import click

from . import options
from .declaring import OUTPUT, argument, complete, complete_file, limits_known, option
from .ending import EXIT_CODES, end
from .help import Command, Group
from .numbers import Number

if TYPE_CHECKING:
    from .selection.filters import FilterArguments
    from .terminal.forms import OutputOptions

__all__ = [
    "LIMITS_OPEN",
    "calls",
    "jobs",
    "limits",
    "limits_open",
    "login",
    "quota",
    "servers_list",
    "servers_show",
]

LIMITS_OPEN: Final = "limits open"
"""The name of a command that has two words, since the first of them takes calls, too."""


@click.command("list", cls=Command, epilog=EXIT_CODES)
@options.filters
@option("--limit", "-n", type=Number(min=0), metavar="N", section=OUTPUT, help="At most N servers.")
@options.output("reading.servers:TABLE")
@option("--ids", is_flag=True, section=OUTPUT, help="Ids only, for bms stop: the same as -o ids.")
@options.cloud
def servers_list(
    *,
    limit: int | None,
    output: OutputOptions,
    ids: bool,
    cloud: str | None,
    **typed: Unpack[FilterArguments],
) -> None:
    """List servers: aligned on a terminal, separated by tabs elsewhere."""

    def work() -> int:
        from .reading.servers import ListOptions, list_servers
        from .selection.filters import make_filters

        filters = make_filters(typed)
        return list_servers(ListOptions(filters=filters, cloud=cloud, limit=limit, output=output, ids=ids))

    end(work)


@click.command("show", cls=Command, epilog=EXIT_CODES)
@options.ids
@options.output("reading.servers:TABLE")
@options.cloud
def servers_show(*, ids: Sequence[str], output: OutputOptions, cloud: str | None) -> None:
    """Show all fields of servers."""

    def work() -> int:
        from .reading.servers import show_servers

        return show_servers(ids, cloud=cloud, output=output)

    end(work)


@click.group("jobs", cls=Group)
def jobs() -> None:
    """Show jobs, and watch them until they end."""


@jobs.command("show", epilog=EXIT_CODES)
@argument("ids", nargs=-1, required=True, metavar="ID...", description="Jobs.")
@options.output("reading.job_rows:JOBS")
@options.cloud
def _jobs_show(*, ids: Sequence[str], output: OutputOptions, cloud: str | None) -> None:
    """Show the progress of jobs; exit code 1 if one has failed."""

    def work() -> int:
        from .reading.jobs import show_jobs

        return show_jobs(ids, cloud=cloud, output=output)

    end(work)


@jobs.command("watch", epilog=EXIT_CODES)
@argument("ids", nargs=-1, metavar="[ID]...", description="Jobs.")
@option(
    "--from", "file", metavar="FILE", section="Arguments", shell_complete=complete_file,
    help="A saved run, or saved handles, one a line.",
)  # fmt: skip
@options.output("reading.job_rows:SUB_JOBS")
@options.quiet
@options.cloud
def _jobs_watch(*, ids: Sequence[str], file: str | None, output: OutputOptions, quiet: bool, cloud: str | None) -> None:
    """Watch jobs until they end; exit code 1 if one fails. Ctrl-C ends the watching only."""

    def work() -> int:
        from .reading.jobs import watch_jobs

        return watch_jobs(ids, file=file, cloud=cloud, output=output, quiet=quiet)

    end(work)


@click.command("limits", cls=Command, epilog=EXIT_CODES)
@argument(
    "calls",
    nargs=-1,
    metavar="[CALL]...",
    shell_complete=complete(limits_known),
    description="Calls such as servers.stop, or groups of them such as servers.",
)
@options.output("reading.info:LIMITS")
@options.cloud
def limits(*, calls: Sequence[str], output: OutputOptions, cloud: str | None) -> None:
    """Show how much of each limit is used, what is left, and which commands and programs use it or wait.

    The commands and programs of this machine that share its file of limits are counted, or all that share the store
    that BMS_LIMITS names, on any machine. No call is made, and the store is not changed; but where the settings have
    the project's name and no command has found its id yet, this one logs in for it. `bms limits open` opens an account
    that is closed at first.
    """

    def work() -> int:
        from .reading.info import show_limits

        return show_limits(calls, cloud=cloud, output=output)

    end(work)


@click.command(LIMITS_OPEN, cls=Command, epilog=EXIT_CODES)
@option("--account", metavar="NAME", help="The account in the store; default: that of the cloud.")
@option("--store", metavar="URL", help="The store, such as redis://host:6379/0; default: BMS_LIMITS, or this machine.")
@option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@options.cloud
@options.output(None)
def limits_open(*, account: str | None, store: str | None, yes: bool, cloud: str | None, output: OutputOptions) -> None:
    """Open an account at once that a store of limits keeps closed for 135 seconds at first.

    You vouch that the cloud does not count any calls of the last minutes that the store does not know. If the store has
    a password, name it by BMS_LIMITS: other users of the machine can read a command's arguments.
    """

    def work() -> int:
        from .reading.opening import open_limits

        return open_limits(account=account, store=store, cloud=cloud, yes=yes, output=output)

    end(work)


@click.command("calls", cls=Command, epilog=EXIT_CODES)
@argument("word", required=False, metavar="[WORD]", description="A part of the name, path or title.")
@options.output("reading.info:CALLS")
def calls(*, word: str | None, output: OutputOptions) -> None:
    """List all calls: method, calls a minute, chapter of the reference, IAM action."""

    def work() -> int:
        from .reading.info import show_calls

        return show_calls(word, output=output)

    end(work)


@click.command("quota", cls=Command, epilog=EXIT_CODES)
@options.output("reading.quota:TABLE")
@options.cloud
def quota(*, output: OutputOptions, cloud: str | None) -> None:
    """Show the quotas of the project, and their usage."""

    def work() -> int:
        from .reading.quota import show_quota

        return show_quota(cloud=cloud, output=output)

    end(work)


@click.command("login", cls=Command, epilog=EXIT_CODES)
@options.output("access.login:TABLE")
@options.cloud
def login(*, output: OutputOptions, cloud: str | None) -> None:
    """Check the credentials: whose they are, how long they are valid, what they may read. Nothing is changed."""

    def work() -> int:
        from .access.login import log_in

        return log_in(cloud=cloud, output=output)

    end(work)
