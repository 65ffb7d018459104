"""The commands and their options. The code of a command is imported when it is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Unpack

import click
from click.shell_completion import ShellComplete, get_completion_class, shell_complete

from bms_async import __version__

from . import options, shared
from .app_api import api
from .app_configure import configure
from .app_each import COMMANDS, nova
from .app_help import help_command
from .app_runs import runs, worker
from .completing import ended_in_time
from .ending import EXIT_CODES, HARD_REBOOT, HARD_STOP, end
from .help import Command, Group, Option
from .options import OUTPUT, argument, complete, complete_file, limits_known, option
from .terminal.streams import discard_output, print_error

if TYPE_CHECKING:
    from .acting.power_options import Action, PowerArguments
    from .selection.filters import FilterArguments
    from .terminal.forms import OutputOptions

__all__ = ["app", "run_app"]

_OUTPUT_FAILED = 2
_NO_READER = 128 + 13
_COMPLETE = "_BMS_COMPLETE"
_LIMITS_OPEN: Final = "limits open"
_SHELLS: Final = ("bash", "zsh", "fish")


def run_app(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code.

    Args:
        arguments: The arguments after ``bms``; those of the process by default.
    """
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except BrokenPipeError:
        return _NO_READER
    except OSError as error:
        # From the help or a completion script; commands handle their own errors.
        discard_output()
        print_error(str(error))
        return _OUTPUT_FAILED


def _run(arguments: list[str]) -> int:
    """Do what click's `main` does, which has codes of its own for Ctrl-C and for an output without a reader."""
    instruction = os.environ.get(_COMPLETE)
    if instruction:
        with ended_in_time():
            return shell_complete(app, {}, "bms", _COMPLETE, instruction)
    try:
        with app.make_context("bms", arguments) as context:
            app.invoke(context)
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


class _Bms(Group):
    sections: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("servers", "start", "stop", "reboot", "jobs", "nova"), "Servers"),
        **dict.fromkeys(("runs", "worker"), "Runs"),
        **dict.fromkeys(("limits", _LIMITS_OPEN, "calls", "quota", "login", "configure", "api"), "Cloud"),
        **dict.fromkeys(("simulator", "completion", "help"), "Tools"),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands that a shell offers: each of them is one word."""
        return [name for name in super().list_commands(ctx) if name != _LIMITS_OPEN]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the arguments; one has two words, since the first of them takes calls, too."""
        if " ".join(args[:2]) == _LIMITS_OPEN:
            return _LIMITS_OPEN, self.commands[_LIMITS_OPEN], args[2:]
        return super().resolve_command(ctx, args)


