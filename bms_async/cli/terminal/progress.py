"""Progress on standard error: a block that is redrawn in place on a terminal, else lines with the time."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Self

import anyio
import anyio.to_thread
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from .exit import print_error
from .logs import NOTES

__all__ = ["Screen", "draw_bar"]

SECONDS_BETWEEN_LINES = 10.0
_HIDE, _SHOW, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[?25l", "\x1b[?25h", "\x1b[K", "\x1b[J"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_MIN_WIDTH = 10


class Screen:
    """Standard error, with a block at its end that is redrawn in place.

    It is written in a thread, so that a terminal that was stopped with Ctrl-S does not block the run.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.is_live = not quiet and self.console.is_terminal and not self.console.is_dumb_terminal
        self._drawn: list[int] = []
        self._notes: list[Text] = []
        self._hidden = False
        self._is_shown = False
        self._due = 0.0
        # Whether the terminal wraps lines anew when it becomes narrower; not all do.
        self._reflows = "XTERM_VERSION" not in os.environ and os.environ.get("TERM") != "linux"

    def __enter__(self) -> Self:
        NOTES.sink = self._log
        return self

    def __exit__(self, *_: object) -> None:
        NOTES.sink = None
        for note in self._notes:
            print_error(note.plain, first="")

    def _log(self, text: str) -> None:
        """Receive a log record: print it above the block, or at once where no block is shown yet."""
        if self._is_shown:
            self.print_above(text)
        elif not self.quiet:
            print_error(text, first="")

    @property
    def width(self) -> int:
        """The maximum width of a line; the last column stays free, since terminals differ in how they wrap there."""
        return max(_MIN_WIDTH, self.console.width - 1)

    @property
    def is_plain(self) -> bool:
        """Whether the terminal can show ASCII only."""
        return not self.console.encoding.lower().startswith("utf")

    def is_due(self) -> bool:
        """Return whether the next log line is due, where there is no block; the first is due at once."""
        now = anyio.current_time()
        if now < self._due:
            return False
        self._due = now + SECONDS_BETWEEN_LINES
        return True

    def print_above(self, text: Text | str) -> None:
        """Add a line that stays above the block; it is written with the next `draw` or `log`."""
        if not self.quiet:
            self._notes.append(text if isinstance(text, Text) else Text(text))

    async def draw(self, lines: Sequence[Text]) -> None:
        """Draw the block."""
        self._is_shown = True
        width, height = self.width, max(2, self.console.height - 1)
        block = [_cropped(line, width, plain=self.is_plain) for line in lines[:height]]
        before = self._take()
        notes = before.notes
        parts = [self._back()]
        wrapped = (line for note in notes for line in note.wrap(self.console, width))
        parts.extend(f"{self._styled(line)}{_CLEAR_LINE}\n" for line in wrapped)
        # No wrapping: the terminal may have become narrower since its size was read. The cursor stays at the beginning
        # of the last line, where the ^C that a terminal prints does not start a new one.
        drawn = "\n".join(f"{self._styled(line)}{_CLEAR_LINE}" for line in block)
        parts.append(f"{_NO_WRAP}{drawn}{_CLEAR_BELOW}{_WRAP}\r\x1b[C")
        self._drawn = [cell_len(line.plain) for line in block]
        self._hidden = True
        await self._write(("" if before.hidden else _HIDE) + "".join(parts), before)

    async def log(self, text: str | None = None) -> None:
        """Write the pending lines and another one, each with the time."""
        self._is_shown = True
        before = self._take()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines = [note.plain for note in before.notes] + ([] if text is None else [text])
        if lines and not self.quiet:
            await self._write("".join(f"{now} {line}\n" for line in lines), before)

    async def clear(self) -> None:
        """Erase the block, so that something else can be written."""
        self._is_shown = False
        if self._hidden:
            text = f"{self._back()}{_CLEAR_BELOW}{_SHOW}"
            before = _State([], self._drawn, self._hidden)
            self._hidden, self._drawn = False, []
            await self._write(text, before)

    async def close(self) -> None:
        """Leave the block as it is, and move the cursor below it."""
        if not self.is_live:
            await self.log()
            self._is_shown = False
            return
        self._is_shown = False
        before = self._take()
        self._hidden, self._drawn = False, []
        rest = "".join(f"{self._styled(note)}\n" for note in before.notes)
        if before.hidden or rest:
            await self._write(("\n" if before.drawn else "") + rest + _SHOW, before)

    def _take(self) -> _State:
        """Take the notes, to be written; return them with what is on the terminal now."""
        notes, self._notes = self._notes, []
        return _State(notes, self._drawn, self._hidden)

    def _back(self) -> str:
        """Return the control sequence to the first line of the block, also after the terminal became narrower."""
        if not self._drawn:
            return ""
        columns = max(1, self.console.width)
        above = self._drawn[:-1]
        rows = sum(max(1, -(-width // columns)) for width in above) if self._reflows else len(above)
        return "\r" + (f"\x1b[{rows}A" if rows else "")

    def _styled(self, text: Text) -> str:
        with self.console.capture() as capture:
            self.console.print(text, end="", soft_wrap=True)
        return capture.get()

    async def _write(self, text: str, before: _State) -> None:
        """Write in a thread, which is left behind if this is cancelled.

        Args:
            text: The text.
            before: What to go back to if this is cancelled before any of it is written: notes must not be lost.
        """
        writing = _Writing(text)
        try:
            await anyio.to_thread.run_sync(writing, abandon_on_cancel=True)
        finally:
            if writing.withdraw():
                self._notes[:0] = before.notes
                self._drawn, self._hidden = before.drawn, before.hidden


class _State(NamedTuple):
    """What a screen has yet to print, and what is on the terminal."""

    notes: list[Text]
    drawn: list[int]
    hidden: bool


class _Writing:
    """A text that is written at most once, and not at all once it was withdrawn."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lock = threading.Lock()
        self._has_begun = self._is_withdrawn = False

    def __call__(self) -> None:
        """Write it; in a thread."""
        with self._lock:
            if self._is_withdrawn:
                return
            self._has_begun = True
        _write(self._text)

    def withdraw(self) -> bool:
        """Have it not written any more; return False if a thread has begun to."""
        with self._lock:
            self._is_withdrawn = not self._has_begun
            return self._is_withdrawn


def draw_bar(done: int, total: int, width: int, *, plain: bool = False) -> Text:
    """Return a progress bar that is readable without colours.

    Args:
        done: How much is done.
        total: Of how much.
        width: The width in columns.
        plain: Use ASCII only.
    """
    full = width if done >= total else int(width * done / max(1, total))
    ahead, behind = ("#", "-") if plain else ("\N{BOX DRAWINGS HEAVY HORIZONTAL}", "\N{BOX DRAWINGS LIGHT HORIZONTAL}")
    return Text.assemble((ahead * full, "green"), (behind * (width - full), "bright_black"))


def _cropped(line: Text, width: int, *, plain: bool) -> Text:
    if cell_len(line.plain) <= width:
        return line
    cut = line.copy()
    cut.truncate(width, overflow="crop" if plain else "ellipsis")
    return cut


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        # Standard error is closed; the run goes on.
        pass
    except UnicodeError:
        sys.stderr.write(text.encode("ascii", "replace").decode())
