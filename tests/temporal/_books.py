"""A cloud that many processes call, workers that are killed, and what the books of the cloud say of a run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistory

from bms_async import FleetReport, OutcomeState
from bms_async.runs import options
from bms_async.temporal import FleetHandle, client
from bms_async.temporal.messages import SEND, FleetSummary, SendRequest, from_json
from bms_async.testing import CloudSettings, SimulatorProcess
from tests.temporal._worker import LIMITS, QUICK_TASK


@contextmanager
def batches_of(servers: int) -> Iterator[None]:
    """Have a run that is started meanwhile send so many servers in a batch, and not a thousand; and be quick."""
    with patch.object(options, "MAX_BATCH_SIZE", servers), patch.object(client, "TASK_TIMEOUT", QUICK_TASK):
        yield


@contextmanager
def running_cloud(servers: int, **settings: object) -> Iterator[SimulatorProcess]:
    """A cloud without limits whose jobs are short, and that takes some time to answer."""
    chosen = {"job_seconds": (0.2, 0.6), "latency": (0.1, 0.2), "limits": LIMITS, "seed": 5} | settings
    with SimulatorProcess(CloudSettings(servers=servers, **chosen)) as cloud:  # type: ignore[arg-type]  # as they are
        yield cloud


@asynccontextmanager
async def workers(
    target: str,
    queue: str,
    cloud: SimulatorProcess,
    directory: Path,
    *words: str,
    count: int = 2,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[None]:
    """Have so many workers run; one that was killed is replaced, and none ends in another way."""
    arguments = ["-m", "tests.temporal._worker", str(count), target, queue, str(directory), *words]
    known = os.environ | dict(cloud.environment()) | dict(environment or {})
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=asyncio.subprocess.PIPE, env=known, start_new_session=True
    )
    assert process.stdin
    try:
        yield
        process.stdin.close()
        assert await process.wait() == 0, "a worker ended by an error"
    finally:
        process.stdin.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def begun(cloud: SimulatorProcess, action: str) -> Mapping[str, int]:
    """How often the cloud has begun an action, by server."""
    with urllib.request.urlopen(f"{cloud.address}/_admin/servers/work") as answer:
        return Counter(json.load(answer).get(action, {}))


def judge(cloud: SimulatorProcess, report: FleetReport, ids: Sequence[str], *, lost: set[str]) -> None:
    """Hold a report against the books: one outcome each, no reboot twice, no success that was none, no idle doubt."""
    action = report.action.removeprefix("servers.")
    states = {outcome.server_id: outcome.state for outcome in report.outcomes}
    assert len(report.outcomes) == len(states) == len(ids)
    assert states.keys() == set(ids)
    times = begun(cloud, action)
    if action == "reboot":
        assert max(times.values(), default=0) <= 1, "a server was rebooted twice"
    done = {server_id for server_id, state in states.items() if state is OutcomeState.SUCCEEDED}
    assert done <= times.keys()
    unknown = {server_id for server_id, state in states.items() if state is OutcomeState.UNKNOWN}
    assert unknown <= lost, "the answer of an unknown server was not lost"


async def histories_of(temporal: Client, run: FleetHandle) -> list[WorkflowHistory]:
    """The histories of a run and of its blocks."""
    first = temporal.get_workflow_handle(run.workflow_id, result_type=str)
    blocks = range(from_json(await first.result(), FleetSummary).blocks)
    handles = [first, *(temporal.get_workflow_handle(f"{run.workflow_id}/{number}") for number in blocks)]
    return [await handle.fetch_history() for handle in handles]


def lost_in(histories: Sequence[WorkflowHistory]) -> set[str]:
    """The servers of batches whose send ended without an answer, as Temporal has it."""
    return {server for history in histories for server in _lost_in(history.events)}


def _lost_in(events: Sequence[HistoryEvent]) -> Iterator[str]:
    scheduled = {event.event_id: event.activity_task_scheduled_event_attributes for event in events}
    for event in events:
        began = event.activity_task_timed_out_event_attributes.scheduled_event_id
        if began and scheduled[began].activity_type.name == SEND:
            request = from_json(json.loads(scheduled[began].input.payloads[0].data), SendRequest)
            yield from (server for batch in request.batches for server in batch.ids)
