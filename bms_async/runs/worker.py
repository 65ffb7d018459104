"""A worker: claims batches of durable runs, and carries each on to its end.

What it guarantees: a batch is sent by the worker that has it, and by no other; whatever a worker held when it died, or
stood still for longer than its lease, is carried on by another one of its place, if there is one, within the lease
and `_TAKE_OVER_EVERY`. A worker that is closed hands back what it has.

How: a worker claims one batch a limit at a time, the next one when that was sent. So batches go to the workers whose
limits have slots, and two workers that share a limit take turns. What others have left is looked for every few seconds.
One task renews the lease of all batches that the worker holds; what it has lost is dropped without a further step, and
runs that were paused or cancelled meanwhile are seen then.

A worker claims batches of one place, the endpoint and the project of its client, since no credential is in the journal.

Rejected: to claim many batches at once. They would wait in one worker's queue while another one has slots.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import TypeVarTuple

import anyio
import msgspec
from anyio.abc import TaskGroup

from bms_async.errors import ClientClosedError, JournalError
from bms_async.fleet.batch import BatchWithdrawnError
from bms_async.fleet.following import as_earlier
from bms_async.fleet.packed import pack_details, unpack_batch
from bms_async.fleet.scheduler import batch_of
from bms_async.fleet.sending import OPERATIONS
from bms_async.jobs import Watcher
from bms_async.journal import Journal, KeptBatch, RunStatus, Step, pack_ids, unpack_ids
from bms_async.journal.transactions.claims import LEASE, claim_waiting, hand_back, hand_back_one, renew, take_over
from bms_async.journal.transactions.plans import claim_plan
from bms_async.journal.transactions.runs import read_run
from bms_async.journal.transactions.steps import merge
from bms_async.session import Session

from .held import ENDING, HAND_BACK_GRACE, PAUSE_AFTER_BUG, SEND_GRACE, Held, Opener
from .rollouts import RunPlan
from .skipping import skip_unsendable
from .standing import Standing

_log = logging.getLogger("bms_async.runs")

Ts = TypeVarTuple("Ts")

RENEW_EVERY = 5.0
"""Seconds between two renewals of the lease."""

_LOOK_EVERY = 1.0
"""Seconds between two looks at the journal while there is nothing to do."""

_LOOK_SELDOM = 5.0
_LOOK_SHARE = 0.02
"""The share of its time that a worker looks at most: among ten thousand open runs a look takes long."""

_TAKE_OVER_EVERY = 2.0
"""Seconds between two looks for what other workers have left."""

_LOOK_FOR_PLANS_EVERY = 5.0
"""Seconds between two looks for plans of rollouts that nobody carries out."""

_TAKEN_AT_ONCE = 20
_MAX_HELD = 2000
"""Batches that a worker carries on at once; nearly all of them only wait for their job."""

_SEND_PAUSE = 0.05


class BatchEvent(StrEnum):
    """What happened to a batch."""

    TAKEN_OVER = "taken over"
    """The worker has it from another one, which died or stood still."""
    FINISHED = "finished"
    """The worker has carried it on to its end."""


class WorkerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a worker.

    Attributes:
        owner: Its name in the journal.
        held: How many batches it has now.
        claimed: How many it claimed to be sent.
        taken_over: How many it took over from another worker.
        finished: How many it has carried on to their end.
        lost: How many it lost to another worker.
    """

    owner: str
    held: int
    claimed: int
    taken_over: int
    finished: int
    lost: int


