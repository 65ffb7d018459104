"""Whether a run may begin something now: pure, the time of day comes in."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .window import Window

PAUSED = "the run is paused"
"""What a run waits for that was paused."""

_LOOK_AGAIN = timedelta(seconds=60)
"""The longest time for which the answer of a gate is believed: a machine may sleep, and its clock may be set."""


class Gate:
    """Nothing begins while a run is paused, or outside of its window.

    Args:
        window: The run's window; None for one that is always open.

    Attributes:
        is_paused: Whether the run is paused.
    """

    __slots__ = ("_window", "is_paused")

    def __init__(self, window: Window | None = None) -> None:
        self._window = window
        self.is_paused = False

    def is_open(self, at: datetime) -> bool:
        """Return whether something may begin.

        Args:
            at: The time of day, aware.
        """
        return not self.is_paused and (self._window is None or self._window.is_open(at))

    def seconds_to_change(self, at: datetime) -> float | None:
        """Return the seconds until the gate has to be asked again; None if only `is_paused` can change its answer.

        Args:
            at: The time of day, aware.
        """
        if self._window is None:
            return None
        change = self._window.next_change(at)
        return None if change is None else min(_LOOK_AGAIN, change - at).total_seconds()

    def seconds_closed(self, at: datetime) -> float:
        """Return the seconds until the window opens; 0 if it is open, or if it never does.

        Args:
            at: The time of day, aware.
        """
        if self._window is None or self._window.is_open(at):
            return 0.0
        opens = self._window.next_change(at)
        return 0.0 if opens is None else (opens - at).total_seconds()

    def why_closed(self, at: datetime) -> str | None:
        """Return why nothing may begin; None if something may.

        Args:
            at: The time of day, aware.
        """
        if self.is_paused:
            return PAUSED
        if self._window is None or self._window.is_open(at):
            return None
        opens = self._window.next_change(at)
        when = "" if opens is None else f", which opens at {opens.astimezone(self._window.tzinfo):%a %Y-%m-%d %H:%M %Z}"
        return f"outside of the window {self._window}{when}"
