"""What a process can say of the slots that others use: they count down, and come back when they should."""

from __future__ import annotations

import anyio
import pytest

from bms_async import WaitTooLongError
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.messages import Terms
from tests.limits.shared._memory import MemoryStore
from tests.limits.shared._processes import LIMIT, OPERATION, Gateway, make_exchange, opened_state, process
from tests.support.virtual_clock import run_virtually


def test_slots_of_others_are_counted_from_when_they_were_first_seen() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as first, process(state) as second:
            await gateway.call_often(first, 30)
            await gateway.call(second)
            await anyio.sleep(20)
            assert second.statistics().used == 31
            assert second.snapshot()[:30] == [pytest.approx(40, abs=1.5)] * 30
            await gateway.call(second)
            assert second.statistics().used == 32
            assert second.snapshot()[:30] == [pytest.approx(40, abs=1.5)] * 30
            await anyio.sleep(42)
            assert second.statistics().used == 1
            assert first.statistics().used == 0

    run_virtually(main)


def test_what_was_read_in_the_store_is_counted_before_anything_is_asked() -> None:
    async def main() -> None:
        state = await opened_state()
        async with process(state) as limiter:
            limiter.note_others([25.0] * LIMIT)
            statistics = limiter.statistics()
            assert (statistics.used, statistics.free) == (LIMIT, 0)
            assert statistics.next_slot == pytest.approx(25)
            await anyio.sleep(25.1)
            assert limiter.statistics().free == LIMIT
            assert not state.asked

    run_virtually(main)


def test_own_slots_are_not_taken_for_those_of_others() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as limiter, anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.call_often, limiter, 90)
            for _ in range(50):
                await anyio.sleep(0.3)
                assert limiter.statistics().used <= LIMIT
            await anyio.sleep(100)
            assert limiter.statistics().used <= 40

    run_virtually(main)


def test_an_operation_that_has_not_asked_knows_that_the_account_was_closed() -> None:
    async def main() -> None:
        state = await opened_state()
        exchange, binding = make_exchange(MemoryStore(state)), LoopBinding()
        stop, get = (exchange.make_limiter(name, LIMIT, reserve=0, binding=binding) for name in (OPERATION, "jobs.get"))
        await exchange.open()
        for limiter in (stop, get):
            (await limiter.acquire()).release()
        await anyio.sleep(100)
        state.forget()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(get.acquire)
            await anyio.sleep(2)
            statistics = stop.statistics()
            assert statistics.free == 0
            assert statistics.next_slot == pytest.approx(Terms().closed - 2, abs=1)
            assert stop.estimate_wait() == pytest.approx(Terms().closed - 2, abs=1)
            with pytest.raises(WaitTooLongError):
                await stop.acquire(max_wait=60)
            tasks.cancel_scope.cancel()
        await exchange.aclose()

    run_virtually(main)