class Worker:
    """Carries on batches of one place.

    Args:
        journal: The journal, open.
        session: What makes the calls.
        watcher: What polls jobs.
        place: The endpoint and the project.
        run: The id of the only run that it works for; None for all.

    Attributes:
        on_event: Called with what happened to a batch, and the batch; it must not raise, nor block.
    """

    def __init__(
        self, journal: Journal, session: Session, watcher: Watcher, *, place: str, run: str | None = None
    ) -> None:
        self._journal = journal
        self._place = place
        self._run = run
        self._held: dict[tuple[str, int], Held] = {}
        self._plans: dict[str, RunPlan] = {}
        self._wake = asyncio.Event()
        self._work = anyio.CancelScope()
        self._is_closing = False
        self._claimed = self._taken_over = self._finished = self._lost = 0
        self.on_event: Callable[[BatchEvent, KeptBatch], None] | None = None
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._standing = Standing(journal, session, place=place, owner=self.owner)
        self._opener = Opener(journal, session, watcher, on_answer=self._standing.note)

    @property
    def to_verify(self) -> int:
        """How many servers of its batches have ended and wait for their state to be read back."""
        return sum(held.work.to_verify for held in self._held.values())

    def statistics(self) -> WorkerStatistics:
        """Return the worker's figures."""
        return WorkerStatistics(
            owner=self.owner,
            held=len(self._held),
            claimed=self._claimed,
            taken_over=self._taken_over,
            finished=self._finished,
            lost=self._lost,
        )

    def __repr__(self) -> str:
        return f"<Worker {self.owner}, {len(self._held)} batches>"

    def wake(self) -> None:
        """Have it look at the journal now."""
        self._wake.set()

    async def run(self) -> None:
        """Work until `end`, a cancellation, or the end of its only run; then hand back what it has."""
        try:
            with self._work:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._again_and_again, self._renew_leases)
                    tasks.start_soon(self._again_and_again, self._look_after_others, tasks)
                    tasks.start_soon(self._again_and_again, self._look_for_plans, tasks)
                    try:
                        await self._again_and_again(self._claim_batches, tasks)
                    finally:
                        self._is_closing = True
                        for held in self._held.values():
                            held.work.hurry(HAND_BACK_GRACE)
                    tasks.cancel_scope.cancel()
        finally:
            await self._hand_back()

    async def _again_and_again(self, work: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> None:
        """Do work that has no end but its own; a fault in it is logged, and it begins once more."""
        while True:
            try:
                await work(*args)
            except ClientClosedError:
                # There is nothing more to do; whoever closed the client ends this worker too.
                self._is_closing = True
                await anyio.sleep_forever()
            except Exception:  # noqa: BLE001 - without it, what the worker holds would stay with it
                _log.exception("a worker broke, and goes on")
                await anyio.sleep(PAUSE_AFTER_BUG)
            else:
                return

    async def _claim_batches(self, tasks: TaskGroup) -> None:
        while True:
            self._wake.clear()
            began = anyio.current_time()
            while await self._claim_one(tasks):
                began = anyio.current_time()
            took = anyio.current_time() - began
            if await self._is_over():
                return
            with anyio.move_on_after(look_pause(took)):
                await self._wake.wait()

    async def _is_over(self) -> bool:
        if self._run is None or self._held:
            return False
        try:
            kept = await self._journal.run(read_run, self._run, writes=False)
        except JournalError:
            return False
        return kept is None or kept.ended is not None

    async def _claim_one(self, tasks: TaskGroup) -> bool:
        waiting = {held.action for held in self._held.values() if held.waits}
        free = [action for action in OPERATIONS if action not in waiting]
        if not free or len(self._held) >= _MAX_HELD or self._is_closing:
            return False
        try:
            if not await self._standing.may_try():
                return False
            found = await self._journal.run(claim_waiting, self._place, free, self.owner, self._run)
            kept = await self._merge(found) if len(found) > 1 else found[0] if found else None
        except JournalError as error:
            _log.warning("no batch can be claimed now: %s", error)
            return False
        # What is claimed by a worker that is closed meanwhile is handed back with all else.
        if kept is None or self._is_closing:
            return False
        self._claimed += 1
        await self._begin(kept, tasks)
        return True

    async def _merge(self, found: Sequence[KeptBatch]) -> KeptBatch | None:
        """Make one batch of several with deferred servers, so that these share a call."""
        batches = [unpack_batch(unpack_ids(kept.ids), kept.details) for kept in found]
        merged = batch_of([attempts for batch in batches for attempts in as_earlier(batch)])
        ids, details, servers = pack_ids(merged.ids), pack_details(merged), len(merged.ids)
        first, *others = (kept.claim for kept in found)
        step = await self._journal.run(merge, first, others, ids, details, servers)
        if step is not Step.MADE:
            return None
        return msgspec.structs.replace(found[0], ids=ids, details=details, servers=servers)

    async def _look_after_others(self, tasks: TaskGroup) -> None:
        """Take over what other workers have left, and skip what is not to be sent any more."""
        while True:
            taken = await self._take_over() if not self._is_closing else []
            for kept in taken:
                self._report(BatchEvent.TAKEN_OVER, kept)
                await self._begin(kept, tasks)
            try:
                await skip_unsendable(self._journal, self.owner, run=self._run, place=self._place)
            except JournalError as error:
                _log.warning("servers that are not sent any more cannot be skipped now: %s", error)
            if len(taken) < _TAKEN_AT_ONCE:
                await anyio.sleep(_TAKE_OVER_EVERY)

    async def _look_for_plans(self, tasks: TaskGroup) -> None:
        """Carry out the plans of rollouts that nobody carries out."""
        while True:
            try:
                kept = (
                    None
                    if self._is_closing
                    else await self._journal.run(claim_plan, self._place, self.owner, self._run)
                )
            except JournalError as error:
                _log.warning("no plan of a rollout can be claimed now: %s", error)
                kept = None
            if kept is None:
                await anyio.sleep(_LOOK_FOR_PLANS_EVERY)
                continue
            tasks.start_soon(self._carry_out, kept)

    async def _carry_out(self, kept: KeptBatch) -> None:
        """Carry a plan out; one that cannot be is free for others when its lease is over."""
        run, plan = kept.claim.run, None
        try:
            plan = RunPlan(self._journal, kept, plans=lambda: len(self._plans))
            earlier = self._plans.get(run)
            if earlier is not None:
                earlier.lose()
            self._plans[run] = plan
            await plan.carry_out()
        except BatchWithdrawnError as error:
            _log.info("the plan of the run %r is left: %s", kept.key, error)
        except ClientClosedError:
            self._is_closing = True
        except Exception:  # noqa: BLE001 - one run of many, and the worker goes on
            _log.exception("the plan of the run %r cannot be carried out now", kept.key)
        finally:
            if plan is not None and self._plans.get(run) is plan:
                del self._plans[run]
            self._wake.set()

    async def _take_over(self) -> list[KeptBatch]:
        try:
            if not await self._standing.may_try():
                return []
            taken = await self._journal.run(take_over, self._place, self.owner, _TAKEN_AT_ONCE, self._run)
            if taken and not await self._standing.is_able(taken):
                _log.warning("what another worker has left is left to others: the cloud cannot be read from here")
                for kept in taken:
                    await self._journal.run(hand_back_one, kept.claim)
                return []
        except JournalError as error:
            _log.warning("nothing can be taken over now: %s", error)
            return []
        self._taken_over += len(taken)
        return taken

    async def _begin(self, kept: KeptBatch, tasks: TaskGroup) -> None:
        """Carry a claimed batch on, in a task of its own."""
        key = kept.claim.run, kept.claim.number
        try:
            held = await self._opener.open(kept, self.wake)
        except ClientClosedError:
            raise
        except Exception:  # noqa: BLE001 - one batch of many, and the worker goes on
            # It stays claimed until its lease is over, so that it is not found again and again.
            _log.exception("a batch of the run %r cannot be carried on now", kept.key)
            return
        earlier = self._held.get(key)
        if earlier is not None:
            # This worker stood still for longer than its own lease, and has claimed the batch once more.
            self._lose(earlier)
        self._held[key] = held
        tasks.start_soon(self._carry_on, held)

    async def _carry_on(self, held: Held) -> None:
        try:
            if await held.carry_on(on_sent=self.wake):
                self._finished += 1
                self._report(BatchEvent.FINISHED, held.kept)
        except ClientClosedError:
            # Whatever is claimed now would only be left again.
            self._is_closing = True
        finally:
            self._forget(held)

    def _report(self, event: BatchEvent, kept: KeptBatch) -> None:
        if self.on_event is not None:
            self.on_event(event, kept)

    def _forget(self, held: Held) -> None:
        run = held.claim.run
        if self._held.get((run, held.claim.number)) is held:
            del self._held[run, held.claim.number]
        if not any(its_run == run for its_run, _ in self._held):
            self._opener.forget(run)
        self._wake.set()

    async def _renew_leases(self) -> None:
        seen = self._journal.status_changes
        while True:
            # A pause or an end that comes from this process is heeded at once, those of others with the next renewal.
            seen = await self._journal.wait_for_status(seen, RENEW_EVERY)
            before, plans = dict(self._held), list(self._plans.values())
            try:
                claims = [held.claim for held in before.values()] + [plan.claim for plan in plans]
                unready = [held.work.unready for held in before.values()]
                mine = await self._journal.run(renew, self.owner, claims, unready, patience=LEASE)
            except JournalError as error:
                _log.warning("leases cannot be renewed now: %s", error)
                continue
            for key, held in before.items():
                if self._held.get(key) is held:
                    self._heed(held, mine.get(key))
            for plan in plans:
                found = mine.get((plan.claim.run, plan.claim.number))
                if found is None or found[0] != plan.claim.fence:
                    plan.lose()

    def _lose(self, held: Held) -> None:
        self._lost += 1
        held.lose()

    def _heed(self, held: Held, found: tuple[int, RunStatus] | None) -> None:
        """Heed what the journal says of a batch: the fence of its claim, and the status of its run."""
        if found is None or found[0] != held.claim.fence:
            self._lose(held)
            return
        if found[1] in ENDING:
            held.work.stop()
        if found[1] is not RunStatus.OPEN:
            held.work.withdraw()

    async def drain(self) -> None:
        """Claim nothing more, and wait a moment for the responses of what was just sent."""
        self._is_closing = True
        for held in self._held.values():
            held.work.withdraw()
        with anyio.move_on_after(SEND_GRACE):
            while any(held.work.is_being_sent for held in self._held.values()):  # noqa: ASYNC110 - for a moment only
                await anyio.sleep(_SEND_PAUSE)

    def end(self) -> None:
        """Have `run` stop its work and hand back what is left."""
        self._work.cancel()

    async def _hand_back(self) -> None:
        with anyio.move_on_after(HAND_BACK_GRACE, shield=True):
            try:
                await self._journal.run(hand_back, self.owner, patience=HAND_BACK_GRACE)
            except (JournalError, ClientClosedError) as error:
                _log.info("batches could not be handed back, and are free when their lease is over: %s", error)


def look_pause(took: float) -> float:
    """Return the seconds until a worker looks for work again that has found none.

    Args:
        took: Seconds that it took to find none.
    """
    return min(_LOOK_SELDOM, max(_LOOK_EVERY, took / _LOOK_SHARE))
