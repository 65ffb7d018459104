"""A run that is to stop at a share of failures stops in time: also in a small fleet, and whatever it is asked with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bms_async import OutcomeState, Rollout
from bms_async.fleet import FleetRun
from tests.fleet._helpers import assert_one_outcome_each
from tests.fleet.rollout._judge import books_of
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import run_virtually

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
