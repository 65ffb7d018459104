"""The commands and their options. The code of a command is imported when it is run."""

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

_OUTPUT_FAILED = 2
_NO_READER = 128 + 13
_EXIT_CODES = (
    "Exit codes: 0 success; 1 some servers are not as asked, or were not found; 2 wrong usage;"
    " 3 invalid credentials or settings; 4 the cloud cannot be reached, or fails;"
    " 130 interrupted by Ctrl-C, 143 by SIGTERM; 141 the reader of the output has closed it."
)

app = typer.Typer(
    name="bms",
    help="Bare-metal servers from the command line: list them; stop, start and reboot any number of them as fast as the"
    " cloud's limits allow; watch jobs; see what is left of each limit.\n\n"
    "BMS_ENDPOINT, OS_PROJECT_ID and OS_TOKEN (or a password, or an access key) name the cloud, or --cloud NAME of a"
    " clouds.yaml. `bms login` checks it. `bms simulator` serves a simulated one.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
servers = typer.Typer(help="List servers, and show all fields of one.", no_args_is_help=True)
jobs = typer.Typer(help="Show jobs, and watch them until they end.", no_args_is_help=True)
app.add_typer(servers, name="servers")
app.add_typer(jobs, name="jobs")


class Shell(StrEnum):
    """The shells with completion."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def run_app(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code.

    Args:
        arguments: The arguments after ``bms``; those of the process by default.
    """
    streams = sys.stdout, sys.stderr
    try:
        app(args=None if arguments is None else list(arguments), prog_name="bms")
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):
            # typer's help exits with another code on a closed pipe.
            return _NO_READER
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BrokenPipeError:
        return _NO_READER
    except OSError as error:
        # From the help or a completion script; commands handle their own errors.
        discard_output()
        print_error(str(error))
        return _OUTPUT_FAILED
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
            help="Log what the SDK does; twice for debug records.",
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
    single = {"--flavor": flavor, "--enterprise-project": project}
    for option, values in {
        **given,
        **{option: [value] for option, value in single.items() if value is not None},
    }.items():
        # An empty filter matches all servers: an unset variable of a script must not stop every one.
        if any(not value.strip() for value in values or ()):
            raise UsageError(f"{option} is empty: expected a value; give one, or leave the option out")
    if not (any(given.values()) or flavor or project):
        return ()
    combinations = product(*(values or (None,) for values in given.values()))
    return tuple(
        Filters(tag=tag, name=name, status=status, flavor=flavor, enterprise_project=project)
        for tag, name, status in combinations
    )


@servers.command("list", epilog=_EXIT_CODES)
def _servers_list(
    *,
    tag: Tag = None,
    name: Name = None,
    status: Status = None,
    flavor: FlavorId = None,
    enterprise_project: Enterprise = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, metavar="N", help="At most N servers.")] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", metavar="A,B,...", help="The columns; an unknown one lists all.", autocompletion=columns_known
        ),
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", metavar=NO_VALUE, help="Ids only, to be piped into bms stop.")] = False,
    json: Json = False,
    cloud: Cloud = None,
) -> None:
    """List servers: aligned on a terminal, separated by tabs elsewhere."""

    def work() -> int:
        from .servers import ListOptions, list_servers

        filters = _filters(tag, name, status, flavor, enterprise_project)
        return list_servers(ListOptions(filters=filters, cloud=cloud, limit=limit, columns=columns, json=json, ids=ids))

    _end(work)


@servers.command("show", epilog=_EXIT_CODES)
def _servers_show(*, ids: Ids = None, json: Json = False, cloud: Cloud = None) -> None:
    """Show all fields of servers."""

    def work() -> int:
        from .servers import show_servers

        return show_servers(ids or (), cloud=cloud, json=json)

    _end(work)


def _power(action: Action, doc: str) -> None:
    """Add the command for one of the three actions, which have the same options."""

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
    "\n\nThe servers are given as ids, a file or a pipe, or chosen by filters. One call takes 1000 servers, and the"
    " calls keep the cloud's limit. Results go to standard output, progress to standard error.\n\n"
    "Ctrl-C: no further batch is sent, and how to watch the jobs and resume the run is printed. Twice: exits at once."
)
_power("start", f"Start servers.{_SAME}")
_power("stop", f"Stop servers by cutting their power.{_SAME}")
_power("reboot", f"Restart servers; none is restarted twice.{_SAME}")


@jobs.command("show", epilog=_EXIT_CODES)
def _jobs_show(
    *, ids: Annotated[list[str], typer.Argument(metavar="ID", help="Jobs.")], json: Json = False, cloud: Cloud = None
) -> None:
    """Show the progress of jobs; exit code 1 if one has failed."""

    def work() -> int:
        from .jobs import show_jobs

        return show_jobs(ids, cloud=cloud, json=json)

    _end(work)


@jobs.command("watch", epilog=_EXIT_CODES)
def _jobs_watch(
    *,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Jobs.")] = None,
    file: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="A saved run, or saved handles, one a line.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    cloud: Cloud = None,
) -> None:
    """Watch jobs until they end; exit code 1 if one fails. Ctrl-C ends the watching only."""

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
    """Show how much of each limit the commands of this machine used in the last minute, and what is left.

    The usage of other programs and other machines is not known. No call is made.
    """

    def work() -> int:
        from .info import show_limits

        return show_limits(calls or (), cloud=cloud, json=json)

    _end(work)


@app.command("calls", epilog=_EXIT_CODES)
def _calls_command(
    *,
    word: Annotated[str | None, typer.Argument(metavar="WORD", help="A part of the name, path or title.")] = None,
    json: Json = False,
) -> None:
    """List all calls: method, calls a minute, chapter of the reference, IAM action."""

    def work() -> int:
        from .info import show_calls

        return show_calls(word, json=json)

    _end(work)


@app.command("quota", epilog=_EXIT_CODES)
def _quota(*, json: Json = False, cloud: Cloud = None) -> None:
    """Show the quotas of the project, and their usage."""

    def work() -> int:
        from .info import show_quota

        return show_quota(cloud=cloud, json=json)

    _end(work)


@app.command("login", epilog=_EXIT_CODES)
def _login(*, json: Json = False, cloud: Cloud = None) -> None:
    """Check the credentials: whose they are, how long they are valid, what they may read. Nothing is changed."""

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
    """Print the completion script of a shell: `source <(bms completion bash)`."""
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="bms", complete_var="_BMS_COMPLETE", shell=shell.value))
