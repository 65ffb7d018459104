"""A process that shares a limit, as the contract says that it must behave, whatever happens to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from bms_async.limits.shared.messages import Answer, Question, Refusal, Terms
from tests.limits.shared._history_store import Dealt

TERMS = Terms()


@dataclass(eq=False)
class Call:
    """One call, as the server and the rule book know it.

    Attributes:
        sent: When it was sent.
        counted: When the server counted it; None if it never reached it.
        order: The number of the question that granted its slot, or that adopted it; 0 while it is not adopted.
        allowed: How many calls a window might hold when its slot was granted; 0 if it was not.
    """

    sent: float
    counted: float | None
    order: int
    allowed: int


@dataclass(frozen=True)
class Habits:
    """How a process differs from the others.

    Attributes:
        clings: How often it keeps what it is granted to the last moment of its lease, out of the store's reach.
        slow: The part of its calls that take up to the timeout.
        refused: The part of its calls that get a 429.
        quotas: Whether a 429 may name a quota.
    """

    limit: int
    reserve: int
    clings: float
    slow: float
    refused: float
    quotas: bool


class World(Protocol):
    """What a process needs of the world."""

    random: Random
    time: float
    calls: list[Call]
    is_settled: bool

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something in so many seconds."""

    def carry(self, process: Process, question: Question) -> None:
        """Send a question, once; it may be lost, come late or come twice."""


