"""Histories of processes that share one limit, drawn from a seed and judged by brute force at the server.

python -m tests.limits.shared._histories 12345                     one seed, judged
python -m tests.limits.shared._histories --first 0 --seeds 10000   many, on all cores

Time is a number here: nothing waits. What goes wrong: questions and answers that are lost, late, or come twice and
after newer ones; processes that die with calls under way, stand still for longer than their lease, or are cut off; a
store that loses what it kept, goes back to a copy of it, is away, or has its clock set; refusals; different limits.
After that all is well for a while, and every call that waits must begin.
"""

from __future__ import annotations

import argparse
import heapq
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from random import Random

from bms_async.limits.shared.messages import Question
from tests.limits.shared._history_holder import Call, Habits, Process
from tests.limits.shared._history_store import Dealt, KeepingStore

WINDOW = 60.0
"""The server's window: half open, as a strict gateway counts."""

_SETTLING = 900.0
"""Seconds until the first call must have begun, once nothing goes wrong any more: a closed account, slots of the dead,
a quota that is to be forgotten."""

_A_CALL = 67.0
"""Seconds that each call more may take where one a window is allowed."""

_LONGEST_TRIP = 5.0

_LAST_HEIR = 30.0
"""Seconds until another process has taken the place of one that died."""


@dataclass(frozen=True)
class Verdict:
    """What a history came to.

    Attributes:
        broken: The rules that it broke; none if all is well.
        counts: What happened in it.
    """

    seed: int
    broken: list[str]
    counts: Counter[str]

    def __str__(self) -> str:
        return "\n  ".join([f"python -m tests.limits.shared._histories {self.seed}", *self.broken[:5]])


@dataclass
class _History:
    """The world of one history."""

    random: Random
    store: KeepingStore
    limit: int
    fault: float
    trip: float
    time: float = 0.0
    calls: list[Call] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    away_until: float = 0.0
    is_settled: bool = False
    _timers: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        self._count += 1
        heapq.heappush(self._timers, (self.time + max(0.0, seconds), self._count, do))

    def run(self, until: float) -> None:
        """Let time pass."""
        timers = self._timers
        while timers and timers[0][0] <= until:
            self.time, _, do = heapq.heappop(timers)
            do()
        self.time = until

    def carry(self, process: Process, question: Question) -> None:
        """Send a question, once; it may be lost, come late or come twice."""
        if self._is_lost(process):
            return
        self.later(self._trip(), lambda: self._arrive(process, question))
        if not self.is_settled and self.random.random() < 0.1 * self.fault:
            self.counts["questions that came twice"] += 1
            self.later(self.random.uniform(0, 60), lambda: self._arrive(process, question))

    def _arrive(self, process: Process, question: Question) -> None:
        if self.time < self.away_until:
            return
        dealt = self.store.ask(question, self.time)
        if dealt is None:
            return
        if dealt.answer.known and process.question is question:
            for call in process.adopting:
                call.order = call.order or dealt.order
        self.counts["granted" if dealt.answer.granted else "not granted"] += 1
        self.counts["unknown"] += not dealt.answer.known
        if not self._is_lost(process):
            self.later(self._trip(), lambda: self._answer(process, dealt, question))

    def _answer(self, process: Process, dealt: Dealt, question: Question) -> None:
        if self.time < process.wakes:
            self.later(process.wakes - self.time, lambda: process.hear(dealt, question))
        else:
            process.hear(dealt, question)

    def _is_lost(self, process: Process) -> bool:
        if self.is_settled:
            return False
        return self.time < process.cut_until or self.random.random() < 0.15 * self.fault

    def _trip(self) -> float:
        if self.is_settled or self.random.random() > self.fault:
            return self.random.uniform(self.trip / 10, self.trip)
        return self.random.uniform(0, _LONGEST_TRIP)


