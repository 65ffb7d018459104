"""What `bms.fleet.each` costs a server, beside a loop and a gather of the same calls, and the memory of a server.

    python -m benchmarks.each [--servers 5000] [--rounds 7] [--memory 100000]

The transport has answered before it returns, from memory, so that all that is measured is above it: a real one has the
cost of a request besides, several times that of the plain loop here. A plain loop awaits one
call after another; the gather makes a task for each server, a hundred of which get past a semaphore. Nobody is
limited. The three take turns in one process; each figure is the median of the rounds, and the ratios are of the rounds
too. Memory is what the SDK's own files have allocated at the fullest moment, while the calls take their time, and it is
counted in a run of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import bms_async
from benchmarks._above import AtOnce
from benchmarks._report import judge, report
from benchmarks._samples import PROJECT, RESPONSE_HEADERS, TOKEN
from bms_async import BmsClient, HttpResponse, Limits, StaticToken

AT_ONCE = 100
MAX_OF_GATHER, MAX_OF_LOOP = 3.6, 5.8
MAX_BYTES = 600.0
BODY = b'{"server": {"id": "11111111-1111-4222-8333-123456789abc", "name": "new"}}'
PACKAGE = Path(bms_async.__file__).parent

Call = Callable[[str], Awaitable[object]]
Way = Callable[[BmsClient, Call, list[str]], Awaitable[object]]


class Counted(AtOnce):
    """Counts the requests."""

    def __init__(self) -> None:
        super().__init__(HttpResponse(status=200, headers=RESPONSE_HEADERS, body=BODY))
        self.requests = 0

    def submit(self, request: bms_async.HttpRequest) -> object:
        """Count a request, and return it with its response."""
        self.requests += 1
        return super().submit(request)


async def by_loop(_: BmsClient, call: Call, ids: list[str]) -> None:
    """Await one call after another."""
    for server_id in ids:
        await call(server_id)


async def by_gather(_: BmsClient, call: Call, ids: list[str]) -> None:
    """Make a task for each server."""
    semaphore = asyncio.Semaphore(AT_ONCE)

    async def one(server_id: str) -> object:
        async with semaphore:
            return await call(server_id)

    await asyncio.gather(*(one(server_id) for server_id in ids))


async def by_each(bms: BmsClient, call: Call, ids: list[str]) -> None:
    """Run a fleet."""
    (await bms.fleet.each(ids, call, max_workers=AT_ONCE, keep_results=False)).raise_for_failures()


WAYS: dict[str, Way] = {"a loop": by_loop, "a semaphore and a gather": by_gather, "fleet.each": by_each}


def names(count: int) -> list[str]:
    """Return ids of servers."""
    return [f"{number:08x}-1111-4222-8333-123456789abc" for number in range(count)]


def client_over(transport: Counted) -> BmsClient:
    """Return a client without limits."""
    return BmsClient(
        endpoint="http://localhost",
        project_id=PROJECT,
        auth=StaticToken(TOKEN),
        transport=transport,
        limits=Limits.unlimited(),
    )


async def measure(servers: int, rounds: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Return the seconds of CPU a server and the calls a server, by how they were made."""
    spent: dict[str, list[float]] = {name: [] for name in WAYS}
    calls: dict[str, int] = {}
    transport, ids = Counted(), names(servers)
    async with client_over(transport) as bms:
        # The first round imports, compiles and fills caches.
        for number in range(rounds + 1):
            for name, way in WAYS.items():
                gc.collect()
                before, begun = transport.requests, time.process_time()
                await way(bms, lambda server_id: bms.servers.rename(server_id, "new"), ids)
                if number:
                    spent[name].append((time.process_time() - begun) / servers)
                    calls[name] = (transport.requests - before) // servers
    return spent, calls


async def bytes_a_server(servers: int) -> tuple[float, int]:
    """Return the SDK's bytes for each server at the fullest moment, and how many tasks there were."""
    fullest, tasks, called = 0.0, 0, 0
    every = servers // 10

    async def call(_: str) -> None:
        nonlocal fullest, tasks, called
        called += 1
        await asyncio.sleep(0)
        if called % every == 0:
            fullest = max(fullest, _of_the_sdk())
            tasks = max(tasks, len(asyncio.all_tasks()))

    ids = names(servers)
    async with client_over(Counted()) as bms:
        tracemalloc.start()
        run = await bms.fleet.each(ids, call, max_workers=AT_ONCE)
        fullest = max(fullest, _of_the_sdk())
        tracemalloc.stop()
        run.raise_for_failures()
    return fullest / servers, tasks


def _of_the_sdk() -> float:
    found = tracemalloc.take_snapshot().statistics("filename")
    return float(sum(each.size for each in found if each.traceback[0].filename.startswith(str(PACKAGE))))


def main() -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--servers", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", type=int, default=100_000, help="how many servers the memory is measured for")
    given = parser.parse_args()
    spent, calls = asyncio.run(measure(given.servers, given.rounds))
    kept, tasks = asyncio.run(bytes_a_server(given.memory))

    def ratio(name: str, to: str) -> float:
        return statistics.median(mine / other for mine, other in zip(spent[name], spent[to], strict=True))

    report(
        "each",
        [
            {
                "how": name,
                "CPU us a server": round(1e6 * statistics.median(spent[name]), 1),
                "loop = 1": round(ratio(name, "a loop"), 2),
                "gather = 1": round(ratio(name, "a semaphore and a gather"), 2),
                "calls a server": calls[name],
                "bytes a server": round(kept) if name == "fleet.each" else "-",
                "tasks": tasks if name == "fleet.each" else "-",
            }
            for name in WAYS
        ],
    )
    of_gather, of_loop = ratio("fleet.each", "a semaphore and a gather"), ratio("fleet.each", "a loop")
    return judge(
        {
            f"{of_gather:.2f} of a gather's CPU, at most {MAX_OF_GATHER:g}": of_gather <= MAX_OF_GATHER,
            f"{of_loop:.2f} of a loop's CPU, at most {MAX_OF_LOOP:g}": of_loop <= MAX_OF_LOOP,
            f"{kept:.0f} bytes a server, below {MAX_BYTES:g}": kept < MAX_BYTES,
            f"{tasks} tasks, at most {AT_ONCE + 20}": tasks <= AT_ONCE + 20,
            "one call a server": set(calls.values()) == {1},
        }
    )


if __name__ == "__main__":
    raise SystemExit(main())
