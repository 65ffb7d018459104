"""The dev server by itself: what a test of the workflows takes for granted."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import anyio
import psutil  # type: ignore[import-untyped]
from temporalio import activity, workflow
from temporalio.common import RetryPolicy, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.worker import Worker

from tests.support.machine import patience
from tests.temporal._server import SEARCH_ATTRIBUTE, TemporalServer

KEY = SearchAttributeKey.for_keyword(SEARCH_ATTRIBUTE)


@workflow.defn
class Steps:
    """Ends with what it was sent and with what its activity returned, which is made once at most."""

    def __init__(self) -> None:
        self._sent: list[str] = []

    @workflow.run
    async def run(self, steps: int) -> list[str]:
        await workflow.wait_condition(lambda: len(self._sent) == steps)
        last = await workflow.execute_activity(
            "wait_for_the_test",
            result_type=str,
            start_to_close_timeout=timedelta(minutes=2),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
        return [*self._sent, last]

    @workflow.signal
    def send(self, word: str) -> None:
        self._sent.append(word)

    @workflow.query
    def sent(self) -> list[str]:
        return self._sent


class Held:
    """An activity that has begun, and ends when a test lets it."""

    def __init__(self) -> None:
        self.began, self.may_end, self.times = asyncio.Event(), asyncio.Event(), 0

    @activity.defn
    async def wait_for_the_test(self) -> str:
        self.times += 1
        self.began.set()
        await self.may_end.wait()
        return "last"


async def kill_and_start(server: TemporalServer) -> None:
    await anyio.to_thread.run_sync(server.kill)
    await anyio.to_thread.run_sync(server.start)


async def test_a_workflow_goes_on_after_the_server_was_killed_and_started_again(
    own_temporal: TemporalServer,
) -> None:
    held, name = Held(), uuid4().hex
    client = await own_temporal.connect()
    async with (
        asyncio.timeout(patience(60.0)),
        Worker(client, task_queue=name, workflows=[Steps], activities=[held.wait_for_the_test]),
    ):
        run = await client.start_workflow(Steps.run, 2, id=name, task_queue=name)
        await run.signal(Steps.send, "before")
        # A worker's answer that the server died of hearing is asked for again only after some seconds.
        assert await run.query(Steps.sent) == ["before"]
        port = own_temporal.port
        await kill_and_start(own_temporal)
        assert own_temporal.port == port
        assert await run.query(Steps.sent) == ["before"]
        await run.signal(Steps.send, "after")
        await held.began.wait()
        await kill_and_start(own_temporal)
        held.may_end.set()
        assert await run.result() == ["before", "after", "last"]
        assert held.times == 1


async def test_a_workflow_is_found_by_the_key_of_its_run(temporal: TemporalServer) -> None:
    name = uuid4().hex
    client = await temporal.connect()
    key = TypedSearchAttributes([SearchAttributePair(KEY, name)])
    async with asyncio.timeout(patience(20.0)):
        run = await client.start_workflow(Steps.run, 1, id=f"a {name}", task_queue=name, search_attributes=key)
        # It is found some time after it was started.
        while not (found := [each.id async for each in client.list_workflows(f"{SEARCH_ATTRIBUTE} = '{name}'")]):
            continue
    assert found == [f"a {name}"]
    await run.terminate()


def test_the_server_is_there_for_this_machine_alone(temporal: TemporalServer) -> None:
    connections = psutil.Process(temporal.pid).net_connections("inet")
    assert temporal.port in {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    assert {each.laddr.ip for each in connections} == {"127.0.0.1"}
    assert {each.raddr.ip for each in connections if each.raddr} == {"127.0.0.1"}
