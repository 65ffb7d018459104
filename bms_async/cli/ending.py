"""How the functions of commands end: with the exit code of their work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

import click

__all__ = ["CODES", "EXIT_CODES", "HARD_REBOOT", "HARD_STOP", "end"]

CODES: Final = (
    ("0", "success", ", also where there was nothing to do"),
    ("1", "some servers are not as asked, or were not found", "; `bms runs show last --failed` lists them"),
    ("2", "wrong usage", ', a "no", a missing extra, or a file or the output that cannot be read or written'),
    ("3", "invalid credentials or settings", ", or such as are missing or not allowed to do this"),
    ("4", "the cloud cannot be reached, or fails", "; or the store of the limits does"),
    ("130", "interrupted by Ctrl-C, 143 by SIGTERM", ", 129 by a terminal that was closed"),
    ("141", "the reader of the output has closed it", ", as head does"),
)
"""The exit codes: what each means, and what else `bms help exit-codes` says of it."""

EXIT_CODES: Final = f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning, _ in CODES)}."
"""The end of the help of commands."""

HARD_STOP: Final = (
    "\n\nThis is a hard stop, as if a plug were pulled: the operating system does not shut down first. The cloud has no"
    " soft stop; where data matters, shut the system down from within before."
)
"""What becomes of a server that is stopped; in the help of each command that does so."""

HARD_REBOOT: Final = (
    "\n\nThis is a hard reboot, as if a reset button were pressed: the operating system does not shut down first. The"
    " cloud has no soft reboot. No server is restarted twice, whatever fails meanwhile."
)
"""The same of one that is restarted."""


def end(work: Callable[[], int]) -> NoReturn:
    """Run the code of a command, and end with its exit code.

    Args:
        work: Returns an exit code.
    """
    from .terminal.exit import run_guarded

    raise click.exceptions.Exit(run_guarded(work))
