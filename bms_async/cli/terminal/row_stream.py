"""Rows on standard output while the progress is shown on standard error.

Guarantee: a row that was added is written once, whoever is cancelled while it is; it never stands in the middle of the
progress on one terminal; and the event loop does not wait for a slow reader. How: rows gather in a buffer, which is
taken as a whole and written in a thread, shielded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .exit import discard_output
from .forms import OutputOptions
from .output import is_terminal, write, write_aside
from .progress import Screen
from .rows import RowWriter, Table

T = TypeVar("T")

__all__ = ["RowStream"]


class RowStream(Generic[T]):
    """The rows of a command that shows its progress.

    Args:
        table: The columns.
        output: The form of the rows; usually there are none.
        screen: Where the progress is shown.
        on_lost: Called when standard output cannot be written any more.

    Attributes:
        rows: What makes text of the rows; None where there are none.
        error: Why standard output cannot be written any more; None if it can.
    """

    def __init__(
        self,
        table: Table[T],
        output: OutputOptions,
        screen: Screen,
        on_lost: Callable[[OSError], object] = lambda _: None,
    ) -> None:
        self._lines: list[str] = []
        self._screen = screen
        self._on_lost = on_lost
        self.rows = None if output.is_default else RowWriter(table, output, out=self._lines.append)
        self.error: OSError | None = None

    @property
    def waiting(self) -> int:
        """How many texts wait to be written."""
        return len(self._lines)

    async def write(self, *, is_last: bool = False) -> None:
        """Write what waits, unless the progress is in its way.

        Args:
            is_last: Whether the progress is over.
        """
        # On one terminal rows would stand in the middle of the progress.
        if not is_last and self._screen.is_live and is_terminal():
            return
        text = "".join(self._lines)
        self._lines.clear()
        if not text or self.error is not None:
            return
        try:
            await write_aside(text)
        except OSError as error:
            self.lose(error)

    async def write_in_order(self) -> None:
        """Write the rows that were held for their order."""
        if self.rows is not None:
            for _ in self.rows.in_order():
                await self.write(is_last=True)

    def write_now(self) -> None:
        """Write what waits, and keep the event loop for as long: nothing else is left to do.

        Raises:
            OSError: It cannot be written.
        """
        text = "".join(self._lines)
        self._lines.clear()
        write(text)

    def lose(self, error: OSError) -> None:
        """Discard further output.

        Args:
            error: Why it cannot be written.
        """
        discard_output()
        self.error = error
        self._on_lost(error)
