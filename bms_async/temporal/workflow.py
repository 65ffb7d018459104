"""The workflow of a run: it takes the ids in blocks, and has a child workflow carry out each.

What it guarantees: no batch is sent before all ids of the run are there; the bounds of a run, `wave_size` and
`abort_above`, hold over all of its blocks; and the run has one outcome for each server, in the results of its children.

How: a block comes by a signal, in any order and twice without harm, since whoever sends them may die and begin anew.
It becomes the input of a child, which sends nothing before it is let. The ids are then in the child's history and may
leave this one: the run goes on as a new execution when its history is long. Children outlive that, since they are
abandoned and not ended with an execution of their parent, and report by signals to the run's workflow id.

Blocks send one after another: the next one when all batches of the one before were sent, or, where servers are counted
over all blocks, when it has ended.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from .block import BlockWorkflow
from .messages import (
    BlockInput,
    BlockSummary,
    FleetInput,
    FleetProgress,
    FleetSummary,
    add_up,
    from_json,
    to_json,
)

TASK_TIMEOUT = timedelta(seconds=5)
"""A workflow task that died with its worker or with the server comes again only after it."""

_MOST_EVENTS = 10_000
"""Events of a history after which a run goes on as a new execution, if the server does not suggest it before."""

_REPORT_TIMEOUT = timedelta(seconds=10)


def child_id(workflow_id: str, number: int) -> str:
    """Return the workflow id of a block.

    Args:
        workflow_id: That of the run.
        number: The block.
    """
    return f"{workflow_id}/{number}"


def attributes_of(search_attribute: str | None, key: str) -> TypedSearchAttributes:
    """Return the search attributes of the workflows of a run.

    Args:
        search_attribute: The name of that for the key; None for none.
        key: The run's key.
    """
    if search_attribute is None:
        return TypedSearchAttributes.empty
    return TypedSearchAttributes([SearchAttributePair(SearchAttributeKey.for_keyword(search_attribute), key)])


@workflow.defn(name="bms_async.Fleet", sandboxed=False)
class FleetWorkflow:
    """Carries out a run; `start` starts it, and brings the ids."""

    @workflow.init
    def __init__(self, text: str) -> None:
        self._state = from_json(text, FleetInput)
        if self._state.began is None:
            self._change(began=workflow.time())
        self._incoming: dict[int, bytes] = {}
        self._is_asked = False

    @workflow.run
    async def run(self, text: str) -> str:  # noqa: ARG002 - `__init__` has read it
        """Carry out the run, and return its `FleetSummary`."""
        while await self._carry_out_shielded():
            await workflow.wait_condition(workflow.all_handlers_finished)
            if not self._incoming:
                again = msgspec.structs.replace(self._state, executions=self._state.executions + 1)
                workflow.continue_as_new(to_json(again))
        return to_json(self._summarize())

    @workflow.signal
    def add(self, number: int, block: bytes) -> None:
        """Take a block of ids; one that is there already changes nothing.

        Args:
            number: Its number, from 0.
            block: The ids, packed.
        """
        if number not in self._state.started:
            self._incoming.setdefault(number, block)

    @workflow.signal
    async def pause(self) -> None:
        """Have no further batch sent until it is resumed; what was sent is watched to its end."""
        self._change(is_paused=True)
        await self._tell_open("pause")

    @workflow.signal
    async def resume(self) -> None:
        """Have batches sent again."""
        self._change(is_paused=False)
        await self._tell_open("resume")

    @workflow.signal
    async def cancel(self) -> None:
        """Have no further batch sent: servers that were not sent are SKIPPED, the others are watched to their end."""
        await self._stop()

    @workflow.signal
    def block_sent(self, number: int, summary: str) -> None:  # noqa: ARG002 - a later version may need it
        """Take note that a block has sent all of its batches."""
        self._let_next(number)

    @workflow.signal
    async def block_ended(self, number: int, summary: str) -> None:
        """Take note that a block has ended."""
        known = from_json(summary, BlockSummary)
        self._change(ended=self._state.ended | {number: known})
        if known.aborted and not self._state.aborted:
            self._change(aborted=known.aborted)
            await self._tell_open("cancel", self._why)
        self._let_next(number)

    @workflow.query
    def progress(self) -> str:
        """The `FleetProgress`; what the running blocks have done is theirs to say."""
        state = self._state
        total = add_up(list(state.ended.values()))
        return to_json(
            FleetProgress(
                total=state.servers,
                blocks=state.blocks,
                arrived=len(state.started) + len(self._incoming),
                ended=len(state.ended),
                running=tuple(number for number in state.started if number not in state.ended),
                done=total.counts,
                submitted=total.submitted,
                in_flight=total.in_flight,
                is_paused=state.is_paused,
                is_cancelled=state.is_cancelled,
                aborted=state.aborted,
                executions=state.executions,
            )
        )

    async def _carry_out_shielded(self) -> bool:
        work = asyncio.ensure_future(self._carry_out())
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                await self._stop()
        return work.result()

    async def _carry_out(self) -> bool:
        """Carry the run on; return True where it goes on as a new execution, False at its end."""
        if self._state.executions:
            await self._catch_up()
        while len(self._state.ended) < self._state.blocks:
            await workflow.wait_condition(lambda: self._has_work or self._is_long)
            if self._incoming:
                await self._start_block(*self._incoming.popitem())
            elif self._wants_to_let:
                await self._let()
            elif self._is_long:
                return True
        return False

    @property
    def _has_work(self) -> bool:
        return bool(self._incoming) or self._wants_to_let or len(self._state.ended) >= self._state.blocks

    @property
    def _wants_to_let(self) -> bool:
        """Whether a block may begin: all are there, and none was let, or the last that was has sent all."""
        state = self._state
        if len(state.started) < state.blocks or self._stops or state.current + 1 >= state.blocks:
            return False
        return state.current < 0 or self._is_asked or state.current in state.ended

    @property
    def _stops(self) -> bool:
        return self._state.is_cancelled or self._state.aborted is not None

    @property
    def _why(self) -> str:
        """Why nothing more is sent, where the run was aborted."""
        state = self._state
        return f"{state.action}: not sent, since the run was aborted: {state.aborted}" if state.aborted else ""

    @property
    def _is_long(self) -> bool:
        info = workflow.info()
        return info.is_continue_as_new_suggested() or info.get_current_history_length() > _MOST_EVENTS

    def _let_next(self, number: int) -> None:
        if number == self._state.current:
            self._is_asked = True

    async def _let(self) -> None:
        self._is_asked = False
        number = self._state.current + 1
        self._change(current=number)
        counts = add_up(list(self._state.ended.values())).counts
        if number not in self._state.ended:
            await self._tell(number, "go", to_json(counts))

    async def _catch_up(self) -> None:
        """Repeat to the block that sends what an earlier execution may have died of saying."""
        number = self._state.current
        if number >= 0 and number not in self._state.ended:
            await self._tell(number, "go", to_json(add_up(list(self._state.ended.values())).counts))

    async def _start_block(self, number: int, block: bytes) -> None:
        state, info = self._state, workflow.info()
        if number in state.started:
            return
        message = BlockInput(
            action=state.action, key=state.key, number=number, parent=info.workflow_id, options=state.options
        )
        try:
            await workflow.start_child_workflow(
                BlockWorkflow.run,
                args=[to_json(message), block],
                id=child_id(info.workflow_id, number),
                task_timeout=TASK_TIMEOUT,
                parent_close_policy=ParentClosePolicy.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=attributes_of(state.search_attribute, state.key),
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("block %d was started before, by an execution that is not this one's past", number)
        self._change(started=(*self._state.started, number))
        if self._state.is_paused:
            await self._tell(number, "pause")
        if self._stops:
            await self._tell(number, "cancel", self._why)

    async def _stop(self) -> None:
        self._change(is_cancelled=True)
        await self._tell_open("cancel", "")

    async def _tell_open(self, signal: str, *args: Any) -> None:
        for number in self._state.started:
            if number not in self._state.ended:
                await self._tell(number, signal, *args)

    async def _tell(self, number: int, signal: str, *args: Any) -> None:
        child: workflow.ExternalWorkflowHandle[Any] = workflow.get_external_workflow_handle(
            child_id(workflow.info().workflow_id, number)
        )
        try:
            await child.signal(signal, args=args)
        except FailureError as error:
            try:
                # If it has just ended by itself, its own report is there or about to be.
                await workflow.wait_condition(lambda: number in self._state.ended, timeout=_REPORT_TIMEOUT)
            except TimeoutError:
                failed = BlockSummary(failed=f"the workflow of the block cannot be reached: {error}")
                self._change(ended=self._state.ended | {number: failed})

    def _change(self, **changes: Any) -> None:
        self._state = msgspec.structs.replace(self._state, **changes)

    def _summarize(self) -> FleetSummary:
        state = self._state
        return FleetSummary(
            action=state.action,
            blocks=state.blocks,
            total=add_up(list(state.ended.values())),
            failed={number: each.failed for number, each in state.ended.items() if each.failed},
            invalid=state.invalid,
            is_cancelled=state.is_cancelled,
            aborted=state.aborted,
            began=state.began or workflow.time(),
            ended=workflow.time(),
            wave_size=state.options.wave_size,
        )
