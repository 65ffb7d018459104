"""A durable run, as its users hold it: what the journal knows of it, wherever it is carried out.

Reading is by the number that each block of outcomes has in its run, which only grows, so that a reader goes on where it
or another one stopped. A change made in this process is seen at once, those of other workers within `_LOOK_EVERY`.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Generator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Never, Self

import anyio
import anyio.lowlevel
import msgspec

from bms_async._threads import run_in_thread
from bms_async.errors import InvalidRequestError, JournalError
from bms_async.fleet import FleetReport, Outcome, OutcomeState, Progress
from bms_async.fleet.frozen import FrozenDict
from bms_async.fleet.outcomes import Outcomes
from bms_async.fleet.packed import unpack_outcomes
from bms_async.fleet.rollout.gate import PAUSED
from bms_async.fleet.rollout.rollout import Rollout
from bms_async.fleet.rollout.standing import RolloutStanding, describe_unready
from bms_async.journal import Block, Counts, Journal, KeptRun, RunStatus
from bms_async.journal.transactions.claims import release_unsendable
from bms_async.journal.transactions.runs import read_run, set_status
from bms_async.journal.transactions.steps import read_blocks

from .options import decode_options
from .plan_records import KeptStanding, decode_standing
from .rollout_report import report_rollout
from .skipping import skip_plan, skip_unsendable

_log = logging.getLogger("bms_async.runs")

_LOOK_EVERY = 1.0
"""Seconds between two looks for what other workers have written."""

_BLOCKS_AT_ONCE = 20
_YIELD_EVERY = 500
_UNPACKED_IN_THREAD = 200

_CURSOR = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")

_LONELY_AFTER = 60.0
"""Seconds after which a run that no worker has begun is worth a word in the log."""

_LEFT_AFTER = 420.0
"""The same for one that was begun: all servers that are left may be deferred, for five minutes and up to one more."""


class RunOutcomes:
    """The outcomes of a durable run in the order in which they became known, from a cursor on."""

    def __init__(self, run: DurableRun, since: str | None, *, wait: bool) -> None:
        self._run = run
        self._waits = wait
        self._number, self._index = _read_cursor(since)
        self._outcomes: list[Outcome] = []
        self._blocks: list[Block] = []
        self._read = 0

    @property
    def cursor(self) -> str:
        """Where a reader goes on after the outcome that was read last: a short text to be kept with its progress."""
        return f"{self._number}.{self._index}"

    def stop_waiting(self) -> None:
        """End after the outcomes that are known, also if the run goes on."""
        self._waits = False
        self._run.wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        """Wait for the next outcome.

        Raises:
            StopAsyncIteration: The run has ended, and all of its outcomes were read.
            JournalError: The journal cannot be read.
        """
        while self._index >= len(self._outcomes):
            if not await self._next_block():
                raise StopAsyncIteration
        self._read += 1
        if self._read % _YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()
        # After all waiting: an outcome that a cancelled reader never got is not behind the cursor.
        self._index += 1
        return self._outcomes[self._index - 1]

    async def _next_block(self) -> bool:
        """Read the block that comes next; return False at the end of the run."""
        # A cursor in the middle of a block needs that block again.
        is_begun = self._index > 0 and not self._outcomes
        after = self._number - 1 if is_begun else self._number
        while not self._blocks:
            self._blocks = await self._run.read_blocks(after)
            self._run.check_has(self._number)
            if not self._blocks:
                if not self._waits or self._run.is_over_after(after):
                    return False
                await self._run.wait_for_change()
        block = self._blocks[0]
        self._outcomes = await _unpack(block)
        # Only now, so that a reader who is cancelled meanwhile can go on.
        del self._blocks[0]
        if not is_begun:
            self._number, self._index = block.number, 0
        return True


class DurableRun:
    """A run that outlives the process: written down before its first call, and finished by whichever worker lives.

    Await it for its report, or iterate over it for the outcomes as they happen, from this process or any other. Leaving
    an await or an iteration leaves the run alone.

    ::

        run = await bms.runs.reboot(ids, key="kernel-42")
        async for outcome in run:
            print(outcome.server_id, outcome.state)
        report = await run

    What it shows of itself, such as `progress`, is what was last read; `refresh` reads it again.
    """

    def __init__(self, journal: Journal, kept: KeptRun) -> None:
        self._journal = journal
        self._kept = kept
        self._report: FleetReport | None = None
        self._lonely_since: float | None = None

    @property
    def id(self) -> str:
        """Its id, unique everywhere."""
        return self._kept.id

    @property
    def key(self) -> str:
        """The name that its caller gave it."""
        return self._kept.key

    @property
    def action(self) -> str:
        """Such as ``servers.reboot``."""
        return self._kept.action

    @property
    def place(self) -> str:
        """The endpoint and the project that it is for."""
        return self._kept.place

    @property
    def wave_size(self) -> int | None:
        """How many servers may be in flight at once; None for no bound."""
        return self._kept.wave

    @property
    def wave_follows(self) -> bool:
        """Whether `wave_size` was not asked for, but follows from `abort_above` and the number of servers."""
        return decode_options(self._kept.options).wave_follows

    @property
    def is_rollout(self) -> bool:
        """Whether it walks through its fleet as a rollout says."""
        return decode_options(self._kept.options).rollout is not None

    @property
    def rollout(self) -> Rollout | None:
        """How it walks through its fleet, without a `group_by` or `order_by` that was a function; None if it does not.

        These are not in the journal, which has the groups and the order that they have made.
        """
        kept = decode_options(self._kept.options).rollout
        return None if kept is None else kept.rollout()

    @property
    def verify(self) -> bool:
        """Whether the states of its servers are read back before their outcomes are known."""
        return decode_options(self._kept.options).verify

    @property
    def abort_above(self) -> float | None:
        """The share of failures above which it is aborted; None for never."""
        return self._kept.abort_above

    @property
    def abort_sample(self) -> int:
        """How many servers must have ended before `abort_above` counts."""
        return self._kept.abort_sample

    @property
    def status(self) -> RunStatus:
        """What may happen to it."""
        return self._kept.status

    @property
    def aborted(self) -> str | None:
        """The reason, if `abort_above` ended it."""
        return self._kept.aborted

    @property
    def created(self) -> datetime:
        """When it was written down."""
        return datetime.fromtimestamp(self._kept.created, UTC)

    @property
    def ended(self) -> datetime | None:
        """When it ended; None as long as it has not."""
        return None if self._kept.ended is None else datetime.fromtimestamp(self._kept.ended, UTC)

    @property
    def held(self) -> int:
        """How many of its batches a worker holds, the plan of a rollout among them.

        It is 0 in a run of `get` or `list` until `refresh` has read it.
        """
        return self._kept.held

    @property
    def under_way(self) -> int:
        """How many of its servers were sent, were not refused, and have no outcome yet, whoever follows them.

        It is 0 in a run of `get` or `list` until `refresh` has read it.
        """
        return self._kept.sent

    @property
    def progress(self) -> Progress:
        """The progress over all workers."""
        kept = self._kept
        by_state = _by_state(kept.counts)
        rollout = decode_standing(kept.standing)
        return Progress(
            total=kept.servers,
            submitted=kept.submitted,
            done=kept.counts.total,
            by_state=FrozenDict(by_state),
            in_flight=kept.in_flight,
            extra_calls=kept.extra_calls,
            waits_for=self._waits_for(rollout),
            rollout=None if rollout is None else self._standing(rollout.standing),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what was last read of it as what JSON can hold: what it is, and its `progress`.

        Its ``status`` is ``ended`` once all servers of an open run have ended.
        """
        names = ("key", "action", "status", "created", "ended", "aborted", "wave_size", "abort_above", "progress")
        plain: dict[str, Any] = msgspec.to_builtins({name: getattr(self, name) for name in names})
        if self.ended is not None and self.status is RunStatus.OPEN:
            plain["status"] = "ended"
        return plain

    async def refresh(self) -> Self:
        """Read again what the journal knows of it.

        Raises:
            JournalError: It cannot be read, or the run was deleted.
        """
        kept = await self._journal.run(read_run, self.id, writes=False)
        if kept is None:
            raise JournalError(f"the run {self.key!r}: expected it in the journal, but it was deleted")
        self._kept = kept
        return self

    async def pause(self) -> None:
        """Have no further batch sent until it is resumed; what was sent is watched to its end.

        Once this has returned, no worker marks a batch of it as sent; the request of one that was marked just before
        may still leave. A run that was cancelled, or has ended, stays as it is.

        Raises:
            JournalError: The journal cannot be written, or the run was deleted.
        """
        await self._set(RunStatus.PAUSED)

    async def resume(self) -> None:
        """Have its batches sent again after a pause; a run that was cancelled or aborted stays as it is.

        Raises:
            JournalError: The journal cannot be written, or the run was deleted.
        """
        await self._set(RunStatus.OPEN)

    async def cancel(self) -> None:
        """Have no further batch sent: servers that were not sent are SKIPPED, and what was sent is watched to its end.

        Once this has returned, no worker marks a batch of it as sent, and what was not sent is SKIPPED. It needs no
        worker; watching what was sent does.

        Raises:
            JournalError: The journal cannot be written, or the run was deleted.
        """
        await self._set(RunStatus.CANCELLED)
        # Here, since there may be no worker; those that there are need not be waited for.
        owner = f"cancelling:{secrets.token_hex(8)}"
        await skip_plan(self._journal, owner, run=self.id)
        await self._journal.run(release_unsendable, self.id)
        await skip_unsendable(self._journal, owner, run=self.id, place=None)
        await self.refresh()
        self._journal.notify()

    def outcomes(self, *, since: str | None = None, wait: bool = True) -> RunOutcomes:
        """Return an iterator over the outcomes, from the first or from a cursor on.

        Args:
            since: The `cursor` of an earlier reader, in this process or another.
            wait: Whether it waits for further outcomes until the run has ended; else it ends with what is known.

        Raises:
            InvalidRequestError: It is no cursor.
        """
        return RunOutcomes(self, since, wait=wait)

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self.outcomes()

    def __await__(self) -> Generator[object, None, FleetReport]:
        return self._wait().__await__()

    async def read_blocks(self, since: int) -> list[Block]:
        """Read the blocks of outcomes after a number."""
        # Before the blocks, so that none that came in between is missed at the end.
        await self.refresh()
        return await self._journal.run(read_blocks, self.id, since, _BLOCKS_AT_ONCE, writes=False)

    def check_has(self, number: int) -> None:
        """Check that there is a block of a number, or was one.

        Raises:
            InvalidRequestError: There is none, so that what names it is of another run.
        """
        if number > self._kept.number:
            raise InvalidRequestError(
                "since", number, f"expected a cursor of the run {self.key!r}: it is another run's"
            )

    def is_over_after(self, number: int) -> bool:
        """Return whether the run has ended and no block comes after a number."""
        return self._kept.ended is not None and number >= self._kept.number

    async def wait_for_change(self) -> None:
        """Wait until there may be more to read."""
        self._note_loneliness()
        await self._journal.wait_for_change(_LOOK_EVERY)

    async def _set(self, status: RunStatus) -> None:
        kept = await self._journal.run(set_status, self.id, status)
        if kept is None:
            raise JournalError(f"the run {self.key!r}: expected it in the journal, but it was deleted")
        self._kept = kept
        self._journal.notify_status()

    def wake(self) -> None:
        """Wake whoever waits in this process for a change of the journal."""
        self._journal.notify()

    async def report_so_far(self) -> FleetReport:
        """Return a report of what is known now; servers that have not ended have no outcome in it.

        Raises:
            JournalError: The journal cannot be read.
        """
        return self._report or await self._collect(wait=False)

    async def _wait(self) -> FleetReport:
        if self._report is None:
            self._report = await self._collect(wait=True)
        return self._report

    async def _collect(self, *, wait: bool) -> FleetReport:
        outcomes, by_code = Outcomes(), Counter[str]()
        async for outcome in self.outcomes(wait=wait):
            outcomes.append(outcome)
            if not outcome.state.is_success:
                by_code[outcome.reason] += 1
        kept = self._kept
        ended = self.ended or (self.created if wait else datetime.now(UTC))
        return FleetReport(
            action=kept.action,
            outcomes=outcomes,
            by_state=FrozenDict(_by_state(kept.counts)),
            by_code=FrozenDict(by_code.most_common()),
            batches=kept.accepted,
            cancelled=kept.status is RunStatus.CANCELLED,
            started=self.created,
            ended=ended,
            aborted=kept.aborted,
            extra_calls=kept.extra_calls,
            rollout=await report_rollout(self._journal, kept, outcomes, ended),
            wave_size=kept.wave,
        )

    def _standing(self, noted: RolloutStanding) -> RolloutStanding:
        """Return how far the rollout is, by the run's own counts as well: a plan ends with its last release."""
        kept = self._kept
        fields: dict[str, object] = {"under_way": max(0, kept.servers - kept.counts.total - noted.waiting)}
        if kept.ended is not None:
            done = noted.groups - noted.groups_blocked
            fields |= {"settling": 0, "groups_touched": 0, "groups_done": done, "reason": None}
        return msgspec.structs.replace(noted, **fields)

    def _waits_for(self, rollout: KeptStanding | None) -> str | None:
        kept = self._kept
        if kept.ended is not None:
            return None
        if kept.status is RunStatus.PAUSED:
            return PAUSED
        if rollout is None or not rollout.standing.waiting or kept.status is not RunStatus.OPEN:
            return None
        if rollout.closed is not None:
            return rollout.closed
        if kept.unready:
            return describe_unready(kept.unready)
        return None if rollout.standing.reason is None else str(rollout.standing.reason)

    def _note_loneliness(self) -> None:
        """Say once that nobody works on the run: a waiter would wait for ever."""
        now = anyio.current_time()
        if self._kept.held or self._kept.status is RunStatus.PAUSED or self._lonely_since is None:
            self._lonely_since = now
        elif (alone := now - self._lonely_since) > (_LEFT_AFTER if self._kept.submitted else _LONELY_AFTER):
            self._lonely_since = float("inf")
            _log.warning(
                "no worker has held a batch of the run %r for %g s; start one with `bms worker` or bms.runs.work()",
                self.key,
                alone,
            )

    if not TYPE_CHECKING:  # a type checker reports this mistake by itself

        def __iter__(self) -> Never:
            raise TypeError("'DurableRun' object is not iterable: use `async for`, or await it for its report")

    def __repr__(self) -> str:
        state = "ended" if self._kept.ended is not None else self._kept.status.value
        return (
            f"<DurableRun {self.key!r} {self.action} {state}: {self._kept.counts.total} of {self._kept.servers} done>"
        )


def _by_state(counts: Counts) -> dict[OutcomeState, int]:
    return {state: getattr(counts, state.value.lower()) for state in OutcomeState}


async def _unpack(block: Block) -> list[Outcome]:
    if block.servers < _UNPACKED_IN_THREAD:
        return unpack_outcomes(block.body)
    return await run_in_thread(unpack_outcomes, block.body)


def _read_cursor(since: str | None) -> tuple[int, int]:
    if since is None:
        return 0, 0
    cursor = _CURSOR.fullmatch(since) if isinstance(since, str) else None
    number, index = (0, 1) if cursor is None else (int(cursor[1]), int(cursor[2]))
    if index and not number:
        raise InvalidRequestError("since", since, "expected the cursor of an earlier reader, or None for the beginning")
    return number, index
