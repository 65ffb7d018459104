"""The commands about runs in the journal, and their options; the code of a command is imported when it is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import click

from . import options
from .ending import EXIT_CODES, end
from .help import Command, Group
from .options import argument, option
from .shared import pick_cloud

if TYPE_CHECKING:
    from .rolling import RolloutArguments
    from .runs.commands import RunsOptions

__all__ = ["runs", "worker"]

_keys = argument("keys", nargs=-1, required=True, metavar="KEY...", description="Runs; `bms runs list` shows them.")
_key = argument("key", metavar="KEY", description="The run; `bms runs list` shows them.")
_everywhere = option("--all", "everywhere", is_flag=True, help="Of all clouds and projects in the journal.")
_common = options.apply(options.json, options.cloud, options.journal)

_CHANGES = {
    "pause": ("paused", "Have nothing more of runs sent until they are resumed; jobs in flight go on."),
    "resume": ("open", "Have workers go on with runs that were paused."),
    "cancel": ("cancelled", "End runs: what was not sent is never sent. Jobs in flight go on, and are watched."),
}


@click.group("runs", cls=Group)
def runs() -> None:
    """List, watch, pause, resume, cancel and retry runs that are in the journal."""


@runs.command("list", epilog=EXIT_CODES)
@option("--open", "only_open", is_flag=True, help="Only runs that have not ended.")
@_everywhere
@_common
def _list(*, only_open: bool, everywhere: bool, json: bool, cloud: str | None, journal: str | None) -> None:
    """List runs, the latest first: key, action, state, progress, age."""

    def work() -> int:
        from .runs.commands import list_runs

        return list_runs(_read(json=json, cloud=cloud, journal=journal), only_open=only_open, everywhere=everywhere)

    end(work)


@runs.command("show", epilog=EXIT_CODES)
@_keys
@_common
def _show(*, keys: Sequence[str], json: bool, cloud: str | None, journal: str | None) -> None:
    """Show how far runs are, by state and by reason, and whether a worker has them."""

    def work() -> int:
        from .runs.commands import show_runs

        return show_runs(keys, _read(json=json, cloud=cloud, journal=journal))

    end(work)


@runs.command("watch", epilog=EXIT_CODES)
@_key
@options.quiet
@options.report
@options.serve
@_common
def _watch(
    *,
    key: str,
    quiet: bool,
    report: str | None,
    serve: int | None,
    json: bool,
    cloud: str | None,
    journal: str | None,
) -> None:
    """Watch a run to its end, whoever carries it out. Ctrl-C ends the watching only."""

    def work() -> int:
        from .runs.commands import watch_run

        reading = _read(json=json, cloud=cloud, journal=journal)
        return watch_run(key, reading, quiet=quiet, report=report, serve=serve)

    end(work)


def _add_change(name: str, status: str, doc: str) -> None:
    @runs.command(name, help=doc, epilog=EXIT_CODES)
    @_keys
    @_common
    def command(*, keys: Sequence[str], json: bool, cloud: str | None, journal: str | None) -> None:
        def work() -> int:
            from bms_async import RunStatus

            from .runs.commands import change_runs

            return change_runs(keys, RunStatus(status), _read(json=json, cloud=cloud, journal=journal))

        end(work)


for _name, (_status, _doc) in _CHANGES.items():
    _add_change(_name, _status, _doc)


@runs.command("retry", epilog=EXIT_CODES)
@_key
@option("--key", "new_key", metavar="KEY", help="The name of the new run.")
@option("--unknown", is_flag=True, help="Also reboot servers again that may have been rebooted.")
@option("--wave", type=click.IntRange(min=1), metavar="N", help="Have at most N servers in flight; default: as before.")
@option("--abort-above", metavar="SHARE", help="Abort when more than this share failed; default: as before.")
@option("--verify", is_flag=True, help="Read the states of the servers back at the end.")
@option("--detach", is_flag=True, help="Only write the run down, for bms worker to carry it out.")
@option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@options.rollout
@option(
    "--no-rollout", is_flag=True, section=options.ROLLOUT,
    help="As fast as the limits allow, though the ended run was a rollout.",
)  # fmt: skip
@options.quiet
@options.report
@options.serve
@_common
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
    report: str | None,
    serve: int | None,
    json: bool,
    cloud: str | None,
    journal: str | None,
    no_rollout: bool,
    **rollout: Unpack[RolloutArguments],
) -> None:
    """Begin a new run with the servers of an ended one that failed or were not asked for.

    If that was a rollout, its options are given again, or --no-rollout.
    """

    def work() -> int:
        from .acting.power_options import read_share
        from .runs.commands import RetryOptions, retry_run
        from .selection.rollouts import make_rollout

        retry = RetryOptions(
            key=new_key,
            unknown=unknown,
            wave=wave,
            abort_above=None if abort_above is None else read_share(abort_above),
            verify=verify,
            rollout=make_rollout(rollout),
            no_rollout=no_rollout,
            detach=detach,
            yes=yes,
            quiet=quiet,
            report=report,
            serve=serve,
        )
        return retry_run(key, retry, _read(json=json, cloud=cloud, journal=journal))

    end(work)


@runs.command("prune", epilog=EXIT_CODES)
@option("--older-than", metavar="AGE", default="30d", help="Runs that ended so long ago: 30d, 12h; default: 30d.")
@_everywhere
@_common
def _prune(*, older_than: str, everywhere: bool, json: bool, cloud: str | None, journal: str | None) -> None:
    """Delete runs that ended long ago, with all that is kept of them."""

    def work() -> int:
        from .runs.commands import prune_runs

        return prune_runs(_read(json=json, cloud=cloud, journal=journal), older_than=older_than, everywhere=everywhere)

    end(work)


@click.command("worker", cls=Command, epilog=EXIT_CODES)
@option(
    "--cloud", "clouds", multiple=True, metavar="NAME", callback=pick_cloud,
    help="A cloud of clouds.yaml to work for; repeat it for several. Default: OS_CLOUD, or the environment.",
)  # fmt: skip
@options.journal
def worker(*, clouds: Sequence[str], journal: str | None) -> None:
    """Carry out runs of the journal until SIGTERM or Ctrl-C, and hand back what is left then.

    Any number of workers, on one machine or on many with one journal, share the work and the limits. What one that
    died had is taken over by another within 20 seconds.
    """

    def work() -> int:
        from .runs.worker import work

        return work(clouds, journal=journal)

    end(work)


def _read(*, json: bool, cloud: str | None, journal: str | None) -> RunsOptions:
    from .runs.commands import RunsOptions

    return RunsOptions(cloud=cloud, journal=journal, json=json)
