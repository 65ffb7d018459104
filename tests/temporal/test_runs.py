"""Runs in Temporal with a worker in this process: what their users see and can do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from bms_async import BmsClient, FleetReport, InvalidRequestError, Limits, OutcomeState, StaticToken
from bms_async.journal import unpack_ids
from bms_async.temporal import (
    BlockWorkflow,
    FleetHandle,
    FleetOptions,
    FleetProgress,
    FleetWorkflow,
    activities,
    block,
    get,
    messages,
    start,
    worker,
    workflow,
)
from bms_async.testing import SimulatorProcess
from tests.support.guide import program_of
from tests.support.machine import patience
from tests.support.programs import run_program
from tests.temporal._books import batches_of, begun, histories_of, running_cloud
from tests.temporal._server import SEARCH_ATTRIBUTE, TemporalServer
from tests.temporal._worker import LIMITS, quick

SERVERS = 400


@pytest.fixture(scope="module")
def cloud() -> Iterator[SimulatorProcess]:
    with running_cloud(SERVERS, latency=(0.0, 0.0)) as running, quick():
        yield running


@pytest.fixture
async def client(temporal: TemporalServer) -> AsyncIterator[Client]:
    async with asyncio.timeout(patience(60.0)):
        yield await temporal.connect()


@pytest.fixture
def ids(cloud: SimulatorProcess) -> list[str]:
    return cloud.ids()


@pytest.fixture
def name() -> str:
    return uuid4().hex


@asynccontextmanager
async def working(client: Client, cloud: SimulatorProcess, queue: str) -> AsyncIterator[None]:
    auth = StaticToken(cloud.token)
    async with (
        BmsClient(endpoint=cloud.address, project_id=cloud.project_id, auth=auth, limits=Limits(LIMITS)) as bms,
        worker(client, bms, queue),
    ):
        yield


async def begin(
    client: Client, ids: Iterable[str], name: str, action: str = "stop", options: FleetOptions | None = None
) -> FleetHandle:
    with batches_of(20):
        return await start(client, ids, action, key=name, task_queue=name, options=options)


def states_of(report: FleetReport) -> dict[str, OutcomeState]:
    states = {outcome.server_id: outcome.state for outcome in report.outcomes}
    assert len(states) == len(report.outcomes)
    return states


async def pause_midway(client: Client, cloud: SimulatorProcess, run: FleetHandle) -> FleetProgress:
    """Pause it once something was sent, and wait until what was sent has ended."""
    while not (await run.progress()).submitted:
        continue
    await run.pause()
    while (progress := await run.progress()).in_flight or not progress.is_paused:
        continue
    return progress


async def test_a_run_is_paused_and_resumed(client: Client, cloud: SimulatorProcess, ids: list[str], name: str) -> None:
    async with working(client, cloud, name):
        run = await begin(client, ids, name, options=FleetOptions(wave_size=80))
        paused = await pause_midway(client, cloud, run)
        assert 0 < paused.done.total < paused.total == SERVERS
        assert paused == await run.progress()
        await run.resume()
        report = await run.report()
    assert states_of(report).keys() == set(ids)
    assert report.batches == SERVERS // 20
    assert not report.cancelled


@pytest.mark.parametrize("how", ["signal", "workflow"])
async def test_a_cancelled_run_skips_what_was_not_sent(
    client: Client, cloud: SimulatorProcess, ids: list[str], name: str, how: str
) -> None:
    async with working(client, cloud, name):
        run = await begin(client, ids, name, "reboot", FleetOptions(wave_size=80))
        paused = await pause_midway(client, cloud, run)
        if how == "signal":
            await run.cancel()
        else:
            await client.get_workflow_handle(run.workflow_id).cancel()
        report = await get(client, name).report()
    assert report.cancelled
    assert states_of(report).keys() == set(ids)
    assert report.by_state[OutcomeState.SKIPPED] == SERVERS - paused.submitted
    assert report.by_state[OutcomeState.SUCCEEDED] == paused.submitted


async def test_a_run_of_many_blocks_goes_on_as_new_executions(
    client: Client, cloud: SimulatorProcess, ids: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_BATCHES", 4)
    monkeypatch.setattr(workflow, "_MOST_EVENTS", 15)
    async with working(client, cloud, name):
        run = await begin(client, ids, name)
        report = await run.report()
        progress = await run.progress()
    assert progress.blocks == progress.ended == 5
    assert progress.executions > 1
    assert states_of(report).keys() == set(ids)


async def test_bounds_of_a_run_hold_over_all_of_its_blocks(
    client: Client, cloud: SimulatorProcess, ids: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the servers are missing in the cloud, which fails them."""
    monkeypatch.setattr(messages, "MAX_BATCHES", 2)
    strange = [str(uuid4()) for _ in range(100)]
    async with working(client, cloud, name):
        run = await begin(
            client, [*ids[:40], *strange, *ids[40:]], name, options=FleetOptions(abort_above=0.5, abort_sample=60)
        )
        report = await run.report()
    states = states_of(report)
    assert report.aborted
    assert states.keys() == {*ids, *strange}
    assert states[ids[-1]] is OutcomeState.SKIPPED
    assert states[ids[0]].is_success


