"""The time of the world round a scenario, which goes on while the machine sleeps and its loop's clock stands still."""

from __future__ import annotations

import asyncio

from tests.support.virtual_clock import VirtualClockLoop


def world_time() -> float:
    """Return the seconds since the scenario began, those included that the machine has slept."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    return loop.time() + loop.suspended
