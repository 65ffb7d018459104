"""Histories of an account, drawn from bytes: what several holders ask, and what the rule book in Python says to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from bms_async.limits.shared.ledger import deal, open_account
from bms_async.limits.shared.messages import Account, Answer, Ledger, Question, Refusal, Terms
from bms_async.limits.shared.store import encode

T = TypeVar("T")

# In an order that no locale but that of C has; the other one counts when two wait since the same moment.
FEW = ("a", "B", "é", "a-b")
MANY = (*FEW, *(f"{number:02}-of-many" for number in range(50)))
LIMITS = ("servers.stop", "jobs.get")
PASSED = (
    *(0.0,) * 6,
    *(0.003, 0.1, 0.3, 0.7, 1.0, 2.1) * 4,
    5.0,
    7.25,
    15.0,
    30.0,
    70.0,
    140.0,
    700.0,
    -0.5,
    -50.0,
    -3600.0,
)
# In which many come to wait, for no lease ends.
CALM = (*(0.0,) * 4, 0.003, 0.05, 0.1, 0.3)
AGES = (0.0, 0.004, 0.7, 5.0, 59.0, 100.0, 1e9, -1.0, math.nan, math.inf)
DOCUMENTED = ((*(50,) * 9, 7, 20, 2000), (*(50,) * 9, 7, 20, 2000), (2000,), (120, 120, 130))
BULK = (*(0,) * 6, 1, 2, 5, 20, 49, 900, -20)
COUNTS = (*range(-1, 12), 400)
# Beside and at a moment at which something changes by itself.
BESIDE = (0.0, 0.0, 0.0, -0.1, 0.1, 0.2)
RETRIES: tuple[tuple[float, ...], ...] = ((), (0.0,), (3.5,), (120.0,))
QUOTAS: tuple[tuple[float, ...], ...] = (
    (),
    (30, 60.0),
    (5, 7.0),
    (5, 0.0),
    (9, 1.0),
    (40, 90.0),
    (7.5, 60.0),
    (2, 3600.0),
    (3, 86400.0),
    (3, 86400.5),
    (200, 300.0),
    (1, 3600.0),
    (0, 60.0),
    (9, 1e6),
    (-1, 6),
)
TERMS = (*(Terms(),) * 11, Terms(6.0, 1.5, 6.0))
LIVES = ("first", "second")


class Step(NamedTuple):
    """What happened, and what is expected of every store then.

    Attributes:
        now: The store's time.
        life: The store's life.
        questions: What was asked; an empty list for an operator who opens the account, None where something is lost.
        answers: What is answered.
        account: What is kept of the account.
        ledgers: What is kept of the limits.
        lost: The limit that is lost; empty where all is.
    """

    now: float
    life: str
    questions: Sequence[tuple[str, Question]] | None
    answers: Sequence[Answer]
    account: bytes | None
    ledgers: dict[str, bytes]
    lost: str


class Bytes:
    """Choices that bytes make, so that a history which fails shrinks as they do."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def are_over(self) -> bool:
        return self._at >= len(self._data)

    def number(self, below: int) -> int:
        self._at += 1
        return 0 if self._at > len(self._data) else self._data[self._at - 1] % below

    def one_of(self, these: Sequence[T]) -> T:
        return these[self.number(len(these))]

    def rarely(self, one_in: int) -> bool:
        return self.number(one_in) == one_in - 1


