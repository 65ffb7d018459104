"""The options that more than one command has."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

# A flag takes no value, and its help shows none.
NO_VALUE = ""

# fmt: off
__all__ = [
    "NO_VALUE", "AbortAbove", "Cloud", "DryRun", "Enterprise", "File", "FlavorId", "Ids", "Json", "Name", "Quiet",
    "Report", "Resume", "Save", "Status", "Tag", "Verify", "Wave", "Yes", "calls_known",
    "columns_known", "statuses_known",
]
# fmt: on


def statuses_known() -> list[str]:
    """Return the statuses that completion offers."""
    return ["ACTIVE", "BUILD", "ERROR", "HARD_REBOOT", "REBOOT", "SHUTOFF"]


def columns_known() -> list[str]:
    """Return the columns that completion offers."""
    from .servers import COLUMNS

    return list(COLUMNS)


def calls_known() -> list[str]:
    """Return the calls with a limit, which completion offers."""
    from bms_async.limits import DOCUMENTED_LIMITS

    return list(DOCUMENTED_LIMITS)


Cloud: TypeAlias = Annotated[
    str | None, typer.Option("--cloud", metavar="NAME", help="A cloud of clouds.yaml; OS_CLOUD names one too.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", metavar=NO_VALUE, help="One JSON object a line, for scripts.")]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", metavar=NO_VALUE, help="No progress and no report: only what failed.")
]
Tag: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Servers that carry it; given again, those that carry any."),
]
Name: TypeAlias = Annotated[
    list[str] | None, typer.Option("--name", metavar="NAME", help="Servers so named, as the cloud matches.")
]
Status: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--status", metavar="STATUS", help="Servers in it: ACTIVE, SHUTOFF, ERROR...", autocompletion=statuses_known
    ),
]
FlavorId: TypeAlias = Annotated[str | None, typer.Option("--flavor", metavar="ID", help="Servers of this flavor.")]
Enterprise: TypeAlias = Annotated[
    str | None, typer.Option("--enterprise-project", metavar="ID", help="Servers of this enterprise project.")
]
Ids: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="Servers; a - reads ids, one a line, from standard input.")
]
File: TypeAlias = Annotated[
    str | None, typer.Option("--file", "-f", metavar="FILE", help="A file with an id a line; # begins a comment.")
]
Wave: TypeAlias = Annotated[
    int | None, typer.Option("--wave", min=1, metavar="N", help="Have no more than N servers under way at once.")
]
AbortAbove: TypeAlias = Annotated[
    str | None,
    typer.Option("--abort-above", metavar="SHARE", help="Stop asking when more than this share failed: 0.02 or 2%."),
]
Verify: TypeAlias = Annotated[
    bool, typer.Option("--verify", metavar=NO_VALUE, help="Read the servers' states back at the end.")
]
DryRun: TypeAlias = Annotated[
    bool,
    typer.Option("--dry-run", metavar=NO_VALUE, help="Say how many servers, calls and minutes it is; change nothing."),
]
Yes: TypeAlias = Annotated[
    bool, typer.Option("--yes", "-y", metavar=NO_VALUE, help="Do not ask, however many servers it is.")
]
Save: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--save", metavar="FILE", help="Where jobs are saved as long as the run goes on; a state folder else."
    ),
]
Resume: TypeAlias = Annotated[
    str | None,
    typer.Option("--resume", metavar="FILE", help="Go on with a run that was interrupted, from what it saved."),
]
Report: TypeAlias = Annotated[
    str | None,
    typer.Option("--report", metavar="FILE.html", help="Write a page about the run: when what ended, and why not."),
]
