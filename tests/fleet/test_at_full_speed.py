"""A hundred thousand servers on the virtual clock: as fast as the limit, and never faster.

Once it is that many, because that is what was promised; the cloud that counts in another way has a tenth of each.
"""

from __future__ import annotations

import asyncio

import pytest
from aiolimiter import AsyncLimiter

from bms_async import FleetReport, Lane, Limits, OutcomeState
from bms_async.limits import Slot, WindowLimiter
from bms_async.simulator import OperationCounts
from bms_async.simulator.core.settings import ThrottleKind
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.support.virtual_clock import run_virtually

LIMIT = 50
DICTATED = 60.0
"""Seconds until the last batch may go: half of them at once, and the others a minute later."""


class LeakyBucket(WindowLimiter):
    """What a user would write in an afternoon, in the place of the limiter."""

    def __init__(self, limit: int) -> None:
        super().__init__("servers.stop", None)
        self.bucket = AsyncLimiter(limit, 60)

    async def acquire(self, lane: Lane = Lane.INTERACTIVE, *, max_wait: float | None = None) -> Slot:
        await self.bucket.acquire()
        return await super().acquire(lane, max_wait=max_wait)


def stop_everything(
    throttle: ThrottleKind, limit: int, *, limiter: WindowLimiter | None = None
) -> tuple[FleetReport, OperationCounts, int]:
    """Stop as many servers as take two minutes' calls."""

    async def main() -> tuple[FleetReport, OperationCounts, int]:
        limits = {"servers.stop": limit}
        settings = CloudSettings(
            servers=2000 * limit, seed=7, throttle=throttle, limits=limits, latency=(0.02, 0.3), job_seconds=(2, 8)
        )
        simulator = SimulatedCloud(settings, clock=asyncio.get_running_loop().time)
        cloud = simulator.cloud
        async with simulator.client(limits=Limits(limits)) as bms:
            if limiter is not None:
                bms.limits._limiters["servers.stop"] = limiter
            report = await bms.fleet.stop(list(cloud.servers))
            await cloud.settle()
            tracker = cloud.call_counts()
            return report, tracker.operations["servers.stop"], tracker.refused

    return run_virtually(main)


@pytest.mark.parametrize(("throttle", "limit"), [("sliding", LIMIT), ("fixed", LIMIT // 10), ("bucket", LIMIT // 10)])
def test_r1_no_call_is_refused_and_the_last_batch_goes_when_the_limit_dictates(
    throttle: ThrottleKind, limit: int
) -> None:
    report, book, refused = stop_everything(throttle, limit)
    assert refused == 0
    assert book.arrived == 2 * limit
    assert book.worst_minute <= limit
    assert book.last is not None
    assert DICTATED <= book.last <= DICTATED * 1.01
    assert report.by_state[OutcomeState.SUCCEEDED] == 2000 * limit
    assert len({outcome.server_id for outcome in report.outcomes}) == len(report) == 2000 * limit


@pytest.mark.parametrize("throttle", ["sliding", "fixed", "bucket"])
def test_a_leaky_bucket_in_the_limiters_place_is_refused_so_the_test_above_can_fail(throttle: ThrottleKind) -> None:
    limit = LIMIT // 10
    _, book, refused = stop_everything(throttle, limit, limiter=LeakyBucket(limit))
    assert refused > 0
    assert book.worst_minute > limit
