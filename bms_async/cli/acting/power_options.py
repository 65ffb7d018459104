"""The options of ``bms start``, ``bms stop`` and ``bms reboot``, and which of them contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from bms_async import Rollout
from bms_async._extras import require
from bms_async.cli.rolling import RolloutArguments, rollout_arguments
from bms_async.cli.selection.filters import FilterArguments, Filters, make_filters
from bms_async.cli.selection.rollouts import check_rollout, make_rollout
from bms_async.cli.terminal.exit import UsageError

__all__ = [
    "Action",
    "PowerArguments",
    "PowerOptions",
    "check_options",
    "check_output_file",
    "make_power_options",
    "read_share",
]

Action: TypeAlias = Literal["start", "stop", "reboot"]


class PowerArguments(RolloutArguments, FilterArguments):
    """The options of these commands, as click has read them."""

    ids: Sequence[str]
    file: str | None
    wave: int | None
    abort_above: str | None
    abort_sample: int | None
    verify: bool
    dry_run: bool
    server_takes: float | None
    yes: bool
    json: bool
    quiet: bool
    report: str | None
    save: str | None
    key: str | None
    detach: bool
    resume: str | None
    journal: str | None
    no_journal: bool
    cloud: str | None


class PowerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options as typed.

    Attributes:
        ids: Servers, or a ``-``.
        file: A file of ids.
        filters: Filters of the server list, where no ids are given.
        cloud: A cloud of ``clouds.yaml``.
        wave: How many servers may be in flight at once.
        abort_above: The share of failures that aborts the run.
        abort_sample: How many servers must have ended before that counts.
        rollout: How the fleet is walked through.
        verify: Whether states are read back at the end.
        dry_run: Whether to print the plan, and do nothing.
        server_takes: Seconds that a server takes until it is well, for the plan.
        yes: Whether to skip the confirmation.
        json: Whether to print JSON.
        quiet: Whether to print failures only.
        key: The name of the run.
        detach: Whether the run is only written down.
        resume: The key of the run to resume, or a file that an earlier version saved.
        journal: The address of the journal.
        no_journal: Whether the run is in memory alone.
        report: Where a page about the run is written.
    """

    ids: Sequence[str] = ()
    file: str | None = None
    filters: Filters = Filters()
    cloud: str | None = None
    wave: int | None = None
    abort_above: float | None = None
    abort_sample: int | None = None
    rollout: Rollout | None = None
    verify: bool = False
    dry_run: bool = False
    server_takes: float | None = None
    yes: bool = False
    json: bool = False
    quiet: bool = False
    key: str | None = None
    detach: bool = False
    resume: str | None = None
    journal: str | None = None
    no_journal: bool = False
    report: str | None = None


def make_power_options(typed: PowerArguments) -> PowerOptions:
    """Return the options that were typed.

    Args:
        typed: As click has read them.

    Raises:
        UsageError: One of them is not as it has to be.
    """
    if typed["save"] is not None:
        raise UsageError(
            f"--save {typed['save']}: runs are kept in the journal now; name this one by --key, and resume it by"
            " --resume KEY"
        )
    share = typed["abort_above"]
    return PowerOptions(
        ids=typed["ids"],
        file=typed["file"],
        filters=make_filters(typed),
        cloud=typed["cloud"],
        wave=typed["wave"],
        abort_above=None if share is None else read_share(share),
        abort_sample=typed["abort_sample"],
        rollout=make_rollout(rollout_arguments(typed)),
        verify=typed["verify"],
        dry_run=typed["dry_run"],
        server_takes=typed["server_takes"],
        yes=typed["yes"],
        json=typed["json"],
        quiet=typed["quiet"],
        key=typed["key"],
        detach=typed["detach"],
        resume=typed["resume"],
        journal=typed["journal"],
        no_journal=typed["no_journal"],
        report=typed["report"],
    )


def check_options(action: Action, options: PowerOptions, file: str | None) -> None:
    """Refuse options that contradict each other.

    Args:
        action: What is done to the servers.
        options: The options.
        file: The file that is resumed; None if it is none, or a run in the journal.

    Raises:
        UsageError: They do, or a file cannot be written.
    """
    if options.resume is not None and (options.ids or options.file or options.filters or options.key or options.detach):
        raise UsageError("--resume: the run has its servers; leave out ids, --file, filters, --key and --detach")
    if (
        options.resume is not None
        and file is None
        and (options.wave is not None or options.abort_above is not None or options.verify)
    ):
        raise UsageError(
            "--resume: the run keeps its --wave, --abort-above and --verify; leave them out, or end it by"
            " `bms runs cancel` and begin another by `bms runs retry`"
        )
    if options.resume is not None and options.rollout is not None:
        raise UsageError("--resume: the run keeps its rollout; leave out the options of one")
    check_rollout(action, options.rollout)
    if options.abort_sample is not None and options.abort_above is None:
        raise UsageError("--abort-sample: expected --abort-above beside it")
    if options.server_takes is not None and not options.dry_run:
        raise UsageError("--server-takes: expected --plan beside it")
    if options.no_journal and (options.resume or options.key or options.detach or options.journal):
        raise UsageError(
            "--no-journal: a run without one has no key; leave out --key, --detach, --resume and --journal"
        )
    if options.detach and options.report:
        raise UsageError("--detach: the command ends before the run; leave out --report, and give it to bms runs watch")
    check_output_file("--report", options.report)
    if options.report is not None:
        # At the end of the run it would be too late for the page.
        require("jinja2")


def check_output_file(option: str, path: str | None) -> None:
    """Refuse an output file that cannot be written, before anything is changed.

    Args:
        option: The option that names it.
        path: The file; None if none is.

    Raises:
        UsageError: It cannot be written.
    """
    if path is None:
        return
    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: its folder does not exist; create it, or name another file")
    if not path or (Path(path).exists() and not Path(path).is_file()):
        raise UsageError(f"{option} {path!r}: not a regular file; name another one")


def read_share(text: str) -> float:
    """Return the share that was typed, as ``0.02`` or ``2%``.

    Raises:
        UsageError: It is not a share.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--abort-above {text}: expected a share from 0 to 1, such as 0.02 or 2%")
    return share
