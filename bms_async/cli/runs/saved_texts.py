"""What is said of a run that an earlier version saved in a file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from bms_async.cli.terminal.again import print_command
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.texts import pluralize, strip_control_chars, verb_in

from .saved import SavedRun

__all__ = ["print_saved", "print_unasked"]

_MAX_IN_DOUBT: Final = 5


def print_saved(saved: SavedRun, action: str, file: str) -> None:
    """Print what is not resumed of a run that an earlier version saved.

    Args:
        saved: What it has saved.
        action: What is done to the servers: ``start``, ``stop`` or ``reboot``.
        file: The file.
    """
    if saved.left is None and action == "reboot":
        print_error(
            "the run was killed: servers that it was just asking for are left alone, so that none is rebooted twice"
            if saved.is_certain
            else "the run was killed: servers that it was just asking for may be rebooted twice"
        )
    if saved.in_doubt and action == "reboot":
        _print_in_doubt(saved.in_doubt)
    if saved.jobs:
        was = "was" if len(saved.jobs) == 1 else "were"
        print_error(f"{pluralize(len(saved.jobs), 'job')} of the run {was} accepted before. To watch:")
        print_command(f"bms jobs watch --from {shlex.quote(file)}")
    if not saved.unasked:
        print_error("no server of the run is left to be asked for")


def print_unasked(file: str, action: str, saved: SavedRun) -> None:
    """Print which servers of a run that an earlier version saved were not asked for, and how to resume it.

    Args:
        file: The file.
        action: The call of the run, such as ``servers.stop``.
        saved: What it has saved.
    """
    if saved.in_doubt and action == "servers.reboot":
        _print_in_doubt(saved.in_doubt)
    if left := len(saved.unasked):
        name = verb_in(action)
        was = "was" if left == 1 else "were"
        print_error(f"{pluralize(left, 'server')} of that run {was} not asked for. To resume the run with them:")
        print_command(f"bms {name} --resume {shlex.quote(file)}")


def _print_in_doubt(servers: Sequence[str]) -> None:
    """Print the servers that a resumed run leaves alone, since it is not known whether the cloud rebooted them."""
    more = f" and {len(servers) - _MAX_IN_DOUBT:,} more" if len(servers) > _MAX_IN_DOUBT else ""
    print_error(
        f"{pluralize(len(servers), 'server')} may have been rebooted, since no response came; they are left alone:"
    )
    print_error(f"{' '.join(map(strip_control_chars, servers[:_MAX_IN_DOUBT]))}{more}", first="  ")
