"""A hundred thousand servers on the virtual clock: as fast as the limit, and never faster."""

from __future__ import annotations

import pytest
from aiolimiter import AsyncLimiter

from bms_async import FleetReport, Lane, OutcomeState
from bms_async.limits import Slot, WindowLimiter
from bms_async.simulator import OperationCounts
from tests.support.clouds import simulated
from tests.support.virtual_clock import run_virtually

SERVERS = 100_000
BATCHES = 100
LIMIT = 50
DICTATED = (BATCHES / LIMIT - 1) * 60.0
"""Seconds until the last batch may go: fifty at once, and fifty more a minute later."""


class LeakyBucket(WindowLimiter):
    """What a user would write in an afternoon, in the place of the limiter."""

    def __init__(self) -> None:
        super().__init__("servers.stop", None)
        self.bucket = AsyncLimiter(LIMIT, 60)

    async def acquire(self, lane: Lane = Lane.INTERACTIVE, *, max_wait: float | None = None) -> Slot:
        await self.bucket.acquire()
        return await super().acquire(lane, max_wait=max_wait)


def stop_everything(throttle: str, *, limiter: WindowLimiter | None = None) -> tuple[FleetReport, OperationCounts, int]:
    async def main() -> tuple[FleetReport, OperationCounts, int]:
        async with simulated(servers=SERVERS, seed=7, throttle=throttle, latency=(0.02, 0.3), job_seconds=(2, 8)) as (
            bms,
            cloud,
        ):
            if limiter is not None:
                bms.limits._limiters["servers.stop"] = limiter
            report = await bms.fleet.stop(list(cloud.servers))
            await cloud.settle()
            tracker = cloud.call_counts()
            return report, tracker.operations["servers.stop"], tracker.refused

    return run_virtually(main)


@pytest.mark.parametrize("throttle", ["fixed", "sliding", "bucket"])
def test_r1_no_call_is_refused_and_the_last_batch_goes_when_the_limit_dictates(throttle: str) -> None:
    report, book, refused = stop_everything(throttle)
    assert refused == 0
    assert book.arrived == BATCHES
    assert book.worst_minute <= LIMIT
    assert book.last is not None
    assert DICTATED <= book.last <= DICTATED * 1.01
    assert report.by_state[OutcomeState.SUCCEEDED] == SERVERS
    assert len({outcome.server_id for outcome in report.outcomes}) == len(report) == SERVERS


def test_a_leaky_bucket_in_the_limiters_place_is_refused_so_the_test_above_can_fail() -> None:
    _, book, refused = stop_everything("sliding", limiter=LeakyBucket())
    assert refused > 0
    assert book.worst_minute > LIMIT
