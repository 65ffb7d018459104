"""Runs a program on a clock that goes fast, so that its minutes of patience are seconds. Its sockets are real.

python tests/examples/_hurried_service.py TIMES PROGRAM [ARGUMENT...]
"""

from __future__ import annotations

import asyncio
import asyncio.events
import contextlib
import runpy
import selectors
import sys

import aiolimiter  # noqa: F401 - a client would import it in a thread, which takes too long on such a clock

with contextlib.suppress(ImportError):
    import httptools  # noqa: F401 - likewise

TIMES = float(sys.argv[1])


class Selector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events: list[tuple[selectors.SelectorKey, int]] = super().select(timeout and timeout / TIMES)
        return events


class HurriedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(Selector())

    def time(self) -> float:
        return super().time() * TIMES


if __name__ == "__main__":
    # What `asyncio.run` asks for a loop; a policy would be on its way out.
    asyncio.events.new_event_loop = HurriedLoop
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")
