"""What a wish costs: 10,000 of them from 10,000 tasks, beside one fleet run of the same servers.

    python -m benchmarks.wishes [--servers 10000] [--rounds 5]

The clock is virtual, and the cloud is one function, whose CPU is counted apart. The wishes of a round come at once, or
spread over two minutes; the run has all servers from the beginning. Beside the wishes stand as many tasks that wait for
something else, for whoever has 10,000 tasks pays for these in any case. The fewest calls are a thousand servers each.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable

from benchmarks._batch_cloud import PAGE, BatchCloud, id_of
from benchmarks._collector import Collector
from benchmarks._report import judge, report
from bms_async import BmsClient, Limits, Outcome, StaticToken
from tests.support.virtual_clock import run_virtually

MAX_CALLS, MAX_END, MAX_CPU = 1.1, 1.01, 1.6
SPREAD = 120.0

Way = Callable[[BmsClient, list[str]], Awaitable[None]]


async def by_run(bms: BmsClient, ids: list[str]) -> None:
    """Stop all servers by one run."""
    (await bms.fleet.stop(ids)).raise_for_failures()


async def by_wishes(bms: BmsClient, ids: list[str]) -> None:
    """Stop each server in a task of its own."""
    _check(await asyncio.gather(*(bms.power.stop(server_id) for server_id in ids)))


async def by_spread_wishes(bms: BmsClient, ids: list[str]) -> None:
    """Stop each server in a task of its own, one after the other."""

    async def stop(number: int, server_id: str) -> Outcome:
        await asyncio.sleep(SPREAD * number / len(ids))
        return await bms.power.stop(server_id)

    _check(await asyncio.gather(*(stop(number, server_id) for number, server_id in enumerate(ids))))


async def by_idle_tasks(_: BmsClient, ids: list[str]) -> None:
    """Have as many tasks wait for something else."""
    woken = asyncio.Event()

    async def wait() -> None:
        await woken.wait()

    tasks = [asyncio.ensure_future(wait()) for _ in ids]
    await asyncio.sleep(1)
    woken.set()
    await asyncio.gather(*tasks)


WAYS: dict[str, Way] = {
    "one fleet run": by_run,
    "a wish in each task": by_wishes,
    "a wish in each task, over two minutes": by_spread_wishes,
    "a task that waits": by_idle_tasks,
}


def _check(outcomes: list[Outcome]) -> None:
    if not all(outcome.state.is_success for outcome in outcomes):
        raise AssertionError("a server was not stopped")


def measure(way: Way, servers: int) -> tuple[float, int, float]:
    """Return the SDK's seconds of CPU, the power calls, and the virtual seconds until all have ended."""

    async def main(collector: Collector) -> tuple[float, int, float]:
        cloud = BatchCloud(servers, collector, fails=False)
        client = BmsClient(
            endpoint="http://localhost", project_id="p", auth=StaticToken("t" * 8), transport=cloud, limits=Limits()
        )
        async with client as bms:
            ids = [id_of(number) for number in range(servers)]
            loop = asyncio.get_running_loop()
            at, begun = loop.time(), time.thread_time()
            await way(bms, ids)
            return time.thread_time() - begun - cloud.spent, cloud.batches, loop.time() - at

    gc.collect()
    with Collector() as collector:
        return run_virtually(lambda: main(collector))


def main() -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    found: dict[str, list[tuple[float, int, float]]] = {name: [] for name in WAYS}
    # The first round imports, compiles and fills caches.
    for number in range(given.rounds + 1):
        for name, way in WAYS.items():
            figures = measure(way, given.servers)
            if number:
                found[name].append(figures)
    fewest = -(-given.servers // PAGE)

    def cpu(name: str) -> float:
        spent = statistics.median(figures[0] for figures in found[name])
        return spent / int(given.servers)

    report(
        "wishes",
        [
            {
                "how": name,
                "CPU us a server": round(1e6 * cpu(name), 1),
                "run = 1": round(cpu(name) / cpu("one fleet run"), 2),
                "calls": found[name][0][1],
                "virtual seconds": round(found[name][0][2], 2),
            }
            for name in WAYS
        ],
    )
    net = (cpu("a wish in each task") - cpu("a task that waits")) / cpu("one fleet run")
    calls, end, end_of_run = (
        found["a wish in each task"][0][1],
        *(found[name][0][2] for name in ("a wish in each task", "one fleet run")),
    )
    return judge(
        {
            f"{calls} calls, at most {MAX_CALLS:g} of the fewest, {fewest}": calls <= MAX_CALLS * fewest,
            f"ended at {end / end_of_run:.4f} of a run's end, at most {MAX_END:g}": end <= MAX_END * end_of_run,
            f"{net:.2f} of a run's CPU without the task, at most {MAX_CPU:g}": net <= MAX_CPU,
        }
    )


if __name__ == "__main__":
    raise SystemExit(main())
