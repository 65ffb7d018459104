"""Options that are taken before the command and after it: `bms --cloud NAME servers list`, or the other way round.

A profile is read for a command that has options which a profile may set; what the line or a variable sets wins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from .completing import complete_clouds, is_harmless
from .context import CLOUD, PROFILE, PROFILE_READ, VERBOSE, config_file
from .help import Option

__all__ = [
    "begin_to_log",
    "cloud_before",
    "complete_profile",
    "leave_out",
    "pick_cloud",
    "pick_once",
    "pick_profile",
    "profile",
    "verbose",
]

_LEAVE_OUT: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("wave", "abort_above", "verify"), ("resume", "retry_failed")),
    "journal": ("no_journal",),
    "form": ("json", "ids"),
    "header": ("ids",),
}
"""Settings of a profile that do not count beside options: a run that goes on keeps what it was begun with."""

_KEPT: Final[Mapping[str, tuple[str, ...]]] = {"retry": ("wave", "abort_above", "verify"), "api": ("form", "header")}
"""Settings that do not count for a command: what the first run had is the default, and an answer need have no rows."""


class BrokenProfileError(click.ClickException):
    """A profile does not exist, or its file cannot be used."""

    exit_code = 3

    def show(self, file: Any = None) -> None:
        """Print it as the errors of commands are."""
        del file
        from .terminal.streams import print_error
        from .terminal.texts import strip_control_chars

        # It may have names of the file in it.
        print_error(strip_control_chars(self.message))


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
    _check_named(context, option, value)
    if before is not None and before != value and not context.resilient_parsing:
        raise click.UsageError(f"{option}: expected one, got {before!r} and {value!r}; leave one of them out", context)
    context.meta[key] = value
    return value


def _check_named(context: click.Context, option: str, value: str) -> None:
    """Refuse a blank name: an unset variable of a script must not lead to the cloud that is the default."""
    if not value.strip() and not context.resilient_parsing:
        raise click.UsageError(f"{option} is empty: expected a name; give one, or leave the option out", context)


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
    for name in value:
        _check_named(context, "--cloud", name)
    before = context.meta.get(CLOUD)
    if before is None or before in value:
        return value
    if value and not context.resilient_parsing:
        pick_once(context, CLOUD, "--cloud", value[0])
    return (before,)


def pick_profile(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    """Let a profile set options of the command that is run.

    Args:
        context: The command.
        value: The profile that is named; None for nothing.

    Raises:
        click.UsageError: Two different profiles are named.
        BrokenProfileError: It does not exist, or its file cannot be used.
    """
    name, command = pick_once(context, PROFILE, "--profile", value), context.command
    if context.resilient_parsing or isinstance(command, click.Group):
        return
    file = config_file()
    if name is None and not os.environ.get("BMS_PROFILE") and not (file and os.path.exists(file)):  # noqa: PTH110
        return
    from .access.profiles import KEYS, ProfileError, find_profile

    used = {kind.option for kind in KEYS.values()} | {"cloud", "clouds"}
    if used.isdisjoint(parameter.name for parameter in command.params):
        return
    try:
        found = find_profile(name)
    except ProfileError as error:
        raise BrokenProfileError(str(error)) from error
    if found is None:
        return
    context.meta[PROFILE_READ] = found
    kept = _KEPT.get(command.name or "", ())
    context.default_map = {key: each for key, each in found.defaults(os.environ).items() if key not in kept}


def complete_profile(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem[Any]]:
    """Return the names of profiles for completion; none where their file is broken."""
    from .access.profiles import ProfileError, config_path, read_config

    path = config_path()
    try:
        names = () if path is None else read_config(path).profiles
    except ProfileError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(begun) and is_harmless(name)]


def leave_out(context: click.Context) -> None:
    """Take back what a profile sets and what does not count beside an option of the line.

    Args:
        context: The command, whose options are read.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT_MAP:
            continue
        if any(context.get_parameter_source(each) is ParameterSource.COMMANDLINE for each in _LEAVE_OUT.get(name, ())):
            context.params[name] = False if getattr(parameter, "is_bool_flag", False) else None


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
profile = Option(
    ["--profile"],
    metavar="NAME",
    is_eager=True,
    expose_value=False,
    callback=pick_profile,
    shell_complete=complete_profile,
    help="A profile of `bms configure`; default: BMS_PROFILE.",
)
