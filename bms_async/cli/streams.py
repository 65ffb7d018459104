"""The three standard streams: as whoever started us left them, and until the last word is written."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

__all__ = ["discard_output", "flush_output", "print_error", "repair_streams"]

_UNWRITTEN = 2
_NO_READER = 128 + 13


def repair_streams() -> None:
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


def print_error(text: str, *, first: str = "bms: ") -> None:
    """Write a line to standard error, whatever has become of that."""
    try:
        sys.stderr.write(f"{first}{text}\n")
        sys.stderr.flush()
    except OSError:
        discard_output()


def discard_output() -> OSError | None:
    """Write what waits to be written; let it go nowhere if it cannot be, and all that comes after it.

    Returns:
        Why results could not be written, None if they were. Nobody can be told of it where it is standard error.
    """
    failure: OSError | None = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            if stream is sys.stdout:
                failure = error
            # What is still in the buffer is written once more when Python ends.
            with suppress(OSError):
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, stream.fileno())
                os.close(devnull)
    return failure


def flush_output(code: int) -> int:
    """Write the last of the output; Python would do so when it ends, and tell in its own way that it failed.

    Args:
        code: The exit code as far as the work is concerned.

    Returns:
        The exit code.
    """
    error = discard_output()
    if error is None:
        return code
    if isinstance(error, BrokenPipeError):
        return _NO_READER
    print_error(str(error))
    return code or _UNWRITTEN
