"""What the SDK logs: to standard error, and above what is drawn there."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .output import strip_control_chars
from .streams import print_error

__all__ = ["NOTES", "NoteHandler", "begin_logging"]

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class NoteHandler(logging.Handler):
    """Hands what is logged to whoever draws on the screen; writes it where nobody does.

    Attributes:
        sink: Takes a line; None where nobody draws.
    """

    sink: Callable[[str], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a record."""
        # What the cloud said may be in it; a traceback keeps its lines.
        text = "\n".join(map(strip_control_chars, self.format(record).splitlines()))
        if self.sink is None:
            print_error(text, first="")
        else:
            self.sink(text)


NOTES = NoteHandler()


def begin_logging(verbosity: int) -> Callable[[], None]:
    """Have logs told from now on; returns what ends it.

    Args:
        verbosity: 0 for warnings, 1 for what is done, 2 for all of it.
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
