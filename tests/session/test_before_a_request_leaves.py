"""What is awaited before each request of a call leaves, such as a note of it in a journal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest

from bms_async import ForeignCodeError, JobHandle, JournalError, Lane
from bms_async.api.bms.power import REBOOT, send_power_action
from bms_async.simulator import Throttled
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import run_virtually


async def reboot(
    sim: Simulated, before_send: Callable[[], Awaitable[None]], on_send: Callable[[], None] | None = None
) -> JobHandle:
    ids, watcher = tuple(sim.ids), sim.bms._watcher
    return await send_power_action(
        sim.bms._session, watcher, REBOOT, ids, lane=Lane.BULK, before_send=before_send, on_send=on_send
    )


def test_nothing_is_sent_until_it_has_returned() -> None:
    async def main() -> None:
        async with simulated(servers=2) as sim:
            seen: list[int] = []

            async def note() -> None:
                await anyio.sleep(10)
                seen.append(sim.arrived("servers.reboot"))

            await reboot(sim, note, lambda: seen.append(-1))
            assert seen == [0, -1]
            assert sim.arrived("servers.reboot") == 1
            assert anyio.current_time() >= 10

    run_virtually(main)


def test_it_is_awaited_before_each_attempt() -> None:
    async def main() -> None:
        async with simulated(servers=2) as sim:
            sim.cloud.faults.append(lambda operation, nth, path: Throttled(retry_after=1) if nth <= 2 else None)
            noted: list[float] = []

            async def note() -> None:
                noted.append(anyio.current_time())

            await reboot(sim, note)
            assert len(noted) == sim.arrived("servers.reboot") == 3

    run_virtually(main)


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (JournalError("full"), JournalError),
        (SystemExit(1), ForeignCodeError),
        (asyncio.CancelledError(), ForeignCodeError),
    ],
    ids=["an error", "an exit", "a cancellation of something else"],
)
def test_what_it_raises_keeps_the_request_from_being_sent_and_gives_the_slot_back(
    raised: BaseException, error: type[Exception]
) -> None:
    async def main() -> None:
        async with simulated(servers=2) as sim:

            async def refuse() -> None:
                raise raised

            free = sim.bms.limits["servers.reboot"].statistics().free
            with pytest.raises(error):
                await reboot(sim, refuse)
            assert sim.arrived("servers.reboot") == 0
            assert sim.bms.limits["servers.reboot"].statistics().free == free

    run_virtually(main)