async def test_no_more_servers_are_lost_than_may_fail_of_all_blocks(
    client: Client, cloud: SimulatorProcess, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_BATCHES", 4)
    strange = [str(uuid4()) for _ in range(20)]
    async with working(client, cloud, name):
        run = await begin(client, strange, name, options=FleetOptions(abort_above=0.1))
        report = await run.report()
    assert report.aborted
    assert report.wave_size == 2
    assert 1 <= report.by_state[OutcomeState.FAILED] <= 2
    assert report.by_state[OutcomeState.FAILED] + report.by_state[OutcomeState.SKIPPED] == 20


async def test_nothing_is_sent_before_all_ids_are_there(
    client: Client, cloud: SimulatorProcess, ids: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_BATCHES", 10)

    async def dies_after_the_first(run: FleetHandle, blocks: list[bytes]) -> None:
        await bring(run, blocks[:1])

    bring = FleetHandle.bring
    async with working(client, cloud, name):
        before = await anyio.to_thread.run_sync(cloud.arrived, "servers.stop")
        with monkeypatch.context() as dying:
            dying.setattr(FleetHandle, "bring", dies_after_the_first)
            run = await begin(client, ids, name)
        while (await run.progress()).running != (0,):
            continue
        assert await anyio.to_thread.run_sync(cloud.arrived, "servers.stop") == before
        run = await begin(client, ids, name)
        assert states_of(await run.report()).keys() == set(ids)


async def test_the_same_key_is_the_same_run_also_after_its_end(
    client: Client, cloud: SimulatorProcess, ids: list[str], name: str
) -> None:
    async with working(client, cloud, name):
        run = await begin(client, ids[:40], name)
        with pytest.raises(InvalidRequestError, match="another run"):
            await begin(client, ids[:41], name)
        with pytest.raises(InvalidRequestError, match="another run"):
            await begin(client, ids[:40], name, "reboot")
        first = await run.report()
        again = await (await begin(client, reversed(ids[:40]), name)).report()
        assert states_of(again) == states_of(first)
        assert again.started == first.started
        query = f"{SEARCH_ATTRIBUTE} = '{name}'"
        # They are found some time after they were started.
        while {each.id async for each in client.list_workflows(query)} != {run.workflow_id, f"{run.workflow_id}/0"}:
            continue


async def test_an_entry_that_is_no_id_has_its_outcome(
    client: Client, cloud: SimulatorProcess, ids: list[str], name: str
) -> None:
    async with working(client, cloud, name):
        report = await (await begin(client, ["no id", ids[0]], name)).report()
    assert states_of(report)["no id"] is OutcomeState.SKIPPED
    assert states_of(report)[ids[0]].is_success


@pytest.mark.parametrize("is_guarded", [True, False])
async def test_a_workflow_that_was_reset_reboots_nothing(
    client: Client,
    cloud: SimulatorProcess,
    ids: list[str],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    is_guarded: bool,
) -> None:
    """And without the guard, Temporal has it rebooted twice."""
    if not is_guarded:
        monkeypatch.setattr(activities, "_was_reset", lambda request: False)
    before = await anyio.to_thread.run_sync(begun, cloud, "reboot")
    async with working(client, cloud, name):
        run = await begin(client, ids[:3], name, "reboot")
        assert (await run.report()).by_state[OutcomeState.SUCCEEDED] == 3
        await client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=f"{run.workflow_id}/0"),
                workflow_task_finish_event_id=4,
                request_id=name,
            )
        )
        report = await run.report()
    times = Counter(await anyio.to_thread.run_sync(begun, cloud, "reboot"))
    times.subtract(before)
    assert {times[server] for server in ids[:3]} == {1 if is_guarded else 2}
    assert report.by_state[OutcomeState.UNKNOWN] == (3 if is_guarded else 0)


async def test_histories_are_replayed_and_other_code_is_noticed(
    client: Client, cloud: SimulatorProcess, ids: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(client, cloud, name):
        run = await begin(client, ids, name, options=FleetOptions(wave_size=200))
        await pause_midway(client, cloud, run)
        await run.resume()
        await run.report()
        histories = await histories_of(client, run)
    replayer = Replayer(workflows=[FleetWorkflow, BlockWorkflow])
    for history in histories:
        await replayer.replay_workflow(history)
    monkeypatch.setattr(block, "_IN_FLIGHT", 1)
    with pytest.raises(NondeterminismError):
        await replayer.replay_workflow(histories[1])


def test_a_block_is_below_what_temporal_takes() -> None:
    ids = [str(uuid4()) for _ in range(40_000)]
    batches = [ids[at : at + 1000] for at in range(0, len(ids), 1000)]
    blocks = list(messages.pack_blocks(batches))
    assert max(map(len, blocks)) < 512_000
    found = [unpack_ids(packed) for each in blocks for packed in messages.unpack_block(each)]
    assert found == batches


def test_without_the_extra_the_error_names_it() -> None:
    program = """
import sys
sys.modules["temporalio"] = None
import bms_async.temporal
assert "start" not in dir(bms_async.temporal)
try:
    bms_async.temporal.start
except AttributeError as error:
    print(error)
"""
    told = run_program(program, {}, without=())
    assert "pip install 'bms-async[temporal]'" in told


async def test_the_programs_of_the_guide_run(
    client: Client,
    cloud: SimulatorProcess,
    ids: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def from_env() -> BmsClient:
        auth = StaticToken(cloud.token)
        return BmsClient(endpoint=cloud.address, project_id=cloud.project_id, auth=auth, limits=Limits(LIMITS))

    async def connect(_: str) -> Client:
        return client

    monkeypatch.setattr(BmsClient, "from_env", from_env)
    monkeypatch.setattr(Client, "connect", connect)
    serving = program_of("docs/guides/engines.md", "worker")
    starting = program_of("docs/guides/engines.md", "start")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(serving.main())
        await starting.main(client, ids[:20])
        task.cancel()
    assert "20 SUCCEEDED" in capsys.readouterr().out
