"""Waiting on the virtual clock until nothing goes on any more in a cloud, in its clients, and in controllers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import anyio

from .clock import is_virtual
from .cloud import SimulatedCloud

__all__ = ["NotSettledError", "Syncing", "settled"]

_LOOKS = 10
_MIN_STEP = 0.05


class Syncing(Protocol):
    """What `settled` asks of a reconciler; a `bms_async.Reconciler` is one, and a controller of your own may be."""

    async def synced(self, *, timeout: float | None = None) -> object:
        """Wait until all is as it is wanted; `settled` passes 0, to know whether it is.

        Raises:
            TimeoutError: It is not; the text says what is not.
        """
        ...


class NotSettledError(TimeoutError):
    """Something still goes on.

    Attributes:
        reasons: What, a sentence each.
    """

    def __init__(self, within: float, reasons: tuple[str, ...]) -> None:
        self.reasons = reasons
        super().__init__(f"not settled within {within:g} s: {'; '.join(reasons)}")


async def settled(cloud: SimulatedCloud, *reconcilers: Syncing, within: float = 3600.0, quiet: float = 60.0) -> None:
    """Wait on the virtual clock until nothing goes on any more, and for some time nothing has.

    No job and no other operator is at work in the cloud, no server drifts, no client that the cloud has made is in a
    call or polls a job, and all reconcilers are synced and stay so. Calls may come and go meanwhile if they start no
    job, such as the lists of a reconciler that finds nothing to do.

    Args:
        cloud: The cloud.
        *reconcilers: The reconcilers that must be synced.
        within: Seconds of virtual time after which it gives up.
        quiet: For how many seconds it must stay so. A reconciler that looks seldom needs more: twice its `resync`.

    Raises:
        NotSettledError: Something still goes on then; the text says what.
        RuntimeError: The running loop has a real clock, on which a test would only sleep.
        ValueError: `within` or `quiet` is no length of time, or `within` is less than `quiet`.
    """
    if not is_virtual():
        raise RuntimeError(
            "settled() needs a virtual clock: run_virtually(main), or @pytest.mark.bms(virtual=True) on an async test"
        )
    if not 0 <= quiet <= within < math.inf:
        raise ValueError(f"expected 0 <= quiet <= within < infinity, got quiet={quiet!r}, within={within!r}")
    step = max(_MIN_STEP, quiet / _LOOKS)
    began = since = anyio.current_time()
    before, was_busy = _counts(cloud), False
    while True:
        reasons = [*_work(cloud), *await _unsynced(reconcilers)]
        now, counts = anyio.current_time(), _counts(cloud)
        if reasons or was_busy or counts != before:
            since = now
        before, was_busy = counts, bool(reasons)
        reasons += _calls(cloud)
        if now - since >= quiet and not reasons:
            return
        if now - began >= within:
            raise NotSettledError(within, tuple(reasons or [f"it was quiet for the last {now - since:.0f} s only"]))
        await anyio.sleep(min(step, began + within - now))


def _counts(cloud: SimulatedCloud) -> tuple[int, int]:
    return len(cloud.cloud.activity), cloud.drifted


def _work(cloud: SimulatedCloud) -> Iterator[str]:
    cloud.statuses()
    if switching := cloud.cloud.drifting.switching:
        yield f"{_count(switching, 'server is', 'servers are')} being switched by another operator"
    jobs = list(cloud.cloud.activity.under_way())
    for job in jobs[:_LOOKS]:
        standing = job.standing
        yield f"a job runs: {job.kind}, ended on {standing.ended} of {standing.total} servers"
    if len(jobs) > _LOOKS:
        yield f"{len(jobs) - _LOOKS} more jobs run"
    for client in cloud.clients:
        if polled := client.statistics().watcher.polled:
            yield f"a client polls {_count(polled, 'job', 'jobs')}"


def _calls(cloud: SimulatedCloud) -> Iterator[str]:
    for client in cloud.clients:
        if calls := client.statistics().session.open_calls:
            yield f"a client has {_count(calls, 'call', 'calls')} under way"


async def _unsynced(reconcilers: tuple[Syncing, ...]) -> list[str]:
    reasons = []
    for reconciler in reconcilers:
        try:
            await reconciler.synced(timeout=0)
        except TimeoutError as error:
            reasons.append(str(error))
    return reasons


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
