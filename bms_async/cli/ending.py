"""How the functions of commands end: with the exit code of their work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

import click

__all__ = ["EXIT_CODES", "end"]

EXIT_CODES: Final = (
    "Exit codes: 0 success; 1 some servers are not as asked, or were not found; 2 wrong usage;"
    " 3 invalid credentials or settings; 4 the cloud cannot be reached, or fails;"
    " 130 interrupted by Ctrl-C, 143 by SIGTERM; 141 the reader of the output has closed it."
)
"""The end of the help of commands."""


def end(work: Callable[[], int]) -> NoReturn:
    """Run the code of a command, and end with its exit code.

    Args:
        work: Returns an exit code.
    """
    from .terminal.exit import run_guarded

    raise click.exceptions.Exit(run_guarded(work))
