"""`each` is as fast as the limit of the function's calls allows, with no more workers than that needs.

The bound for bulk calls: at a limit of 100 a minute the last per cent, one slot, is left to interactive calls, so that
no window of 60 s holds more than 99. So 10,000 calls need 101 whole windows after the first 99, 6,060 s, and no order
of sending them is faster. A slot comes back 60 s after the *answer*, which adds one latency to each window.
"""

from __future__ import annotations

import asyncio
from random import Random

import anyio
import pytest

from bms_async import BmsClient, HttpRequest, HttpResponse, Lane, Limits, StaticToken
from tests.fleet._helpers import states
from tests.fleet.each._rename import S, rename
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually


class Gateway:
    """A transport that answers after a while, and keeps the times at which it counted the calls."""

    def __init__(self) -> None:
        self.counted: list[float] = []
        self._random = Random(1)

    async def send(self, request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(self._random.uniform(0.025, 0.15))
        self.counted.append(anyio.current_time())
        await asyncio.sleep(self._random.uniform(0.025, 0.15))
        server_id = request.url.rpartition("/")[2]
        return HttpResponse(status=200, body=b'{"server": {"id": "%s"}}' % server_id.encode())

    @property
    def shortest_window(self) -> float:
        """The shortest time in which it counted 101 calls."""
        return min(later - sooner for sooner, later in zip(self.counted, self.counted[100:], strict=False))


@pytest.mark.parametrize(("lane", "servers", "bound"), [(Lane.BULK, 2000, 1200.0), (Lane.INTERACTIVE, 1000, 540.0)])
def test_renames_at_a_hundred_a_minute_end_within_a_per_cent_of_the_bound(
    lane: Lane, servers: int, bound: float
) -> None:
    async def main() -> None:
        gateway = Gateway()
        auth = StaticToken("token")
        async with BmsClient(endpoint="http://localhost", project_id="p", auth=auth, transport=gateway) as bms:
            ids = [f"{number:08x}-1111-4222-8333-123456789abc" for number in range(servers)]
            began = anyio.current_time()
            report = await bms.fleet.each(ids, rename(bms), lane=lane)
            assert report.by_state[S.SUCCEEDED] == len(gateway.counted) == servers
            assert sorted(outcome.server_id for outcome in report.outcomes) == ids
            assert bound <= anyio.current_time() - began <= 1.01 * bound
            assert gateway.shortest_window > 60

    run_virtually(main)


def test_a_simulated_gateway_refuses_none_of_the_calls() -> None:
    async def main() -> None:
        async with simulated(servers=400, latency=(0.05, 0.3)) as sim:
            began = anyio.current_time()
            report = await sim.bms.fleet.each(sim.ids, rename(sim.bms))
            assert states(report.outcomes) == {S.SUCCEEDED: 400}
            assert 240 <= anyio.current_time() - began <= 242.4
            books = sim.cloud.call_counts()
            assert (books.refused, books.operations["servers.rename"].arrived) == (0, 400)

    run_virtually(main)


@pytest.mark.parametrize(
    ("limit", "latency", "most"),
    [(5, 0.1, 6), (100, 0.1, 100), (100, 0.0, 3), (None, 0.2, 100), (None, 0.0, 20)],
)
def test_there_are_no_more_workers_than_the_limit_and_the_latency_need(
    limit: int | None, latency: float, most: int
) -> None:
    async def main() -> None:
        limits = Limits({"servers.rename": limit})
        wire = (latency, latency)
        async with simulated(servers=250, limits=limits, latency=wire, throttle="none") as sim:
            run = sim.bms.fleet.each(sim.ids, rename(sim.bms))
            await advance(65 * 60)
            assert states((await run).outcomes) == {S.SUCCEEDED: 250}
            assert run._work._crew.workers <= most  # type: ignore[attr-defined]

    run_virtually(main)


def test_without_a_limit_all_workers_are_busy_and_a_server_costs_the_latency_over_their_number() -> None:
    async def main() -> None:
        async with simulated(servers=500, limits=Limits.unlimited(), throttle="none", latency=(1, 1)) as sim:
            began = anyio.current_time()
            await sim.bms.fleet.each(sim.ids, rename(sim.bms), max_workers=50)
            assert 10 <= anyio.current_time() - began <= 10.1
            began = anyio.current_time()
            await sim.bms.fleet.each(sim.ids, rename(sim.bms))
            # The transport has 64 connections.
            assert 7.8 <= anyio.current_time() - began <= 8.1

    run_virtually(main)


def test_never_more_calls_are_under_way_than_there_may_be() -> None:
    async def main() -> None:
        async with simulated(servers=200) as sim:
            under_way = most = 0

            async def call(server_id: str) -> None:
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                await asyncio.sleep(1)
                under_way -= 1

            await sim.bms.fleet.each(sim.ids, call, max_workers=7)
            assert (most, under_way) == (7, 0)
            await sim.bms.fleet.each(sim.ids, call, wave_size=3)
            assert most == 7

    run_virtually(main)


def test_at_five_a_minute_each_slot_is_used_at_once_though_the_call_is_the_functions_second() -> None:
    async def main() -> None:
        async with simulated(servers=42, limits=Limits({"servers.rename": 5}), latency=(0.2, 0.2)) as sim:

            async def call(server_id: str) -> None:
                await sim.bms.servers.get(server_id)
                await sim.bms.servers.rename(server_id, "new")

            began = anyio.current_time()
            report = await sim.bms.fleet.each(sim.ids, call)
            assert states(report.outcomes) == {S.SUCCEEDED: 42}
            assert 480 <= anyio.current_time() - began <= 1.01 * 480

    run_virtually(main)


def test_a_function_whose_call_gives_up_waiting_holds_no_other_up() -> None:
    async def main() -> None:
        async with simulated(servers=300) as sim:
            hasty = sim.bms.with_options(max_wait=1)

            async def call(server_id: str) -> str:
                try:
                    await hasty.servers.rename(server_id, "new")
                except TimeoutError:
                    await asyncio.sleep(1000)
                    return "gave up"
                return "renamed"

            began = anyio.current_time()
            report = await sim.bms.fleet.each(sim.ids, call)
            assert states(report.outcomes) == {S.SUCCEEDED: 300}
            # The 201 others, a hundred at a time.
            assert anyio.current_time() - began <= 3100

    run_virtually(main)


def test_two_runs_that_share_a_limit_take_turns_and_interactive_calls_go_first() -> None:
    async def main() -> None:
        async with simulated(servers=1000, latency=(0.1, 0.1)) as sim:
            first = sim.bms.fleet.each(sim.ids[:500], rename(sim.bms))
            await advance(30)
            second = sim.bms.fleet.each(sim.ids[500:], rename(sim.bms))
            await advance(60)
            assert (first.progress.done, second.progress.done) == pytest.approx((99 + 50, 50), abs=2)
            waited = anyio.current_time()
            await sim.bms.servers.rename(sim.ids[0], "mine")
            assert anyio.current_time() - waited <= 1
            await advance(60 * 2)
            assert first.progress.done - second.progress.done == pytest.approx(99, abs=6)
            first.cancel(detach=True)
            second.cancel(detach=True)
            await first, await second

    run_virtually(main)
