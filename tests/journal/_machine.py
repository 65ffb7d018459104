"""Workers that do anything in any order to a journal in memory, and what has to be true after each step."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bms_async.journal import (
    BatchState,
    Claim,
    Counts,
    KeptBatch,
    NewBatch,
    NewBlock,
    NewPlan,
    NewRun,
    RunStatus,
    Step,
    pack_ids,
    unpack_ids,
)
from bms_async.journal.schema import TABLES
from bms_async.journal.sqlite import _run_statements
from bms_async.journal.statements import RollBack, Transaction
from bms_async.journal.transactions import claims, plans, runs, steps
from tests.journal._desk import find_broken_laws

T = TypeVar("T")

RUNS = 3
OWNERS = ("a", "b", "c")
PLACE, ACTION = "place", "servers.reboot"
GOES = {
    ("planning", "done"),
    ("waiting", "sending"),
    ("waiting", "done"),
    ("sending", "waiting"),
    ("sending", "watching"),
    ("sending", "done"),
    ("watching", "done"),
}
OF_STEPS = ("state", "ids", "servers", "details", "job", "sequence")
"""What nobody changes but the worker that has the batch."""

ASKED = (
    ["claim"] * 6
    + ["take over"] * 4
    + ["plan"] * 3
    + ["skip", "renew", "hand back"]
    + ["open", "open", "paused", "cancelled"]
)

owners = st.sampled_from(OWNERS)
twice = st.booleans()
pick = st.integers(0, 1 << 30)


class Batch(NamedTuple):
    """A batch as its row has it."""

    state: str
    ids: bytes
    servers: int
    details: bytes
    job: str | None
    sequence: int
    owner: str | None
    fence: int
    lease: float


Rows = dict[tuple[str, int], Batch]
_BATCHES = f"SELECT run, number, {', '.join(Batch._fields)} FROM bms_async_batches"


@dataclass
class _Planner:
    """Whoever has a plan, or had it: it knows nothing of what became of the plan since.

    Attributes:
        kept: What was claimed.
        left: The servers that are to be taken from it.
        sequence: The number of its last step.
    """

    kept: KeptBatch
    left: list[str]
    sequence: int = -1

    def __post_init__(self) -> None:
        self.sequence = self.kept.sequence


class Memory:
    """The tables in memory; transactions are the journal's own."""

    def __init__(self) -> None:
        self.now, self.wall = 100.0, 1e9
        self.connection = connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.create_function("bms_now", 0, lambda: self.now)
        connection.create_function("bms_wall", 0, lambda: self.wall)
        connection.create_function("bms_floor", 1, math.floor)
        for table in TABLES:
            connection.execute(table)

    def run(self, transaction: Callable[..., Transaction[T]], *args: Any) -> T:
        self.connection.execute("BEGIN")
        try:
            result = _run_statements(self.connection, transaction(*args))
        except RollBack as ended:
            self.connection.execute("ROLLBACK")
            result = ended.result  # type: ignore[assignment]
        else:
            self.connection.execute("COMMIT")
        return result

    def batches(self) -> Rows:
        return {(run, number): Batch(*fields) for run, number, *fields in self.connection.execute(_BATCHES)}

    def dump(self) -> list[tuple[object, ...]]:
        tables = ("runs", "batches", "outcomes")
        return [row for table in tables for row in self.connection.execute(f"SELECT * FROM bms_async_{table}")]


