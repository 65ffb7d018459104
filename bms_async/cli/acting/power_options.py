"""The options of ``bms start``, ``bms stop`` and ``bms reboot``, and which of them contradict each other."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Literal, TypeAlias

from bms_async.cli.rolling import RolloutArguments, rollout_arguments
from bms_async.cli.runs.last import check_new_key, check_typed_key
from bms_async.cli.selection.rollouts import check_rollout
from bms_async.cli.terminal.exit import UsageError

from .common import CommonArguments, CommonOptions, check_common, read_common

__all__ = ["Action", "PowerArguments", "PowerOptions", "check_options", "make_power_options"]

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
    retry_failed: str | None
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
        resume: The key of the run to resume, ``last``, or a file that an earlier version saved.
        retry_failed: The key of the ended run whose servers that are not as asked are asked for again, or ``last``.
        journal: The address of the journal.
        no_journal: Whether the run is in memory alone.
        changes: The options of a rollout, where these change that of the ended run; None elsewhere.
    """

    ids: Sequence[str] = ()
    verify: bool = False
    server_takes: float | None = None
    key: str | None = None
    detach: bool = False
    resume: str | None = None
    retry_failed: str | None = None
    journal: str | None = None
    no_journal: bool = False
    changes: RolloutArguments | None = None

    def goes_on(self, file: str | None) -> bool:
        """Return whether the command goes on with a run in the journal, or with what such a run has left.

        Args:
            file: The file that is resumed; None if it is none.
        """
        return self.retry_failed is not None or (self.resume is not None and file is None)

    def needs_journal(self, servers: Sized | None) -> bool:
        """Return whether the command writes its run into the journal.

        Args:
            servers: The servers; None as long as they are not known.
        """
        if self.no_journal or self.dry_run:
            return False
        is_asked_for = self.key or self.detach or self.resume or self.journal is not None
        return bool(is_asked_for) or servers is None or len(servers) > 1


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
    retries = typed["retry_failed"] is not None
    return PowerOptions(
        **read_common(typed, without_rollout=retries),
        changes=rollout_arguments(typed) if retries else None,
        ids=typed["ids"],
        verify=typed["verify"],
        server_takes=typed["server_takes"],
        key=typed["key"],
        detach=typed["detach"],
        resume=typed["resume"],
        retry_failed=typed["retry_failed"],
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
    check_typed_key("--resume", options.resume)
    check_typed_key("--retry-failed", options.retry_failed)
    check_new_key(options.key)
    _check_retry(options)
    chooses = options.ids or options.file or options.filters or options.excluded
    if options.resume is not None and (chooses or options.key or options.detach):
        raise UsageError(
            "--resume: the run has its servers; leave out ids, --file, filters, --except, --key and --detach"
        )
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
    given = {"--report": options.report, "--failed-to": options.failed_to, "--serve": options.serve}
    for name, value in given.items():
        if options.detach and value is not None:
            raise UsageError(
                f"--detach: the command ends before the run; leave out {name}, and give it to bms runs watch"
            )
    check_common(options)


def _check_retry(options: PowerOptions) -> None:
    if options.retry_failed is None:
        return
    if options.ids or options.file or options.filters or options.excluded:
        raise UsageError("--retry-failed: the run has its servers; leave out ids, --file, filters and --except")
    if options.resume is not None:
        raise UsageError(
            "--retry-failed, --resume: expected one of them; a run that has not ended is resumed, one that has is"
            " asked for again"
        )
    if options.no_journal:
        raise UsageError("--retry-failed: the run is in the journal; leave out --no-journal")
