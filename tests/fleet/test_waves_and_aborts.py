"""Runs that keep most servers up, and runs that stop when too many fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bms_async import InvalidRequestError, OutcomeState
from bms_async.fleet import FleetRun
from tests.fleet._helpers import assert_one_outcome_each, by_state_and_code, refusal, states
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


async def busiest(sim: Simulated, run: FleetRun) -> int:
    """Return how many servers were being worked on at once at most."""
    most = 0
    while run.report is None:
        await advance(0.5)
        busy = sum(server.action is not None for server in sim.cloud.servers.values())
        most = max(most, busy)
        assert run.progress.in_flight >= busy
    return most


@pytest.mark.parametrize("wave", [1, 7, 200, 1100])
def test_a_wave_bounds_how_many_servers_are_down_at_once(wave: int) -> None:
    async def main() -> None:
        async with simulated(servers=wave * 4, job_seconds=(10, 40), latency=(0.1, 0.3)) as sim:
            run = sim.bms.fleet.reboot(sim.ids, wave_size=wave)
            most = await busiest(sim, run)
            report = await run
            assert states(report.outcomes) == {S.SUCCEEDED: wave * 4}
            assert wave * 0.6 <= most <= wave

    run_virtually(main)


def test_waves_are_refilled_in_batches_that_are_worth_a_call() -> None:
    async def main() -> None:
        async with simulated(servers=600, job_seconds=(20, 90)) as sim:
            report = await sim.bms.fleet.reboot(sim.ids, wave_size=100)
            assert states(report.outcomes) == {S.SUCCEEDED: 600}
            assert report.batches <= report.seconds / 60 * 13
            # 100 at a time, 55 s each on average: 330 s, were every server followed by another at once.
            assert report.seconds < 330 * 1.3
            assert sim.cloud.call_counts().refused == 0

    run_virtually(main)


def test_a_wave_of_servers_that_trickle_in_goes_as_it_is() -> None:
    async def main() -> None:
        async with simulated(servers=30, job_seconds=(5, 10)) as sim:

            async def source() -> AsyncIterator[str]:
                for number, server_id in enumerate(sim.ids):
                    yield server_id
                    await advance(5 if number % 10 == 9 else 0.1)

            run = sim.bms.fleet.stop(source(), wave_size=8)
            assert await busiest(sim, run) <= 8
            assert states((await run).outcomes) == {S.SUCCEEDED: 30}

    run_virtually(main)


def test_a_run_is_aborted_when_more_than_the_share_fails_and_says_why() -> None:
    async def main() -> None:
        async with simulated(servers=2000, fail_share=0.2, job_seconds=(10, 20)) as sim:
            report = await sim.bms.fleet.stop(sim.ids, wave_size=200, abort_above=0.1)
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert report.aborted
            assert "more than 10%" in report.aborted
            assert not report.cancelled
            assert report.by_state[S.SKIPPED] >= 1000
            assert report.by_state[S.UNKNOWN] == 0
            ended = report.by_state[S.SUCCEEDED] + report.by_state[S.FAILED]
            assert 20 <= ended <= 1000
            assert sum(server.stops for server in sim.cloud.servers.values()) == report.by_state[S.SUCCEEDED]
            assert " aborted " in repr(report)
            with pytest.raises(ExceptionGroup, match="which is more than"):
                report.raise_for_failures()

    run_virtually(main)


def test_a_sample_tolerates_the_first_failures_and_a_share_that_is_kept_aborts_nothing() -> None:
    async def main() -> None:
        async with simulated(servers=19, fail_share=0.2) as sim:
            report = await sim.bms.fleet.stop(sim.ids, wave_size=2, abort_above=0.02, abort_sample=20)
            assert report.aborted is None
            report = await sim.bms.fleet.reboot(sim.ids, wave_size=2, abort_above=0.02)
            assert report.aborted
        async with simulated(servers=1000, fail_share=0.02, seed=1, job_seconds=(10, 20)) as sim:
            report = await sim.bms.fleet.stop(sim.ids, wave_size=100, abort_above=0.5)
            assert report.aborted is None
            assert report.by_state[S.SKIPPED] == 0

    run_virtually(main)


def test_a_run_without_end_is_aborted_before_its_source_has_told_all() -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            sim.cloud.faults.append(refusal("BMS.0005", "servers.stop"))
            closed = False

            async def source() -> AsyncIterator[str]:
                nonlocal closed
                number = 0
                try:
                    while True:
                        number += 1
                        yield f"no-such-{number}"
                finally:
                    closed = True

            async with asyncio.timeout(3600):
                report = await sim.bms.fleet.stop(source(), abort_above=0.0)
            assert report.aborted
            assert set(by_state_and_code(report.outcomes)) == {("FAILED", "BMS.0005"), ("SKIPPED", None)}
            assert sim.arrived("servers.stop") <= 2
            await advance(1)
            assert closed

    run_virtually(main)


@pytest.mark.parametrize(
    "options",
    [
        {"wave_size": 0},
        {"wave_size": 1.5},
        {"wave_size": True},
        {"abort_above": -0.1},
        {"abort_above": 2},
        {"abort_above": float("nan")},
        {"abort_above": "0.1"},
        {"abort_above": True},
        {"abort_sample": 0},
        {"retry_transient": 1},
        {"verify": "yes"},
        {"on_outcome": 7},
        {"on_job": "print"},
        {"jobs": 7},
        {"jobs": ["a"]},
        {"lane": "fast"},
    ],
)
def test_what_no_run_can_be_carried_out_by_is_refused_at_once(options: dict[str, Any]) -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            (name,) = options
            with pytest.raises(InvalidRequestError, match=f"{name}="):
                sim.bms.fleet.stop(sim.ids, **options)
            assert sim.arrived("servers.stop") == 0

    run_virtually(main)
