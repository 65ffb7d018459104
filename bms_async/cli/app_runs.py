"""The commands about runs in the journal, and their options; the code of a command is imported when it is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import click

from . import options
from .completing import complete_clouds, complete_runs
from .declaring import OUTPUT, ROLLOUT, apply, argument, option
from .ending import EXIT_CODES, end
from .help import Command, Group
from .numbers import Number
from .shared import pick_cloud

if TYPE_CHECKING:
    from .rolling import RolloutArguments
    from .runs.commands import RunsOptions
    from .terminal.forms import OutputOptions

__all__ = ["runs", "worker"]

_keys = argument(
    "keys", nargs=-1, required=True, metavar="KEY...", shell_complete=complete_runs,
    description="Runs, or last; `bms runs list` shows them.",
)  # fmt: skip
_key = argument(
    "key", metavar="KEY", shell_complete=complete_runs, description="The run, or last; `bms runs list` shows them."
)  # fmt: skip
_everywhere = option("--all", "everywhere", is_flag=True, help="Runs of all clouds and projects in the journal.")
_common = apply(options.output("runs.run_texts:TABLE"), options.cloud, options.journal)
_common_of_outcomes = apply(options.output("following.outcomes:TABLE"), options.cloud, options.journal)

_CHANGES = {
    "pause": ("paused", "Send nothing more of runs until they are resumed; jobs under way go on."),
    "resume": ("open", "Let workers go on with paused runs."),
    "cancel": ("cancelled", "End runs: what was not sent is never sent. Jobs under way go on, and are watched."),
}


@click.group("runs", cls=Group)
def runs() -> None:
    """List, watch, pause, resume, cancel and retry runs that are in the journal."""


@runs.command("list", epilog=EXIT_CODES)
@option("--open", "only_open", is_flag=True, help="Only runs that have not ended.")
@_everywhere
@_common
def _list(*, only_open: bool, everywhere: bool, output: OutputOptions, cloud: str | None, journal: str | None) -> None:
    """List runs, the latest first: key, action, state, progress, age."""

    def work() -> int:
        from .runs.commands import list_runs

        return list_runs(_read(output=output, cloud=cloud, journal=journal), only_open=only_open, everywhere=everywhere)

    end(work)


@runs.command("show", epilog=EXIT_CODES)
@_keys
@option("--failed", "only_failed", is_flag=True, help="Only the servers that are not as asked, all of them.")
@option("--ids", is_flag=True, section=OUTPUT, help="With --failed: their ids only, one a line.")
@_common
def _show(
    *,
    keys: Sequence[str],
    only_failed: bool,
    ids: bool,
    output: OutputOptions,
    cloud: str | None,
    journal: str | None,
) -> None:
    """Show how far runs are, by state and by reason, and whether a worker has them."""

    def work() -> int:
        from .runs.commands import show_runs
        from .terminal.exit import UsageError

        if ids and not only_failed:
            raise UsageError("--ids: expected --failed beside it; -o ids prints the keys of the runs")
        if ids and output.form not in {None, "ids"}:
            raise UsageError(f"--ids is -o ids; leave it out beside {'--json' if output.json else '-o'}")
        shown = output._replace(form="ids") if ids else output
        return show_runs(keys, _read(output=shown, cloud=cloud, journal=journal), only_failed=only_failed)

    end(work)


@runs.command("watch", epilog=EXIT_CODES)
@_key
@options.quiet
@options.failed_to
@options.report
@options.serve
@_common_of_outcomes
def _watch(
    *,
    key: str,
    quiet: bool,
    report: str | None,
    failed_to: str | None,
    serve: int | None,
    output: OutputOptions,
    cloud: str | None,
    journal: str | None,
) -> None:
    """Watch a run to its end, whoever carries it out. Ctrl-C ends the watching only."""

    def work() -> int:
        from .runs.commands import watch_run

        reading = _read(output=output, cloud=cloud, journal=journal)
        return watch_run(key, reading, quiet=quiet, report=report, failed_to=failed_to, serve=serve)

    end(work)


def _add_change(name: str, status: str, doc: str) -> None:
    @runs.command(name, help=doc, epilog=EXIT_CODES)
    @_keys
    @_common
    def command(*, keys: Sequence[str], output: OutputOptions, cloud: str | None, journal: str | None) -> None:
        def work() -> int:
            from bms_async import RunStatus

            from .runs.commands import change_runs

            return change_runs(keys, RunStatus(status), _read(output=output, cloud=cloud, journal=journal))

        end(work)


for _name, (_status, _doc) in _CHANGES.items():
    _add_change(_name, _status, _doc)


@runs.command("retry", epilog=EXIT_CODES)
@_key
@option("--key", "new_key", metavar="KEY", help="The key of the new run.")
@option("--unknown", is_flag=True, help="Also those that may have been rebooted already: they may be rebooted twice.")
@option("--wave", type=Number(min=1), metavar="N", help="At most N servers under way; default: as before.")
@option("--abort-above", metavar="SHARE", help="Abort when more than this share failed; default: as before.")
@option("--verify", is_flag=True, help="Read the status of each server at the end, and compare; default: as before.")
@option("--detach", is_flag=True, help="Write the run into the journal, and leave it to `bms worker`.")
@option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@options.rollout
@option(
    "--no-rollout", is_flag=True, section=ROLLOUT,
    help="Take no option of a rollout over from the ended run.",
)  # fmt: skip
@options.quiet
@options.failed_to
@options.report
@options.serve
@_common_of_outcomes
def _retry(
    *,
    key: str,
    new_key: str | None,
    unknown: bool,
    wave: int | None,
    abort_above: str | None,
    verify: bool,
    detach: bool,
    yes: bool,
    quiet: bool,
    output: OutputOptions,
    report: str | None,
    failed_to: str | None,
    serve: int | None,
    cloud: str | None,
    journal: str | None,
    no_rollout: bool,
    **rollout: Unpack[RolloutArguments],
) -> None:
    """Begin a new run with the servers of an ended one that failed or were not asked for.

    What protected the servers is taken over from it, unless it is given anew: --wave, --abort-above, --verify, and the
    options of a rollout. --no-rollout leaves these out.
    """

    def work() -> int:
        from .acting.common import read_threshold
        from .runs.commands import retry_run
        from .runs.retrying import RetryOptions

        retry = RetryOptions(
            key=new_key,
            unknown=unknown,
            wave=wave,
            abort_above=None if abort_above is None else read_threshold(abort_above),
            verify=verify,
            changes=rollout,
            no_rollout=no_rollout,
            detach=detach,
            yes=yes,
            quiet=quiet,
            report=report,
            failed_to=failed_to,
            output=output,
        )
        return retry_run(key, retry, _read(output=output, cloud=cloud, journal=journal), serve=serve)

    end(work)


@runs.command("prune", epilog=EXIT_CODES)
@option("--older-than", metavar="AGE", default="30d", help="Runs that ended longer ago: 30d, 12h; default: 30d.")
@_everywhere
@_common
def _prune(*, older_than: str, everywhere: bool, output: OutputOptions, cloud: str | None, journal: str | None) -> None:
    """Delete runs that ended long ago, with all that is kept of them."""

    def work() -> int:
        from .runs.commands import prune_runs

        return prune_runs(
            _read(output=output, cloud=cloud, journal=journal), older_than=older_than, everywhere=everywhere
        )

    end(work)


@click.command("worker", cls=Command, epilog=EXIT_CODES)
@option(
    "--cloud", "clouds", multiple=True, metavar="NAME", callback=pick_cloud, shell_complete=complete_clouds,
    help="A cloud of clouds.yaml to work for; repeat it for several. Default: OS_CLOUD, or the environment.",
)  # fmt: skip
@options.journal
def worker(*, clouds: Sequence[str], journal: str | None) -> None:
    """Carry out runs of the journal until SIGTERM or Ctrl-C, and then hand back what is left of them.

    Any number of workers, on one machine or on many with one journal, share the work and the limits. If one dies,
    another takes over its work within 20 seconds.
    """

    def work() -> int:
        from .runs.worker import work

        return work(clouds, journal=journal)

    end(work)


def _read(*, output: OutputOptions, cloud: str | None, journal: str | None) -> RunsOptions:
    from .runs.commands import RunsOptions

    return RunsOptions(cloud=cloud, journal=journal, output=output)
