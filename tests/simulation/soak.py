"""Many seeds, on all cores."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.simulation.seeds import Verdict, try_seed

_CHUNK_SIZE = 25
_TOLD_EVERY = 10.0


def soak(first: int, seeds: int, processes: int) -> int:
    """Play many seeds on several cores, and print how it goes."""
    began = told = time.monotonic()
    counts: Counter[str] = Counter()
    broken: list[Verdict] = []
    done = 0
    virtual = 0.0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin) as pool:
        waiting = [
            pool.submit(_play_some, start, min(start + _CHUNK_SIZE, first + seeds))
            for start in range(first, first + seeds, _CHUNK_SIZE)
        ]
        for each in as_completed(waiting):
            played, seconds, counted, found = each.result()
            done, virtual = done + played, virtual + seconds
            counts.update(counted)
            for verdict in found:
                print(verdict, flush=True)  # noqa: T201
            broken += found
            now = time.monotonic()
            if now - told >= _TOLD_EVERY or done == seeds:
                told = now
                rate = done / (now - began)
                print(f"{done} of {seeds} seeds, {rate:.1f} a second, {len(broken)} broke a rule", flush=True)  # noqa: T201
    elapsed = time.monotonic() - began
    print(  # noqa: T201
        f"{done} seeds from {first} on in {elapsed:.0f} s on {processes} processes ({done / elapsed:.1f} a second), "
        f"{virtual / 3600:.0f} virtual hours; {len(broken)} broke a rule"
    )
    print(", ".join(f"{what} {count}" for what, count in sorted(counts.items())))  # noqa: T201
    return int(bool(broken))


def _begin() -> None:
    warnings.simplefilter("error")


def _play_some(start: int, stop: int) -> tuple[int, float, Counter[str], list[Verdict]]:
    counts: Counter[str] = Counter()
    broken = []
    virtual = 0.0
    for seed in range(start, stop):
        verdict = try_seed(seed)
        counts.update(verdict.counts)
        virtual += verdict.seconds
        if verdict.broken:
            broken.append(verdict)
    return stop - start, virtual, counts, broken
