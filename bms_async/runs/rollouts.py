"""Carrying out the plan of a durable rollout: one worker decides which servers go next, and any worker sends them.

What it guarantees: never are more servers of a group unavailable than the rollout allows, whichever process dies at
whatever moment; and every server of the plan gets into one batch, or is SKIPPED with the reason.

How: the plan is a row among the batches of the run, which one worker holds, by a lease and a fence. The planner is the
one of a plain run. What it hands out becomes a batch of the journal in a transaction that names the fence and the
number of the step. So a planner that stood still, and whose plan another worker has, can release nothing any more.

A worker that takes a plan over asks nobody what was planned. The batches that are open and the outcomes that are
written down say which servers were released, and which of these are back. A server whose outcome has just been read
counts as back from now on, so that a death never shortens the time to settle.

A batch holds the outcome of a server back until that is ready, so that an outcome is all that the planner needs.

Rejected: a count of each group in rows of the journal, which each claim would have to lock, and which a transaction
that is not confirmed could leave wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVarTuple

import anyio
import anyio.lowlevel

from bms_async._threads import run_in_thread
from bms_async.errors import BmsError, FleetError, GroupBlockedError, JournalError, NotReadyError, ServerStateError
from bms_async.fleet.batch import BatchWithdrawnError
from bms_async.fleet.clock import Clock
from bms_async.fleet.outcome import Outcome, OutcomeState, make_outcome
from bms_async.fleet.packed import count_states, pack_outcomes, unpack_outcomes
from bms_async.fleet.rollout.gate import Gate
from bms_async.fleet.rollout.planner import RolloutPlanner
from bms_async.fleet.sharded import Pieces, Table
from bms_async.journal import (
    Claim,
    Journal,
    KeptBatch,
    KeptRun,
    NewBatch,
    NewBlock,
    RunStatus,
    Step,
    pack_ids,
    unpack_ids,
)
from bms_async.journal.statements import Transaction
from bms_async.journal.transactions.plans import (
    abort_planned,
    has_unsent,
    note_standing,
    read_open_batches,
    release,
    skip_planned,
)
from bms_async.journal.transactions.runs import read_run
from bms_async.journal.transactions.steps import finish, read_blocks
from bms_async.validation.common import MAX_BATCH_SIZE

from .options import decode_options
from .plan_records import KeptStanding, read_servers

Ts = TypeVarTuple("Ts")

_LOOK_EVERY = 1.0
"""Seconds between two looks for outcomes that other workers have written."""

_LOOK_SELDOM = 5.0
"""The same while nothing is under way and nothing may begin."""

_LOOK_SOONEST = 0.05
_REST = 0.01
"""Seconds between two looks at least, for each plan that the worker has: all of its plans wake up at each change."""

_NOTE_EVERY = 2.0
"""Seconds between two notes of how far the rollout is."""

_BATCHES_AT_ONCE = 100
_BLOCKS_AT_ONCE = 20
_YIELD_EVERY = 500

ENDING = (RunStatus.CANCELLED, RunStatus.ABORTED)
"""What a run is whose servers are not sent any more."""


class RunPlan:
    """The plan of one run, which this worker holds.

    Args:
        journal: The journal, open.
        kept: The row of the plan, claimed.
        plans: Returns how many plans this worker has.

    Attributes:
        claim: The claim to the plan.
    """

    def __init__(self, journal: Journal, kept: KeptBatch, *, plans: Callable[[], int] = lambda: 1) -> None:
        self._journal = journal
        self._plans = plans
        self.claim = kept.claim
        loop = asyncio.get_running_loop()
        self._clock = Clock(loop)
        self._now = loop.time
        rollout = decode_options(kept.options).rollout
        if rollout is None:
            raise JournalError(f"the run {kept.key!r}: expected a rollout beside its plan, got none; cancel the run")
        self._rollout = rollout.rollout()
        self._gate = Gate(self._rollout.window)
        self._planner: RolloutPlanner
        self._sequence = kept.sequence
        self._seen = 0
        self._scope = anyio.CancelScope()
        self._noted: bytes | None = None
        self._note_at = 0.0

    def lose(self) -> None:
        """Leave the plan at once: another worker has it."""
        self._scope.cancel()

    async def carry_out(self) -> None:
        """Release servers as they may go, until none waits any more.

        Raises:
            BatchWithdrawnError: Another worker has the plan.
            JournalError: The journal cannot be used.
        """
        with self._scope:
            await self._rebuild()
            while self._planner.waiting:
                run = await self._read_news()
                if run.status in ENDING:
                    await self._skip_rest(run)
                    break
                self._gate.is_paused = run.status is RunStatus.PAUSED
                is_open = self._gate.is_open(self._clock.now())
                if is_open:
                    await self._release_all()
                await self._skip_blocked()
                if self._planner.canary_failure is not None:
                    await self._abort(f"canary {self._planner.canary_failure} is not well")
                    continue
                await self._note()
                await self._wait(is_open=is_open)
            await self._note(last=True)
            await self._finish()
        if self._scope.cancelled_caught:
            raise BatchWithdrawnError("another worker has the plan")

    async def skip_all(self) -> None:
        """Skip all servers that wait: the run was cancelled or aborted. It needs no credentials.

        Raises:
            BatchWithdrawnError: Another worker has the plan.
            JournalError: The journal cannot be used.
        """
        await self._rebuild()
        await self._skip_rest(await self._read_news())
        await self._finish()

    async def _finish(self) -> None:
        await self._step(finish, NewBlock(counts=count_states(()), body=b""), ())
        await _take_apart(self._planner.dismantling())

    async def _rebuild(self) -> None:
        """Find out which servers were released, and hand all to the planner."""
        run = await self._read_run()
        planner = self._planner = RolloutPlanner(
            canary=self._rollout.canary,
            max_unavailable=self._rollout.max_unavailable,
            max_groups=self._rollout.max_groups,
            settle=self._rollout.settle,
            # A batch is claimed as a whole, or not at all.
            max_in_flight=run.wave,
        )
        released: Table[bool] = Table()
        ended: dict[_End, Pieces[str]] = {}
        # Outcomes before batches: a batch that ends in between is then found by its outcomes, or still open.
        await self._collect_open(released)
        while blocks := await self._journal.run(read_blocks, self.claim.run, self._seen, _BLOCKS_AT_ONCE, writes=False):
            for block in blocks:
                for outcome in await run_in_thread(unpack_outcomes, block.body):
                    released[outcome.server_id] = True
                    ended.setdefault(end_of(outcome), Pieces()).append(outcome.server_id)
                self._seen = block.number
        await self._collect_open(released)
        async for server_id, group in read_servers(self._journal, self.claim.run):
            planner.add(server_id, group)
        for _ in planner.sealing():
            await anyio.lowlevel.checkpoint()
        if len(released):
            for _ in planner.resuming(released.__contains__, self._now()):
                await anyio.lowlevel.checkpoint()
        for end, ids in ended.items():
            await self._note_ends((server_id, end) for server_id in ids)
            await _take_apart(ids.dismantle())
        await _take_apart(released.dismantle())

    async def _collect_open(self, released: Table[bool]) -> None:
        after = 0
        while found := await self._journal.run(
            read_open_batches, self.claim.run, after, _BATCHES_AT_ONCE, writes=False
        ):
            for number, ids in found:
                after = number
                for server_id in unpack_ids(ids):
                    released[server_id] = True
                await anyio.lowlevel.checkpoint()

    async def _read_news(self) -> KeptRun:
        """Read the outcomes that are new, and how the run stands."""
        run = await self._read_run()
        while self._seen < run.number:
            blocks = await self._journal.run(read_blocks, self.claim.run, self._seen, _BLOCKS_AT_ONCE, writes=False)
            if not blocks:
                break
            for block in blocks:
                outcomes = await run_in_thread(unpack_outcomes, block.body)
                await self._note_ends((outcome.server_id, end_of(outcome)) for outcome in outcomes)
                self._seen = block.number
        return run

    async def _read_run(self) -> KeptRun:
        run = await self._journal.run(read_run, self.claim.run, writes=False)
        if run is None:
            raise BatchWithdrawnError("the run was deleted")
        return run

    async def _wait(self, *, is_open: bool) -> None:
        """Wait until there may be something to do."""
        rest = _REST * self._plans()
        await anyio.sleep(rest)
        pause = _LOOK_EVERY
        if is_open:
            due = self._planner.next_time(self._now())
            pause = pause if due is None else min(pause, due - self._now())
        elif not self._planner.under_way:
            pause = min(_LOOK_SELDOM, self._gate.seconds_to_change(self._clock.now()) or _LOOK_SELDOM)
        await self._journal.wait_for_change(max(pause, rest, _LOOK_SOONEST))

    async def _note_ends(self, ends: Iterable[tuple[str, _End]]) -> None:
        for index, (server_id, end) in enumerate(ends, 1):
            self._planner.end(server_id, self._now(), well=end.well, available=end.available)
            if index % _YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()

    async def _release_all(self) -> None:
        planner = self._planner
        while count := planner.count(self._now()):
            # What has not been sent may wait for a slot of the limit for long; the next call has more servers then.
            if count < MAX_BATCH_SIZE and await self._journal.run(has_unsent, self.claim.run, writes=False):
                return
            ids = planner.take(self._now())
            if not ids:
                return
            batch = NewBatch(ids=pack_ids(ids), servers=len(ids))
            try:
                await self._step(release, self._sequence + 1, batch)
            except _StoppedError:
                planner.put_back(ids, self._now())
                return
            self._sequence += 1

    async def _skip_blocked(self) -> None:
        planner = self._planner
        while blocked := planner.pop_blocked(MAX_BATCH_SIZE):
            errors = {
                group: GroupBlockedError(
                    group=group, unavailable=planner.lost_of(group), allowed=planner.allowed_of(group)
                )
                for group in dict.fromkeys(group for _, group in blocked)
            }
            await self._skip([(server_id, errors[group]) for server_id, group in blocked])

    async def _skip_rest(self, run: KeptRun) -> None:
        error = None
        if run.aborted is not None:
            text = f"{run.action}: not sent, since the run was aborted: {run.aborted}"
            error = FleetError(text, code=None, server_ids=())
        while ids := self._planner.pop_waiting(MAX_BATCH_SIZE):
            await self._skip([(server_id, error) for server_id in ids])

    async def _skip(self, servers: Sequence[tuple[str, BmsError | None]]) -> None:
        ended = self._clock.now()
        outcomes = [
            make_outcome(server_id, OutcomeState.SKIPPED, error=error, ended=ended) for server_id, error in servers
        ]
        body = await run_in_thread(pack_outcomes, outcomes)
        await self._step(skip_planned, self._sequence + 1, NewBlock(counts=count_states(outcomes), body=body))
        self._sequence += 1

    async def _abort(self, reason: str) -> None:
        await self._step(abort_planned, reason)

    async def _note(self, *, last: bool = False) -> None:
        """Write down how far the rollout is, if that has changed and was not written down a moment ago."""
        now = self._now()
        if now < self._note_at and not last:
            return
        standing = self._planner.standing(now)
        noted = KeptStanding(standing=standing, closed=self._gate.why_closed(self._clock.now())).encode()
        if noted != self._noted:
            self._noted, self._note_at = noted, now + _NOTE_EVERY
            await self._step(note_standing, noted)

    async def _step(self, transaction: Callable[[Claim, *Ts], Transaction[Step]], *args: *Ts) -> None:
        step = await self._journal.run(transaction, self.claim, *args)
        if step is Step.STOPPED:
            raise _StoppedError
        if step is Step.LOST:
            raise BatchWithdrawnError("another worker has the plan")
        self._journal.notify()


async def _take_apart(steps: Iterator[None]) -> None:
    """Free what has many servers, without holding the loop."""
    for _ in steps:
        await anyio.lowlevel.checkpoint()


class _StoppedError(Exception):
    """The run was paused or has ended, and the step was not made."""


class _End(NamedTuple):
    """What the planner has to know of an outcome.

    Attributes:
        well: Whether the server is as asked, and ready.
        available: Whether it is available all the same.
    """

    well: bool
    available: bool


def end_of(outcome: Outcome) -> _End:
    """Return what an outcome says of the room that its server takes."""
    well = outcome.state.is_success
    return _End(well, available=well or _was_refused(outcome))


def _was_refused(outcome: Outcome) -> bool:
    """Return whether the cloud surely did nothing to a server that is not well."""
    if outcome.state is OutcomeState.SKIPPED:
        return True
    seen = isinstance(outcome.error, NotReadyError | ServerStateError)
    return outcome.state is OutcomeState.FAILED and outcome.job_id is None and not seen
