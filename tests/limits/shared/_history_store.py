"""A store on a clock that is a number: it runs the rule book, loses what it keeps, and has its clock set."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from itertools import pairwise
from types import ModuleType
from typing import ClassVar

from bms_async.limits.shared import ledger as whole
from bms_async.limits.shared.messages import Account, Answer, Holder, Ledger, Question
from bms_async.limits.shared.store import decode_account, decode_ledger, encode


@dataclass
class Dealt:
    """An answer, and which of all questions that were dealt with granted what it grants.

    Attributes:
        order: The number of that question among all; it says which grant came first.
        allowed: How many calls a window might hold when it was dealt with.
    """

    answer: Answer
    order: int
    allowed: int


@dataclass
class KeepingStore:
    """Keeps bytes, as a real store does, so that nothing survives in an object.

    Attributes:
        rule_book: The rule book that all stores run.
        rate: Seconds of its clock for each second.
        offset: Seconds that its clock is ahead.
        broken: The laws that an answer broke.
        has_unseen_jump: Whether its clock was set ahead, and no holder has said so yet.
    """

    rule_book: ClassVar[ModuleType] = whole

    rate: float
    offset: float
    is_open: bool
    life: int = 1
    broken: list[str] = field(default_factory=list)
    has_unseen_jump: bool = False
    questions: int = 0
    _account: bytes | None = None
    _ledger: bytes | None = None
    _order: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    _copies: list[tuple[float, bytes | None, bytes | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.is_open:
            self._account = encode(whole.open_account(None, now=self.clock(0.0), life="1"))

    def clock(self, time: float) -> float:
        """Return what its clock shows."""
        return time * self.rate + self.offset

    def lose_everything(self) -> None:
        """Begin another life with nothing."""
        self._account = self._ledger = None
        self.life += 1
        self.has_unseen_jump = False

    def go_back_to_a_copy(self, before: float) -> None:
        """Begin another life with what was kept some time ago."""
        older = [each for each in self._copies if each[0] <= before]
        self.lose_everything()
        if older:
            _, self._account, self._ledger = older[-1]

    def jump(self, seconds: float) -> None:
        """Set the clock."""
        self.offset += seconds
        self.has_unseen_jump = seconds > 0

    def ask(self, question: Question, time: float) -> Dealt | None:
        """Deal with a question; None if it gets no answer.

        A holder that asks for the first time cannot see that the clock was set ahead since. The guarantee assumes that
        one who can does before it.
        """
        if self.has_unseen_jump and question.seq == 1 and not question.jumped:
            return None
        if question.jumped:
            self.has_unseen_jump = False
        account, ledger = decode_account(self._account), decode_ledger(self._ledger)
        now = self.clock(time)
        before = self._find_present(account, ledger, question, now)
        dealt: whole.Dealt = self.rule_book.deal(account, ledger, question, name="stop", now=now, life=str(self.life))
        self.questions += 1
        after, answer = _find(dealt.ledger, question), dealt.answer
        key = (question.holder, question.seq)
        if before is None or before.seq < question.seq:
            self._order[key] = (self.questions, min(question.limit, answer.capacity))
        elif answer.known and before.granted != answer.granted:
            self.broken.append(f"L repeated: {before.granted} were granted, and then {answer.granted}")
        self._look(dealt.ledger, question, answer, after)
        self._account, self._ledger = encode(dealt.account), encode(dealt.ledger)
        self._copies.append((time, self._account, self._ledger))
        order, allowed = self._order.get(key, (self.questions, 0))
        return Dealt(answer, order, allowed)

    def _find_present(
        self, account: Account | None, ledger: Ledger | None, question: Question, now: float
    ) -> Holder | None:
        """Return the holder as it is kept, if it still has its lease in this life."""
        if account is None or ledger is None or account.life != str(self.life) or account.since != ledger.since:
            return None
        holder = _find(ledger, question)
        was_set_back = min(0.0, now - ledger.seen)
        # A copy, because the rule book changes what it is given.
        return copy(holder) if holder is not None and holder.ends + was_set_back > now else None

    def _look(self, ledger: Ledger, question: Question, answer: Answer, holder: Holder | None) -> None:
        """Hold what came out against what must always be true."""
        cooldowns = ledger.cooldowns
        if any(one[0] >= other[0] for one, other in pairwise(cooldowns)):
            self.broken.append(f"L cooldowns: not ascending: {cooldowns}")
        if any(count < 1 for _, count in cooldowns) or any(each.held < 0 for each in ledger.holders):
            self.broken.append(f"L slots: fewer than none: {cooldowns}, {ledger.holders}")
        waits = answer.known and holder is not None and holder.interactive + holder.bulk > 0
        if waits and not 0 < answer.again < 3600:
            self.broken.append(f"L again: {question.holder} waits and is to ask again in {answer.again} s")
        if answer.granted < 0 or answer.granted > question.interactive + question.bulk + question.ahead:
            self.broken.append(f"L granted: {answer.granted} for {question}")
        if answer.closed_for > question.terms.closed + 1e-6:
            self.broken.append(f"L closed: for {answer.closed_for} s")


def _find(ledger: Ledger, question: Question) -> Holder | None:
    return next((holder for holder in ledger.holders if holder.id == question.holder), None)
