"""The options that every command has that changes any number of servers: which servers, how, and what is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from bms_async import Rollout
from bms_async.cli.following.outcomes import TABLE
from bms_async.cli.report_page.forms import check_report
from bms_async.cli.rolling import RolloutArguments, rollout_arguments
from bms_async.cli.selection.filters import Filters, SelectionArguments, make_filters
from bms_async.cli.selection.rollouts import make_rollout
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.files import check_output_file
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.numbers import read_share
from bms_async.cli.terminal.rows import RowWriter

__all__ = ["CommonArguments", "CommonOptions", "check_common", "read_common", "read_threshold"]


class CommonArguments(RolloutArguments, SelectionArguments):
    """The options that all these commands have, as click has read them."""

    file: str | None
    wave: int | None
    abort_above: str | None
    abort_sample: int | None
    dry_run: bool
    yes: bool
    output: OutputOptions
    quiet: bool
    report: str | None
    failed_to: str | None
    serve: int | None
    cloud: str | None


class CommonOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that all these commands have, as typed.

    Attributes:
        file: A file of ids.
        filters: Filters of the server list, where no ids are given.
        excluded: Files of servers that are left out.
        fail_if_none: Whether it is an error that there is no server.
        cloud: A cloud of ``clouds.yaml``.
        wave: How many servers may be in flight at once.
        abort_above: The share of failures that aborts the run.
        abort_sample: How many servers must have ended before that counts.
        rollout: How the fleet is walked through.
        dry_run: Whether to print the plan, and do nothing.
        yes: Whether to skip the confirmation.
        output: The form of outcomes as rows, and of the plan as a record.
        quiet: Whether to print failures only.
        report: Where a report of the run is written, in the form of its suffix.
        failed_to: Where a list of the servers that are not as asked is written.
        serve: The port on which the page of the run is served; 0 for any that is free.
    """

    file: str | None = None
    filters: Filters = Filters()
    excluded: Sequence[str] = ()
    fail_if_none: bool = False
    cloud: str | None = None
    wave: int | None = None
    abort_above: float | None = None
    abort_sample: int | None = None
    rollout: Rollout | None = None
    dry_run: bool = False
    yes: bool = False
    output: OutputOptions = OutputOptions()
    quiet: bool = False
    report: str | None = None
    failed_to: str | None = None
    serve: int | None = None


def read_common(typed: CommonArguments, *, without_rollout: bool = False) -> dict[str, Any]:
    """Return the fields of `CommonOptions` that were typed.

    Args:
        typed: As click has read them.
        without_rollout: Whether its rollout is made elsewhere, since an earlier run has a part of it.

    Raises:
        UsageError: One of them is not as it has to be.
    """
    share = typed["abort_above"]
    options = CommonOptions(
        file=typed["file"],
        filters=make_filters(typed),
        excluded=typed["excluded"],
        fail_if_none=typed["fail_if_none"],
        cloud=typed["cloud"],
        wave=typed["wave"],
        abort_above=None if share is None else read_threshold(share),
        abort_sample=typed["abort_sample"],
        rollout=None if without_rollout else make_rollout(rollout_arguments(typed)),
        dry_run=typed["dry_run"],
        yes=typed["yes"],
        output=typed["output"],
        quiet=typed["quiet"],
        report=typed["report"],
        failed_to=typed["failed_to"],
        serve=typed["serve"],
    )
    return msgspec.structs.asdict(options)


def check_common(options: CommonOptions) -> None:
    """Refuse options that contradict each other, or that the run would fail for at its end.

    Args:
        options: The options.

    Raises:
        UsageError: They do, or a file cannot be written.
    """
    if options.abort_sample is not None and options.abort_above is None:
        raise UsageError("--abort-sample: expected --abort-above beside it")
    if not options.dry_run:
        # What is wrong with its columns is said before anything is asked.
        RowWriter(TABLE, options.output)
    check_report(options.report)
    check_output_file("--failed-to", options.failed_to)


def read_threshold(text: str) -> float:
    """Return the share that was typed after ``--abort-above``.

    Raises:
        UsageError: It is not a share.
    """
    share = read_share(text)
    if share is None:
        raise UsageError(f"--abort-above {text}: expected a share from 0 to 1, such as 0.02 or 2%")
    return share