class Workers(RuleBasedStateMachine):
    """Workers that die, stand still, repeat themselves, and go on with what they have lost."""

    @initialize(deferred=st.booleans())
    def make(self, deferred: bool) -> None:
        self.memory = Memory()
        self.servers: dict[str, set[str]] = {}
        self.kept: list[KeptBatch] = []
        self.found: dict[str, list[KeptBatch]] = {}
        self.planners: list[_Planner] = []
        self.made = 0
        if deferred:
            self._defer()

    def _defer(self) -> None:
        """Begin with servers of one call that were deferred one by one, which draws alone seldom come to."""
        self.begin_run([3, 2])
        (kept,) = self.memory.run(claims.claim_waiting, PLACE, [ACTION], "a")
        self.memory.run(partial(steps.mark_sending, is_first=True), kept.claim, b"")
        children = [NewBatch(ids=pack_ids([server]), servers=1, rank=1) for server in unpack_ids(kept.ids)]
        assert self.memory.run(steps.finish, kept.claim, _block([], bad=False), children) is Step.MADE

    def teardown(self) -> None:
        if hasattr(self, "memory"):
            self.memory.connection.close()

    def new_ids(self, count: int) -> list[str]:
        self.made += count
        return [f"{number:08x}-0000-4000-8000-000000000000" for number in range(self.made - count, self.made)]

    @precondition(lambda self: len(self.servers) < RUNS)
    @rule(
        sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
        wave=st.none() | st.integers(4, 8),
        above=st.none() | st.sampled_from([0.0, 0.5]),
        again=twice,
        planned=st.booleans(),
    )
    def begin(self, sizes: list[int], wave: int | None, above: float | None, again: bool, planned: bool) -> None:
        self.begin_run(sizes, wave, above, again=again, planned=planned)

    def begin_run(
        self,
        sizes: list[int],
        wave: int | None = None,
        above: float | None = None,
        *,
        again: bool = False,
        planned: bool = False,
    ) -> None:
        name = f"run{len(self.servers)}"
        batches = [self.new_ids(size) for size in sizes]
        self.servers[name] = {server for ids in batches for server in ids}
        run = NewRun(
            id=name,
            place=PLACE,
            key=name,
            action=ACTION,
            options=b"",
            digest="",
            wave=wave,
            abort_above=above,
            abort_sample=2,
        )
        new = [] if planned else [NewBatch(ids=pack_ids(ids), servers=len(ids)) for ids in batches]
        parts = [NewPlan(ids=pack_ids(ids), servers=len(ids), details=b"") for ids in batches if planned]
        for _ in range(1 + again):
            assert self.memory.run(runs.begin_run, run, new, [], parts)[1]

    @rule(seconds=st.sampled_from([0.1, 5.0, claims.LEASE - 0.1, claims.LEASE + 0.1, -3.0, -1000.0]))
    def pass_time(self, seconds: float) -> None:
        self.memory.now = max(0.0, self.memory.now + seconds)
        self.memory.wall += seconds

    # A few rules with likely parts, for all rules are as likely.
    @precondition(lambda self: self.servers)
    @rule(owner=owners, at=pick, asks=st.sampled_from(ASKED))
    def ask(self, owner: str, at: int, asks: str) -> None:
        match asks:
            case "open" | "paused" | "cancelled":
                run = list(self.servers)[at % len(self.servers)]
                self._watched(None, None, partial(runs.set_status, run, RunStatus(asks)))
            case "claim":
                self.claim(owner)
            case "take over":
                found = self._claim(owner, partial(claims.take_over, PLACE, owner, 2))
                assert all(each.state is not BatchState.WAITING for each in found)
            case "skip":
                found = self._claim(owner, partial(claims.claim_unsendable, None, PLACE, owner, 2))
                assert all(each.state is BatchState.WAITING for each in found)
            case "plan":
                self.claim_plan(owner, at)
            case "renew":
                mine = [each.claim for each in self.kept if each.claim.owner == owner]
                renewed = self._watched(owner, None, partial(claims.renew, owner, mine))
                assert set(renewed) == {key for key, row in self.memory.batches().items() if row.owner == owner}
            case _:
                self._watched(owner, None, partial(claims.hand_back, owner))
                assert not any(row.owner == owner and row.lease > 0 for row in self.memory.batches().values())

    def claim_plan(self, owner: str, at: int) -> None:
        """Claim a plan, or take that of a run which has ended from whoever has it; and look what is left of it."""
        run = list(self.servers)[at % len(self.servers)]
        before = self.memory.batches()
        if at % 3:
            kept = self._watched(owner, None, partial(plans.claim_plan, PLACE, owner))
            assert kept is None or self._was_free(before[kept.claim.run, 0])
        else:
            kept = self.memory.run(plans.seize_plan, run, owner)
            assert kept is None or kept.status in (RunStatus.CANCELLED, RunStatus.ABORTED)
        if kept is not None:
            assert kept.claim.fence > before[kept.claim.run, 0].fence
            self.planners.append(_Planner(kept, self._planned(kept.claim.run)))

    @precondition(lambda self: self.planners)
    @rule(at=pick, again=twice, count=st.integers(1, 3), skips=st.sampled_from([False, False, True]))
    def go_on_with_plan(self, at: int, again: bool, count: int, skips: bool) -> None:
        """Make the next step of a plan, as whoever has it knows it, or had it and does not know that it was lost."""
        holders = [each for each in self.planners if self._has(each.kept.claim)] if at % 4 else []
        among = holders or self.planners
        planner = among[at // 4 % len(among)]
        claim, ids = planner.kept.claim, planner.left[:count]
        if not ids:
            self._step(claim, partial(steps.finish, claim, _block([], bad=False), ()), again=again)
            return
        taken = plans.skip_planned if skips else plans.release
        what: Any = _block(ids, bad=False) if skips else NewBatch(ids=pack_ids(ids), servers=len(ids))
        if self._step(claim, partial(taken, claim, planner.sequence + 1, what), again=again) is Step.MADE:
            planner.sequence += 1
            del planner.left[:count]

    def _planned(self, run: str) -> list[str]:
        """The servers of a plan that are in no batch and have no outcome, in their order."""
        taken = {server for _, server in self._known(run)}
        for _, ids in self.memory.run(plans.read_open_batches, run, 0, 1000):
            taken.update(unpack_ids(ids))
        left: list[str] = []
        part = -1
        while (kept := self.memory.run(plans.read_plan, run, part)) is not None:
            part = kept.number
            left += [server for server in unpack_ids(kept.ids) if server not in taken]
        return left

    def _known(self, run: str) -> list[tuple[int, str]]:
        rows = self.memory.connection.execute("SELECT batch, body FROM bms_async_outcomes WHERE run = ?", [run])
        return [(batch, server) for batch, body in rows for server in unpack_ids(body)]

    def claim(self, owner: str) -> None:
        found = self._claim(owner, partial(claims.claim_waiting, PLACE, [ACTION], owner))
        assert len(found) <= 1 or sum(each.servers for each in found) <= claims._MAX_SERVERS
        assert all(each.status is RunStatus.OPEN for each in found)
        self.found[owner] = found if len(found) > 1 else []

    @precondition(lambda self: self.kept)
    @rule(at=pick, again=twice, step=st.sampled_from(["next"] * 4 + ["sending", "waiting", "watching", "hand back"]))
    def go_on(self, at: int, again: bool, step: str) -> None:
        claim = self._pick(at).claim
        if step == "next":
            step = {"waiting": "sending", "sending": "watching"}.get(self._row(claim).state, "watching")
        transactions: dict[str, Callable[[], Transaction[Any]]] = {
            "sending": partial(steps.mark_sending, claim, b"sent", is_first=False),
            "waiting": partial(steps.mark_waiting, claim, b"refused"),
            "watching": partial(steps.mark_watching, claim, "job"),
            "hand back": partial(claims.hand_back_one, claim),
        }
        self._step(claim, transactions[step], again=again)

    @precondition(lambda self: self.kept)
    @rule(at=pick, again=twice, bad=st.booleans(), count=st.integers(1, 3))
    def add(self, at: int, again: bool, bad: bool, count: int) -> None:
        kept = self._pick(at)
        row = self.memory.batches()[kept.claim.run, kept.claim.number]
        left = self._left(kept)[:count]
        if not left:
            return
        sequence = row.sequence + 1 if self._has(kept.claim) else kept.sequence + 1
        self._step(kept.claim, partial(steps.add_outcomes, kept.claim, sequence, _block(left, bad=bad)), again=again)

    @precondition(lambda self: self.kept)
    @rule(
        at=pick,
        again=twice,
        bad=st.booleans(),
        parts=st.sampled_from([0, 2, 2]),
        rank=st.sampled_from([0, 1, 1, 1, 2]),
        delay=st.booleans(),
    )
    def finish(self, at: int, again: bool, bad: bool, parts: int, rank: int, delay: bool) -> None:
        kept = self._pick(at)
        if self._row(kept.claim).state == "waiting" and at % 7:
            return
        left = self._left(kept)
        children = [left[part::parts] for part in range(parts)]
        new = [NewBatch(ids=pack_ids(ids), servers=len(ids), rank=rank, delay=10.0 * delay) for ids in children if ids]
        block = _block([] if parts else left, bad=bad)
        self._step(kept.claim, partial(steps.finish, kept.claim, block, new, splits=len(new)), again=again)

    @precondition(lambda self: any(self.found.values()))
    @rule(at=pick, again=twice)
    def merge(self, at: int, again: bool) -> None:
        batches = [owner for owner, found in self.found.items() if found]
        found = self.found.pop(batches[at % len(batches)])
        ids = [server for each in found for server in unpack_ids(each.ids)]
        first, *others = (each.claim for each in found)
        have = {claim: self._has(claim) and self._row(claim).state == "waiting" for claim in (first, *others)}
        transaction = partial(steps.merge, first, others, pack_ids(ids), b"merged", len(ids))
        step = self._watched(first.owner, {first, *others}, transaction)
        assert (step is Step.MADE) is all(have.values())
        if again and step is Step.MADE:
            before = self.memory.dump()
            assert self.memory.run(transaction) is Step.MADE
            assert self.memory.dump() == before

    def _claim(self, owner: str, transaction: Callable[[], Transaction[list[KeptBatch]]]) -> list[KeptBatch]:
        before = self.memory.batches()
        found = self._watched(owner, None, transaction)
        after = self.memory.batches()
        for each in found:
            key = each.claim.run, each.claim.number
            assert after[key].owner == owner
            assert before[key].fence < after[key].fence == each.claim.fence
            assert self._was_free(before[key])
            assert each.state.value == before[key].state
        self.kept += found
        return found

    def _step(self, claim: Claim, transaction: Callable[[], Transaction[Step | None]], *, again: bool) -> Step | None:
        before, mine = self.memory.dump(), self._has(claim)
        # A worker merges what it has just claimed, or never.
        self.found = {owner: found for owner, found in self.found.items() if claim not in [e.claim for e in found]}
        step = self._watched(claim.owner, {claim}, transaction)
        after = self.memory.dump()
        if not mine or step in {Step.LOST, Step.STOPPED}:
            assert after == before
        if again and step is not Step.STOPPED:
            assert self.memory.run(transaction) is step
            assert self.memory.dump() == after
        return step

    def _watched(self, owner: str | None, made_by: set[Claim] | None, transaction: Callable[[], Transaction[T]]) -> T:
        """Run a transaction, and check that it changes nothing that is not the worker's to change."""
        before = self.memory.batches()
        result = self.memory.run(transaction)
        for key, row in self.memory.batches().items():
            old = before.get(key)
            if old is None or row == old:
                continue
            assert row.fence >= old.fence
            if any(getattr(row, field) != getattr(old, field) for field in OF_STEPS):
                assert made_by is not None
                assert Claim(run=key[0], number=key[1], owner=old.owner or "", fence=old.fence) in made_by
                assert row.state == old.state or (old.state, row.state) in GOES
            if row.owner != old.owner:
                assert row.fence > old.fence or row.owner is None
                assert old.owner in {owner, None} or self._is_over(old)
        return result

    def _is_over(self, row: Batch) -> bool:
        return row.lease < self.memory.now or row.lease > self.memory.now + 60

    def _was_free(self, row: Batch) -> bool:
        return row.owner is None or self._is_over(row)

    def _row(self, claim: Claim) -> Batch:
        return self.memory.batches()[claim.run, claim.number]

    def _has(self, claim: Claim) -> bool:
        row = self._row(claim)
        return (row.owner, row.fence) == (claim.owner, claim.fence)

    def _pick(self, at: int) -> KeptBatch:
        """A claim; mostly one that counts."""
        count = [each for each in self.kept if self._has(each.claim)] if at % 8 else []
        among = count or self.kept
        return among[at // 8 % len(among)]

    def _left(self, kept: KeptBatch) -> list[str]:
        """The servers that the worker knows to be without an outcome, as it finds them in the journal."""
        row = self._row(kept.claim)
        ids = unpack_ids(row.ids if self._has(kept.claim) and row.ids else kept.ids)
        blocks = self.memory.run(steps.read_blocks_of_batch, kept.claim)
        known = {server for block in blocks for server in unpack_ids(block.body)}
        return [server for server in ids if server not in known]

    @invariant()
    def the_rows_of_each_run_agree(self) -> None:
        for run in getattr(self, "servers", ()):
            assert self.memory.run(find_broken_laws, run) == []

    @invariant()
    def each_server_is_in_one_place(self) -> None:
        for run, servers in getattr(self, "servers", {}).items():
            known = self._known(run)
            found = [server for _, server in known]
            for (its_run, number), row in self.memory.batches().items():
                if its_run == run and row.state == "planning":
                    left = self._planned(run)
                    assert len(left) == row.servers
                    found += left
                elif its_run == run and row.state != "done":
                    ended = {server for batch, server in known if batch == number}
                    left = [server for server in unpack_ids(row.ids) if server not in ended]
                    assert len(left) == row.servers
                    found += left
            assert sorted(found) == sorted(servers)


def _block(ids: Sequence[str], *, bad: bool) -> NewBlock:
    counts = Counts(failed=len(ids)) if bad else Counts(succeeded=len(ids))
    return NewBlock(counts=counts, body=pack_ids(ids) if ids else b"")
