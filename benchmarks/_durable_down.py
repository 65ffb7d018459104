"""Writing a run down before its first call: how long it takes, of what, and how long it holds the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from benchmarks._collector import set_aside
from benchmarks._durable_journal import random_ids
from benchmarks._durable_process import Done, Plan, Work
from benchmarks._samples import PROJECT, TOKEN
from benchmarks.holding import Watch
from bms_async import BmsClient, HttpRequest, Runs, StaticToken
from bms_async.fleet.source import IdSource
from bms_async.journal import Journal
from bms_async.runs import begin
from bms_async.wire import HttpResponse

P = ParamSpec("P")
T = TypeVar("T")


ENDPOINT = "http://127.0.0.1:1"


class NoCloud:
    """A transport that nothing is sent with."""

    spent = 0.0

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Fail: a run that is only written down makes no call."""
        raise AssertionError(request.url)


@asynccontextmanager
async def contender(plan: Plan) -> AsyncIterator[Work]:
    """Write one run down."""
    ids, cloud = random_ids(plan.batches * plan.servers), NoCloud()

    async def work(done: Done) -> None:
        _time_parts(done.notes)
        set_aside()
        ticking = asyncio.create_task(_tick(done))
        await asyncio.sleep(0.1)
        done.notes["late"] = 0.0
        began, cpu = time.perf_counter(), time.process_time()
        with Watch(cloud) as watch:
            run = await asyncio.create_task(bms.runs.stop(ids, key="all", detach=True))
            done.notes |= {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        ticking.cancel()
        done.notes |= {"callback": watch.callback, "pass": watch.whole}
        done.count = (await run.refresh()).progress.total or 0

    async with BmsClient(
        endpoint=ENDPOINT, project_id=PROJECT, auth=StaticToken(TOKEN), transport=cloud, runs=Runs(plan.url)
    ) as bms:
        yield work


async def _tick(done: Done) -> None:
    """Note by how much another task's turn was late, whatever the reason."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        done.notes["late"] = max(done.notes.get("late", 0.0), time.perf_counter() - began - 0.001)


def _time_parts(notes: dict[str, float]) -> None:
    """Have the three parts of it timed, which follow one another."""

    def timed(name: str, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        async def call(*args: P.args, **options: P.kwargs) -> T:
            began = time.perf_counter()
            try:
                return await function(*args, **options)
            finally:
                notes[name] = notes.get(name, 0.0) + time.perf_counter() - began

        return call

    IdSource.read = timed("reading", IdSource.read)  # type: ignore[method-assign,assignment]
    begin.run_in_thread = timed("packing", begin.run_in_thread)  # type: ignore[attr-defined,assignment]
    Journal.run = timed("writing", Journal.run)  # type: ignore[method-assign,assignment]
