"""How long a fleet run holds the event loop by its own CPU, and what the garbage collector takes of it.

From the call that begins the run until the client is closed, on the virtual clock. The cloud is a function in the same
process; its CPU, its objects and its bytes are not counted. The garbage collector is: it is started by what the SDK
allocates, and it visits what the SDK keeps. Each row is a process of its own.

``callback`` and ``pass`` are the longest callback, and the longest pass of the loop, in which many callbacks follow one
another and no other task gets a turn. ``dropping`` is the time that it takes to free the run, and then its report, when
the last reference goes. ``late`` is how much later than the limit dictates the last batch came. Tracked objects are
those that the collector may visit: at most at any time, and at the end, with the run and its report kept.

``--servers 1000000`` takes some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypedDict

from benchmarks._batch_cloud import BatchCloud, id_of
from benchmarks._collector import Collector, set_aside, tracked
from benchmarks._report import judge, report
from benchmarks._samples import TOKEN
from bms_async import BmsClient, FleetRun, OutcomeState, StaticToken
from tests.support.virtual_clock import advance, run_virtually

BATCH = 1000
LIMIT = 50
MILLION = 1_000_000
MAX_HOLD = 0.025
MAX_TRACKED = 0.02
MAX_COLLECTOR = 3.0
MAX_LATE = 0.4
MAX_BYTES = 600
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SAMPLE_EVERY = 5.0
"""Virtual seconds between two counts of the tracked objects."""

_TIMED = ((asyncio.Handle, "_run", "callback"), (asyncio.BaseEventLoop, "_run_once", "whole"))
"""The methods that run a callback, and a pass of the loop: not public, but there is no other way to time them."""


class Spending(Protocol):
    """Something whose CPU is no CPU of the SDK's.

    Attributes:
        spent: Seconds of CPU.
    """

    spent: float


class Watch:
    """Records the longest callback and pass of the loop, without the cloud's CPU, while its context is entered."""

    def __init__(self, cloud: Spending) -> None:
        self._cloud = cloud
        self._replaced: dict[str, Callable[[Any], None]] = {}
        self.callback = self.whole = 0.0

    def __enter__(self) -> Self:
        for owner, name, what in _TIMED:
            self._replaced[name] = function = getattr(owner, name)
            setattr(owner, name, self._timed(function, what))
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, _what in _TIMED:
            setattr(owner, name, self._replaced[name])

    def _timed(self, function: Callable[[Any], None], what: str) -> Callable[[Any], None]:
        def run(owner: object) -> None:
            before, begun = self._cloud.spent, time.thread_time()
            function(owner)
            spent = time.thread_time() - begun - (self._cloud.spent - before)
            setattr(self, what, max(getattr(self, what), spent))

        return run


class Options(TypedDict, total=False):
    """The options of the run that a row is about."""

    verify: bool
    total_timeout: float


class Ending(NamedTuple):
    """How a run ends.

    Attributes:
        until: Waits for its end.
        options: The options of the run.
        fails: Whether every server fails.
    """

    until: Callable[[FleetRun, BmsClient], Coroutine[Any, Any, None]]
    options: Options = Options()
    fails: bool = False


async def _to_the_end(run: FleetRun, _: BmsClient) -> None:
    async for _outcome in run:
        pass
    await run


async def _detach(run: FleetRun, _: BmsClient) -> None:
    while run.progress.submitted < _half(run):
        await advance(1)
    run.cancel(detach=True)
    await run


async def _close(run: FleetRun, bms: BmsClient) -> None:
    while run.progress.submitted < _half(run):
        await advance(1)
    await bms.aclose()
    await run


def _half(run: FleetRun) -> int:
    return (run.progress.total or sys.maxsize) // 2


ENDINGS: dict[str, Ending] = {
    "to the end": Ending(_to_the_end),
    "verified": Ending(_to_the_end, {"verify": True}),
    "timed out": Ending(_to_the_end, {"total_timeout": 61.0}),
    "detached": Ending(_detach),
    "client closed": Ending(_close),
    "all failed": Ending(_to_the_end, fails=True),
}


async def _sample(cloud: BatchCloud, counts: list[int]) -> None:
    """Count the tracked objects now and then; that is no CPU of the SDK's."""
    while True:
        await asyncio.sleep(_SAMPLE_EVERY)
        begun = time.thread_time()
        counts.append(tracked())
        cloud.spent += time.thread_time() - begun


