"""What can be typed: each command with its options. What it does is imported only when it is run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from .options import (
    NO_VALUE,
    AbortAbove,
    Cloud,
    DryRun,
    Enterprise,
    File,
    FlavorId,
    Ids,
    Json,
    Name,
    Quiet,
    Report,
    Resume,
    Save,
    Status,
    Tag,
    Verify,
    Wave,
    Yes,
    calls_known,
    columns_known,
)
from .streams import discard_output, print_error

if TYPE_CHECKING:
    from .ids import Filters
    from .power import Action

__all__ = ["app", "run_app"]

_UNWRITTEN = 2
_NO_READER = 128 + 13
_EXIT_CODES = (
    "Exit codes: 0 all went well; 1 some servers are not as asked, or were not found; 2 wrong usage;"
    " 3 the credentials or settings do not do; 4 the cloud cannot be reached, or is out of order;"
    " 130 interrupted by Ctrl-C, 143 by SIGTERM; 141 whoever read the output has left."
)

app = typer.Typer(
    name="bms",
    help="Bare-metal servers from the command line: list them; stop, start and reboot any number of them as fast as the"
    " cloud's limits allow; follow jobs; see what is left of each limit.\n\n"
    "Which cloud is meant is said by BMS_ENDPOINT, OS_PROJECT_ID and OS_TOKEN (or a password, or an access key), or by"
    " --cloud NAME of a clouds.yaml. `bms login` checks it. `bms simulator` is one to try things on.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
servers = typer.Typer(help="List servers, and show all that the cloud tells of one.", no_args_is_help=True)
jobs = typer.Typer(help="Look at jobs, and follow them to their end.", no_args_is_help=True)
app.add_typer(servers, name="servers")
app.add_typer(jobs, name="jobs")


class Shell(StrEnum):
    """The shells that completion is there for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def run_app(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code.

    Args:
        arguments: What is typed after ``bms``; the process's own by default.
    """
    streams = sys.stdout, sys.stderr
    try:
        app(args=None if arguments is None else list(arguments), prog_name="bms")
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):
            # What shows the help has an exit code of its own for that.
            return _NO_READER
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BrokenPipeError:
        return _NO_READER
    except OSError as error:
        # Help or a script of completion; what commands write, they look after themselves.
        discard_output()
        print_error(str(error))
        return _UNWRITTEN
    finally:
        sys.stdout, sys.stderr = streams
    return 0


def _end(work: Callable[[], int]) -> NoReturn:
    from .exit import run_guarded

    raise typer.Exit(run_guarded(work))


def _version(asked: bool) -> None:  # noqa: FBT001 - as typer calls it
    if asked:
        from bms_async import __version__

        typer.echo(f"bms {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    *,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            metavar=NO_VALUE,
            show_default=False,
            help="Log what the SDK does; twice for all of it.",
        ),
    ] = 0,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", metavar=NO_VALUE, callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    from .logs import begin_logging

    context.call_on_close(begin_logging(verbose))


def _filters(
    tags: list[str] | None, names: list[str] | None, statuses: list[str] | None, flavor: str | None, project: str | None
) -> tuple[Filters, ...]:
    from .exit import UsageError
    from .ids import Filters

    given = {"--tag": tags, "--name": names, "--status": statuses}
    alone = {"--flavor": flavor, "--enterprise-project": project}
    for option, values in {
        **given,
        **{option: [value] for option, value in alone.items() if value is not None},
    }.items():
        # An empty filter is no filter: a variable that a script has not set must not stop every server.
        if any(not value.strip() for value in values or ()):
            raise UsageError(f"{option} is empty: give one, or leave the option away")
    if not (any(given.values()) or flavor or project):
        return ()
    ways = product(*(values or (None,) for values in given.values()))
    return tuple(
        Filters(tag=tag, name=name, status=status, flavor=flavor, enterprise_project=project)
        for tag, name, status in ways
    )


@servers.command("list", epilog=_EXIT_CODES)
def _servers_list(
    *,
    tag: Tag = None,
    name: Name = None,
    status: Status = None,
    flavor: FlavorId = None,
    enterprise_project: Enterprise = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, metavar="N", help="No more than N.")] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", metavar="A,B,...", help="Which columns; a wrong one shows all.", autocompletion=columns_known
        ),
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", metavar=NO_VALUE, help="Ids alone, to be piped into bms stop.")] = False,
    json: Json = False,
    cloud: Cloud = None,
) -> None:
    """List servers: aligned on a terminal, with tabs between where the output goes elsewhere."""

    def work() -> int:
        from .servers import ListOptions, list_servers

        filters = _filters(tag, name, status, flavor, enterprise_project)
        return list_servers(ListOptions(filters=filters, cloud=cloud, limit=limit, columns=columns, json=json, ids=ids))

    _end(work)


@servers.command("show", epilog=_EXIT_CODES)
def _servers_show(*, ids: Ids = None, json: Json = False, cloud: Cloud = None) -> None:
    """Show all that the cloud tells of servers."""

    def work() -> int:
        from .servers import show_servers

        return show_servers(ids or (), cloud=cloud, json=json)

    _end(work)


def _power(action: Action, doc: str) -> None:
    """Add the command for one of the three actions; they take the same."""

    def command(
        *,
        ids: Ids = None,
        file: File = None,
        tag: Tag = None,
        name: Name = None,
        status: Status = None,
        flavor: FlavorId = None,
        enterprise_project: Enterprise = None,
        wave: Wave = None,
        abort_above: AbortAbove = None,
        verify: Verify = False,
        dry_run: DryRun = False,
        yes: Yes = False,
        json: Json = False,
        quiet: Quiet = False,
        report: Report = None,
        save: Save = None,
        resume: Resume = None,
        cloud: Cloud = None,
    ) -> None:
        def work() -> int:
            from .power import PowerOptions, act, read_share

            options = PowerOptions(
                ids=ids or (),
                file=file,
                filters=_filters(tag, name, status, flavor, enterprise_project),
                cloud=cloud,
                wave=wave,
                abort_above=None if abort_above is None else read_share(abort_above),
                verify=verify,
                dry_run=dry_run,
                yes=yes,
                json=json,
                quiet=quiet,
                save=save,
                resume=resume,
                report=report,
            )
            return act(action, options)

        _end(work)

    app.command(action, help=doc, epilog=_EXIT_CODES)(command)


_SAME = (
    "\n\nThey are named by ids, a file, a pipe, or by what the cloud knows of them. One call takes 1000 servers, and"
    " the calls keep within the cloud's limit. Results go to standard output, progress to standard error.\n\n"
    "Ctrl-C: nothing more is asked for, and it is told how to follow what was and how to go on. Twice: leaves at once."
)
_power("start", f"Start servers.{_SAME}")
_power("stop", f"Stop servers by cutting their power.{_SAME}")
_power("reboot", f"Restart servers; none is restarted twice.{_SAME}")


@jobs.command("show", epilog=_EXIT_CODES)
def _jobs_show(
    *, ids: Annotated[list[str], typer.Argument(metavar="ID", help="Jobs.")], json: Json = False, cloud: Cloud = None
) -> None:
    """Show how far jobs are; 1 if one has failed."""

    def work() -> int:
        from .jobs import show_jobs

        return show_jobs(ids, cloud=cloud, json=json)

    _end(work)


@jobs.command("watch", epilog=_EXIT_CODES)
def _jobs_watch(
    *,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Jobs.")] = None,
    file: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="What a run has saved, or saved handles, one a line.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    cloud: Cloud = None,
) -> None:
    """Follow jobs to their end; 1 if one fails. Ctrl-C only ends the watching."""

    def work() -> int:
        from .jobs import watch_jobs

        return watch_jobs(ids or (), file=file, cloud=cloud, json=json, quiet=quiet)

    _end(work)


@app.command("limits", epilog=_EXIT_CODES)
def _limits(
    *,
    calls: Annotated[
        list[str] | None, typer.Argument(metavar="CALL", help="Such as servers.stop.", autocompletion=calls_known)
    ] = None,
    json: Json = False,
    cloud: Cloud = None,
) -> None:
    """Show of each limit what the commands of this machine have used in the last minute, and what is left.

    Other programs and other machines are not seen. No call is made.
    """

    def work() -> int:
        from .info import show_limits

        return show_limits(calls or (), cloud=cloud, json=json)

    _end(work)


@app.command("calls", epilog=_EXIT_CODES)
def _calls_command(
    *,
    word: Annotated[
        str | None, typer.Argument(metavar="WORD", help="What a call has in its name, path or title.")
    ] = None,
    json: Json = False,
) -> None:
    """List every call: its method, calls a minute, chapter of the reference, IAM action."""

    def work() -> int:
        from .info import show_calls

        return show_calls(word, json=json)

    _end(work)


@app.command("quota", epilog=_EXIT_CODES)
def _quota(*, json: Json = False, cloud: Cloud = None) -> None:
    """Show how much the project may have, and has."""

    def work() -> int:
        from .info import show_quota

        return show_quota(cloud=cloud, json=json)

    _end(work)


@app.command("login", epilog=_EXIT_CODES)
def _login(*, json: Json = False, cloud: Cloud = None) -> None:
    """Check the credentials: whose they are, how long they are good, what they may read. Nothing is changed."""

    def work() -> int:
        from .login import log_in

        return log_in(cloud=cloud, json=json)

    _end(work)


@app.command(
    "simulator",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def _simulator(context: typer.Context, *, json: Json = False) -> None:
    """Serve a simulated cloud on this machine, and print the exports that lead to it; --help shows its options."""

    def work() -> int:
        from .simulate import simulate

        return simulate(context.args, json=json)

    _end(work)


@app.command("completion")
def _completion(shell: Annotated[Shell, typer.Argument(help="The shell.")]) -> None:
    """Print what a shell needs to complete bms: `source <(bms completion bash)`."""
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="bms", complete_var="_BMS_COMPLETE", shell=shell.value))
