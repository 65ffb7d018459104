"""By how much this machine is slower than an idle one, so that what takes real time may take longer on it."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import NamedTuple

# What `_work` takes on an idle machine of 2024, in seconds of CPU.
_USUAL = 0.04
_MOST = 10.0


class Measured(NamedTuple):
    """What a piece of work took here, and who else wants the cores.

    Attributes:
        cpu: Seconds of CPU that the work took.
        wall: Seconds that it took.
        load: How many others run or wait for a core.
        cores: How many there are.
    """

    cpu: float
    wall: float
    load: float
    cores: int


def slowness(measured: Measured) -> float:
    """Return how many times as long as on an idle machine work takes while the suite is on every core: 1 to 10."""
    slower = max(1.0, measured.cpu / _USUAL)
    # The load is an average that comes late, and so is believed only where it says more than the work has felt.
    shared = max(1.0, measured.wall / measured.cpu, 1 + measured.load / measured.cores)
    return min(slower * shared, _MOST)


@cache
def patience(seconds: float) -> float:
    """Return how long to wait for what takes far less than these seconds on an idle machine."""
    return seconds * slowness(measure())


@cache
def measure() -> Measured:
    """Measure the machine, once in a process."""
    wall, cpu = time.perf_counter(), time.thread_time()
    _work()
    took = max(time.thread_time() - cpu, 1e-3)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return Measured(cpu=took, wall=time.perf_counter() - wall, load=load, cores=os.cpu_count() or 1)


def _work() -> int:
    total = 0
    for number in range(600_000):
        total = (total * 31 + number) % 1_000_003
    return total
