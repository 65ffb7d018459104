"""Standard output: how text gets there, and how values look as text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum

import msgspec

from bms_async.redaction import MaskedStr

from .cells import fold
from .streams import width_of
from .texts import strip_control_chars

__all__ = [
    "folded",
    "format_cell",
    "is_terminal",
    "json_line",
    "terminal_width",
    "write",
    "write_aside",
]


def json_line(value: object) -> str:
    """Return one line of JSON, with its newline."""
    return msgspec.json.encode(value, enc_hook=_to_text).decode() + "\n"


def _to_text(value: object) -> str:
    if isinstance(value, MaskedStr):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write(text: str) -> None:
    """Write to standard output, and flush."""
    sys.stdout.write(text)
    sys.stdout.flush()


async def write_aside(text: str) -> None:
    """Write to standard output in a thread: a slow reader must not block the event loop.

    The text is written even if the caller is cancelled, which has taken it from its buffer already.
    """
    import anyio.to_thread

    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(write, text)


def format_cell(value: object) -> str:
    """Return a value as text for a column."""
    # Most cells are texts already.
    if type(value) is not str:
        if isinstance(value, datetime):
            value = value.strftime("%Y-%m-%d %H:%M")
        elif isinstance(value, float):
            value = f"{value:.1f}"
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, Enum):
            # An unknown member of an integer enum has its number as name.
            value = value.name
        elif isinstance(value, Mapping):
            # An empty mapping is shown like None.
            value = ", ".join(f"{name}={item}" for name, item in value.items())
        elif isinstance(value, Iterable) and not isinstance(value, str):
            value = ", ".join(format_cell(item) if isinstance(item, Mapping) else str(item) for item in value)
    return "-" if value is None or value == "" else strip_control_chars(str(value))


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def terminal_width() -> int:
    """Return the width of standard output; where it is not a terminal, that of COLUMNS, which `watch` sets, or 80."""
    return width_of(sys.stdout)


def folded(text: str, *, rest: str = "  ") -> str:
    """Return a text for people as standard output takes it: on a terminal no line ends within a word.

    Args:
        text: The text.
        rest: The indent of what goes on in another line.
    """
    return fold(text, terminal_width(), rest=rest) if is_terminal() else text
