"""How options and arguments are declared: in sections of the help, and with what a shell offers for their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from .help import OPTIONS, Argument, Option
from .rolling import GROUPS_KNOWN

__all__ = [
    "OUTPUT",
    "ROLLOUT",
    "RUN",
    "SERVERS",
    "Completer",
    "F",
    "apply",
    "argument",
    "complete",
    "complete_columns",
    "complete_file",
    "groups_known",
    "limits_known",
    "once",
    "option",
    "statuses_known",
]

F = TypeVar("F", bound=Callable[..., object])
Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem[Any]]"]

SERVERS: Final = "Servers"
RUN: Final = "Run"
ROLLOUT: Final = "Rollout"
OUTPUT: Final = "Output"


def statuses_known() -> list[str]:
    """Return the statuses for completion."""
    return ["ACTIVE", "BUILD", "ERROR", "HARD_REBOOT", "REBOOT", "SHUTOFF"]


def limits_known() -> list[str]:
    """Return what `bms limits` takes, for completion: calls with a limit, groups of them, and `open`."""
    from bms_async.limits import DOCUMENTED_LIMITS

    groups = dict.fromkeys(name.rpartition(".")[0] for name in DOCUMENTED_LIMITS)
    return [*groups, *DOCUMENTED_LIMITS, "open"]


def groups_known() -> list[str]:
    """Return what servers are grouped by, for completion."""
    return list(GROUPS_KNOWN)


def complete(known: Callable[[], Sequence[str]]) -> Completer:
    """Return what click asks for the values that an option may have.

    Args:
        known: Returns the values.
    """

    def completed(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem[Any]]:
        return [CompletionItem(value) for value in known() if value.startswith(begun)]

    return completed


def complete_file(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem[Any]]:
    """Let the shell offer its files."""
    return [CompletionItem(begun, type="file")]


def complete_columns(place: str, *, is_list: bool = True) -> Completer:
    """Return what click asks for the columns of a command.

    Args:
        place: Where its `Table` is: a module of this package and a name in it, such as ``reading.servers:TABLE``.
        is_list: Whether several may be typed, with commas between them; else one, with ``-`` for the reverse order.
    """

    def completed(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem[Any]]:
        from importlib import import_module

        module, _, name = place.partition(":")
        known = getattr(import_module(f"{__package__}.{module}"), name).columns
        if is_list:
            before, comma, last = begun.rpartition(",")
            before += comma
        else:
            last = begun.removeprefix("-")
            before = begun[: len(begun) - len(last)]
        return [CompletionItem(before + value) for value in known if value.startswith(last)]

    return completed


def option(*names: str, section: str = OPTIONS, **attributes: Any) -> Callable[[F], F]:
    """Add an option to a command.

    Args:
        names: Its spellings.
        section: Its heading in the help.
        attributes: As of `click.option`.
    """
    made: list[Option] = []

    def make(*arguments: Any, **given: Any) -> Option:
        # One for all commands that have it: hundreds of options would cost each start of `bms` some milliseconds.
        if not made:
            made.append(Option(*arguments, section=section, **given))
        return made[0]

    return click.option(*names, cls=cast("type[Option]", make), **attributes)


def once(_context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> str | None:
    """Return the value of an option of which the parser keeps all: what was typed is never passed over.

    Args:
        parameter: The option.
        values: What was typed.

    Raises:
        click.UsageError: There are several.
    """
    if len(values) > 1:
        raise click.UsageError(f"{parameter.opts[0]}: expected one file, got {len(values)}: {', '.join(values)}")
    return values[0] if values else None


def argument(name: str, **attributes: Any) -> Callable[[F], F]:
    """Add an argument to a command.

    Args:
        name: Its parameter.
        attributes: As of `Argument`.
    """
    return click.argument(name, cls=Argument, **attributes)


def apply(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator for several, whose options are shown in their order."""

    def decorated(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorated
