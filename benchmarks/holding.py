"""How long a fleet run holds the event loop by its own CPU, from the call that begins it until the client is closed.

The cloud is a function in the same process, on the virtual clock. Its CPU is not counted. Neither is that of the
garbage collector, which has a column of its own. Two figures are printed: the longest callback, and the longest pass of
the loop, in which many callbacks follow one another and no other task gets a turn.

``--servers 1000000`` takes some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Self

from benchmarks._report import judge, report
from bms_async import BmsClient, FleetRun, HttpRequest, StaticToken
from bms_async.wire import HttpResponse
from tests.support.virtual_clock import advance, run_virtually

MAX_HOLD = 0.025
JOB_SECONDS = 20.0


class Cloud:
    """A transport that accepts every batch, and whose jobs succeed after `JOB_SECONDS`."""

    def __init__(self) -> None:
        self.jobs: list[tuple[float, tuple[str, ...]]] = []
        self.spent = 0.0

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request."""
        await asyncio.sleep(0.05)
        begun = time.thread_time()
        body = self._act(request) if request.method == "POST" else self._show(int(request.url.rpartition("/")[2]))
        self.spent += time.thread_time() - begun
        return HttpResponse(status=200, headers=(("Content-Type", "application/json"),), body=body)

    def _act(self, request: HttpRequest) -> bytes:
        (asked,) = json.loads(request.body or b"{}").values()
        self.jobs.append((asyncio.get_running_loop().time(), tuple(server["id"] for server in asked["servers"])))
        return b'{"job_id": "%d"}' % (len(self.jobs) - 1)

    def _show(self, number: int) -> bytes:
        began, servers = self.jobs[number]
        if asyncio.get_running_loop().time() - began < JOB_SECONDS:
            return b'{"job_id": "%d", "status": "RUNNING"}' % number
        subs = ",".join(f'{{"status":"SUCCESS","entities":{{"server_id":"{each}"}}}}' for each in servers)
        return f'{{"job_id":"{number}","status":"SUCCESS","entities":{{"sub_jobs":[{subs}]}}}}'.encode()


_TIMED = ((asyncio.Handle, "_run", "callback"), (asyncio.BaseEventLoop, "_run_once", "whole"))
"""The methods that run a callback, and a pass of the loop: not public, but there is no other way to time them."""


class Watch:
    """Records the longest callback, pass of the loop and collection, while its context is entered."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._replaced: dict[str, Callable[[Any], None]] = {}
        self.callback = self.whole = self.pause = self._paused = self._paused_since = 0.0

    def __enter__(self) -> Self:
        for owner, name, what in _TIMED:
            self._replaced[name] = function = getattr(owner, name)
            setattr(owner, name, self._timed(function, what))
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, _what in _TIMED:
            setattr(owner, name, self._replaced[name])
        gc.callbacks.remove(self._note)

    def _timed(self, function: Callable[[Any], None], what: str) -> Callable[[Any], None]:
        def run(owner: object) -> None:
            before, begun = self._paused + self._cloud.spent, time.thread_time()
            function(owner)
            spent = time.thread_time() - begun - (self._paused + self._cloud.spent - before)
            setattr(self, what, max(getattr(self, what), spent))

        return run

    def _note(self, phase: str, _: object) -> None:
        if phase == "start":
            self._paused_since = time.thread_time()
        else:
            spent = time.thread_time() - self._paused_since
            self._paused += spent
            self.pause = max(self.pause, spent)


async def _to_the_end(run: FleetRun, _: BmsClient) -> None:
    async for _outcome in run:
        pass
    await run


async def _detach(run: FleetRun, _: BmsClient) -> None:
    while run.progress.submitted < _half(run):
        await advance(1)
    run.cancel(detach=True)
    await run


async def _close(run: FleetRun, bms: BmsClient) -> None:
    while run.progress.submitted < _half(run):
        await advance(1)
    await bms.aclose()
    await run


def _half(run: FleetRun) -> int:
    return (run.progress.total or sys.maxsize) // 2


ENDINGS: dict[str, Callable[[FleetRun, BmsClient], Any]] = {
    "to the end": _to_the_end,
    "detached": _detach,
    "client closed": _close,
}
"""How a run ends."""


def measure(servers: int, kind: Callable[[Iterable[str]], Any], ending: str) -> dict[str, object]:
    """Return how long a run holds the loop."""

    async def main() -> dict[str, object]:
        cloud = Cloud()
        ids = kind(f"{number:08x}-1111-4222-8333-123456789abc" for number in range(servers))
        gc.collect()
        # Objects that exist already do not count.
        gc.freeze()
        async with BmsClient(
            endpoint="http://127.0.0.1:1",
            project_id="demo",
            auth=StaticToken("a-token-of-a-benchmark"),
            transport=cloud,
        ) as bms:
            await advance(1)
            with Watch(cloud) as watch:
                begun = time.thread_time()
                run = bms.fleet.stop(ids)
                calling = time.thread_time() - begun
                await asyncio.create_task(ENDINGS[ending](run, bms))
                result = run.report
                begun = time.thread_time()
                gc.collect()
                collecting = time.thread_time() - begun
        assert result is not None
        begun = time.thread_time()
        with suppress(ExceptionGroup):
            result.raise_for_failures()
        raising = time.thread_time() - begun
        gc.unfreeze()
        return {
            "servers": servers,
            "ids": kind.__name__,
            "run": ending,
            "the call (ms)": calling * 1e3,
            "callback (ms)": watch.callback * 1e3,
            "pass (ms)": watch.whole * 1e3,
            "collector (ms)": max(watch.pause, collecting) * 1e3,
            "raise_for_failures (ms)": raising * 1e3,
        }

    return run_virtually(main)


def main() -> int:
    """Measure; return 1 if the loop was held for longer than rule R9 allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=100_000)
    parser.add_argument("--run", choices=list(ENDINGS), action="append", help="only this end of a run")
    given = parser.parse_args()
    endings = given.run or list(ENDINGS)
    rows = [
        measure(given.servers, kind, ending)
        for ending in endings
        for kind in ((list, set) if ending == endings[0] else (list,))
    ]
    report("holding", rows)
    held = ("the call (ms)", "callback (ms)", "pass (ms)", "collector (ms)")
    return judge({f"{name} under {MAX_HOLD * 1e3:g}": all(row[name] < MAX_HOLD * 1e3 for row in rows) for name in held})  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
