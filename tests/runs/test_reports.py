"""A durable run says of its servers what a run of one process says, whatever the cloud does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bms_async import FleetReport, OutcomeState
from tests.fleet.rollout._judge import books_of

from ._virtual import Site, at_a_site

ODD = ["no-such-server", "no-such-server", "no/such id", ""]


async def plainly(site: Site, action: str, ids: list[str], options: dict[str, Any]) -> FleetReport:
    client = await site.client()
    report: FleetReport = await getattr(client.fleet, action)(ids, **options)
    return report


async def durably(site: Site, action: str, ids: list[str], options: dict[str, Any], workers: int) -> FleetReport:
    client = await site.client()
    for _ in range(workers - 1):
        await site.worker()
    run = await getattr(client.runs, action)(ids, key="the run", **options)
    report: FleetReport = await run
    return report


def told(report: FleetReport) -> tuple[object, ...]:
    states = sorted((outcome.server_id, outcome.state, outcome.code) for outcome in report.outcomes)
    return states, dict(report.by_state), dict(report.by_code), report.batches, report.aborted, report.cancelled


@pytest.mark.parametrize("action", ["stop", "reboot"])
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"fail_share": 0.2}, id="some fail"),
        pytest.param({"stopped_share": 0.3, "fail_share": 0.1, "refuse_batches": True}, id="batches are refused"),
    ],
)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_durable_run_ends_as_a_plain_one_does(
    tmp_path: Path, action: str, settings: dict[str, Any], workers: int
) -> None:
    def ends(durable: bool) -> tuple[object, ...]:
        async def main(site: Site) -> FleetReport:
            ids = [*site.ids, *ODD]
            return await (durably(site, action, ids, {}, workers) if durable else plainly(site, action, ids, {}))

        report = at_a_site(tmp_path, main, **settings)
        assert report.started <= report.ended
        return *told(report), report.extra_calls

    assert ends(durable=True) == ends(durable=False)


@pytest.mark.parametrize(
    "options", [{"verify": True}, {"wave_size": 7}, {"retry_transient": False}], ids=["verify", "wave", "no retry"]
)
def test_it_does_so_with_options_too(tmp_path: Path, options: dict[str, Any]) -> None:
    # Which servers fail is drawn as their calls come, and a wave makes other calls of them.
    settings = {"stopped_share": 0.3, "fail_share": 0.0 if "wave_size" in options else 0.2}
    plain = at_a_site(tmp_path, lambda site: plainly(site, "stop", site.ids, options), **settings)
    durable = at_a_site(tmp_path, lambda site: durably(site, "stop", site.ids, options, 2), **settings)
    assert told(durable)[:3] == told(plain)[:3]


def test_a_run_that_too_many_servers_fail_in_is_aborted_whichever_worker_saw_them(tmp_path: Path) -> None:
    options = {"abort_above": 0.1, "abort_sample": 5, "wave_size": 8}
    report = at_a_site(tmp_path, lambda site: durably(site, "stop", site.ids, options, 3), fail_share=1.0, servers=60)
    assert report.aborted is not None
    assert report.by_state[OutcomeState.SKIPPED] > 40
    assert report.by_state[OutcomeState.FAILED] + report.by_state[OutcomeState.SKIPPED] == 60


@pytest.mark.parametrize(
    ("servers", "options", "wave"),
    [
        pytest.param(19, {"wave_size": 1, "abort_above": 0}, 1, id="the first failure of a rack"),
        pytest.param(60, {"wave_size": 5, "abort_above": 0.02}, 5, id="one wave"),
        pytest.param(60, {"abort_above": 0.05}, 3, id="as many as may fail"),
    ],
)
def test_no_more_servers_are_lost_than_a_wave_over_all_workers(
    tmp_path: Path, servers: int, options: dict[str, Any], wave: int
) -> None:
    async def main(site: Site) -> FleetReport:
        report = await durably(site, "reboot", site.ids, options, 3)
        assert len({absence.server_id for absence in books_of(site.cloud.cloud).absences}) <= wave
        return report

    report = at_a_site(tmp_path, main, fail_share=1.0, servers=servers)
    assert report.aborted is not None
    assert report.wave_size == wave
    assert 1 <= report.by_state[OutcomeState.FAILED] <= wave
    assert report.by_state[OutcomeState.FAILED] + report.by_state[OutcomeState.SKIPPED] == servers
