"""What a rollout's planner costs: the CPU of a server's life in it, its longest call, and the bytes of one that waits.

A life is to be added, taken and ended; all calls but those of the ends carry up to 1000 servers. The garbage collector
is counted, and passes over the ids, which are the caller's. ``of a group`` is how many of each may be unavailable at
once. Where that is one of 100 groups or more, each server costs a turn of its group in the heap; where it is more,
servers share one. The longest call is looked for in a second life, in which each call is timed. There are no rows with
more groups than servers. ``--quick`` leaves the million out.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks._batch_cloud import id_of
from benchmarks._collector import Collector, set_aside
from benchmarks._report import judge, report
from bms_async.fleet.rollout.planner import RolloutPlanner

SERVERS = (1_000, 10_000, 100_000, 1_000_000)
GROUPS = (1, 100, 10_000)
OF_A_GROUP = (0.1, 1)
SECONDS = 300.0
MAX_SHARED, MAX_ALONE = 4.0, 7.0
MAX_CALL = 10.0
MAX_GROWTH = 1.8
MAX_BYTES = 24.0
GROUP_BYTES = 450.0


class Clock:
    """Times calls, and keeps the longest."""

    def __init__(self) -> None:
        self.longest = 0.0

    def __call__(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return what a call returns."""
        begun = time.thread_time()
        result = call(*args, **options)
        self.longest = max(self.longest, time.thread_time() - begun)
        return result


def _live(ids: list[str], groups: list[str], planner: RolloutPlanner) -> int:
    """Return how many calls there were."""
    count = len(groups)
    for number, server_id in enumerate(ids):
        planner.add(server_id, groups[number % count])
    planner.seal()
    now, calls = 0.0, 0
    while not planner.is_over:
        batches = []
        while batch := planner.take(now, 1000):
            batches.append(batch)
        calls += len(batches)
        now = now + SECONDS if batches else planner.next_time(now) or now
        for batch in batches:
            for server_id in batch:
                planner.end(server_id, now, well=True, available=True)
    return calls


def _longest_call(ids: list[str], groups: list[str], planner: RolloutPlanner) -> float:
    """Return the seconds of the longest call."""
    timed, count = Clock(), len(groups)
    for number, server_id in enumerate(ids):
        timed(planner.add, server_id, groups[number % count])
    steps = planner.sealing()
    while timed(next, steps, steps) is not steps:
        pass
    now = 0.0
    while not planner.is_over:
        batches = []
        while batch := timed(planner.take, now, 1000):
            batches.append(batch)
        now = now + SECONDS if batches else timed(planner.next_time, now) or now
        for batch in batches:
            for server_id in batch:
                timed(planner.end, server_id, now, well=True, available=True)
    return timed.longest


def _waiting_bytes(ids: list[str], groups: list[str], planner: RolloutPlanner) -> int:
    """Return how much memory a planner takes in which all servers wait."""
    tracemalloc.start()
    for number, server_id in enumerate(ids):
        planner.add(server_id, groups[number % len(groups)])
    planner.seal()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken


def measure(servers: int, groups: int, of_a_group: float) -> dict[str, Any]:
    """Return what a planner of so many servers costs."""
    ids = [id_of(number) for number in range(servers)]
    names = [f"rack-{number}" for number in range(groups)]
    with Collector() as collector:
        set_aside()
        begun, collected = time.thread_time(), collector.spent
        planner = RolloutPlanner(max_unavailable=of_a_group)
        calls = _live(ids, names, planner)
        spent = time.thread_time() - begun
        collected = collector.spent - collected
        begun = time.thread_time()
        del planner
        dropping = time.thread_time() - begun
        longest = _longest_call(ids, names, RolloutPlanner(max_unavailable=of_a_group))
    return {
        "servers": servers,
        "groups": groups,
        "of a group": "10 %" if isinstance(of_a_group, float) else of_a_group,
        "calls": calls,
        "CPU a server (µs)": spent / servers * 1e6,
        "collector (%)": 100 * collected / spent,
        "longest call (ms)": longest * 1e3,
        "dropping it (ms)": dropping * 1e3,
        "bytes a waiting server": _waiting_bytes(ids, names, RolloutPlanner(max_unavailable=of_a_group)) / servers,
    }


def main() -> int:
    """Measure; return 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the million")
    sizes = SERVERS[:-1] if parser.parse_args().quick else SERVERS
    rows = [
        measure(servers, groups, of_a_group)
        for of_a_group in OF_A_GROUP
        for groups in GROUPS
        for servers in sizes
        if groups <= servers and (isinstance(of_a_group, float) or servers <= groups * 1000)
    ]
    report("rollouts", rows)
    return judge(
        {
            f"{MAX_SHARED:g} µs a server at most where several of a group go at once": _all_of(
                rows, lambda row: not _shares(row) or row["CPU a server (µs)"] <= MAX_SHARED
            ),
            f"{MAX_ALONE:g} µs where each goes alone, and is not a call of its own": _all_of(
                rows, lambda row: _shares(row) or row["groups"] == 1 or row["CPU a server (µs)"] <= MAX_ALONE
            ),
            f"the largest fleet at most {MAX_GROWTH:g} times as much as the smallest": _is_flat(rows),
            f"no call longer than {MAX_CALL:g} ms": _all_of(rows, lambda row: row["longest call (ms)"] <= MAX_CALL),
            f"{MAX_BYTES:g} bytes a waiting server beside its id, and {GROUP_BYTES:g} a group, at most": _all_of(
                rows,
                lambda row: (
                    row["bytes a waiting server"] * row["servers"]
                    <= MAX_BYTES * row["servers"] + GROUP_BYTES * row["groups"] + 50_000
                ),
            ),
        }
    )


def _all_of(rows: list[dict[str, Any]], holds: Callable[[dict[str, Any]], bool]) -> bool:
    return all(map(holds, rows))


def _shares(row: dict[str, Any]) -> bool:
    """Return whether several servers of each group go at once."""
    return bool(row["of a group"] == "10 %" and row["servers"] >= 20 * row["groups"])


def _is_flat(rows: list[dict[str, Any]]) -> bool:
    """Return whether a server of a large fleet costs as much as in a small one whose groups go in the same way."""
    for key in {(row["groups"], row["of a group"], _shares(row)) for row in rows}:
        costs = [row["CPU a server (µs)"] for row in rows if (row["groups"], row["of a group"], _shares(row)) == key]
        if costs[-1] > MAX_GROWTH * costs[0]:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