def measure(servers: int, kind: str, ending: str) -> dict[str, Any]:
    """Return how long a run holds the loop, and what the collector takes of it."""
    how = ENDINGS[ending]

    async def main() -> dict[str, Any]:
        with Collector() as collector:
            cloud = BatchCloud(servers, collector, fails=how.fails)
            numbered = (id_of(number) for number in range(servers))
            ids: Iterable[str] = set(numbered) if kind == "set" else list(numbered)
            set_aside()
            async with BmsClient(
                endpoint="http://127.0.0.1:1",
                project_id="demo",
                auth=StaticToken(TOKEN),
                transport=cloud,
            ) as bms:
                await advance(1)
                counts = [tracked()]
                sampler = asyncio.create_task(_sample(cloud, counts))
                resident, collected, collector.longest = _resident(), collector.spent, 0.0
                begun, others = time.thread_time(), cloud.spent
                with Watch(cloud) as watch:
                    run = bms.fleet.stop(ids, **how.options)
                    calling = time.thread_time() - begun
                    await asyncio.create_task(how.until(run, bms))
                    sampler.cancel()
                    await asyncio.wait([sampler])
                spent = time.thread_time() - begun - (cloud.spent - others)
                collected = collector.spent - collected
                gc.collect()
                left = tracked()
        ended = run.report
        assert ended is not None
        sends_all = ended.by_state[OutcomeState.SKIPPED] == 0
        begun = time.thread_time()
        del run
        dropping_run = time.thread_time() - begun
        gc.collect()
        kept = _resident() - resident - cloud.held
        begun = time.thread_time()
        with suppress(ExceptionGroup):
            ended.raise_for_failures()
        raising = time.thread_time() - begun
        begun = time.thread_time()
        del ended
        dropping_report = time.thread_time() - begun
        dictated = (-(-servers // BATCH) - 1) // LIMIT * 60.0
        return {
            "servers": servers,
            "ids": kind,
            "run": ending,
            "the call (ms)": calling * 1e3,
            "callback (ms)": watch.callback * 1e3,
            "pass (ms)": watch.whole * 1e3,
            "collector (ms)": collector.longest * 1e3,
            "collector (%)": 100 * collected / spent,
            "tracked at most": (max(counts) - counts[0]) / servers,
            "tracked at the end": (left - counts[0]) / servers,
            "CPU a server (µs)": spent / servers * 1e6,
            "kept (bytes)": kept / servers,
            "late (%)": 100 * (cloud.last_batch_at - 1.0 - dictated) / dictated if sends_all and dictated else None,
            "dropping the run (ms)": dropping_run * 1e3,
            "dropping the report (ms)": dropping_report * 1e3,
            "raise_for_failures (ms)": raising * 1e3,
        }

    return run_virtually(main)


def _resident() -> int:
    """Return the bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def _in_a_process(servers: int, kind: str, ending: str) -> dict[str, Any]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, servers, kind, ending).result()


def main() -> int:
    """Measure; return 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=100_000)
    parser.add_argument("--run", choices=list(ENDINGS), action="append", help="only this end of a run")
    given = parser.parse_args()
    kinds = [("list", ending) for ending in given.run or ENDINGS]
    rows = [_in_a_process(given.servers, kind, ending) for kind, ending in (*kinds, ("set", kinds[0][1]))]
    report("holding", rows)

    def at_most(limit: float, *columns: str) -> bool:
        return all((row[column] or 0.0) <= limit for row in rows for column in columns)

    return judge(
        {
            f"the loop held for {MAX_HOLD * 1e3:g} ms at most, the collector included": at_most(
                MAX_HOLD * 1e3, "the call (ms)", "callback (ms)", "pass (ms)", "collector (ms)"
            ),
            # While a batch is in flight some sixty objects stand for it, which is much beside a small fleet only.
            f"{MAX_TRACKED:g} tracked objects a server at most": at_most(
                MAX_TRACKED, "tracked at the end", *(("tracked at most",) if given.servers >= MILLION else ())
            ),
            f"{MAX_COLLECTOR:g} % of the CPU for the collector at most": at_most(MAX_COLLECTOR, "collector (%)"),
            f"{MAX_BYTES:g} bytes a server kept at most": at_most(MAX_BYTES, "kept (bytes)"),
            f"the last batch {MAX_LATE:g} % at most later than dictated": at_most(MAX_LATE, "late (%)"),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