@dataclass
class _History:
    choose: Bytes
    now: float = 1_796_018_543.123456
    life: str = LIVES[0]
    account: Account | None = None
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    last: dict[tuple[str, str], Question] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._holders = self.choose.one_of((FEW, FEW, MANY))
        self._is_calm = self.choose.number(2) == 1
        self._documented = self.choose.one_of(DOCUMENTED)

    def go_on(self) -> Step:
        choose = self.choose
        if choose.rarely(12 if self._is_calm else 4) and (moments := self._moments()):
            self.now = choose.one_of(moments[:8]) + choose.one_of(BESIDE)
        else:
            self.now += choose.one_of(CALM if self._is_calm else PASSED)
        event = choose.number(60)
        if event == 59:
            self.life = choose.one_of(LIVES)
        elif event == 58:
            self.account, self.ledgers = None, {}
            return self._step(None, [])
        elif event == 57:
            self.ledgers.pop(limit := choose.one_of(LIMITS), None)
            return self._step(None, [], limit)
        elif event % 20 == 7 or (self._is_calm and self.account is None):
            self.account = open_account(self.account, now=self.now, life=self.life)
            return self._step([], [])
        questions = [self._ask() for _ in range(1 + choose.rarely(3))]
        answers = []
        for limit, question in questions:
            dealt = deal(self.account, self.ledgers.get(limit), question, name=limit, now=self.now, life=self.life)
            self.account, self.ledgers[limit] = dealt.account, dealt.ledger
            answers.append(dealt.answer)
            if not dealt.answer.known and not self.choose.rarely(4):
                # As a holder does that lost its lease.
                self.last.pop((question.holder, limit), None)
        return self._step(questions, answers)

    def _moments(self) -> list[float]:
        moments = [] if self.account is None else [self.account.closed_until]
        for ledger in self.ledgers.values():
            adaptive = ledger.adaptive
            moments += [adaptive.blocked_until, adaptive.grow_at, adaptive.forget_at]
            moments += [ended + adaptive.window for ended in ledger.ended]
            for holder in ledger.holders:
                moments += [holder.ends, holder.due, holder.due + 0.3]
        return sorted(moment for moment in moments if self.now < moment < math.inf)

    def _step(
        self, questions: Sequence[tuple[str, Question]] | None, answers: Sequence[Answer], lost: str = ""
    ) -> Step:
        account = None if self.account is None else encode(self.account)
        ledgers = {name: encode(ledger) for name, ledger in self.ledgers.items()}
        return Step(self.now, self.life, questions, answers, account, ledgers, lost)

    def _ask(self) -> tuple[str, Question]:
        choose = self.choose
        holder, limit = choose.one_of(self._holders), choose.one_of(LIMITS)
        last, manner = self.last.get((holder, limit)), choose.number(12)
        if last is not None and manner == 11:
            return limit, last
        seq = 1 if last is None or manner == 10 else last.seq + 1
        if manner == 9:
            seq = max(1, seq + choose.one_of((-2, 3)))
        question = self._question(holder, seq)
        self.last[holder, limit] = question
        return limit, question

    def _question(self, holder: str, seq: int) -> Question:
        choose = self.choose
        extra, ended = choose.number(16), choose.number(4)
        if extra == 9 and choose.rarely(3):
            ended = 40
        return Question(
            holder=holder,
            seq=seq,
            terms=choose.one_of(TERMS),
            limit=choose.one_of(self._documented),
            reserve=choose.one_of((0, 1, 2, 3, 3, 60, -1)),
            interactive=choose.one_of((0, 0, 0, 0, 1, 2, 3, 5, -1)),
            bulk=choose.one_of(BULK),
            ahead=choose.number(8),
            unused=choose.number(4) - 1 if extra & 1 else 0,
            spare=choose.number(4) - 1 if extra & 2 else 0,
            adopted=choose.number(6) - 1 if extra == 4 else 0,
            ended=tuple((self._age(many=ended > 4), choose.one_of(COUNTS)) for _ in range(ended)),
            refusals=tuple(
                Refusal(choose.one_of(RETRIES), choose.one_of(QUOTAS)) for _ in range(2 if extra == 8 else 0)
            ),
            jumped=extra == 12 and choose.rarely(3),
            leaving=extra == 5,
        )

    def _age(self, *, many: bool) -> float:
        return self.choose.number(200) * 0.37 if many else self.choose.one_of(AGES)


def play(data: bytes) -> list[Step]:
    """Return the history that bytes make."""
    history = _History(Bytes(data))
    steps = []
    while not history.choose.are_over:
        steps.append(history.go_on())
    return steps
