"""The command ``bms``: lists servers, stops, starts and reboots any number of them, follows jobs, tells of limits.

It needs the extra ``cli``. What a command does is imported when it is run, so that help and completion are quick.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

_NEEDED = {"click", "rich", "shellingham", "typer"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Args:
        arguments: What is typed after ``bms``; the process's own by default.
    """
    _mend_streams()
    try:
        # The extra may be missing, and then that is to be told.
        import rich  # noqa: F401, PLC0415

        from .app import run_app  # noqa: PLC0415

        return run_app(arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write(f"bms: {error.name} is not installed: pip install 'bms-async[cli]' brings what bms needs\n")
        return 2
    except KeyboardInterrupt:
        # Ctrl-C before there is anybody to take it in.
        return 130


def _mend_streams() -> None:
    """Have three streams that take what is written to them, whoever started us.

    One that is closed becomes nothing to read and nowhere to write, so that no file or socket gets its number. Pipes
    and files are UTF-8 whatever the locale, as JSON is; a terminal shows a ``?`` for what it does not know.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            flags = os.O_RDONLY if mode == "r" else os.O_WRONLY
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, closefd=False))
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            # Files that were made on Windows begin with a mark of their encoding.
            stream.reconfigure(encoding="utf-8-sig" if stream is sys.stdin else "utf-8", errors="strict")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.isatty():
        sys.stdout.reconfigure(errors="replace")