def play(seed: int) -> Verdict:
    """Draw a history, play and judge it."""
    random = Random(seed)
    limit = random.randint(1, 8)
    store = KeepingStore(
        rate=1 + random.choice((-5e-4, 0.0, 5e-4)),
        offset=random.choice((0.0, 1.8e9)),
        is_open=random.random() < 0.7,
    )
    history = _History(random, store, limit, fault=random.choice((0.0, 0.3, 1.0)), trip=random.choice((0.002, 0.05)))
    refused = random.choice((0.0, 0.0, 0.02))
    for _ in range(random.randint(1, 5)):
        _add_process(history, refused)
    length = random.uniform(200, 700)
    _draw_wants(history, length)
    _draw_faults(history, length)
    history.run(length)
    _settle(history)
    limits = [process.habits.limit for process in history.processes]
    broken = [*_judge(history.calls), *store.broken, *_look_for_idle(history)]
    if max((call.allowed for call in history.calls), default=0) > max(limits):
        broken.append("R1 a capacity above each limit")
    counts = history.counts
    counts["calls"] += len(history.calls)
    counts["questions"] += store.questions
    return Verdict(seed, broken, counts)


def _add_process(history: _History, refused: float) -> None:
    random = history.random
    habits = Habits(
        limit=random.choice((history.limit, history.limit, history.limit + 1)),
        reserve=random.choice((0, 0, 1, 3)),
        clings=random.choice((0.0, 0.0, 0.2 * history.fault)),
        slow=random.choice((0.0, 0.05, 0.3)),
        refused=refused,
        quotas=random.random() < 0.3,
    )
    history.processes.append(Process(history, habits))


def _draw_wants(history: _History, length: float) -> None:
    random = history.random
    for process in list(history.processes):
        eager = random.choice((1, 2, history.limit))
        for _ in range(random.randint(2, 15)):
            interactive, bulk = random.choice(((1, 0), (eager, 0), (0, eager), (eager, eager)))
            moment = random.choice((random.uniform(0, length), random.uniform(0, 20)))
            history.later(moment, lambda p=process, i=interactive, b=bulk: p.want(i, b))  # type: ignore[misc]


def _draw_faults(history: _History, length: float) -> None:
    random, store = history.random, history.store

    def at_once(do: Callable[[], None], name: str) -> None:
        def happen() -> None:
            history.counts[name] += 1
            do()

        history.later(random.uniform(0, length), happen)

    def of_one(do: Callable[[Process], None], name: str) -> None:
        at_once(lambda: do(random.choice(history.processes)), name)

    kinds: list[Callable[[], None]] = [
        lambda: of_one(lambda process: _kill(history, process), "deaths"),
        lambda: of_one(lambda process: _kill(history, process), "deaths"),
        lambda: of_one(lambda process: _stop(history, process), "stops"),
        lambda: of_one(_leave, "leavings"),
        lambda: of_one(lambda process: process.go_without(random.randint(1, 4)), "calls without a store"),
        lambda: of_one(lambda process: _cut(history, process), "processes cut off"),
        lambda: of_one(_give_up, "calls given up"),
        lambda: at_once(store.lose_everything, "lives lost"),
        lambda: at_once(lambda: store.go_back_to_a_copy(history.time - random.uniform(0, 100)), "copies"),
        lambda: at_once(lambda: _set_clock(history, -random.choice((0.3, 20.0, 4000.0))), "clocks set back"),
        lambda: at_once(lambda: _set_clock(history, random.uniform(90, 4000)), "clocks set ahead"),
        lambda: at_once(lambda: _go_away(history), "stores away"),
    ]
    for _ in range(random.choice((0, 1, 2, 4, 8)) if history.fault else 0):
        random.choice(kinds)()


def _kill(history: _History, process: Process) -> None:
    """Kill a process; another one takes its place after a while."""
    if not process.is_alive:
        return
    process.die()
    heir = Process(history, process.habits, wakes=history.time + history.random.uniform(0.5, _LAST_HEIR))
    history.processes.append(heir)
    history.later(heir.wakes - history.time, lambda: heir.want(process.interactive, process.bulk))
    if history.store.has_unseen_jump and not _can_see_jump(history):
        history.store.lose_everything()


def _can_see_jump(history: _History) -> bool:
    return any(process.is_alive and process.seen is not None for process in history.processes)


