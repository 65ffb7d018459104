"""What the garbage collector takes of a run: how long it is at work, and how many objects it has to visit."""

from __future__ import annotations

import gc
import time
from typing import Self


class Collector:
    """Times the passes of the garbage collector, on this thread's CPU clock, while its context is entered.

    Attributes:
        spent: Seconds in all.
        longest: Seconds of the longest pass.
        passes: How many there were of each generation.
    """

    def __init__(self) -> None:
        self.spent = self.longest = self._began = 0.0
        self.passes = [0, 0, 0]

    def __enter__(self) -> Self:
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
            return
        spent = time.thread_time() - self._began
        self.spent += spent
        self.longest = max(self.longest, spent)
        self.passes[about["generation"]] += 1


def set_aside() -> None:
    """Have the collector pass over all objects that exist now: they are not the ones to be measured."""
    gc.collect()
    gc.freeze()


def tracked() -> int:
    """Return how many objects the collector may visit, without those that were set aside."""
    return len(gc.get_objects())
