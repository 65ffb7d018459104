"""The options that every command has that changes any number of servers: which servers, how, and what is printed."""

from __future__ import annotations

from typing import Any

import msgspec

from bms_async import Rollout
from bms_async.cli.report_page.forms import check_report
from bms_async.cli.rolling import RolloutArguments, rollout_arguments
from bms_async.cli.selection.filters import FilterArguments, Filters, make_filters
from bms_async.cli.selection.rollouts import make_rollout
from bms_async.cli.terminal.exit import UsageError

__all__ = ["CommonArguments", "CommonOptions", "check_common", "read_common", "read_share"]


class CommonArguments(RolloutArguments, FilterArguments):
    """The options that all these commands have, as click has read them."""

    file: str | None
    wave: int | None
    abort_above: str | None
    abort_sample: int | None
    dry_run: bool
    yes: bool
    json: bool
    quiet: bool
    report: str | None
    serve: int | None
    cloud: str | None


class CommonOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that all these commands have, as typed.

    Attributes:
        file: A file of ids.
        filters: Filters of the server list, where no ids are given.
        cloud: A cloud of ``clouds.yaml``.
        wave: How many servers may be in flight at once.
        abort_above: The share of failures that aborts the run.
        abort_sample: How many servers must have ended before that counts.
        rollout: How the fleet is walked through.
        dry_run: Whether to print the plan, and do nothing.
        yes: Whether to skip the confirmation.
        json: Whether to print JSON.
        quiet: Whether to print failures only.
        report: Where a report of the run is written, in the form of its suffix.
        serve: The port on which the page of the run is served; 0 for any that is free.
    """

    file: str | None = None
    filters: Filters = Filters()
    cloud: str | None = None
    wave: int | None = None
    abort_above: float | None = None
    abort_sample: int | None = None
    rollout: Rollout | None = None
    dry_run: bool = False
    yes: bool = False
    json: bool = False
    quiet: bool = False
    report: str | None = None
    serve: int | None = None


def read_common(typed: CommonArguments) -> dict[str, Any]:
    """Return the fields of `CommonOptions` that were typed.

    Args:
        typed: As click has read them.

    Raises:
        UsageError: One of them is not as it has to be.
    """
    share = typed["abort_above"]
    options = CommonOptions(
        file=typed["file"],
        filters=make_filters(typed),
        cloud=typed["cloud"],
        wave=typed["wave"],
        abort_above=None if share is None else read_share(share),
        abort_sample=typed["abort_sample"],
        rollout=make_rollout(rollout_arguments(typed)),
        dry_run=typed["dry_run"],
        yes=typed["yes"],
        json=typed["json"],
        quiet=typed["quiet"],
        report=typed["report"],
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
    check_report(options.report)


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
