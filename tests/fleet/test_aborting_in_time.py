"""A run that is to stop at a share of failures stops in time: also in a small fleet, and whatever it is asked with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bms_async import OutcomeState, Rollout, RunStarted
from bms_async.fleet import FleetRun
from bms_async.fleet import options as fleet_options
from tests.fleet._helpers import assert_one_outcome_each, states
from tests.fleet.rollout._judge import books_of
from tests.hooks._helpers import Ear, hooked
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState

Begin = Callable[[Simulated, Any, dict[str, Any]], FleetRun]


def in_batches(sim: Simulated, servers: Any, options: dict[str, Any]) -> FleetRun:
    return sim.bms.fleet.reboot(servers, **options)


def one_by_one(sim: Simulated, servers: Any, options: dict[str, Any]) -> FleetRun:
    return sim.bms.fleet.each(servers, lambda server_id: sim.bms.servers.reboot([server_id]), **options)


def natively(sim: Simulated, servers: Any, options: dict[str, Any]) -> FleetRun:
    return sim.bms.nova.fleet.reboot(servers, **options)


def in_a_rollout(sim: Simulated, servers: Any, options: dict[str, Any]) -> FleetRun:
    wave = {"wave_size": options.pop("wave_size")} if "wave_size" in options else {}
    return sim.bms.fleet.reboot(servers, rollout=Rollout(**options), **wave)


KINDS = pytest.mark.parametrize("begin", [in_batches, one_by_one, natively, in_a_rollout])


def asked(sim: Simulated) -> int:
    """How many servers the cloud was asked for, whatever came of it."""
    return len({absence.server_id for absence in books_of(sim.cloud).absences})


@KINDS
@pytest.mark.parametrize(
    ("servers", "options", "most"),
    [
        pytest.param(19, {"wave_size": 1, "abort_above": 0}, 1, id="the first failure of a rack ends it"),
        pytest.param(60, {"wave_size": 5, "abort_above": 0.02}, 5, id="one wave is all that can fail"),
        pytest.param(19, {"abort_above": 0}, 1, id="without a wave one server goes at a time"),
        pytest.param(150, {"abort_above": 0.02}, 3, id="without a wave as many go as may fail"),
    ],
)
def test_no_more_servers_are_lost_than_the_share_and_the_wave_allow(
    begin: Begin, servers: int, options: dict[str, Any], most: int
) -> None:
    async def main() -> None:
        async with simulated(servers=servers, fail_share=1.0, native_error_share=1.0, job_seconds=(5, 9)) as sim:
            report = await begin(sim, sim.ids, dict(options))
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert report.aborted
            assert 1 <= report.by_state[S.FAILED] <= most
            assert report.by_state[S.FAILED] + report.by_state[S.SKIPPED] == servers
            assert asked(sim) == report.by_state[S.FAILED]

    run_virtually(main)


@KINDS
def test_as_it_was_a_share_that_counts_from_the_twentieth_server_on_protects_no_rack(begin: Begin) -> None:
    async def main() -> None:
        async with simulated(servers=19, fail_share=1.0, native_error_share=1.0, job_seconds=(5, 9)) as sim:
            report = await begin(sim, sim.ids, {"wave_size": 1, "abort_above": 0, "abort_sample": 20})
            assert report.aborted is None
            assert report.by_state[S.FAILED] == asked(sim) == 19

    run_virtually(main)


def test_as_it_was_all_servers_are_under_way_before_the_first_one_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with simulated(servers=150, fail_share=1.0, job_seconds=(5, 9)) as sim:
            report = await sim.bms.fleet.reboot(sim.ids, abort_above=0.02)
            assert report.aborted
            assert report.by_state[S.FAILED] == 150

    monkeypatch.setattr(fleet_options, "find_wave", lambda wave_size, _above, _servers: wave_size)
    run_virtually(main)


@pytest.mark.parametrize("verify", [False, True])
def test_what_ends_in_one_poll_is_one_wave_at_most(verify: bool) -> None:
    async def main() -> None:
        async with simulated(servers=400, fail_share=1.0, job_seconds=(5, 5)) as sim:
            report = await sim.bms.fleet.stop(sim.ids, abort_above=0.1, verify=verify)
            assert report.wave_size == 40
            assert report.by_state[S.FAILED] == asked(sim) == 40
            assert sim.arrived("servers.stop") == 1

    run_virtually(main)


def test_of_a_source_that_goes_on_giving_no_more_are_under_way_than_may_fail_of_what_it_gave() -> None:
    async def main() -> None:
        given = 0
        async with simulated(servers=120, job_seconds=(3, 6)) as sim:

            async def source() -> AsyncIterator[str]:
                nonlocal given
                for server_id in sim.ids:
                    given += 1
                    yield server_id
                    await advance(1.5 if given % 10 == 0 else 0.01)

            run = sim.bms.fleet.reboot(source(), abort_above=0.1)
            while run.report is None:
                await advance(0.5)
                assert run.progress.in_flight <= max(1, given // 10)
            assert states((await run).outcomes) == {S.SUCCEEDED: 120}
            assert run.wave_size == 12

    run_virtually(main)


def test_a_list_of_pages_is_read_ahead_so_that_its_wave_is_that_of_the_whole_fleet() -> None:
    async def main() -> None:
        async with simulated(servers=2500, job_seconds=(20, 40)) as sim:
            report = await sim.bms.fleet.reboot(sim.bms.servers.list(), abort_above=0.5)
            assert states(report.outcomes) == {S.SUCCEEDED: 2500}
            assert report.wave_size == 1250
            assert report.batches <= 16
            assert report.seconds < 4 * 60

    run_virtually(main)


def test_the_wave_that_follows_is_shown_where_one_that_was_given_is() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=60) as sim:
            rolling = Rollout(abort_above=0.05, max_unavailable=30)
            twice = [*sim.ids, *map(str.upper, sim.ids), "no/such id"]
            for run, wave in (
                (sim.bms.fleet.stop(twice, abort_above=0.05), 3),
                (sim.bms.fleet.stop(sim.ids, abort_above=0.05, wave_size=9), 9),
                (sim.bms.fleet.reboot(sim.ids, rollout=rolling), 3),
                (sim.bms.fleet.stop(sim.ids, abort_above=1), None),
            ):
                await advance(1)
                assert run.wave_size == wave
                run.cancel(detach=True)
                report = await run
                assert report.wave_size == report.summary()["wave_size"] == wave
            plan = await sim.bms.fleet.plan(sim.ids, rolling, seconds_each=60)
            assert (plan.wave_size, plan.waves) == (3, 20)
        began = [(each.wave_size, each.abort_above) for each in ear.heard(RunStarted)]
        assert began == [(6, 0.05), (9, 0.05), (3, 0.05), (None, 1)]

    run_virtually(main)
