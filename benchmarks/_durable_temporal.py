"""Temporal, with two activities a batch in workflows of a hundred batches, beside its dev server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks._durable_process import Done, Plan, Work

QUEUE = "batches"
A_WORKFLOW = 100
_WITHIN = timedelta(minutes=1)


@activity.defn
async def send(number: int) -> str:
    """Return the job."""
    return f"job-{number}"


@activity.defn
async def watch(job: str) -> str:  # noqa: ARG001 - a real one polls it
    """Return the end."""
    return "SUCCEEDED"


@workflow.defn(sandboxed=False)
class Batches:
    """Carries batches on, one after another."""

    @workflow.run
    async def run(self, count: int) -> int:
        """Return how many succeeded."""
        ended = 0
        for number in range(count):
            job = await workflow.execute_activity(send, number, start_to_close_timeout=_WITHIN)
            ended += await workflow.execute_activity(watch, job, start_to_close_timeout=_WITHIN) == "SUCCEEDED"
        return ended


@asynccontextmanager
async def contender(plan: Plan) -> AsyncIterator[Work]:
    """Be the worker, and who begins the workflows."""
    client = await Client.connect(plan.url)
    async with Worker(client, task_queue=QUEUE, workflows=[Batches], activities=[send, watch]):

        async def carry_on(name: str, count: int) -> int:
            return await client.execute_workflow(Batches.run, count, id=name, task_queue=QUEUE)

        async def work(done: Done) -> None:
            starts = range(0, plan.batches, A_WORKFLOW)
            counts = [min(A_WORKFLOW, plan.batches - start) for start in starts]
            done.count = sum(await asyncio.gather(*(carry_on(str(at), count) for at, count in enumerate(counts))))

        await carry_on("first", 1)
        yield work
