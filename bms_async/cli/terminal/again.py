"""Prints commands to be pasted: with the cloud, the profile and the journal that the line has named.

Without them the same words would lead to another cloud, or find no run of that key.
"""

from __future__ import annotations

import re
import shlex

import click
from click.core import ParameterSource

from bms_async.cli.context import CLOUD, PROFILE

from .streams import print_error

__all__ = ["print_command", "to_be_pasted"]

_OF_A_RUN = re.compile(r"(--resume|--retry-failed| runs )")


def print_command(command: str) -> None:
    """Print a command on a line of its own, on standard error.

    Args:
        command: The command, which begins with ``bms``, or ends with it behind a pipe.
    """
    # It can be pasted only as long as it is one line.
    print_error(to_be_pasted(command), first="  ", is_folded=False)


def to_be_pasted(command: str) -> str:
    """Return a command with what leads it to the same cloud and journal.

    Args:
        command: The command, as of `print_command`.
    """
    context = click.get_current_context(silent=True)
    if context is not None:
        named = {"--cloud": context.meta.get(CLOUD), "--profile": context.meta.get(PROFILE)}
        typed = "".join(f" {option} {shlex.quote(name)}" for option, name in named.items() if name)
        command = re.sub(r"(^|\| )bms (?!-)", rf"\1bms{_escaped(typed)} ", command)
        journal = context.params.get("journal")
        is_typed = context.get_parameter_source("journal") is ParameterSource.COMMANDLINE
        if journal and is_typed and _OF_A_RUN.search(command) and _has_no_password(journal):
            command += f" --journal {shlex.quote(journal)}"
    return command


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\")


def _has_no_password(address: str) -> bool:
    from urllib.parse import urlsplit

    try:
        return urlsplit(address).password is None and "password" not in address
    except ValueError:
        return False