def _stop(history: _History, process: Process) -> None:
    process.wakes = history.time + history.random.choice(
        (history.random.uniform(1, 14), history.random.uniform(14, 150))
    )

    def wake() -> None:
        process.planned = float("inf")
        if process.question is not None:
            process.send(process.question)
        process.plan(0.0)

    history.later(process.wakes - history.time, wake)


def _leave(process: Process) -> None:
    process.is_leaving = True
    process.interactive = process.bulk = 0
    process.plan(0.0)


def _cut(history: _History, process: Process) -> None:
    process.cut_until = history.time + history.random.choice((5.0, 20.0, 100.0))


def _give_up(process: Process) -> None:
    process.interactive = process.bulk = 0


def _set_clock(history: _History, seconds: float) -> None:
    """Set the store's clock; not once more before the first time was noticed."""
    if not history.store.has_unseen_jump and (seconds < 0 or _can_see_jump(history)):
        history.store.jump(seconds)


def _go_away(history: _History) -> None:
    history.away_until = history.time + history.random.choice((3.0, 12.0, 40.0, 200.0))


def _settle(history: _History) -> None:
    """Let all go well, until no call waits any more."""
    history.is_settled = True
    history.away_until = 0.0
    if history.store.has_unseen_jump:
        history.store.lose_everything()
    for process in history.processes:
        process.wakes, process.cut_until = min(process.wakes, history.time), min(process.cut_until, process.lease)
        # A few are enough to see whether they come through.
        process.interactive, process.bulk = min(2, process.interactive), min(2, process.bulk)
        if process.is_alive:
            process.plan(0.0)
    history.run(history.time + _LAST_HEIR)
    until = history.time + _SETTLING + _A_CALL * sum(process.waiting for process in history.processes)
    while history.time < until and any(process.is_alive and process.waiting for process in history.processes):
        history.run(history.time + 10)
    # What is under way yet counts at the server, too.
    history.run(history.time + WINDOW + 10)


def _look_for_idle(history: _History) -> list[str]:
    waiting = sum(process.waiting for process in history.processes if process.is_alive)
    return [f"R4 {waiting} calls wait for ever"] if waiting else []


def _judge(calls: Iterable[Call]) -> list[str]:
    """Look at each window at the server: it may hold as many calls as were allowed when its last slot was granted.

    Calls without a store count from when they were adopted on.
    """
    counted = [(call.counted, call) for call in calls if call.counted is not None and call.order]
    counted.sort(key=lambda each: each[0])
    broken = []
    for place, (first, _) in enumerate(counted):
        within = [call for moment, call in counted[place:] if moment < first + WINDOW]
        last = max((call for call in within if call.allowed), key=lambda call: call.order, default=None)
        if last is None:
            continue
        number = sum(1 for call in within if call.allowed or call.order <= last.order)
        if number > last.allowed:
            broken.append(f"R1 {number} calls of {last.allowed} in the window from {first:.3f} s on")
    return broken


def soak(first: int, seeds: int, processes: int) -> int:
    """Play many seeds on several cores; 1 if a rule was broken."""
    counts: Counter[str] = Counter()
    broken = 0
    with ProcessPoolExecutor(processes) as pool:
        for verdict in pool.map(play, range(first, first + seeds), chunksize=50):
            counts.update(verdict.counts)
            if verdict.broken:
                broken += 1
                print(verdict, flush=True)  # noqa: T201
    print(f"{seeds} seeds from {first} on, {broken} broke a rule")  # noqa: T201
    print(", ".join(f"{what} {count}" for what, count in sorted(counts.items())))  # noqa: T201
    return int(bool(broken))


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what is asked for; 1 if a rule was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.limits.shared._histories", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("seed", nargs="?", type=int, help="one seed, instead of many")
    parser.add_argument("--seeds", type=int, default=1000, help="how many to play when no seed is given")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    if given.seed is None:
        return soak(given.first, given.seeds, given.processes)
    verdict = play(given.seed)
    print(verdict if verdict.broken else f"{verdict}\n  no rule is broken")  # noqa: T201
    return int(bool(verdict.broken))


if __name__ == "__main__":
    sys.exit(main())
