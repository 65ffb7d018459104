"""The options of ``bms start``, ``bms stop`` and ``bms reboot``, and which of them contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from bms_async.cli.selection.rollouts import check_rollout
from bms_async.cli.terminal.exit import UsageError

from .common import CommonArguments, CommonOptions, check_common, read_common, read_share

__all__ = ["Action", "PowerArguments", "PowerOptions", "check_options", "make_power_options", "read_share"]

Action: TypeAlias = Literal["start", "stop", "reboot"]


class PowerArguments(CommonArguments):
    """The options of these commands, as click has read them."""

    ids: Sequence[str]
    verify: bool
    server_takes: float | None
    save: str | None
    key: str | None
    detach: bool
    resume: str | None
    journal: str | None
    no_journal: bool


class PowerOptions(CommonOptions, frozen=True, kw_only=True):
    """The options as typed: those of `CommonOptions`, and these.

    Attributes:
        ids: Servers, or a ``-``.
        verify: Whether states are read back at the end.
        server_takes: Seconds that a server takes until it is well, for the plan.
        key: The name of the run.
        detach: Whether the run is only written down.
        resume: The key of the run to resume, or a file that an earlier version saved.
        journal: The address of the journal.
        no_journal: Whether the run is in memory alone.
    """

    ids: Sequence[str] = ()
    verify: bool = False
    server_takes: float | None = None
    key: str | None = None
    detach: bool = False
    resume: str | None = None
    journal: str | None = None
    no_journal: bool = False


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
    return PowerOptions(
        **read_common(typed),
        ids=typed["ids"],
        verify=typed["verify"],
        server_takes=typed["server_takes"],
        key=typed["key"],
        detach=typed["detach"],
        resume=typed["resume"],
        journal=typed["journal"],
        no_journal=typed["no_journal"],
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
    if options.server_takes is not None and not options.dry_run:
        raise UsageError("--server-takes: expected --plan beside it")
    if options.no_journal and (options.resume or options.key or options.detach or options.journal):
        raise UsageError(
            "--no-journal: a run without one has no key; leave out --key, --detach, --resume and --journal"
        )
    if options.detach and options.report:
        raise UsageError("--detach: the command ends before the run; leave out --report, and give it to bms runs watch")
    if options.detach and options.serve is not None:
        raise UsageError("--detach: the command ends before the run; leave out --serve, and give it to bms runs watch")
    check_common(options)
