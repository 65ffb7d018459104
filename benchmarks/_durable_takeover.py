"""Takeover: how long after the death of a worker's process another one has its batches."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager

import anyio

from benchmarks._durable_journal import opened, random_ids
from benchmarks._durable_process import Done, Plan, Work, let_go, started
from benchmarks._samples import PROJECT, TOKEN
from bms_async import BmsClient, HttpRequest, Runs, StaticToken
from bms_async.journal.statements import ask
from bms_async.wire import HttpResponse

ENDPOINT = "http://127.0.0.1:1"
BATCHES, SERVERS = 5, 1000
_LOOK_EVERY = 0.02
_RENEWAL = 5.0
_AT_MOST = 60.0
_OWNERS = "SELECT owner, state, count(*) FROM bms_async_batches GROUP BY owner, state"


class EndlessCloud:
    """A transport that accepts every batch, and whose jobs do not end."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request."""
        job = b'{"job_id":"%s"}' % secrets.token_hex(16).encode()
        if request.method != "POST":
            job = job[:-1] + b',"status":"RUNNING","entities":{"sub_jobs":[]}}'
        return HttpResponse(status=200, headers=(("Content-Type", "application/json"),), body=job)


@asynccontextmanager
async def contender(plan: Plan) -> AsyncIterator[Work]:
    """Be a worker; the first one begins the run, and is ready when it watches all of it."""
    async with (
        BmsClient(
            endpoint=ENDPOINT,
            project_id=PROJECT,
            auth=StaticToken(TOKEN),
            transport=EndlessCloud(),
            runs=Runs(plan.url),
        ) as bms,
        bms.runs.work(),
        opened(plan.url) as journal,
    ):
        if plan.name == "first":
            await bms.runs.stop(random_ids(BATCHES * SERVERS), detach=True)
            # What other processes write is only found by looking.
            while {state for _, state, _ in await journal.run(ask, _OWNERS, writes=False)} != {"watching"}:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_EVERY)

        async def work(_: Done) -> None:
            await anyio.sleep_forever()

        yield work


def measure(urls: Sequence[str]) -> list[float]:
    """Kill a worker in each of several journals, each at another moment between two renewals; return the seconds."""
    with ExitStack() as stack:
        pairs = []
        for url in urls:
            first = stack.enter_context(started(Plan("_durable_takeover", url, "first")))
            let_go(first)
            second = stack.enter_context(started(Plan("_durable_takeover", url, "second")))
            let_go(second)
            pairs.append((url, first))
        return asyncio.run(_kill_all(pairs))


async def _kill_all(pairs: Sequence[tuple[str, subprocess.Popen[str]]]) -> list[float]:
    delays = [number * _RENEWAL / len(pairs) for number in range(len(pairs))]
    return await asyncio.gather(*(_kill(*pair, delay) for pair, delay in zip(pairs, delays, strict=True)))


async def _kill(url: str, first: subprocess.Popen[str], delay: float) -> float:
    async with opened(url) as journal:
        ((owner, _, count),) = await journal.run(ask, _OWNERS, writes=False)
        assert count == BATCHES
        await asyncio.sleep(delay)
        first.kill()
        killed = time.perf_counter()
        async with asyncio.timeout(_AT_MOST):
            while any(each == owner for each, _, _ in await journal.run(ask, _OWNERS, writes=False)):  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_EVERY)
        return time.perf_counter() - killed
