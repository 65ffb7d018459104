"""A cloud whose servers drift behind a program's back, and how a test waits until nothing goes on any more."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from bms_async import BmsClient, Limits, OutcomeState
from bms_async.testing import CutBefore, Drift, NotSettledError, SimulatedCloud, advance, settled

pytestmark = pytest.mark.bms(virtual=True, servers=4)


class Syncing:
    """A controller that is synced at some times."""

    def __init__(self, *synced: tuple[float, float]) -> None:
        self.synced_at = synced
        self.asked = 0

    async def synced(self, *, timeout: float | None = None) -> None:
        assert timeout == 0
        self.asked += 1
        now = anyio.current_time()
        if not any(begin <= now < end for begin, end in self.synced_at):
            raise TimeoutError("1 of 4 servers is not as it is wanted")


async def test_servers_drift_as_it_was_planned(bms_simulator: SimulatedCloud, bms_client: BmsClient) -> None:
    first, second, third, _ = bms_simulator.ids
    await advance(10)

    def plan() -> Iterator[Drift]:
        yield Drift(30, second, "ERROR")
        yield Drift(60, second, "SHUTOFF")

    bms_simulator.drift([(20, first), (10, third, "SHUTOFF", 15)])
    bms_simulator.drift(plan())
    await advance(15)
    assert (await bms_client.servers.get(third)).task_state == "powering-off"
    assert (bms_simulator.off, bms_simulator.drifted) == ([], 1)
    await advance(20)
    assert [(await bms_client.servers.get(each)).status for each in (first, second, third)] == [
        "SHUTOFF",
        "ERROR",
        "SHUTOFF",
    ]
    await advance(30)
    assert (bms_simulator.off, bms_simulator.drifted) == ([first, second, third], 4)
    assert (bms_simulator.jobs, bms_simulator.server(third).stops) == ([], 0)


async def test_another_operator_switches_a_server_and_a_run_waits_for_it(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    server_id = bms_simulator.ids[0]
    bms_simulator.switch(server_id, "SHUTOFF", seconds=30)
    with pytest.raises(ValueError, match=r"expected a server that can be switched to ACTIVE: .*powering-off"):
        bms_simulator.switch(server_id, "ACTIVE")
    report = await bms_client.fleet.stop([server_id])
    assert [outcome.state for outcome in report.outcomes] == [OutcomeState.UNCHANGED]
    assert bms_simulator.now() > 30
    assert bms_simulator.server(server_id).stops == 0
    with pytest.raises(ValueError, match="can be switched"):
        bms_simulator.switch(server_id, "SHUTOFF")
    with pytest.raises(ValueError, match=r"seconds=-1: expected 0 or more"):
        bms_simulator.switch(server_id, "ACTIVE", seconds=-1)


@pytest.mark.bms(servers=1000, drift_share=0.01)
async def test_servers_drift_by_chance(bms_simulator: SimulatedCloud) -> None:
    began = bms_simulator.now()
    await advance(600 - began)
    assert 60 <= bms_simulator.drifted <= 140
    assert 50 <= len(bms_simulator.off) <= bms_simulator.drifted


async def test_a_cloud_in_which_nothing_happens_has_settled_when_it_was_quiet(bms_simulator: SimulatedCloud) -> None:
    await settled(bms_simulator, quiet=0)
    assert bms_simulator.now() < 1
    await settled(bms_simulator)
    assert 60 <= bms_simulator.now() < 61


async def test_it_waits_for_jobs_and_for_clients_that_hear_of_their_end(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    run = bms_client.fleet.stop(bms_simulator.ids)
    await settled(bms_simulator)
    assert bms_simulator.off == bms_simulator.ids
    assert run.report is not None


@pytest.mark.bms(limits={"servers.stop": 1})
async def test_it_waits_for_calls_that_wait_for_their_slot(bms_simulator: SimulatedCloud) -> None:
    async with bms_simulator.client(limits=Limits({"servers.stop": 1})) as bms, anyio.create_task_group() as tasks:
        for server_id in bms_simulator.ids[:3]:
            tasks.start_soon(bms.servers.stop, [server_id])
        await settled(bms_simulator, quiet=5)
        assert bms_simulator.off == bms_simulator.ids[:3]
        assert bms_simulator.now() > 120


@pytest.mark.bms(state_lag_seconds=100.0, job_seconds=(10.0, 10.0))
async def test_it_waits_for_states_that_lag_behind_and_for_other_operators(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    first, second, *_ = bms_simulator.ids
    await bms_client.servers.stop([first])
    await settled(bms_simulator, quiet=1)
    assert bms_simulator.off == [first]
    bms_simulator.switch(second, "SHUTOFF", seconds=200)
    await settled(bms_simulator, quiet=1)
    assert bms_simulator.off == [first, second]


async def test_a_server_that_drifts_begins_the_quiet_anew(bms_simulator: SimulatedCloud) -> None:
    bms_simulator.drift([(40, bms_simulator.ids[0])])
    await settled(bms_simulator)
    assert 100 <= bms_simulator.now() < 110


async def test_a_reconciler_must_be_synced_and_stay_so(bms_simulator: SimulatedCloud) -> None:
    controller = Syncing((10, 50), (100, 1000))
    await settled(bms_simulator, controller)
    assert 160 <= bms_simulator.now() < 170
    assert controller.asked > 20


@pytest.mark.bms(stopped_share=0.5)
async def test_with_a_reconciler_it_ends_once_all_is_kept_as_desired(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    first, second, *_ = bms_simulator.ids
    async with bms_client.reconciler() as power:
        power.want("ACTIVE", bms_simulator.ids)
        bms_simulator.drift([(100, first, "SHUTOFF"), (110, second, "SHUTOFF", 60)])
        with pytest.raises(NotSettledError, match=r"of 4 servers (is|are) not as desired"):
            await settled(bms_simulator, power, within=5, quiet=1)
        await settled(bms_simulator, power, quiet=90)
        assert bms_simulator.on == bms_simulator.ids
        assert (bms_simulator.drifted, bms_simulator.server(first).starts > 0) == (2, True)


async def test_what_still_goes_on_is_named(bms_simulator: SimulatedCloud, bms_client: BmsClient) -> None:
    first, second, *_ = bms_simulator.ids
    bms_simulator.faults.add("jobs.get", CutBefore(), times=None)
    job = await bms_client.servers.reboot([first])
    bms_simulator.switch(second, "SHUTOFF", seconds=1000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(job.result)
        with pytest.raises(NotSettledError) as late:
            await settled(bms_simulator, Syncing(), within=15, quiet=1)
        tasks.cancel_scope.cancel()
    assert bms_simulator.now() == pytest.approx(15, abs=0.1)
    assert str(late.value).startswith("not settled within 15 s: 1 server is being switched by another operator; ")
    assert late.value.reasons[1:] == (
        "a job runs: reboot, ended on 0 of 1 servers",
        "a client polls 1 job",
        "1 of 4 servers is not as it is wanted",
    )
    assert isinstance(late.value, TimeoutError)
    bms_simulator.faults.clear()


@pytest.mark.bms(servers=100, drift_share=1.0)
async def test_a_cloud_that_never_stops_drifting_never_settles(bms_simulator: SimulatedCloud) -> None:
    with pytest.raises(NotSettledError, match="it was quiet for the last"):
        await settled(bms_simulator, within=600)


@pytest.mark.parametrize(("within", "quiet"), [(10, 20), (-1, 0), (float("inf"), 1), (10, float("nan"))])
async def test_a_time_that_is_none_is_refused(bms_simulator: SimulatedCloud, within: float, quiet: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= quiet <= within"):
        await settled(bms_simulator, within=within, quiet=quiet)


@pytest.mark.bms(virtual=False)
async def test_on_a_real_clock_it_is_refused(bms_simulator: SimulatedCloud) -> None:
    with pytest.raises(RuntimeError, match="needs a virtual clock"):
        await settled(bms_simulator)
