"""Whether the store of shared limits answers, since when not, and why; logged once as it begins and once as it ends."""

from __future__ import annotations

import logging
import math

_log = logging.getLogger("bms_async.limits")


class Outage:
    """What is known of the store being away. Times are those of the event loop's clock.

    Attributes:
        error: Why the store does not answer; None while it does.
    """

    __slots__ = ("_answered_at", "_has_warned", "_since", "error")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Know nothing, as a task that has not asked yet."""
        self.error: str | None = None
        self._since: float | None = None
        self._answered_at = -math.inf
        # Opening the store may succeed where asking fails each time, and that is logged once.
        self._has_warned = False

    def note_failure(
        self, error: Exception, now: float, *, label: str, refused: bool = False, level: int = logging.WARNING
    ) -> None:
        """Note that a call of the store failed.

        Args:
            error: What it raised.
            now: The time.
            label: The store's address for people.
            refused: Whether the store refuses to be used, so that trying again will hardly help.
            level: The level at which it is logged, if it is the first one.
        """
        # Stores begin with their address, which the log has already.
        text = describe(error, without=f"{label}: ")
        self.error = text.partition(": ")[2] if refused else text
        if self._since is None:
            self._since = now
        if not self._has_warned:
            self._has_warned = True
            _log.log(
                level,
                "the store of the shared limits at %s refuses to be used (%s): calls wait until that is mended"
                if refused
                else "the store of the shared limits at %s does not answer (%s): calls wait until it does",
                label,
                self.error,
            )

    def note_answered(self, now: float, *, label: str) -> None:
        """Note that the store answered a question."""
        self.note_reached()
        self._answered_at = now
        if self._has_warned:
            self._has_warned = False
            _log.warning("the store of the shared limits at %s answers again", label)

    def note_reached(self) -> None:
        """Note that the store could be opened, and that there is nothing to ask which would show more."""
        self.error, self._since = None, None

    def lasts(self, now: float) -> float | None:
        """Return the seconds since the store was first seen not to answer; None if it does."""
        return None if self._since is None else max(0.0, now - self._since)

    def silence(self, now: float) -> float:
        """Return the seconds since the last answer; infinity if there was none yet."""
        return now - self._answered_at


def describe(error: Exception, *, without: str = "") -> str:
    """Return what a store raised, as text; its own text may fail to be made.

    Args:
        error: The error.
        without: What its text may begin with and is left out.
    """
    try:
        text = str(error).removeprefix(without)
    except Exception:  # noqa: BLE001 - foreign code
        text = ""
    name = type(error).__name__
    return f"{name}: {text}" if text else name
