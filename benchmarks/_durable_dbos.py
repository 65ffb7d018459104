"""DBOS, with one workflow of three steps a batch, taken from a queue as our batches are claimed.

The steps are what we write down: that the request is about to leave, its job, and the outcomes.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache

from dbos import DBOS

from benchmarks._durable_journal import random_ids
from benchmarks._durable_process import Done, Plan, Work

QUEUE = "batches"

# What our outcomes say, as a program without our packing would return it.
Told = list[dict[str, str | int]]


@DBOS.step()
async def intend(count: int) -> int:
    """Return how many servers are about to be sent, so that it is known that they are."""
    return count


@DBOS.step()
async def send(ids: list[str]) -> str:
    """Return the job."""
    return f"job-of-{len(ids)}"


@DBOS.step()
async def watch(job: str, ids: list[str]) -> Told:  # noqa: ARG001 - a real one polls it
    """Return the outcomes."""
    return outcomes_of(tuple(ids))


@cache
def outcomes_of(ids: tuple[str, ...]) -> Told:
    """Return outcomes as a job's end makes them; made once, since their making is not what is measured."""
    now, job = datetime.now(UTC).isoformat(), secrets.token_hex(16)
    return [
        {
            "server_id": server_id,
            "state": "SUCCEEDED",
            "job_id": job,
            "sub_job_id": secrets.token_hex(16),
            "attempts": 1,
            "started": now,
            "ended": now,
        }
        for server_id in ids
    ]


@DBOS.workflow()
async def batch(ids: list[str]) -> int:
    """Carry a batch on to its end."""
    await intend(len(ids))
    return len(await watch(await send(ids), ids))


@asynccontextmanager
async def contender(plan: Plan) -> AsyncIterator[Work]:
    """Write batches down, and carry them on."""
    url = plan.url.replace("sqlite://", "sqlite:///", 1)
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "WARNING", "application_version": "1"})
    DBOS.launch()
    try:
        await DBOS.register_queue_async(QUEUE, worker_concurrency=50)
        ids = random_ids(plan.servers)

        async def carry_on(count: int) -> int:
            handles = [await DBOS.enqueue_workflow_async(QUEUE, batch, ids) for _ in range(count)]
            return sum([await handle.get_result() == plan.servers for handle in handles])

        async def work(done: Done) -> None:
            done.count = await carry_on(plan.batches)

        await carry_on(1)
        yield work
    finally:
        DBOS.destroy()
