"""Options that are taken before the command and after it: `bms --cloud NAME servers list`, or the other way round."""

from __future__ import annotations

from typing import Any, Final

import click

from .completing import complete_clouds
from .help import Option

__all__ = ["CLOUD", "VERBOSE", "begin_to_log", "cloud_before", "pick_cloud", "verbose"]

CLOUD: Final = "bms.cloud"
"""Where a context keeps which cloud was named."""

VERBOSE: Final = "bms.verbose"
"""Where a context keeps how often ``-v`` was given."""


def pick_once(context: click.Context, key: str, option: str, value: str | None) -> str | None:
    """Return what an option has, which may stand before the command and after it.

    Args:
        context: The command.
        key: Where the context keeps it.
        option: The option.
        value: What stands here; None for nothing.

    Raises:
        click.UsageError: Two of them contradict each other.
    """
    before: str | None = context.meta.get(key)
    if value is None:
        return before
    if before is not None and before != value and not context.resilient_parsing:
        raise click.UsageError(f"{option}: expected one, got {before!r} and {value!r}; leave one of them out", context)
    context.meta[key] = value
    return value


def pick_cloud(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Return the cloud that is named before or after the command; several where an option may be repeated.

    Args:
        context: The command.
        parameter: Its option.
        value: What it has.

    Raises:
        click.UsageError: Two different clouds are named.
    """
    if not getattr(parameter, "multiple", False):
        return pick_once(context, CLOUD, "--cloud", value)
    before = context.meta.get(CLOUD)
    if before is None or before in value:
        return value
    if value and not context.resilient_parsing:
        pick_once(context, CLOUD, "--cloud", value[0])
    return (before,)


def begin_to_log(context: click.Context, _parameter: click.Parameter, value: int) -> None:
    """Log more from now on, if the option is there; before and after the command they add up."""
    if not value or context.resilient_parsing:
        return
    from .terminal.logs import begin_logging

    context.meta[VERBOSE] = context.meta.get(VERBOSE, 0) + value
    context.call_on_close(begin_logging(context.meta[VERBOSE]))


cloud_before = Option(
    ["--cloud"],
    metavar="NAME",
    expose_value=False,
    callback=pick_cloud,
    shell_complete=complete_clouds,
    help="A cloud of clouds.yaml; default: OS_CLOUD.",
)
verbose = Option(
    ["--verbose", "-v"], count=True, expose_value=False, callback=begin_to_log,
    help="Log what is sent and why; twice for all of it.",
)  # fmt: skip
