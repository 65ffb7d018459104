"""How far something is, on standard error: a block that stays in its place on a terminal, else lines with the time."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Self

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
_LEAST_WIDTH = 10


class Screen:
    """Standard error, with a block at its end that is drawn again and again.

    What is written to a terminal waits for it in a thread: who has stopped it by Ctrl-S stops no run.

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
        # Not every terminal moves the rest of a line that became too long to the next one.
        self._reflows = "XTERM_VERSION" not in os.environ and os.environ.get("TERM") != "linux"

    def __enter__(self) -> Self:
        NOTES.sink = self._log
        return self

    def __exit__(self, *_: object) -> None:
        NOTES.sink = None
        for note in self._notes:
            print_error(note.plain, first="")

    def _log(self, text: str) -> None:
        """Take what the SDK logs: not across a block, and where nothing is shown yet, at once."""
        if self._is_shown:
            self.print_above(text)
        elif not self.quiet:
            print_error(text, first="")

    @property
    def width(self) -> int:
        """How many columns a line may have; the last is left free, for not all terminals agree on what it does."""
        return max(_LEAST_WIDTH, self.console.width - 1)

    @property
    def is_plain(self) -> bool:
        """Whether nothing but ASCII can be shown."""
        return not self.console.encoding.lower().startswith("utf")

    def is_due(self) -> bool:
        """Whether it is time for another line, where there is no block; the first is due at once."""
        now = anyio.current_time()
        if now < self._due:
            return False
        self._due = now + SECONDS_BETWEEN_LINES
        return True

    def print_above(self, text: Text | str) -> None:
        """Have a line written that stays, above the block; it comes with the next `draw` or `log`."""
        if not self.quiet:
            self._notes.append(text if isinstance(text, Text) else Text(text))

    async def draw(self, lines: Sequence[Text]) -> None:
        """Draw the block."""
        self._is_shown = True
        width, height = self.width, max(2, self.console.height - 1)
        block = [_cropped(line, width, plain=self.is_plain) for line in lines[:height]]
        notes, self._notes = self._notes, []
        parts = [self._back()]
        wrapped = (line for note in notes for line in note.wrap(self.console, width))
        parts.extend(f"{self._styled(line)}{_CLEAR_LINE}\n" for line in wrapped)
        # A terminal may have become narrower a moment before it says so: what has no room then is cut, and not moved to
        # a line more. The cursor waits at the beginning of the last line, where the ^C of a terminal starts no other.
        drawn = "\n".join(f"{self._styled(line)}{_CLEAR_LINE}" for line in block)
        parts.append(f"{_NO_WRAP}{drawn}{_CLEAR_BELOW}{_WRAP}\r\x1b[C")
        self._drawn = [cell_len(line.plain) for line in block]
        await self._write(("" if self._hidden else _HIDE) + "".join(parts))
        self._hidden = True

    async def log(self, text: str | None = None) -> None:
        """Write what was noted and a line, each with the time, for a log."""
        self._is_shown = True
        notes, self._notes = self._notes, []
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        told = [note.plain for note in notes] + ([] if text is None else [text])
        if told and not self.quiet:
            await self._write("".join(f"{now} {each}\n" for each in told))

    async def clear(self) -> None:
        """Take the block away, so that something else can be written."""
        self._is_shown = False
        if self._hidden:
            await self._write(f"{self._back()}{_CLEAR_BELOW}{_SHOW}")
        self._hidden, self._drawn = False, []

    async def close(self) -> None:
        """Leave the block as it is, and the cursor below it."""
        if not self.is_live:
            await self.log()
            self._is_shown = False
            return
        self._is_shown = False
        notes, self._notes = self._notes, []
        rest = "".join(f"{self._styled(note)}\n" for note in notes)
        if self._hidden or rest:
            await self._write(("\n" if self._drawn else "") + rest + _SHOW)
        self._hidden, self._drawn = False, []

    def _back(self) -> str:
        """Return what leads from the block's last line to its first, also when the terminal was made narrower."""
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

    async def _write(self, text: str) -> None:
        await anyio.to_thread.run_sync(_write, text, abandon_on_cancel=True)


def draw_bar(done: int, total: int, width: int, *, plain: bool = False) -> Text:
    """Return a bar whose done part can be told from the rest without colours.

    Args:
        done: How much is done.
        total: Of how much.
        width: Of how many columns.
        plain: Use nothing but ASCII.
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
        # Whoever looked on has left; the run goes on.
        pass
    except UnicodeError:
        sys.stderr.write(text.encode("ascii", "replace").decode())
