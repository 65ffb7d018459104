"""What a process has of one limit by the ledger's word: an id, a lease, a question, and what it has not reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from uuid import uuid4

from .messages import Answer, Question, Refusal, Terms

_RENEWALS = 3
"""How often a lease is renewed within its length."""

_MARGIN = 0.003
"""Seconds after a holder's turn at which it asks, so that it does not come too early for nothing."""

_GRAINS = 100
"""Parts of a second that the ages of calls are rounded down to, so that those that ended together are one number."""


class Holding:
    """One holder of a limit, from its first question until its lease is over; then it begins anew under another id.

    Times are those of the event loop's clock, but for the lease.

    Args:
        limit: Calls a window.
        reserve: How many slots bulk calls leave free.
        terms: The times that all holders agree on.
        clock: The time that leases are counted by, in seconds.

    Attributes:
        lease_ends: Until when calls may be sent, by the lease's clock.
        asked: The question that was not answered yet.
        again_at: When asking again pays.
        renew_at: When the lease is renewed if anything is held.
        unused: How many slots are to be handed back.
        unreported: When calls ended that were not reported, ascending.
        elsewhere: When calls ended that were made without the ledger's knowledge, and that it does not count yet.
        adopted: How many such calls have not ended, whose slots the ledger was asked to hold.
        refusals: The 429s that were not reported.
        has_jumped: Whether it is to be reported that the store's clock jumped ahead.
        has_said_interactive: Whether the ledger knows that interactive calls wait.
    """

    __slots__ = (
        "_adopting",
        "_asked_at",
        "_clock",
        "_ended_meanwhile",
        "_flying",
        "_holder",
        "_limit",
        "_place_ends",
        "_reported",
        "_reserve",
        "_sent_at",
        "_seq",
        "_terms",
        "adopted",
        "again_at",
        "asked",
        "elsewhere",
        "has_jumped",
        "has_said_interactive",
        "lease_ends",
        "refusals",
        "renew_at",
        "unreported",
        "unused",
    )

    def __init__(self, limit: int, *, reserve: int, terms: Terms, clock: Callable[[], float]) -> None:
        self._limit, self._reserve, self._terms, self._clock = limit, reserve, terms, clock
        self.unreported: list[float] = []
        self.elsewhere: list[float] = []
        self.refusals: list[Refusal] = []
        self.asked: Question | None = None
        self.renew_at = -math.inf
        self._reported = self._flying = self._adopting = 0
        # When adopted calls ended of which it is not known whether the ledger holds their slots.
        self._ended_meanwhile: list[float] = []
        self.has_jumped = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """Give all up: under the former id nothing more is sent or reported."""
        if self.asked is not None:
            self.refusals = [*self.asked.refusals, *self.refusals]
            self.has_jumped = self.has_jumped or self.asked.jumped
            # Whether the ledger holds their slots is not known.
            self._flying += self._adopting
            self.elsewhere += self._ended_meanwhile
        self.asked = None
        self._holder, self._seq = uuid4().hex[:16], 0
        self._asked_at = self._sent_at = self._place_ends = self.lease_ends = self.again_at = -math.inf
        self.unused = self.adopted = self._adopting = 0
        self.unreported.clear()
        self._ended_meanwhile.clear()
        self.has_said_interactive = False

    def forget(self) -> None:
        """Begin anew in a child process: what is to be reported is the parent's to report."""
        self.asked, self._adopting = None, 0
        self.refusals.clear()
        self._ended_meanwhile.clear()
        self.has_jumped = False
        self.give_over()
        self.begin_anew()

    def give_over(self) -> list[float]:
        """Return when calls ended that the ledger does not count, and leave it to the caller to count them."""
        ended, self.elsewhere, self._flying = self.elsewhere, [], 0
        return ended

    def adopt(self, ended: Iterable[float], flying: int) -> None:
        """Have the ledger count calls that were made without its knowledge.

        Args:
            ended: When those ended whose slots have not come back.
            flying: How many have not ended.
        """
        self.elsewhere += ended
        self._flying = flying

    def end_adopted(self, ended: float | None) -> None:
        """Note that a call ended that was made without the ledger's knowledge.

        Args:
            ended: When; None if nothing was sent.
        """
        if self._flying > 0:
            self._flying -= 1
            if ended is not None:
                self.elsewhere.append(ended)
        elif self.adopted > 0:
            self.adopted -= 1
            if ended is None:
                self.unused += 1
            else:
                self.unreported.append(ended)
            if self._adopting > 0:
                self._adopting -= 1
                self._ended_meanwhile += () if ended is None else (ended,)

    def is_lost(self, held: int) -> bool:
        """Return whether the lease is over, or a question is so old that its answer would be of no use.

        Args:
            held: How many slots are held; without any, a place in the queue lasts longer than a lease.
        """
        clock = self._clock()
        if self.asked is not None:
            return clock >= self._asked_at + self._terms.lease
        return self._seq > 0 and clock >= (self.lease_ends if held else self._place_ends)

    @property
    def has_to_leave(self) -> bool:
        """Whether the ledger knows, or has to know, of something that is had or wanted."""
        return self.is_urgent or (self._seq > 0 and self._clock() < self.lease_ends)

    @property
    def is_urgent(self) -> bool:
        """Whether there is something to ask that does not wait."""
        return self.asked is not None or bool(self.refusals) or self.has_jumped or bool(self.elsewhere or self._flying)

    def ask(
        self, now: float, *, interactive: int = 0, bulk: int = 0, ahead: int = 0, spare: int = 0, leaving: bool = False
    ) -> Question:
        """Return a new question, with all that was not reported.

        Args:
            now: The time by the loop's clock.
            interactive: How many interactive calls wait.
            bulk: How many bulk calls wait.
            ahead: How many slots will soon be wanted besides.
            spare: How many slots are left that nothing was sent for.
            leaving: Whether nothing more will be wanted.
        """
        self._seq += 1
        self._asked_at, self._sent_at = self._clock(), now
        self.asked = Question(
            holder=self._holder,
            seq=self._seq,
            terms=self._terms,
            limit=self._limit,
            reserve=self._reserve,
            interactive=interactive,
            bulk=bulk,
            ahead=ahead,
            unused=self.unused,
            spare=spare,
            adopted=len(self.elsewhere) + self._flying,
            ended=_group(now - ended for ended in (*self.elsewhere, *self.unreported)),
            refusals=tuple(self.refusals),
            jumped=self.has_jumped,
            leaving=leaving,
        )
        self.renew_at = now + self._terms.lease / _RENEWALS
        self._reported, self.unused, self.has_jumped = len(self.elsewhere), 0, False
        self.adopted, self._adopting, self._flying = self.adopted + self._flying, self._flying, 0
        self.unreported.clear()
        self.refusals.clear()
        return self.asked

    def take_answer(self, answer: Answer) -> bool:
        """Go on with an answer to the question that is open; return whether its slots may be used.

        If not, all was given up.
        """
        asked = self.asked
        if asked is None or not answer.known or self.is_lost(0):
            self.begin_anew()
            return False
        self.asked = None
        self.lease_ends = self._asked_at + self._terms.lease
        again = min(answer.again, self._terms.window)
        self._place_ends = self.lease_ends + again
        # From when it was sent, so that the trip of the next question is not added to that of this one.
        self.again_at = self._sent_at + again + _MARGIN if again > 0 else -math.inf
        self.elsewhere = self.elsewhere[self._reported :]
        self._adopting = 0
        self._ended_meanwhile.clear()
        self.has_said_interactive = answer.granted < asked.interactive
        return True


def _group(ages: Iterable[float]) -> tuple[tuple[float, int], ...]:
    """Return ages with how many calls have them, rounded down: a younger call keeps its slot for longer."""
    counts: dict[float, int] = {}
    for age in ages:
        grain = math.floor(max(0.0, age) * _GRAINS) / _GRAINS
        counts[grain] = counts.get(grain, 0) + 1
    return tuple(counts.items())
