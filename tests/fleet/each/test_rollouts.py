"""A fleet may be walked through by any call: canaries, groups, readiness, pauses and windows hold for `each` too."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from bms_async import GroupBlockedError, NotReadyError, Rollout, Window
from bms_async.fleet.clock import wall_clock
from tests.fleet._helpers import assert_one_outcome_each, refusal, states
from tests.fleet.each._rename import S, reboot, rename
from tests.fleet.rollout._judge import books_of, judge, racks
from tests.fleet.rollout._runs import well
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually


def test_a_rack_at_a_time_is_restarted_after_the_canaries() -> None:
    async def main() -> None:
        async with simulated(servers=24, rack_size=4, job_seconds=(20, 40), boot_seconds=(5, 20)) as sim:
            rollout = Rollout(canary=3, group_by="tag:rack", max_unavailable=1, ready=well(sim), settle=5)
            report = await sim.bms.fleet.each(sim.ids, reboot(sim.bms), rollout=rollout)
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.SUCCEEDED: 24}
            judge(books_of(sim.cloud), group_of=racks(sim.cloud), allowed=1, canaries=sim.ids[:3], settle=5)

    run_virtually(main)


def test_a_server_that_is_never_back_fails_and_blocks_its_rack() -> None:
    async def main() -> None:
        async with simulated(servers=8, rack_size=4, job_seconds=(5, 9), boot_seconds=(1, 2)) as sim:
            sim.cloud.availability.never_back.add(sim.ids[1])
            rollout = Rollout(group_by="tag:rack", max_unavailable=1, ready=well(sim), ready_timeout=60)
            report = await sim.bms.fleet.each(sim.ids, reboot(sim.bms), rollout=rollout)
            assert states(report.outcomes) == {S.SUCCEEDED: 5, S.FAILED: 1, S.SKIPPED: 2}
            errors = {outcome.state: type(outcome.error) for outcome in report.outcomes}
            assert (errors[S.FAILED], errors[S.SKIPPED]) == (NotReadyError, GroupBlockedError)

    run_virtually(main)


def test_a_server_whose_call_was_refused_takes_no_room_of_its_rack() -> None:
    async def main() -> None:
        async with simulated(servers=4, rack_size=4) as sim:
            sim.cloud.faults.append(refusal("BMS.0018", "servers.rename"))
            rollout = Rollout(group_by="tag:rack", max_unavailable=1)
            report = await sim.bms.fleet.each(sim.ids, rename(sim.bms), rollout=rollout)
            assert states(report.outcomes) == {S.FAILED: 4}

    run_virtually(main)


@pytest.mark.parametrize("reboots", [False, True])
def test_a_server_whose_function_raised_takes_room_unless_it_is_found_well(reboots: bool) -> None:
    async def main() -> None:
        async with simulated(servers=4, rack_size=4, job_seconds=(5, 5)) as sim:

            async def call(server_id: str) -> None:
                if reboots:
                    await sim.bms.servers.reboot([server_id])
                raise ValueError(server_id)

            rollout = Rollout(group_by="tag:rack", max_unavailable=1)
            report = await sim.bms.fleet.each(sim.ids, call, rollout=rollout)
            assert states(report.outcomes) == {S.FAILED: 1, S.SKIPPED: 3}
            begun = anyio.current_time()
            rollout = Rollout(group_by="tag:rack", max_unavailable=1, ready=well(sim))
            report = await sim.bms.fleet.each(sim.ids, call, rollout=rollout)
            assert states(report.outcomes) == {S.FAILED: 4}
            if reboots:
                judge(books_of(sim.cloud).between(begun, 1e9), group_of=racks(sim.cloud), allowed=1)

    run_virtually(main)


def test_a_canary_that_failed_ends_the_run() -> None:
    async def main() -> None:
        async with simulated(servers=50) as sim:

            async def call(server_id: str) -> None:
                if server_id == sim.ids[1]:
                    raise ValueError(server_id)

            report = await sim.bms.fleet.each(sim.ids, call, rollout=Rollout(canary=3))
            assert report.aborted == f"canary {sim.ids[1]} is FAILED"
            assert states(report.outcomes)[S.SKIPPED] >= 47

    run_virtually(main)


@pytest.mark.parametrize("reads_first", [False, True])
def test_a_call_that_waits_for_its_slot_is_not_sent_while_paused_and_its_server_goes_on_later(
    reads_first: bool,
) -> None:
    async def main() -> None:
        async with simulated(servers=250) as sim:

            async def call(server_id: str) -> str:
                if reads_first:
                    await sim.bms.servers.get(server_id)
                await sim.bms.servers.rename(server_id, "new")
                return "renamed"

            run = sim.bms.fleet.each(sim.ids, call)
            await advance(10)
            assert run.progress.done == 99
            run.pause()
            await advance(1000)
            assert (run.progress.done, sim.arrived("servers.rename")) == (99, 99)
            assert (run.progress.submitted, run.progress.in_flight) == (99, 0)
            assert run.progress.waits_for == "the run is paused"
            run.resume()
            report = await run
            assert states(report.outcomes) == {S.SUCCEEDED: 250}
            assert sim.arrived("servers.rename") == 250
            assert {(outcome.attempts, outcome.result) for outcome in report.outcomes} == {(1, "renamed")}

    run_virtually(main)


def test_a_function_that_swallows_being_held_up_has_its_server_called_again_and_nothing_is_done_twice() -> None:
    async def main() -> None:
        async with simulated(servers=2, job_seconds=(5, 5)) as sim:
            begun = asyncio.Event()
            calls = 0

            async def call(server_id: str) -> object:
                nonlocal calls
                calls += 1
                begun.set()
                await asyncio.sleep(5)
                while True:
                    try:
                        return await sim.bms.servers.reboot([server_id])
                    except BaseException:  # noqa: BLE001 - the worst that a function can do
                        await asyncio.sleep(1)

            run = sim.bms.fleet.each(sim.ids, call)
            await begun.wait()
            run.pause()
            await advance(30)
            assert sim.arrived("servers.reboot") == 0
            run.resume()
            report = await run
            assert states(report.outcomes) == {S.SUCCEEDED: 2}
            assert {server.reboots for server in sim.cloud.servers.values()} == {1}

    run_virtually(main)


def test_what_has_begun_is_carried_to_its_end_while_paused() -> None:
    async def main() -> None:
        async with simulated(servers=20) as sim:

            async def call(server_id: str) -> object:
                await sim.bms.servers.rename(server_id, "new")
                await asyncio.sleep(20)
                return await sim.bms.servers.rename(server_id, "newer")

            run = sim.bms.fleet.each(sim.ids, call)
            await advance(10)
            run.pause()
            await advance(100)
            assert states((await run).outcomes) == {S.SUCCEEDED: 20}

    run_virtually(main)


def test_nothing_begins_when_the_window_has_closed_and_it_goes_on_when_that_opens_again() -> None:
    async def main() -> None:
        async with simulated(servers=400) as sim:
            now = datetime.fromtimestamp(wall_clock(asyncio.get_running_loop())(), UTC)
            begin, end = now - timedelta(minutes=1), now + timedelta(minutes=2)
            window = Window(f"{begin:%H:%M}-{end:%H:%M}", zone="UTC")
            calls: list[float] = []

            async def call(server_id: str) -> None:
                await sim.bms.servers.rename(server_id, "new")
                calls.append(anyio.current_time())

            run = sim.bms.fleet.each(sim.ids, call, rollout=Rollout(window=window))
            await advance(3600)
            before = len(calls)
            assert 99 <= before <= 297
            assert run.progress.done == before == sim.arrived("servers.rename")
            report = await run
            assert states(report.outcomes) == {S.SUCCEEDED: 400}
            assert calls[before] >= 80_000

    run_virtually(main)
