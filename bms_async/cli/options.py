"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

# The help of a flag shows no value.
NO_VALUE = ""

# fmt: off
__all__ = [
    "NO_VALUE", "AbortAbove", "Cloud", "DryRun", "Enterprise", "File", "FlavorId", "Ids", "Json", "Name", "Quiet",
    "Report", "Resume", "Save", "Status", "Tag", "Verify", "Wave", "Yes", "calls_known",
    "columns_known", "statuses_known",
]
# fmt: on


def statuses_known() -> list[str]:
    """Return the statuses for completion."""
    return ["ACTIVE", "BUILD", "ERROR", "HARD_REBOOT", "REBOOT", "SHUTOFF"]


def columns_known() -> list[str]:
    """Return the columns for completion."""
    from .servers import COLUMNS

    return list(COLUMNS)


def calls_known() -> list[str]:
    """Return the calls with a limit, for completion."""
    from bms_async.limits import DOCUMENTED_LIMITS

    return list(DOCUMENTED_LIMITS)


Cloud: TypeAlias = Annotated[
    str | None, typer.Option("--cloud", metavar="NAME", help="A cloud of clouds.yaml; default: OS_CLOUD.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", metavar=NO_VALUE, help="One JSON object a line, for scripts.")]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", metavar=NO_VALUE, help="Print failures only, without progress and results.")
]
Tag: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Servers with this tag; repeat it for several tags."),
]
Name: TypeAlias = Annotated[
    list[str] | None, typer.Option("--name", metavar="NAME", help="Servers with this name, as the cloud matches it.")
]
Status: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="Servers in this status: ACTIVE, SHUTOFF, ERROR...",
        autocompletion=statuses_known,
    ),
]
FlavorId: TypeAlias = Annotated[str | None, typer.Option("--flavor", metavar="ID", help="Servers of this flavor.")]
Enterprise: TypeAlias = Annotated[
    str | None, typer.Option("--enterprise-project", metavar="ID", help="Servers of this enterprise project.")
]
Ids: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="Server ids; - reads them from standard input, one a line.")
]
File: TypeAlias = Annotated[
    str | None, typer.Option("--file", "-f", metavar="FILE", help="A file with one id a line; # starts a comment.")
]
Wave: TypeAlias = Annotated[
    int | None, typer.Option("--wave", min=1, metavar="N", help="Have at most N servers in flight at once.")
]
AbortAbove: TypeAlias = Annotated[
    str | None,
    typer.Option("--abort-above", metavar="SHARE", help="Abort when more than this share failed: 0.02 or 2%."),
]
Verify: TypeAlias = Annotated[
    bool, typer.Option("--verify", metavar=NO_VALUE, help="Read the states of the servers back at the end.")
]
DryRun: TypeAlias = Annotated[
    bool,
    typer.Option("--dry-run", metavar=NO_VALUE, help="Print the number of servers, calls and minutes; change nothing."),
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", metavar=NO_VALUE, help="Do not ask for confirmation.")]
Save: TypeAlias = Annotated[
    str | None,
    typer.Option("--save", metavar="FILE", help="Where jobs are saved during the run; default: a state folder."),
]
Resume: TypeAlias = Annotated[
    str | None,
    typer.Option("--resume", metavar="FILE", help="Resume an interrupted run from its saved file."),
]
Report: TypeAlias = Annotated[
    str | None,
    typer.Option("--report", metavar="FILE.html", help="Write a page about the run: what ended when, and why not."),
]
