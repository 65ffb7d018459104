"""The commands and their options. The code of a command is imported when it is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Unpack

import click

from bms_async import __version__

from . import options, shared
from .app_api import api
from .app_configure import configure
from .app_each import COMMANDS, nova
from .app_help import help_command
from .app_reading import LIMITS_OPEN, calls, jobs, limits, limits_open, login, quota, servers_list, servers_show
from .app_runs import runs, worker
from .completing import ended_in_time
from .context import VERBOSE
from .declaring import argument
from .ending import EXIT_CODES, HARD_REBOOT, HARD_STOP, end
from .help import Command, Group, Option
from .shells import SHELLS, VARIABLE, complete_for, make_script
from .terminal.streams import discard_output, print_error
from .terminal.texts import describe_os_error

if TYPE_CHECKING:
    from .acting.power_options import Action, PowerArguments

__all__ = ["app", "run_app"]

_OUTPUT_FAILED = 2
_NO_READER = 128 + 13


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
        print_error(describe_os_error(error))
        return _OUTPUT_FAILED


def _run(arguments: list[str]) -> int:
    """Do what click's `main` does, which has codes of its own for Ctrl-C and for an output without a reader."""
    instruction = os.environ.get(VARIABLE)
    if instruction:
        with ended_in_time():
            return complete_for(app, instruction)
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
        **dict.fromkeys(("limits", LIMITS_OPEN, "calls", "quota", "login", "configure", "api"), "Cloud"),
        **dict.fromkeys(("simulator", "completion", "help"), "Tools"),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands that a shell offers: each of them is one word."""
        return [name for name in super().list_commands(ctx) if name != LIMITS_OPEN]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the arguments; one has two words, since the first of them takes calls, too."""
        if " ".join(args[:2]) == LIMITS_OPEN:
            return LIMITS_OPEN, self.commands[LIMITS_OPEN], args[2:]
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

    if VERBOSE not in context.meta:
        context.call_on_close(begin_logging(0))


Group.everywhere = (shared.cloud_before, shared.profile, shared.verbose)
Command.everywhere = (shared.profile, shared.verbose)
Command.after_parsing = (shared.leave_out,)


@app.group()
def servers() -> None:
    """List servers, show all fields of one, and rename, tag, reinstall any number of them, or attach volumes."""


for _command in (servers_list, servers_show, *COMMANDS):
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


for _command in (jobs, nova, runs, worker, api, limits, limits_open, calls, quota, login, configure):
    app.add_command(_command)


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
@argument("shell", type=click.Choice(tuple(SHELLS)), metavar="SHELL", description="One of bash, zsh and fish.")
def _completion(shell: str) -> None:
    """Print the script by which a shell completes commands, options and their values.

    For bash, add the line `source <(bms completion bash)` to ~/.bashrc. For zsh, add `source <(bms completion zsh)` to
    ~/.zshrc, below compinit. For fish, run `bms completion fish > ~/.config/fish/completions/bms.fish` once.
    """
    click.echo(make_script(app, shell))


app.add_command(help_command)