@click.group(
    "bms",
    cls=_Bms,
    help="Bare-metal servers from the command line: list them; stop, start and reboot any number of them as fast as the"
    " cloud's limits allow; watch jobs; see what is left of each limit.\n\n"
    "BMS_ENDPOINT, OS_PROJECT_ID and OS_TOKEN (or a password, or an access key) lead to the cloud, or --cloud NAME to"
    " one of clouds.yaml; `bms help settings` lists all of them, and `bms login` checks them. `bms simulator` serves a"
    " simulated cloud.",
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s", cls=Option, help="Show the version.")
@click.pass_context
def app(context: click.Context) -> None:
    """Begin to log; the help is above."""
    from .terminal.logs import begin_logging

    if shared.VERBOSE not in context.meta:
        context.call_on_close(begin_logging(0))


Group.everywhere = (shared.cloud_before, shared.profile, shared.verbose)
Command.everywhere = (shared.profile, shared.verbose)
Command.after_parsing = (shared.leave_out,)


@app.group()
def servers() -> None:
    """List servers, show all fields of one, and rename, tag, reinstall any number of them, or attach volumes."""


@servers.command("list", epilog=EXIT_CODES)
@options.filters
@option("--limit", "-n", type=click.IntRange(min=0), metavar="N", section=OUTPUT, help="At most N servers.")
@options.output("reading.servers:TABLE")
@option("--ids", is_flag=True, section=OUTPUT, help="Ids only, for bms stop: the same as -o ids.")
@options.cloud
def _servers_list(
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


@servers.command("show", epilog=EXIT_CODES)
@options.ids
@options.output("reading.servers:TABLE")
@options.cloud
def _servers_show(*, ids: Sequence[str], output: OutputOptions, cloud: str | None) -> None:
    """Show all fields of servers."""

    def work() -> int:
        from .reading.servers import show_servers

        return show_servers(ids, cloud=cloud, output=output)

    end(work)


for _command in COMMANDS:
    servers.add_command(_command)


def _power(action: Action, doc: str) -> None:
    """Add the command for one of the three actions, which have the same options."""

    @app.command(action, help=doc, epilog=EXIT_CODES)
    @options.power
    def command(**typed: Unpack[PowerArguments]) -> None:
        def work() -> int:
            from .acting.power import act
            from .acting.power_options import make_power_options

            return act(action, make_power_options(typed))

        end(work)


_SAME = (
    "\n\nThe servers are given as ids, a file or a pipe, or chosen by filters. One call takes 1000 servers, and the"
    " calls keep the cloud's limit. Results go to standard output, progress to standard error.\n\n"
    "With the options of a rollout it goes through the fleet so that what runs there stays up: canaries first, a few"
    " servers of a group at a time, each well again before the next, and only at the hours that you allow.\n\n"
    "Ctrl-C: no further server is asked, and what is under way is waited for. A second Ctrl-C lets go of that, and says"
    " how to watch it and how to resume the run. A third one exits at once."
)
_power("start", f"Start servers: their power is switched on. What is on already stays as it is.{_SAME}")
_power("stop", f"Stop servers: their power is cut, and data that is not on disk yet may be lost.{HARD_STOP}{_SAME}")
_power(
    "reboot",
    "Restart servers: their power is cut and switched on again, and data that is not on disk yet may be lost."
    f"{HARD_REBOOT}{_SAME}",
)


@app.group()
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


app.add_command(nova)
app.add_command(runs)
app.add_command(worker)
app.add_command(api)


@app.command("limits", epilog=EXIT_CODES)
@argument(
    "calls",
    nargs=-1,
    metavar="[CALL]...",
    shell_complete=complete(limits_known),
    description="Calls such as servers.stop, or groups of them such as servers.",
)
@options.output("reading.info:LIMITS")
@options.cloud
def _limits(*, calls: Sequence[str], output: OutputOptions, cloud: str | None) -> None:
    """Show how much of each limit is used, what is left, and which commands and programs use it or wait.

    The commands and programs of this machine that share its file of limits are counted, or all that share the store
    that BMS_LIMITS names, on any machine. No call is made, and the store is not changed. `bms limits open` opens an
    account that is closed at first.
    """

    def work() -> int:
        from .reading.info import show_limits

        return show_limits(calls, cloud=cloud, output=output)

    end(work)


@app.command(_LIMITS_OPEN, epilog=EXIT_CODES)
@option("--account", metavar="NAME", help="The account in the store; default: that of the cloud.")
@option("--store", metavar="URL", help="The store, such as redis://host:6379/0; default: BMS_LIMITS, or this machine.")
@option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@options.cloud
@options.output(None)
def _limits_open(
    *, account: str | None, store: str | None, yes: bool, cloud: str | None, output: OutputOptions
) -> None:
    """Open an account at once that a store of limits keeps closed for 135 seconds at first.

    You vouch that the cloud does not count any calls of the last minutes that the store does not know. If the store has
    a password, name it by BMS_LIMITS: other users of the machine can read a command's arguments.
    """

    def work() -> int:
        from .reading.opening import open_limits

        return open_limits(account=account, store=store, cloud=cloud, yes=yes, output=output)

    end(work)


@app.command("calls", epilog=EXIT_CODES)
@argument("word", required=False, metavar="[WORD]", description="A part of the name, path or title.")
@options.output("reading.info:CALLS")
def _calls(*, word: str | None, output: OutputOptions) -> None:
    """List all calls: method, calls a minute, chapter of the reference, IAM action."""

    def work() -> int:
        from .reading.info import show_calls

        return show_calls(word, output=output)

    end(work)


@app.command("quota", epilog=EXIT_CODES)
@options.output("reading.quota:TABLE")
@options.cloud
def _quota(*, output: OutputOptions, cloud: str | None) -> None:
    """Show the quotas of the project, and their usage."""

    def work() -> int:
        from .reading.quota import show_quota

        return show_quota(cloud=cloud, output=output)

    end(work)


@app.command("login", epilog=EXIT_CODES)
@options.output("access.login:TABLE")
@options.cloud
def _login(*, output: OutputOptions, cloud: str | None) -> None:
    """Check the credentials: whose they are, how long they are valid, what they may read. Nothing is changed."""

    def work() -> int:
        from .access.login import log_in

        return log_in(cloud=cloud, output=output)

    end(work)


app.add_command(configure)


@app.command(
    "simulator",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
@options.json
@click.pass_context
def _simulator(context: click.Context, *, json: bool) -> None:
    """Serve a simulated cloud on this machine, and print the variables that lead to it; --help shows its options."""

    def work() -> int:
        from .reading.simulate import simulate

        return simulate(context.args, json=json)

    end(work)


@app.command("completion")
@argument("shell", type=click.Choice(_SHELLS), metavar="SHELL", description="One of bash, zsh and fish.")
def _completion(shell: str) -> None:
    """Print the script by which a shell completes commands, options and their values.

    For bash, add the line `source <(bms completion bash)` to ~/.bashrc. For zsh, add `source <(bms completion zsh)` to
    ~/.zshrc, below compinit. For fish, run `bms completion fish > ~/.config/fish/completions/bms.fish` once.
    """
    kind = get_completion_class(shell)
    if kind is not None:
        # Not the source of its own class, which asks bash for its version, and that may be another bash.
        click.echo(ShellComplete.source(kind(app, {}, "bms", _COMPLETE)))


app.add_command(help_command)
