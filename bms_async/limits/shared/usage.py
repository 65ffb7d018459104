"""What a process knows of the used slots of all, for its statistics: nothing that is sent depends on it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from .messages import Answer


class Usage:
    """The used slots of a limit as one process sees them. Times are those of the event loop's clock.

    Args:
        window: Seconds after which a slot comes back.

    Attributes:
        cooldowns: When calls of this process ended whose slots have not come back, ascending.
        answer: The ledger's last answer.
        answered_at: When it came.
    """

    __slots__ = ("_others", "_window", "answer", "answered_at", "cooldowns")

    def __init__(self, window: float) -> None:
        self._window = window
        self.cooldowns: deque[float] = deque()
        # When slots of other processes were first seen to be used; each comes back a window later at the latest, unless
        # a later answer still counts it.
        self._others: deque[float] = deque()
        self.answer: Answer | None = None
        self.answered_at = -math.inf

    def trim(self, now: float) -> None:
        """Forget the slots that have come back."""
        since = now - self._window
        for slots in (self.cooldowns, self._others):
            while slots and slots[0] <= since:
                slots.popleft()

    def shift(self, seconds: float) -> None:
        """Go on by a clock that is ahead by so many seconds."""
        for slots in (self.cooldowns, self._others):
            moved = [at + seconds for at in slots]
            slots.clear()
            slots.extend(moved)

    def note_answer(self, answer: Answer, now: float, *, own: int) -> None:
        """Note how many slots other processes use.

        Args:
            answer: The answer.
            now: The time.
            own: How many slots this process had before it, without those in their cooldown.
        """
        self.answer, self.answered_at = answer, now
        self.trim(now)
        count = max(0, answer.used - answer.granted - own - len(self.cooldowns))
        while len(self._others) > count:
            self._others.popleft()
        self._others.extend([now] * (count - len(self._others)))

    def note_others(self, spent: Iterable[float], now: float) -> None:
        """Note what other processes use, by the seconds until the slot of each call comes back."""
        window = self._window
        self._others = deque(sorted(now + min(seconds, window) - window for seconds in spent))

    def count_own(self, now: float, window: float) -> int:
        """Return how many calls of this process ended within a window, which is not longer than that of the slots."""
        since, count = now - window, len(self.cooldowns)
        for ended in self.cooldowns:
            if ended > since:
                break
            count -= 1
        return count

    def count(self) -> int:
        """Return how many slots are used, without those of calls of this process that are in flight."""
        return len(self.cooldowns) + len(self._others)

    def capacity(self, limit: int) -> int:
        """Return how many calls a window allows now, given what is documented or set."""
        return limit if self.answer is None else self.answer.capacity

    def blocked_for(self, now: float) -> float:
        """Return the seconds for which nothing is granted because of a 429."""
        answer = self.answer
        return 0.0 if answer is None else max(0.0, answer.blocked_for - (now - self.answered_at))

    def back_in(self, now: float) -> list[float]:
        """Return the seconds until each slot comes back; for those of other processes the longest it may take."""
        return [seen + self._window - now for slots in (self.cooldowns, self._others) for seen in slots]

    def learned(self, now: float) -> tuple[tuple[int, float], float] | None:
        """Return the lower limit that a 429 named, and the seconds until it is forgotten; None if there is none."""
        if self.answer is None or not self.answer.quota:
            return None
        calls, seconds, forgotten_in = self.answer.quota
        return (int(calls), seconds), max(0.0, forgotten_in - (now - self.answered_at))

    def next_change(self, now: float, *, opens_in: float, again_at: float | None) -> float | None:
        """Return the seconds until a slot may come free; None if that is not known.

        Args:
            now: The time.
            opens_in: The seconds for which nothing is granted at all.
            again_at: When the ledger is asked next for those that wait; None if none do.
        """
        seen = [slots[0] for slots in (self.cooldowns, self._others) if slots]
        if self.answer is None:
            return (
                max(opens_in, min(seen, default=now - self._window) + self._window - now) if seen or opens_in else None
            )
        slot = min(seen, default=self.answered_at) + self._window
        change = max(now + opens_in, slot if again_at is None else again_at)
        return max(0.0, change - now)
