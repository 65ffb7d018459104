"""The command ``bms``: lists servers, stops, starts and reboots any number of them, follows jobs, tells of limits.

It needs the extra ``cli``. What a command does is imported when it is run, so that help and completion are quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

_NEEDED = {"click", "rich", "shellingham", "typer"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Args:
        arguments: What is typed after ``bms``; the process's own by default.
    """
    try:
        # The extra may be missing, and then that is to be told.
        import rich  # noqa: F401, PLC0415

        from .app import run_app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write(f"bms: {error.name} is not installed: pip install 'bms-async[cli]' brings what bms needs\n")
        return 2
    return run_app(arguments)
