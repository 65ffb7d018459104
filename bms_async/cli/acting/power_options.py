"""The options of ``bms start``, ``bms stop`` and ``bms reboot``, and which of them contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from bms_async import Rollout
from bms_async._extras import require
from bms_async.cli.selection.ids import Filters
from bms_async.cli.selection.rollouts import check_rollout
from bms_async.cli.terminal.exit import UsageError

__all__ = ["Action", "PowerOptions", "check_options", "check_output_file", "read_share"]

Action: TypeAlias = Literal["start", "stop", "reboot"]


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
    filters: tuple[Filters, ...] = ()
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
