"""When a process asks the ledger, and for how much: as seldom as is possible without a call that waits longer for it.

A process in which calls wait asks at the time that the ledger named. Slots that are not used are handed back after a
second. Calls that ended are reported within a second, or with the next question of a process in which calls wait: their
slots come back a minute later in any case.
"""

from __future__ import annotations

import math

from .holding import Holding
from .messages import Answer

REPORT_AFTER = 1.0
"""Seconds after which an ended call is reported where no call waits, and after which unused slots are handed back."""

_HAND_BACK_SCARCE = 0.25
"""The same for unused slots, where other holders wait."""

_BETWEEN = 0.0002
_BETWEEN_INTERACTIVE = 0.03
_BETWEEN_BULK = 0.1
"""Seconds between two questions where slots are scarce, so that one question gets several of those that come back one
by one: for each call that the limit allows, and at most. A slot is kept for a holder for longer than that. With a low
limit there are few questions anyway, and each is for one slot, so that all get as many."""

_LEAST = 0.01
"""Seconds between an answer and the next question in any case, whatever the store answers and whatever is urgent."""

_NEARLY_ALL = 0.9
"""The share of the slots that are used when the others are scarce."""

_SETTLING = 10.0
"""Seconds after the store came back in which nothing is asked for, so that all report what they sent meanwhile."""


class Demand:
    """What a process needs of one limit. Times are those of the event loop's clock.

    Args:
        limit: Calls a window.
        holding: What the process has of it.
    """

    __slots__ = (
        "_answered_at",
        "_has_others_waiting",
        "_holding",
        "_idle_at",
        "_idle_calls",
        "_is_scarce",
        "_limit",
        "_quiet_until",
        "_rate",
        "_rate_from",
    )

    def __init__(self, limit: int, holding: Holding) -> None:
        self._limit, self._holding = limit, holding
        self._answered_at = self._quiet_until = -math.inf
        self._is_scarce = self._has_others_waiting = False
        # When slots were last seen to be used, and how many calls there had been.
        self._idle_at, self._idle_calls = -math.inf, 0
        self._rate_from, self._rate = (-math.inf, 0), 0.0

    def begin_anew(self) -> None:
        """Forget what the ledger said to a holder that is given up."""
        self._is_scarce = False

    def rebind(self) -> None:
        """Forget all times, which are those of another loop."""
        self._answered_at = self._quiet_until = self._idle_at = -math.inf
        self._rate_from, self._rate = (-math.inf, 0), 0.0

    def settle(self, now: float) -> None:
        """Want nothing until all processes had the time to report what they sent while the store was away."""
        self._quiet_until = now + _SETTLING

    def is_settling(self, now: float) -> bool:
        """Return whether nothing is wanted for that reason."""
        return now < self._quiet_until

    def note_answer(self, answer: Answer, now: float) -> None:
        """Note that there was an answer, and how scarce slots are."""
        self._answered_at = now
        if not answer.known:
            return
        self._has_others_waiting = answer.scarce
        self._is_scarce = answer.scarce or answer.again > 0 or answer.used >= _NEARLY_ALL * answer.capacity

    def due(self, now: float, *, interactive: bool, bulk: bool, spare: int, calls: int, held: int) -> float:
        """Return when there is something to ask or to report, or has been before now; infinity for never.

        Args:
            now: The time.
            interactive: Whether interactive calls wait.
            bulk: Whether bulk calls wait.
            spare: How many slots are left.
            calls: How many calls there were in all.
            held: How many slots the ledger holds for this process.
        """
        holding, soonest = self._holding, self._answered_at + _LEAST
        if holding.is_urgent:
            return max(now, soonest)
        due = math.inf
        if interactive or bulk:
            # Where slots are left all the same, the lease is over.
            due = now if spare > 0 or (interactive and not holding.has_said_interactive) else holding.again_at
            due = max(due, self._quiet_until)
            if self._is_scarce:
                most = _BETWEEN_INTERACTIVE if interactive else _BETWEEN_BULK
                due = max(due, self._answered_at + min(most, self._limit * _BETWEEN))
        else:
            if spare > 0:
                due = self.hand_back_at(now, spare=spare, calls=calls)
            if holding.unreported:
                due = min(due, holding.unreported[0] + REPORT_AFTER)
        return max(min(due, holding.renew_at) if held else due, soonest)

    def hand_back_at(self, now: float, *, spare: int, calls: int) -> float:
        """Return when slots that are left go back; later, if some were used meanwhile."""
        return self._idle_from(now, calls) if spare > 0 else math.inf

    def estimate(self, now: float, calls: int) -> int:
        """Return how many calls a second's work is, by what was begun of late; none once they have ceased."""
        at, counted = self._rate_from
        begun, rate = calls - counted, self._rate
        if now - at >= 1.0:
            self._rate = rate = begun / (now - at) if at > -math.inf else 0.0
            self._rate_from = (now, calls)
            begun = 0
        return 0 if self._idle_from(now, calls) <= now else max(begun, math.ceil(rate))

    def _idle_from(self, now: float, calls: int) -> float:
        """Return from when on slots are not used any more, unless there are more calls until then."""
        if calls != self._idle_calls:
            self._idle_calls, self._idle_at = calls, now
        return self._idle_at + (_HAND_BACK_SCARCE if self._has_others_waiting else REPORT_AFTER)
