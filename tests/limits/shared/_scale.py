"""How the rule book bears many holders: questions a second, fairness, speed against the bound, size, CPU.

python -m tests.limits.shared._scale              every figure, some minutes
python -m tests.limits.shared._scale --holders 13 --limit 50 --windows 10      one of them

Time is a number here: nothing waits, and the same seed gives the same figures, but for those of the CPU.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from types import ModuleType

from bms_async.limits.shared import ledger
from bms_async.limits.shared.ledger import open_account
from bms_async.limits.shared.messages import Account, Answer, Ledger, Question, Terms
from bms_async.limits.shared.store import encode

TERMS = Terms()
PERIOD = 60.05
"""Seconds after which a slot can be used again at the soonest."""

_LIFE = "a life"
_RENEWAL = TERMS.lease / 3
_LINGER = 1.0
"""Seconds after its last use that a holder says which calls ended, and gives back what it does not use."""

_TRIP = (0.0002, 0.002)
_CALL = (0.02, 0.3)


@dataclass(frozen=True)
class Load:
    """What is asked of one limit.

    Attributes:
        holders: How many processes share it.
        limit: Calls a minute.
        waiting: How many calls wait in each process, again and again.
        calls: How many calls each makes; 0 for ever more.
        windows: How many windows are looked at from the opening on, if the calls have no end.
        is_open: Whether the account is open when the first holder comes; if not, all wait at its opening.
        trip: The least and the most seconds that a question or an answer takes.
        call: The same for a call.
    """

    holders: int
    limit: int
    waiting: int = 10
    calls: int = 0
    windows: int = 4
    is_open: bool = False
    trip: tuple[float, float] = _TRIP
    call: tuple[float, float] = _CALL
    seed: int = 1


@dataclass
class Figures:
    """What came of it.

    Attributes:
        speed: The time that the bound allows, as a part of the time that was taken.
        last: When the last call began, in seconds from the opening.
        bound: When it could have begun at the soonest.
        fewest: The fewest calls that a holder began in one of these windows.
        most: The most.
        totals: The fewest and the most calls that a holder began in all.
        questions: Questions a second, from the opening on.
        busiest: Questions in the busiest second of that time.
        state: Bytes that the store keeps.
        cpu: Microseconds for a question.
    """

    load: Load
    speed: float
    last: float
    bound: float
    fewest: int
    most: int
    totals: tuple[int, int]
    questions: float
    busiest: int
    state: int
    cpu: float

    def __str__(self) -> str:
        load = self.load
        return (
            f"{load.holders:5} holders at {load.limit:4} a minute: {self.speed:7.2%} of the bound, "
            f"last {self.last:.2f} s of {self.bound:.2f} s, {self.fewest}-{self.most} calls a holder and window "
            f"({load.limit / load.holders:.2f} is fair), {self.totals[0]}-{self.totals[1]} in all, "
            f"{self.questions:.1f} questions/s, {self.busiest} in the busiest second, {self.state} bytes, "
            f"{self.cpu:.0f} us a question"
        )


@dataclass
class _Process:
    """One holder, as it is meant to ask."""

    name: str
    waiting: int
    left: float
    seq: int = 0
    unsent: int = 0
    flying: int = 0
    ended: list[float] = field(default_factory=list)
    asking: bool = False
    asked: float = -1.0
    used: float = -1.0
    next: float = float("inf")
    begun: list[float] = field(default_factory=list)

    @property
    def held(self) -> int:
        return self.unsent + self.flying + len(self.ended)


class _Run:
    def __init__(self, load: Load, rule_book: ModuleType = ledger) -> None:
        self.load, self.random, self.rule_book = load, Random(load.seed), rule_book
        self.account: Account | None = open_account(None, now=0.0, life=_LIFE) if load.is_open else None
        self.opening = 0.0 if load.is_open else TERMS.closed
        self.ledger: Ledger | None = None
        self.now = 0.0
        self.events: list[tuple[float, int, str, _Process, Question | Answer | None]] = []
        self.count = 0
        self.asked: Counter[int] = Counter()
        self.cpu = 0.0
        self.dealt = 0
        self.size = 0
        first = load.calls or load.waiting
        self.processes = [
            _Process(f"{self.random.getrandbits(64):016x}", first, (load.calls or float("inf")) - first)
            for _ in range(load.holders)
        ]

    def play(self) -> Figures:
        load = self.load
        until = float("inf") if load.calls else self.opening + load.windows * PERIOD
        for process in self.processes:
            self.wake(process, self.random.uniform(0, 0.001))
        while self.events:
            self.now, _, what, process, said = heapq.heappop(self.events)
            if self.now > until or all(each.left + each.waiting == 0 for each in self.processes):
                break
            if what == "wake" and not process.asking and self.now >= process.next:
                self.ask(process)
            elif isinstance(said, Question):
                self.deal(process, said)
            elif isinstance(said, Answer):
                self.hear(process, said)
            elif what == "end":
                process.flying -= 1
                process.ended.append(self.now)
                process.used = self.now
                self.plan(process)
        return self.figures(min(self.now, until) - self.opening)

    def post(self, after: float, what: str, process: _Process, said: Question | Answer | None = None) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + after, self.count, what, process, said))

    def wake(self, process: _Process, after: float) -> None:
        process.next = self.now + after
        self.post(after, "wake", process)

    def plan(self, process: _Process) -> None:
        """Keep to what is planned, but report and renew in time."""
        if process.asking or not process.held:
            return
        due = min(process.used + _LINGER if process.ended or process.unsent else float("inf"), process.asked + _RENEWAL)
        if due < process.next:
            self.wake(process, max(0.0, due - self.now))

    def ask(self, process: _Process) -> None:
        now = self.now
        process.seq, process.asking, process.asked, process.next = process.seq + 1, True, now, float("inf")
        unused = process.unsent if process.used + _LINGER <= now else 0
        process.unsent -= unused
        ended = tuple((now - at, 1) for at in process.ended)
        process.ended.clear()
        ahead = sum(1 for at in process.begun[-process.waiting - 20 :] if at > now - 1)
        question = Question(
            holder=process.name, seq=process.seq, terms=TERMS, limit=self.load.limit, interactive=process.waiting,
            ahead=ahead, unused=unused, spare=process.unsent, ended=ended,
        )  # fmt: skip
        self.post(self.random.uniform(*self.load.trip), "question", process, question)

    def deal(self, process: _Process, question: Question) -> None:
        began = time.process_time()
        dealt = self.rule_book.deal(self.account, self.ledger, question, name="stop", now=self.now, life=_LIFE)
        self.cpu += time.process_time() - began
        self.account, self.ledger = dealt.account, dealt.ledger
        self.dealt += 1
        if self.now >= self.opening - 1:
            self.asked[math.floor(self.now - self.opening)] += 1
        if self.dealt % 100 == 0:
            self.size = max(self.size, len(encode(dealt.ledger)))
        self.post(self.random.uniform(*self.load.trip), "answer", process, dealt.answer)

    def hear(self, process: _Process, answer: Answer) -> None:
        process.asking = False
        process.unsent += answer.granted
        while process.unsent and process.waiting:
            process.unsent -= 1
            process.waiting -= 1
            process.flying += 1
            process.used = self.now
            process.begun.append(self.now)
            self.post(self.random.uniform(*self.load.call), "end", process)
            if process.left:
                process.left -= 1
                process.waiting += 1
        if process.waiting:
            self.wake(process, answer.again)
        self.plan(process)

    def figures(self, ended: float) -> Figures:
        load = self.load
        opening = self.opening
        begun = sorted(at - opening for process in self.processes for at in process.begun)
        windows = max(1, int(ended / PERIOD + 1e-9))
        counts = [Counter(int((at - opening) // PERIOD) for at in process.begun) for process in self.processes]
        each = [count[window] for count in counts for window in range(windows)]
        totals = [len(process.begun) for process in self.processes]
        asked = self.asked.total()
        bound = (len(begun) - 1) // load.limit * PERIOD
        return Figures(
            load,
            speed=bound / begun[-1] if bound else 1.0,
            last=begun[-1],
            bound=bound,
            fewest=min(each),
            most=max(each),
            totals=(min(totals), max(totals)),
            questions=asked / ended,
            busiest=max(self.asked.values()),
            state=self.size,
            cpu=self.cpu / self.dealt * 1e6,
        )


def measure(load: Load, rule_book: ModuleType = ledger) -> Figures:
    """Play a load through, and return what came of it."""
    return _Run(load, rule_book).play()


LOADS = (
    Load(4, 50, waiting=40, calls=40, is_open=True),
    *(Load(holders, limit, windows=20) for limit in (50, 2000) for holders in (4, 13, 16)),
    *(Load(holders, 2000, waiting=500, windows=20) for holders in (4, 13, 16)),
    Load(1000, 50, windows=20),
    Load(1000, 2000, windows=20),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures of the loads that are asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.limits.shared._scale", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--holders", type=int)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--waiting", type=int, default=10)
    parser.add_argument("--calls", type=int, default=0)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--open", action="store_true", help="the account is open when the first holder comes")
    given = parser.parse_args(arguments)
    one = given.holders and Load(
        given.holders, given.limit, given.waiting, given.calls, given.windows, is_open=given.open
    )
    for load in [one] if one else LOADS:
        print(measure(load), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