@dataclass(eq=False)
class Process:
    """A process: its calls, and the holder that it is at present.

    Attributes:
        interactive: How many interactive calls wait.
        bulk: How many bulk calls wait.
        is_alive: Whether it has not been killed.
        wakes: When it goes on, if it stands still.
        cut_until: When it reaches the store again.
        seen: When it had sent the last question that was answered, and what the store's clock showed then.
    """

    world: World
    habits: Habits
    interactive: int = 0
    bulk: int = 0
    is_alive: bool = True
    is_leaving: bool = False
    wakes: float = 0.0
    seen: tuple[float, float] | None = None
    jumped: bool = False
    name: str = ""
    life: int = 0
    seq: int = 0
    unsent: list[tuple[int, int]] = field(default_factory=list)
    spoilt: int = 0
    flying: list[Call] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    unadopted: list[Call] = field(default_factory=list)
    adopting: list[Call] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    question: Question | None = None
    asked: float = 0.0
    lease: float = 0.0
    used: float = 0.0
    pausing: float = 0.0
    planned: float = float("inf")
    cut_until: float = 0.0
    begun: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin_anew()

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return self.interactive + self.bulk

    @property
    def holds(self) -> bool:
        """Whether it has slots of the ledger's that have not gone back."""
        return bool(self.unsent or self.spoilt or self.flying or self.ended)

    def begin_anew(self) -> None:
        """Forget everything, but not which calls wait, and not that the store's clock jumped."""
        self.name = f"{self.world.random.getrandbits(48):012x}"
        self.life += 1
        self.seq = self.spoilt = 0
        for each in (self.unsent, self.flying, self.ended, self.unadopted, self.adopting, self.refusals):
            each.clear()
        self.jumped |= self.question is not None and self.question.jumped
        self.question = None
        if self.is_alive and self.waiting:
            self.plan(0.1)

    def want(self, interactive: int, bulk: int) -> None:
        """Have more calls wait."""
        self.interactive += interactive
        self.bulk += bulk
        if self.question is None and self.planned == float("inf"):
            self.plan(0.0)
        self.send_calls()

    def plan(self, seconds: float) -> None:
        """Ask in so many seconds, if not before."""
        at = self.world.time + seconds
        if at < self.planned:
            self.planned = at
            self.world.later(seconds, lambda: self.look(at))

    def look(self, planned: float) -> None:
        """Ask, if it is still planned for this time."""
        if planned == self.planned:
            self.planned = float("inf")
            self.ask()

    def ask(self) -> None:
        """Send a question, if none is under way."""
        if not self.is_here() or self.question is not None:
            return
        now, unused = self.world.time, self.spoilt
        if self.is_leaving or self.used + 1 <= now:
            unused, self.unsent = unused + len(self.unsent), []
        self.spoilt = 0
        self.seq += 1
        self.adopting, self.unadopted = self.unadopted, []
        self.question = Question(
            holder=self.name,
            seq=self.seq,
            terms=TERMS,
            limit=self.habits.limit,
            reserve=self.habits.reserve,
            interactive=self.interactive,
            bulk=self.bulk,
            ahead=sum(1 for at in self.begun[-9:] if at > now - 1),
            unused=unused,
            spare=len(self.unsent),
            adopted=len(self.adopting),
            ended=tuple((now - at, 1) for at in self.ended),
            refusals=tuple(self.refusals),
            jumped=self.jumped,
            leaving=self.is_leaving,
        )
        self.ended, self.refusals, self.asked, self.jumped = [], [], now, False
        self.send(self.question)

    def send(self, question: Question) -> None:
        """Send a question, and once more while it is not answered."""
        if self.is_here() and self.question is question:
            self.world.carry(self, question)
            self.world.later(self.world.random.uniform(1, 6), lambda: self.send(question))

    def is_here(self) -> bool:
        """Whether it can do anything now; it begins anew if its lease is over."""
        if not self.is_alive or self.world.time < self.wakes:
            return False
        if self.holds and self.world.time >= self.lease:
            self.begin_anew()
        return True

    def hear(self, dealt: Dealt, question: Question) -> None:
        """Take an answer; only one to the question that is under way counts."""
        if not self.is_here() or self.question is not question:
            return
        answer, now = dealt.answer, self.world.time
        self.question = None
        if self.seen is not None:
            since, showed = self.seen
            self.jumped |= answer.now - showed > (now - since) * 1.001 + 0.5
        self.seen = (self.asked, answer.now)
        if not answer.known:
            if self.is_leaving:
                self.is_alive = False
            self.begin_anew()
            return
        self.lease = self.asked + TERMS.lease
        if self.jumped:
            self.spoilt += answer.granted
        else:
            self.unsent += [(dealt.order, dealt.allowed)] * answer.granted
        if now >= self.lease and self.holds:
            self.begin_anew()
            return
        if self.unsent and self.world.random.random() < self.habits.clings:
            self.cut_until = self.lease + 20
            self.world.later(self.lease - 0.001 - now, self.send_all)
        self.pausing = now + answer.blocked_for
        self.used = now
        self.send_calls()
        self.plan_after(answer)

    def plan_after(self, answer: Answer) -> None:
        """Plan the next question as the answer says."""
        self.planned = float("inf")
        if self.jumped:
            self.plan(0.0)
        if self.is_leaving and not self.flying and not self.unsent and not self.ended:
            self.is_alive = False
        elif self.waiting:
            self.plan(answer.again or 0.1)
        if self.holds:
            self.plan(TERMS.lease / 3)
        if self.unsent or self.ended:
            self.plan(1.0)

    def send_calls(self) -> None:
        """Use slots for the calls that wait."""
        if not self.is_here() or self.world.time < max(self.pausing, self.cut_until):
            return
        while self.unsent and self.waiting:
            if self.interactive:
                self.interactive -= 1
            else:
                self.bulk -= 1
            self.begin_call(*self.unsent.pop())

    def send_all(self) -> None:
        """Use all that is left at the last moment, and die, or not."""
        if self.is_here():
            while self.unsent:
                self.begin_call(*self.unsent.pop())
            if self.world.random.random() < 0.5:
                self.die()

    def go_without(self, calls: int) -> None:
        """Make calls that no ledger granted, and have them adopted."""
        if self.is_here():
            self.unadopted += [self.begin_call(0, 0) for _ in range(calls)]
            self.plan(0.0)

    def begin_call(self, order: int, allowed: int) -> Call:
        """Send a call, whose end it will hear of."""
        random, now = self.world.random, self.world.time
        is_slow = random.random() < self.habits.slow and not self.world.is_settled
        seconds = random.choice((TERMS.timeout, random.uniform(5, TERMS.timeout))) if is_slow else _latency(random)
        moment = random.choice((0.0, 1.0, random.random()))
        call = Call(now, None if random.random() < 0.03 else now + seconds * moment, order, allowed)
        self.world.calls.append(call)
        self.flying.append(call)
        self.used = now
        self.begun.append(now)
        self.world.later(seconds, lambda: self.end_call(call))
        return call

    def end_call(self, call: Call) -> None:
        """Note when a call ended; by then its slot may be none of this holder's any more."""
        if self.is_alive and self.world.time < self.wakes:
            self.world.later(self.wakes - self.world.time, lambda: self.end_call(call))
            return
        if not self.is_here() or call not in self.flying:
            return
        self.flying.remove(call)
        self.ended.append(self.world.time)
        if self.world.random.random() < self.habits.refused and not self.world.is_settled:
            self.refusals.append(_draw_refusal(self.world.random, quotas=self.habits.quotas))
            self.plan(0.0)
        self.plan(0.0 if self.is_leaving else 1.0)

    def die(self) -> None:
        """Be gone, with calls under way that may reach the server for a timeout yet."""
        self.is_alive = False
        random, now = self.world.random, self.world.time
        for call in self.flying:
            if call.counted is not None and call.counted > now and random.random() < 0.7:
                call.counted = random.choice(
                    (call.sent + TERMS.timeout, random.uniform(now, call.sent + TERMS.timeout))
                )


def _latency(random: Random) -> float:
    return random.choice((random.uniform(0.02, 0.3), random.uniform(0.02, 5)))


def _draw_refusal(random: Random, *, quotas: bool) -> Refusal:
    retry_after = random.choice(((), (random.uniform(0, 30),)))
    quota = (float(random.randint(1, 5)), random.choice((1.0, 60.0, 120.0))) if quotas and random.random() < 0.3 else ()
    return Refusal(retry_after, quota)
