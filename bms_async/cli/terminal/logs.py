"""Prints the SDK's log records on standard error, above the progress block."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .streams import print_error
from .texts import strip_control_chars

__all__ = ["NOTES", "NoteHandler", "begin_logging"]

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class NoteHandler(logging.Handler):
    """Passes log records to the screen; prints them where there is none.

    Attributes:
        sink: Receives each record as text; None where there is no screen.
    """

    sink: Callable[[str], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on a record."""
        if getattr(record, "is_raised", False) and self.level >= logging.WARNING:
            # The command prints the error, which says the same.
            return
        # It may have the cloud's message in it; a traceback keeps its lines.
        text = "\n".join(map(strip_control_chars, self.format(record).splitlines()))
        if self.sink is None:
            print_error(text, first="")
        else:
            self.sink(text)


NOTES = NoteHandler()


def begin_logging(verbosity: int) -> Callable[[], None]:
    """Print log records from now on; returns a function that ends it.

    Args:
        verbosity: 0 for WARNING, 1 for INFO, 2 for DEBUG.
    """
    logger, level = logging.getLogger("bms_async"), _LEVELS[min(verbosity, 2)]
    before = logger.level
    NOTES.setLevel(level)
    NOTES.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger.addHandler(NOTES)
    if verbosity:
        logger.setLevel(level)

    def end() -> None:
        logger.removeHandler(NOTES)
        logger.setLevel(before)

    return end
