"""Workers of Temporal in processes of their own, which kill themselves at named points and are replaced.

python -m tests.temporal._worker COUNT TARGET TASK_QUEUE DIRECTORY [POINT=NTH ...]

Each point is met once among all processes with the same directory; NTH is counted in each. They run until the standard
input ends. Each is forked, since to import everything again would take longer than what is tested.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from temporalio.client import Client
from temporalio.common import RetryPolicy

from bms_async import BmsClient, Limits, Runs, SentBatch
from bms_async.fleet import proving
from bms_async.temporal import block, worker, workflow
from tests.soak.hurry import hurried

LIMITS = {
    "jobs.get": 1_000_000,
    "servers.list": 1_000_000,
    "servers.get": 1_000_000,
    "servers.start": 1_000_000,
    "servers.stop": 1_000_000,
    "servers.reboot": 1_000_000,
}
QUICK_TASK = timedelta(seconds=1)
CARELESS = "careless"
"""In the place of a point: send a reboot as often as a stop, as Temporal does by default."""


@contextmanager
def quick() -> Iterator[None]:
    """Have little patience: jobs take less than a second here, and no request is held back."""
    with hurried(), patch.object(proving, "_IDLE_TIMEOUT", 1.5):
        yield


class Points:
    """Kills this process at some point, if no process was killed there before."""

    def __init__(self, directory: Path, points: dict[str, int]) -> None:
        self._directory = directory
        self._points = points
        self._met = Counter[str]()

    def meet(self, point: str) -> None:
        self._met[point] += 1
        if self._met[point] == self._points.get(point):
            try:
                os.close(os.open(self._directory / point, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


def watched(bms: BmsClient, points: Points) -> None:
    """Have the client's steps meet the points."""
    runs: Any = bms.runs
    send, watch, settle = bms.runs.send_batch, bms.runs.watch_job, bms.runs.settle_batch

    async def send_batch(*args: Any, **options: Any) -> SentBatch:
        points.meet("before send")
        task = asyncio.ensure_future(send(*args, **options))
        points_task = asyncio.ensure_future(_later(points, "request on its way"))
        sent = await task
        await points_task
        points.meet("before answer")
        return sent

    async def _later(points: Points, point: str) -> None:
        # Some turns of the loop later the request is on its way, and its answer takes the cloud longer.
        for _ in range(3):
            await asyncio.sleep(0)
        points.meet(point)

    def ending(point: str, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def end(*args: Any, **options: Any) -> Any:
            task = asyncio.ensure_future(step(*args, **options))
            await asyncio.sleep(0.05)
            points.meet(point)
            return await task

        return end

    runs.send_batch, runs.watch_job, runs.settle_batch = (
        send_batch,
        ending("while watching", watch),
        ending("while settling", settle),
    )


async def main(target: str, queue: str, directory: Path, words: list[str]) -> None:
    if CARELESS in words:
        block._send_policy = lambda action: RetryPolicy()
        words.remove(CARELESS)
    # What a killed worker had of a workflow comes again after it.
    workflow.TASK_TIMEOUT = QUICK_TASK
    points = Points(directory, {name: int(nth) for name, _, nth in (word.partition("=") for word in words)})
    client = await Client.connect(target)
    journal = os.environ.get("TEST_RUNS")
    runs = None if journal is None else Runs(journal)
    async with BmsClient.from_env(limits=Limits(LIMITS), runs=runs) as bms:
        watched(bms, points)
        async with worker(client, bms, queue, sticky_queue_schedule_to_start_timeout=timedelta(seconds=0.5)):
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def fork(target: str, queue: str, directory: Path, words: list[str]) -> None:
    if os.fork():
        return
    with quick():
        asyncio.run(main(target, queue, directory, words))
    os._exit(0)


def keep(count: int, target: str, queue: str, directory: Path, words: list[str]) -> int:
    """Keep so many workers running, and return how the first ended that was not killed."""
    for _ in range(count):
        fork(target, queue, directory, words)
    while True:
        _, status = os.wait()
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            fork(target, queue, directory, words)
            continue
        count -= 1
        if status or not count:
            return int(status != 0)


if __name__ == "__main__":
    sys.exit(keep(int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5:]))
