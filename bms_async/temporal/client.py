"""Starting runs in Temporal, and holding them: from any process that has a client of Temporal, without credentials."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from datetime import UTC, datetime

import anyio.lowlevel
import msgspec
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from bms_async._threads import run_in_thread
from bms_async.errors import BmsError, FleetError, InvalidRequestError
from bms_async.fleet import FleetReport, Outcome, OutcomeState
from bms_async.fleet.frozen import FrozenDict
from bms_async.fleet.outcome import make_outcome
from bms_async.fleet.outcomes import Outcomes
from bms_async.fleet.packed import pack_outcomes, unpack_outcomes
from bms_async.fleet.plan import Intake
from bms_async.journal import digest_ids, unpack_ids
from bms_async.runs.begin import read_ids
from bms_async.runs.options import CheckedOptions, check_key
from bms_async.runs.step_records import check_action

from .messages import (
    MAX_BLOCK,
    BlockOutcomes,
    BlockSummary,
    FleetInput,
    FleetOptions,
    FleetProgress,
    FleetSummary,
    add_up,
    from_json,
    pack_blocks,
    to_json,
    unpack_block,
)
from .serving import TASK_QUEUE
from .workflow import TASK_TIMEOUT, FleetWorkflow, attributes_of, child_id

SEARCH_ATTRIBUTE = "BmsRunKey"
"""The search attribute of a run's key: register it once, by
``temporal operator search-attribute create --name BmsRunKey --type Keyword``."""

_DIGEST = "bms_async.digest"


async def start(
    client: Client,
    ids: Iterable[str] | AsyncIterable[str],
    action: str,
    *,
    key: str,
    options: FleetOptions | None = None,
    task_queue: str = TASK_QUEUE,
    search_attribute: str | None = SEARCH_ATTRIBUTE,
) -> FleetHandle:
    """Start a run, or find the one of that key: all ids are with Temporal before the first call leaves.

    If this process dies meanwhile, nothing is sent until it is called again.

    Args:
        client: The client of Temporal.
        ids: Any number of servers, from any iterable.
        action: ``start``, ``stop`` or ``reboot``.
        key: The run's name in the namespace. The same key is the same run, also after its end, for as long as Temporal
            keeps it.
        options: The options of the run.
        task_queue: The task queue of the workers that have credentials for the servers.
        search_attribute: The search attribute for the key, which must be registered; None for none.

    Raises:
        InvalidRequestError: An argument is invalid, or the key is that of another run.
        RPCError: Temporal refused; where the search attribute is not registered, it says so.
    """
    name, known = check_action(action), options or FleetOptions()
    checked = CheckedOptions(
        wave_size=known.wave_size,
        abort_above=known.abort_above,
        abort_sample=known.abort_sample,
        retry_transient=known.retry_transient,
        verify=known.verify,
    )
    checked.check(name)
    for field in ("send_timeout", "watch_timeout"):
        if not getattr(known, field) > 0:
            raise InvalidRequestError(field, getattr(known, field), "expected more than 0 seconds")
    intake, invalid = await read_ids(ids, action=name, check=True)
    wave = checked.find_wave(intake.ready)
    known = msgspec.structs.replace(known, wave_size=wave)
    checked = msgspec.structs.replace(checked, wave_size=wave)
    blocks, digest = await run_in_thread(_pack, intake, checked.batch_size)
    # To free a million at once would hold the loop.
    for _ in intake.pending.dismantle():
        await anyio.lowlevel.checkpoint()
    message = FleetInput(
        action=name,
        key=check_key(key),
        blocks=len(blocks),
        servers=intake.admitted,
        options=known,
        search_attribute=search_attribute,
        invalid=await run_in_thread(pack_outcomes, invalid) if invalid else b"",
    )
    if len(message.invalid) > MAX_BLOCK:
        raise InvalidRequestError("ids", len(invalid), "expected fewer entries that are no ids")
    handle = await _start(client, message, f"{name}:{digest}", task_queue)
    await handle.bring(blocks)
    return handle


def get(client: Client, key: str) -> FleetHandle:
    """Return the run of a key, without asking whether there is one.

    Args:
        client: The client of Temporal.
        key: The run's key.
    """
    return FleetHandle(client, check_key(key))


class FleetHandle:
    """A run in Temporal, as its users hold it.

    Args:
        client: The client of Temporal.
        key: The run's key.
    """

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self.key = key
        self.workflow_id = f"bms-fleet/{key}"
        self._workflow: WorkflowHandle[FleetWorkflow, str] = client.get_workflow_handle_for(
            FleetWorkflow.run, self.workflow_id
        )

    def __repr__(self) -> str:
        return f"<FleetHandle {self.key!r}>"

    async def pause(self) -> None:
        """Have no further batch sent until it is resumed; what was sent is watched to its end."""
        await self._workflow.signal("pause")

    async def resume(self) -> None:
        """Have its batches sent again after a pause."""
        await self._workflow.signal("resume")

    async def cancel(self) -> None:
        """Have no further batch sent: servers that were not sent are SKIPPED, and what was sent is watched to its end.

        To cancel the workflow itself, for instance on Temporal's pages, means the same.
        """
        await self._workflow.signal("cancel")

    async def progress(self) -> FleetProgress:
        """Return the progress of the run; this needs a worker that lives, which Temporal asks.

        Raises:
            RPCError: There is no such run, or no worker.
        """
        known = from_json(await self._workflow.query("progress", result_type=str), FleetProgress)
        running = [await self._ask(number) for number in known.running]
        total = add_up([BlockSummary(counts=known.done, submitted=known.submitted), *running])
        return msgspec.structs.replace(known, done=total.counts, submitted=total.submitted, in_flight=total.in_flight)

    async def outcomes(self) -> AsyncIterator[Outcome]:
        """Wait for the end of each block, and iterate over its outcomes, one for each server.

        Raises:
            WorkflowFailureError: The run was terminated.
        """
        summary = await self._result()
        for outcome in unpack_outcomes(summary.invalid) if summary.invalid else ():
            yield outcome
        for number in range(summary.blocks):
            for outcome in await self._outcomes_of(summary, number):
                yield outcome

    async def report(self) -> FleetReport:
        """Wait for the end of the run, and return its report.

        Raises:
            WorkflowFailureError: The run was terminated.
        """
        summary = await self._result()
        outcomes, by_code = Outcomes(), Counter[str]()
        by_state = dict.fromkeys(OutcomeState, 0)
        async for outcome in self.outcomes():
            outcomes.append(outcome)
            by_state[outcome.state] += 1
            if not outcome.state.is_success:
                by_code[outcome.reason] += 1
        return FleetReport(
            action=summary.action,
            outcomes=outcomes,
            by_state=FrozenDict(by_state),
            by_code=FrozenDict(by_code.most_common()),
            batches=summary.total.accepted,
            cancelled=summary.is_cancelled,
            started=datetime.fromtimestamp(summary.began, UTC),
            ended=datetime.fromtimestamp(summary.ended, UTC),
            aborted=summary.aborted,
            extra_calls=summary.total.extra_calls,
            wave_size=summary.wave_size,
        )

    async def bring(self, blocks: list[bytes]) -> None:
        """Bring the ids of the run, as `start` does; a block that is there already changes nothing.

        Args:
            blocks: The ids, packed.
        """
        for number, block in enumerate(blocks):
            try:
                await self._workflow.signal("add", args=[number, block])
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                # It has ended: then it has all of them.
                return

    async def _ask(self, number: int) -> BlockSummary:
        child = self._client.get_workflow_handle(child_id(self.workflow_id, number))
        return from_json(await child.query("progress", result_type=str), BlockSummary)

    async def _result(self) -> FleetSummary:
        return from_json(await self._workflow.result(), FleetSummary)

    async def _outcomes_of(self, summary: FleetSummary, number: int) -> list[Outcome]:
        child = self._client.get_workflow_handle(child_id(self.workflow_id, number), result_type=bytes)
        try:
            packed = await child.result()
        except WorkflowFailureError as error:
            why = summary.failed.get(number) or str(error.cause)
            return await self._unknown_outcomes(summary.action, number, why)
        return await run_in_thread(_unpack, summary.action, packed)

    async def _unknown_outcomes(self, action: str, number: int, why: str) -> list[Outcome]:
        """Return the outcomes of a block whose workflow was ended by hand."""
        child = self._client.get_workflow_handle(child_id(self.workflow_id, number))
        first = await anext(child.fetch_history_events(page_size=1))
        payloads = first.workflow_execution_started_event_attributes.input.payloads
        _, block = await self._client.data_converter.decode(payloads, [str, bytes])
        return [each for packed in unpack_block(block) for each in _unknown(action, packed, why)]


async def _start(client: Client, message: FleetInput, digest: str, task_queue: str) -> FleetHandle:
    handle = get(client, message.key)
    try:
        workflow = await client.start_workflow(
            FleetWorkflow.run,
            to_json(message),
            id=handle.workflow_id,
            task_queue=task_queue,
            task_timeout=TASK_TIMEOUT,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=attributes_of(message.search_attribute, message.key),
            memo={_DIGEST: digest},
        )
    except WorkflowAlreadyStartedError:
        workflow = client.get_workflow_handle_for(FleetWorkflow.run, handle.workflow_id)
    if await (await workflow.describe()).memo_value(_DIGEST, None, type_hint=str) != digest:
        raise InvalidRequestError(
            "key",
            message.key,
            "expected the same servers and action as before: it is another run's; take a new key",
        )
    return handle


def _pack(intake: Intake, size: int) -> tuple[list[bytes], str]:
    chunks = []
    while chunk := intake.pop_batch(size):
        chunks.append(chunk)
    blocks = list(pack_blocks(chunks))
    return blocks, digest_ids([packed for block in blocks for packed in unpack_block(block)])


def _unpack(action: str, packed: bytes) -> list[Outcome]:
    block = msgspec.msgpack.decode(packed, type=BlockOutcomes)
    outcomes = [outcome for each in block.packed for outcome in unpack_outcomes(each)]
    error = None if block.why is None else FleetError(block.why, code=None, server_ids=())
    for skipped in block.skipped:
        outcomes += [_made(server_id, OutcomeState.SKIPPED, error) for server_id in unpack_ids(skipped)]
    for lost, why in block.unknown:
        outcomes += _unknown(action, lost, why)
    return outcomes


def _unknown(action: str, packed: bytes, why: str) -> list[Outcome]:
    error = FleetError(f"{action}: nothing says what became of it: {why}", code=None, server_ids=())
    return [_made(server_id, OutcomeState.UNKNOWN, error) for server_id in unpack_ids(packed)]


def _made(server_id: str, state: OutcomeState, error: BmsError | None) -> Outcome:
    return make_outcome(server_id, state, error=error)
