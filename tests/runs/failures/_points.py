"""The points at which a process dies or stands still: the package's own steps, with a look at the plan in between.

A point is passed by all processes of a scenario together. The n-th passage is known by a file that only one process can
make, so that a plan does not depend on which process does what.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from bms_async.fleet.batch import Batch
from bms_async.fleet.evidence import ServerState
from bms_async.fleet.proving import StateProver
from bms_async.journal import Claim, KeptBatch, Step
from bms_async.journal.statements import Transaction
from bms_async.runs import batch_log, rollouts, worker
from bms_async.runs.batch_log import JournalLog
from bms_async.runs.held import Held
from bms_async.runs.rollouts import RunPlan
from bms_async.runs.worker import Worker

Fate = Literal["kill", "stop"]

T = TypeVar("T")

POINTS = (
    "before sending",
    "before the commit of sending",
    "after the commit of sending",
    "read",
    "answered",
    "before the commit of watching",
    "while watching",
    "while settling",
    "writing outcomes",
    "finishing",
    "between a refusal and its log",
    "merging",
)
"""All of them; `read` is the gateway's."""

POINTS_OF_A_PLAN = ("before the commit of a release", "after the commit of a release")
"""Those that only a run with a rollout passes."""


class Say(Protocol):
    """How a process speaks."""

    def __call__(self, what: str, *, point: str = "", number: int = -1, ids: tuple[str, ...] = ()) -> None: ...


class Points:
    """The points of this process.

    Args:
        folder: Where all processes of the scenario count.
        fates: What happens at which passage of which point, the first being 0.
        say: How it is said what is about to happen.
        file: The journal's file: whoever stands still outside of a transaction holds no lock on it; empty for none.
    """

    def __init__(self, folder: Path, fates: Mapping[str, Mapping[int, Fate]], say: Say, file: str = "") -> None:
        self._folder, self._fates, self._say, self._file = folder, fates, say, file
        self._next = dict.fromkeys((*POINTS, *POINTS_OF_A_PLAN), 0)

    def count(self, point: str) -> int:
        """Count a passage, and return which one of the scenario it is."""
        while True:
            number = self._next[point]
            self._next[point] += 1
            try:
                os.close(os.open(self._folder / f"{point}.{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return number

    def passed(self, point: str, *, number: int = -1) -> None:
        """Pass a point, which the process may not survive."""
        if point not in self._fates:
            return
        fate = self._fates[point].get(self.count(point))
        if fate == "kill":
            self._say("dying", point=point, number=number)
            os.kill(os.getpid(), signal.SIGKILL)
        elif fate == "stop":
            self._say("standing", point=point, number=number)
            if self._file and point == "before sending":
                _wait_for_transactions(self._file)
            os.kill(os.getpid(), signal.SIGSTOP)


def _wait_for_transactions(file: str) -> None:
    """Wait until no thread of this process is in a transaction, in which all others would wait for it for ever."""
    with closing(sqlite3.connect(file, timeout=60.0, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")


def hook(points: Points, say: Say) -> None:
    """Have this process pass all points that are its own."""
    ids: dict[int, tuple[str, ...]] = {}
    _hook_transactions(points, say, ids)
    _hook_log(points, say, ids)
    _hook_plans(points, say)
    begin, lose, read = Worker._begin, Worker._lose, StateProver._read_or_nothing

    async def begin_and_say(self: Worker, kept: KeptBatch, tasks: Any) -> None:
        say("has", number=kept.claim.number)
        await begin(self, kept, tasks)

    def lose_and_say(self: Worker, held: Held) -> None:
        say("lost", number=held.claim.number)
        lose(self, held)

    async def read_and_pass(self: StateProver, ids: Collection[str]) -> Mapping[str, ServerState]:
        found = await read(self, ids)
        points.passed("while settling")
        return found

    Worker._begin = begin_and_say  # type: ignore[method-assign]
    Worker._lose = lose_and_say  # type: ignore[method-assign]
    StateProver._read_or_nothing = read_and_pass  # type: ignore[method-assign]


def _hook_transactions(points: Points, say: Say, ids: Mapping[int, tuple[str, ...]]) -> None:
    mark_sending: Callable[..., Transaction[Step]] = batch_log.__dict__["mark_sending"]

    def passing(transaction: Callable[..., Transaction[T]], point: str) -> Callable[..., Transaction[T]]:
        def run(claim: Claim, *args: Any, **options: Any) -> Transaction[T]:
            result = yield from transaction(claim, *args, **options)
            points.passed(point, number=claim.number)
            return result

        return run

    def send(claim: Claim, *args: Any, **options: Any) -> Transaction[Step]:
        step = yield from mark_sending(claim, *args, **options)
        points.passed("before the commit of sending", number=claim.number)
        if step is Step.MADE:
            # Before the commit, since after it there may be nobody who could say so.
            say("sending", number=claim.number, ids=ids[claim.number])
        return step

    batch_log.__dict__["mark_sending"] = send
    for module, name, point in (
        (batch_log, "mark_watching", "before the commit of watching"),
        (batch_log, "add_outcomes", "writing outcomes"),
        (batch_log, "finish", "finishing"),
        (worker, "merge", "merging"),
    ):
        module.__dict__[name] = passing(getattr(module, name), point)


def _hook_plans(points: Points, say: Say) -> None:
    release: Callable[..., Transaction[Step]] = rollouts.__dict__["release"]
    release_all, carry_out = RunPlan._release_all, RunPlan.carry_out

    def release_and_pass(claim: Claim, *args: Any) -> Transaction[Step]:
        step = yield from release(claim, *args)
        points.passed("before the commit of a release", number=claim.number)
        return step

    async def release_all_and_pass(self: RunPlan) -> None:
        before = self._sequence
        await release_all(self)
        if self._sequence != before:
            # Whoever has it next says so by that number.
            points.passed("after the commit of a release", number=-10 - self.claim.fence - 1)

    async def carry_out_and_say(self: RunPlan) -> None:
        say("has", number=-10 - self.claim.fence)
        await carry_out(self)

    rollouts.__dict__["release"] = release_and_pass
    RunPlan._release_all = release_all_and_pass  # type: ignore[method-assign]
    RunPlan.carry_out = carry_out_and_say  # type: ignore[method-assign]


def _hook_log(points: Points, say: Say, ids: dict[int, tuple[str, ...]]) -> None:
    sending, refused, watching = JournalLog.sending, JournalLog.refused, JournalLog.watching

    async def send(self: JournalLog, batch: Batch) -> None:
        number = self._claim.number
        ids[number] = batch.ids
        points.passed("before sending", number=number)
        await sending(self, batch)
        points.passed("after the commit of sending", number=number)

    async def refuse(self: JournalLog, batch: Batch) -> None:
        points.passed("between a refusal and its log", number=self._claim.number)
        await refused(self, batch)
        say("refused", number=self._claim.number)

    async def watch(self: JournalLog, batch: Batch, job: Any) -> None:
        points.passed("answered", number=self._claim.number)
        await watching(self, batch, job)
        say("watching", number=self._claim.number)

    JournalLog.sending = send  # type: ignore[method-assign]
    JournalLog.refused = refuse  # type: ignore[method-assign]
    JournalLog.watching = watch  # type: ignore[method-assign]
