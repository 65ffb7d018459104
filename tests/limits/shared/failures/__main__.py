"""One run at full size: real minutes, four processes of 40 calls each at 50 a minute, on a real Valkey.

python -m tests.limits.shared.failures              a process stands still, and the store loses all; `make soak-limits`
python -m tests.limits.shared.failures --fault-free nothing fails
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Sequence

from bms_async.limits.shared.messages import Terms
from tests.limits.shared._servers import Server, find_programs, running
from tests.limits.shared.failures._stage import Scenario, Stage, play
from tests.limits.shared.failures._worker import Part
from tests.support.nursery import nursery

_TERMS = Terms()
_LIMIT = 50
_EACH = 40

_STOPPED_AT, _STOPPED_FOR = 30.0, 40.0
_KILLED_AT = 150.0
"""Seconds since the account was opened."""


class _Soak:
    def __init__(self, server: Server, *, is_fault_free: bool) -> None:
        self._server, self._is_fault_free = server, is_fault_free
        self.last = 0.0
        # What no rule could do better than, with the account open at first.
        self.bound = (math.ceil(4 * _EACH / _LIMIT) - 1) * _TERMS.window

    async def play(self, stage: Stage) -> None:
        workers = await stage.begin_four(self._server.url, calls=_EACH, callers=_EACH)
        began = time.monotonic()
        if not self._is_fault_free:
            await asyncio.sleep(_STOPPED_AT)
            # One may have had all its calls from the first minute.
            stopped = next(worker for worker in workers if not worker.is_over)
            stopped.stop()
            await asyncio.sleep(_STOPPED_FOR)
            await stopped.resume()
            await asyncio.sleep(began + _KILLED_AT - time.monotonic())
            await asyncio.to_thread(self._server.kill)
            await asyncio.to_thread(self._server.start)
            left = 4 * _EACH - stage.gateway.arrivals
            self.bound = time.monotonic() - began + _TERMS.closed + (math.ceil(left / _LIMIT) - 1) * _TERMS.window
        await stage.until_over()
        self.last = stage.gateway.last - began


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, and print what came of it; 1 if a call was refused or the run did not come to its end."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.limits.shared.failures", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--fault-free", action="store_true", help="nothing fails")
    given = parser.parse_args(arguments)
    with nursery(Part) as begun, running(find_programs()["valkey"]) as server:
        soak = _Soak(server, is_fault_free=given.fault_free)
        outcome = asyncio.run(play(Scenario(play=soak.play, terms=_TERMS, limit=_LIMIT, bound=900.0), begun))
    what = "fault-free" if given.fault_free else "with faults"
    print(  # noqa: T201
        f"{what}: {outcome.answered} calls answered, {outcome.refused} refused, "
        f"busiest window {outcome.busiest} of {_LIMIT}, last call after {soak.last:.2f} s, bound {soak.bound:.2f} s, "
        f"ratio {soak.last / soak.bound:.4f}; {outcome.error or 'all came to their end'}",
        flush=True,
    )
    return int(bool(outcome.error or outcome.refused))


if __name__ == "__main__":
    sys.exit(main())
