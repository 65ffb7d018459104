"""The three standard streams: repaired at the start, and flushed with an exit code at the end."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from .texts import describe_os_error

__all__ = ["discard_output", "flush_output", "print_error", "repair_streams", "width_of"]

_UNWRITTEN = 2
_NO_READER = 128 + 13


def repair_streams() -> None:
    """Make all three streams usable, however the process was started.

    A closed stream is replaced by the null device, so that no file or socket gets its number. Pipes and files are UTF-8
    whatever the locale, as JSON is; a terminal shows ``?`` for characters that it does not have.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            flags = os.O_RDONLY if mode == "r" else os.O_WRONLY
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, closefd=False))
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            # utf-8-sig: files from Windows begin with a byte order mark.
            stream.reconfigure(encoding="utf-8-sig" if stream is sys.stdin else "utf-8", errors="strict")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.isatty():
        sys.stdout.reconfigure(errors="replace")


def print_error(text: str, *, first: str = "bms: ", is_folded: bool = True) -> None:
    """Write a line to standard error, which may be closed.

    Args:
        text: The line.
        first: What stands before it.
        is_folded: Whether a terminal that it is too wide for shows it in several lines, which end between words.
    """
    line = f"{first}{text}"
    try:
        if is_folded and sys.stderr.isatty():
            from .cells import fold

            line = fold(line, width_of(sys.stderr), rest=" " * len(first.lstrip()))
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        discard_output()


def width_of(stream: TextIO) -> int:
    """Return the width of a stream's terminal; where it is none, that of COLUMNS, which `watch` sets, or 80.

    Args:
        stream: The stream.
    """
    try:
        return max(20, os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):
        typed = os.environ.get("COLUMNS", "")
        return max(20, int(typed)) if typed.isascii() and typed.isdigit() else 80


def discard_output() -> OSError | None:
    """Flush both output streams; one that fails is redirected to the null device from now on.

    Returns:
        Why standard output could not be written, None if it was. A failure of standard error is ignored.
    """
    failure: OSError | None = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            if stream is sys.stdout:
                failure = error
            # Python flushes the rest of the buffer once more when it exits.
            with suppress(OSError):
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, stream.fileno())
                os.close(devnull)
    return failure


def flush_output(code: int) -> int:
    """Flush the output before Python does when it exits, which would report a failure in its own way.

    Args:
        code: The exit code of the command.

    Returns:
        The exit code.
    """
    error = discard_output()
    if error is None:
        return code
    if isinstance(error, BrokenPipeError):
        return _NO_READER
    print_error(describe_os_error(error))
    return code or _UNWRITTEN
