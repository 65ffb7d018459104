"""The workflow of a block: at most 100 batches, each sent, watched and settled by activities.

What it guarantees: each server of the block ends in one outcome, and one that a reboot may have reached is never sent
again. The activity that sends a reboot has one attempt. If its answer does not come, since its worker died, nothing
says whether the request left, and the servers' states have to: the batch is settled. A start or a stop is sent again.

It never continues as a new execution, since its history has room for its batches. So an execution that is not the first
one is that of a workflow which was reset, and for such a one the activity sends no reboot.

Rejected: to trust what the last heartbeat said of a send. Heartbeats are held back, so one that says that the request
has not left proves nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from typing import Any

import msgspec
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, FailureError

from bms_async.journal import Counts, unpack_ids
from bms_async.runs import BatchResult, NextBatch, SentBatch, SentState

from .messages import (
    SEND,
    SETTLE,
    SKIP,
    WATCH,
    BlockInput,
    BlockOutcomes,
    BlockSummary,
    SendRequest,
    SkipRequest,
    add_up,
    from_json,
    reason_to_abort,
    to_json,
    unpack_block,
)

_IN_FLIGHT = 50
"""Batches that may be sent or watched at once: what the documented limit lets out in a minute."""

_MAX_SERVERS = 1000
_ONCE = RetryPolicy(maximum_attempts=1)
_AGAIN = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10))
_LONGEST_STEP = timedelta(days=1)
"""A worker that lives says so by its heartbeats; this only bounds one that never ends."""


@workflow.defn(name="bms_async.Block", sandboxed=False)
class BlockWorkflow:
    """Carries out a block of a run; `FleetWorkflow` starts it, and says when it may send."""

    def __init__(self) -> None:
        self._may_send = self._is_paused = self._is_cancelled = False
        self._why: str | None = None
        self._others = Counts()
        self._summary = BlockSummary()
        self._fresh: deque[NextBatch] = deque()
        self._parts: deque[NextBatch] = deque()
        self._deferred: list[tuple[float, NextBatch]] = []
        self._outcomes: list[bytes] = []
        self._skipped: list[bytes] = []
        self._unknown: list[tuple[bytes, str]] = []
        self._open = self._number = 0
        self._splits: dict[str, int] = {}
        self._roots: dict[bytes, str] = {}
        self._has_said_all_sent = False

    @workflow.run
    async def run(self, text: str, block: bytes) -> bytes:
        """Carry out the block, and return its outcomes."""
        self._input = message = from_json(text, BlockInput)
        for packed in unpack_block(block):
            servers = len(unpack_ids(packed))
            self._fresh.append(NextBatch(action=message.action, packed=packed, servers=servers))
        work = asyncio.ensure_future(self._carry_out())
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                # What was sent is watched to its end, however the run is cancelled.
                self.cancel("")
        await self._tell_parent("block_ended")
        outcomes = BlockOutcomes(
            packed=tuple(self._outcomes), skipped=tuple(self._skipped), unknown=tuple(self._unknown), why=self._why
        )
        return msgspec.msgpack.encode(outcomes)

    @workflow.signal
    def go(self, counts: str) -> None:
        """Let it send.

        Args:
            counts: The servers of other blocks that have ended, by state.
        """
        self._others = from_json(counts, Counts)
        self._may_send = True

    @workflow.signal
    def pause(self) -> None:
        """Have no further batch sent."""
        self._is_paused = True

    @workflow.signal
    def resume(self) -> None:
        """Have batches sent again."""
        self._is_paused = False

    @workflow.signal
    def cancel(self, why: str) -> None:
        """Have no further batch sent; what was not sent is SKIPPED.

        Args:
            why: The reason, where the run was aborted; empty if it was cancelled.
        """
        self._is_cancelled = True
        self._why = self._why or why or None

    @workflow.query
    def progress(self) -> str:
        """The `BlockSummary` so far."""
        return to_json(self._summary)

    async def _carry_out(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._wait()
                if self._is_cancelled:
                    break
                batches = self._next()
                if batches:
                    self._begin(tasks, batches)
                elif self._is_over:
                    break
        # Servers that were busy may have come back while the last batches were watched.
        await self._skip_rest()

    async def _wait(self) -> None:
        """Wait until a batch may be sent, or none will be."""

        def ready() -> bool:
            return self._is_cancelled or self._can_send or self._is_over

        while not ready():
            due = min((at for at, _ in self._deferred), default=None)
            left = None if due is None or not self._may_begin else timedelta(seconds=max(0.001, due - workflow.time()))
            try:
                await workflow.wait_condition(ready, timeout=left)
            except TimeoutError:
                continue

    @property
    def _may_begin(self) -> bool:
        return self._may_send and not self._is_paused and self._open < _IN_FLIGHT

    @property
    def _can_send(self) -> bool:
        if not self._may_begin:
            return False
        if self._parts or any(at <= workflow.time() for at, _ in self._deferred):
            return True
        return bool(self._fresh) and self._has_room(self._fresh[0].servers)

    @property
    def _is_over(self) -> bool:
        return not (self._fresh or self._parts or self._deferred or self._open)

    def _has_room(self, servers: int) -> bool:
        wave = self._input.options.wave_size
        return wave is None or not self._summary.in_flight or self._summary.in_flight + servers <= wave

    def _next(self) -> list[NextBatch]:
        """Take what is sent next: the parts of a refused batch, then busy servers that are due, then new ones."""
        if not self._can_send:
            return []
        if self._parts:
            return [self._parts.popleft()]
        if any(at <= workflow.time() for at, _ in self._deferred):
            return self._take_due()
        return [self._fresh.popleft()] if self._fresh else []

    def _take_due(self) -> list[NextBatch]:
        taken: list[NextBatch] = []
        room, now = min(_MAX_SERVERS, self._input.options.wave_size or _MAX_SERVERS), workflow.time()
        for entry in sorted(self._deferred, key=lambda entry: entry[0]):
            at, batch = entry
            fits = batch.servers <= room and batch.grid and (not taken or taken[0].grid)
            if at <= now and (fits or not taken):
                taken.append(batch)
                room -= batch.servers
                self._deferred.remove(entry)
        return taken

    def _begin(self, tasks: asyncio.TaskGroup, batches: list[NextBatch]) -> None:
        key = f"{self._input.key}/{self._input.number}/{self._number}"
        self._number += 1
        servers = sum(batch.servers for batch in batches)
        is_new = not any(batch.details for batch in batches)
        self._open += 1
        self._change(in_flight=servers, submitted=servers if is_new else 0)
        tasks.create_task(self._carry_on(key, batches, servers))

    async def _carry_on(self, key: str, batches: list[NextBatch], servers: int) -> None:
        root = self._roots.pop(batches[0].packed, key)
        message = self._input
        request = SendRequest(
            action=message.action,
            key=key,
            batches=tuple(msgspec.structs.replace(batch, parts=self._splits.get(root, 0)) for batch in batches),
            options=message.options,
            first_run_id=workflow.info().first_execution_run_id,
        )
        sent = await self._send(request)
        if sent is not None and sent.job is not None:
            self._change(accepted=1)
        try:
            if sent is None:
                result = await self._end(SETTLE, to_json(request))
            else:
                result = sent.result or await self._end(WATCH, sent.to_json())
        except ActivityError as error:
            # It is tried again for ever, but where that is known to be in vain.
            self._unknown += [(batch.packed, str(error.cause or error)) for batch in batches]
            result = BatchResult(action=message.action, key=key, counts=Counts(unknown=servers))
        self._open -= 1
        self._change(in_flight=-servers, counts=result.counts, extra_calls=result.extra_calls)
        self._outcomes += result.packed
        self._plan(result, root)
        self._consider_aborting()
        await self._say_all_sent()

    async def _send(self, request: SendRequest) -> SentBatch | None:
        """Return the batch as it was sent; None if only states can say what became of it."""
        options = request.options
        try:
            text = await workflow.execute_activity(
                SEND,
                to_json(request),
                result_type=str,
                start_to_close_timeout=_LONGEST_STEP,
                heartbeat_timeout=timedelta(seconds=options.send_timeout),
                retry_policy=_send_policy(request.action),
            )
        except ActivityError:
            return None
        sent = SentBatch.from_json(text)
        return None if sent.state is SentState.UNKNOWN and sent.result is None else sent

    async def _end(self, activity: str, text: str) -> BatchResult:
        answer = await workflow.execute_activity(
            activity,
            text,
            result_type=str,
            start_to_close_timeout=_LONGEST_STEP,
            heartbeat_timeout=timedelta(seconds=self._input.options.watch_timeout),
            retry_policy=_AGAIN,
        )
        return BatchResult.from_json(answer)

    def _plan(self, result: BatchResult, root: str) -> None:
        """Keep what is to be sent again."""
        now = workflow.time()
        for batch in result.again:
            if batch.grid:
                self._deferred.append((-(-(now + batch.delay) // batch.grid) * batch.grid, batch))
            elif batch.delay:
                self._deferred.append((now + batch.delay, batch))
            else:
                # Counted where all parts of a batch see it, so that splitting is bounded for all together.
                self._splits[root] = self._splits.get(root, 0) + 1
                self._roots[batch.packed] = root
                self._parts.append(batch)

    def _consider_aborting(self) -> None:
        counts = add_up([BlockSummary(counts=self._others), self._summary]).counts
        why = reason_to_abort(self._input.options, counts)
        if why is not None and not self._is_cancelled:
            self._summary = msgspec.structs.replace(self._summary, aborted=why)
            self.cancel(f"{self._input.action}: not sent, since the run was aborted: {why}")

    async def _skip_rest(self) -> None:
        """Give what is not sent any more its outcomes."""
        while self._fresh:
            batch = self._fresh.popleft()
            self._skipped.append(batch.packed)
            self._change(counts=Counts(skipped=batch.servers))
        left = [*self._parts, *(batch for _, batch in self._deferred)]
        self._parts.clear()
        self._deferred.clear()
        for batch in left:
            request = SkipRequest(key=f"{self._input.key}/{self._input.number}", batch=batch, why=self._why)
            result = await self._end(SKIP, to_json(request))
            self._change(counts=result.counts)
            self._outcomes += result.packed

    def _change(
        self,
        *,
        counts: Counts | None = None,
        submitted: int = 0,
        in_flight: int = 0,
        accepted: int = 0,
        extra_calls: int = 0,
    ) -> None:
        changes = BlockSummary(
            counts=counts or Counts(),
            submitted=submitted,
            in_flight=in_flight,
            accepted=accepted,
            extra_calls=extra_calls,
        )
        self._summary = add_up([self._summary, changes])

    async def _say_all_sent(self) -> None:
        """Let the next block send, where nothing is counted over all of them."""
        options = self._input.options
        is_counted = options.wave_size is not None or options.abort_above is not None
        if self._has_said_all_sent or is_counted or self._fresh or self._open > _IN_FLIGHT // 2:
            return
        self._has_said_all_sent = True
        await self._tell_parent("block_sent")

    async def _tell_parent(self, signal: str) -> None:
        parent: workflow.ExternalWorkflowHandle[Any] = workflow.get_external_workflow_handle(self._input.parent)
        try:
            await parent.signal(signal, args=[self._input.number, to_json(self._summary)])
        except FailureError:
            workflow.logger.warning("the run of the block is not there any more; the block ends by itself")


def _send_policy(action: str) -> RetryPolicy:
    """Return how often a send is attempted: a reboot once at most."""
    return _ONCE if action == "servers.reboot" else _AGAIN
