"""Rollouts that outlive their process: no more servers away than may be, each asked once, whoever dies when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from bms_async import (
    BmsClient,
    FleetReport,
    GroupBlockedError,
    InvalidRequestError,
    JournalError,
    Limits,
    NotReadyError,
    OutcomeState,
    Rollout,
    RunStatus,
    Server,
    Window,
    tcp_open,
)
from bms_async.fleet import durable
from bms_async.fleet.rollout.readiness import TcpOpen
from bms_async.journal import Step
from bms_async.journal.statements import ask
from bms_async.journal.transactions import claims, plans
from bms_async.runs.rollouts import RunPlan
from tests.fleet.rollout._judge import Books, books_of, judge, racks

from ._virtual import Site, at_a_site, kill

RACKS = {"servers": 12, "rack_size": 4, "job_seconds": (20, 40)}
ONE_OF_A_RACK = Rollout(group_by="tag:rack", max_unavailable=1)
TAKEN_OVER = claims.LEASE + 5 + 2


def counted(report: FleetReport) -> dict[str, int]:
    return {state.value: count for state, count in report.by_state.items() if count}


def books(site: Site) -> Books:
    return books_of(site.cloud.cloud)


def wall(site: Site) -> datetime:
    return books(site).zero + timedelta(seconds=site.cloud.now())


def judged(site: Site, report: FleetReport, **promised: Any) -> None:
    """Hold a run against R2, R3 and its rollout."""
    found = books(site)
    judge(found, **{"group_of": racks(site.cloud.cloud), "allowed": 1, **promised})
    assert max(Counter(absence.server_id for absence in found.absences).values()) == 1
    assert sorted(outcome.server_id for outcome in report.outcomes) == sorted(site.ids)


@pytest.fixture
def ask_the_cloud(monkeypatch: pytest.MonkeyPatch) -> list[Site]:
    """Have `tcp_open` ask the simulated cloud of the site that a test puts into the list."""
    sites: list[Site] = []

    async def reachable(_: TcpOpen, server: Server) -> bool:
        return await sites[-1].cloud.reachable(server)

    monkeypatch.setattr(TcpOpen, "__call__", reachable)
    return sites


@pytest.mark.parametrize("seed", range(4))
def test_however_many_workers_die_no_more_of_a_rack_are_away_than_may_be(tmp_path: Path, seed: int) -> None:
    random = Random(f"rollout/{seed}")
    settle = random.choice([0.0, 10.0])

    async def main(site: Site) -> None:
        first = await site.client()
        run = await first.runs.reboot(
            site.ids, key="k", rollout=Rollout(group_by="tag:rack", max_unavailable=1, settle=settle)
        )
        alive = [first, await site.worker()]
        for _ in range(4):
            await anyio.sleep(random.uniform(0, 60))
            dying = alive.pop(random.randrange(2))
            alive.append(await site.worker())
            await kill(dying)
        report = await (await alive[-1].runs.get("k"))
        assert counted(report).keys() <= {"SUCCEEDED", "UNKNOWN", "SKIPPED"}
        judged(site, report, settle=settle)
        assert run.key == "k"

    at_a_site(tmp_path, main, **RACKS, seed=seed, latency=(0.01, 2))


def watch_store(client: BmsClient, watched: Callable[..., Any], around: Callable[[bool], Awaitable[None]]) -> None:
    """Have something done before and after each commit of a transaction of a client's journal.

    Args:
        client: The client.
        watched: The transaction.
        around: What is done, with whether the commit was made; what it raises is the store's answer.
    """
    journal = client.runs._journal
    store: Any = journal._store
    honest = store.run

    async def run(begin: Any, *, writes: bool) -> Any:
        if begin.func is not watched:
            return await honest(begin, writes=writes)
        await around(False)
        result = await honest(begin, writes=writes)
        await around(True)
        return result

    store.run = run


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("nth", [1, 3])
def test_a_death_before_or_after_the_commit_of_a_release_neither_loses_a_server_nor_asks_it_twice(
    tmp_path: Path, committed: bool, nth: int
) -> None:
    async def main(site: Site) -> None:
        first, reached, passed = await site.client(), anyio.Event(), 0

        async def die(is_committed: bool) -> None:
            nonlocal passed
            passed += is_committed is committed
            if passed == nth:
                reached.set()
                await anyio.sleep_forever()

        watch_store(first, plans.release, die)
        await first.runs.reboot(site.ids, key="k", rollout=ONE_OF_A_RACK)
        await reached.wait()
        second = await site.worker()
        await kill(first)
        report = await (await second.runs.get("k"))
        assert counted(report).get("SKIPPED", 0) == 0
        assert len(report) == 12
        judged(site, report)

    at_a_site(tmp_path, main, **RACKS)


@pytest.mark.parametrize("guarded", [True, False])
def test_a_plan_that_is_taken_over_without_a_look_at_open_batches_would_ask_servers_twice(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_look(*_: object) -> None:
        return

    if not guarded:
        monkeypatch.setattr(RunPlan, "_collect_open", no_look)

    async def main(site: Site) -> int:
        first = await site.client()
        await first.runs.reboot(site.ids, key="k", rollout=ONE_OF_A_RACK)
        await anyio.sleep(5)
        await site.worker()
        await kill(first)
        await anyio.sleep(TAKEN_OVER + 5)
        return site.calls("servers.reboot")

    assert at_a_site(tmp_path, main, **{**RACKS, "job_seconds": (60, 80)}) == (1 if guarded else 2)


def test_releases_whose_commit_is_not_confirmed_are_made_once(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        lost = 0

        async def lose(is_committed: bool) -> None:
            nonlocal lost
            if is_committed and lost < 4:
                lost += 1
                raise ConnectionError("the answer was lost")

        watch_store(client, plans.release, lose)
        run = await client.runs.reboot(site.ids, key="k", rollout=ONE_OF_A_RACK)
        report = await run
        assert counted(report) == {"SUCCEEDED": 12}
        assert lost == 4
        standing = run.progress.rollout
        assert standing is not None
        assert (standing.waiting, standing.under_way, standing.groups, standing.groups_done) == (0, 0, 3, 3)
        judged(site, report)

    at_a_site(tmp_path, main, **RACKS)


def test_a_planner_that_stood_still_for_longer_than_its_lease_releases_nothing(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        first, awake, stands = await site.client(), anyio.Event(), anyio.Event()
        steps: list[Step] = []
        honest = first.runs._journal.run

        async def run(transaction: Any, *args: Any, **options: Any) -> Any:
            # The whole process stands still, so that whatever it wants of the journal comes later.
            if stands.is_set() or (transaction is plans.release and books(site).absences):
                stands.set()
                await awake.wait()
            result = await honest(transaction, *args, **options)
            if transaction is plans.release and stands.is_set():
                steps.append(result)
            return result

        journal: Any = first.runs._journal
        journal.run = run
        await first.runs.reboot(site.ids, key="k", rollout=ONE_OF_A_RACK)
        # Not earlier: the plan may be any worker's that is there.
        await stands.wait()
        second = await site.worker()
        await anyio.sleep(TAKEN_OVER + 60)
        awake.set()
        report = await (await second.runs.get("k"))
        assert steps == [Step.LOST]
        assert counted(report) == {"SUCCEEDED": 12}
        judged(site, report)

    at_a_site(tmp_path, main, **RACKS)


def test_a_paused_rollout_begins_nothing_and_says_so_to_every_process(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        worker, elsewhere = await site.client(), await site.client()
        await worker.runs.reboot(site.ids, key="k", rollout=ONE_OF_A_RACK)
        run = await elsewhere.runs.get("k")
        await anyio.sleep(30)
        await run.pause()
        paused = site.cloud.now()
        assert run.progress.waits_for == "the run is paused"
        await anyio.sleep(600)
        # Another process takes the plan over in the pause.
        later = await site.worker()
        await kill(worker)
        await anyio.sleep(600)
        await run.resume()
        resumed = site.cloud.now()
        report = await (await later.runs.get("k"))
        assert counted(report) == {"SUCCEEDED": 12}
        judged(site, report, pauses=[(paused, resumed)])

    at_a_site(tmp_path, main, **RACKS)


@pytest.mark.parametrize("planner", ["works", "is dead", "never was there"])
def test_cancelling_a_rollout_skips_what_was_not_released_and_needs_no_worker(tmp_path: Path, planner: str) -> None:
    async def main(site: Site) -> None:
        first, elsewhere = await site.client(), await site.client()
        await first.runs.reboot(site.ids, key="k", rollout=ONE_OF_A_RACK, detach=planner == "never was there")
        await anyio.sleep(10)
        if planner == "is dead":
            await kill(first)
        run = await elsewhere.runs.get("k")
        await run.cancel()
        begun = 0 if planner == "never was there" else 3
        assert run.progress.by_state[OutcomeState.SKIPPED] == 12 - begun
        assert (run.ended is not None) is (not begun)
        if planner == "is dead":
            await site.works(elsewhere)
        report = await run
        assert report.cancelled
        assert len(report) == 12
        assert len(books(site).absences) == begun

    at_a_site(tmp_path, main, **RACKS)


def test_a_plan_of_a_cancelled_run_that_a_dead_canceller_left_is_skipped_by_any_worker(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client, dying = await site.client(), await site.client()
        await client.runs.reboot(site.ids, key="k", rollout=ONE_OF_A_RACK, detach=True)
        run = await dying.runs.get("k")

        async def die(is_committed: bool) -> None:
            raise JournalError("killed")

        watch_store(dying, plans.skip_planned, die)
        with pytest.raises(JournalError):
            await run.cancel()
        await site.works(client)
        assert counted(await (await client.runs.get("k"))) == {"SKIPPED": 12}

    at_a_site(tmp_path, main, **RACKS)


@pytest.mark.parametrize("guarded", [True, False])
def test_nothing_is_sent_outside_of_the_window_though_a_batch_waited_for_its_slot_when_it_closed(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_LONGEST_DELAY", 50.0)
    if not guarded:
        monkeypatch.setattr(durable.DurableBatch, "_check_gate", lambda _: None)

    async def main(site: Site) -> None:
        await anyio.sleep((10 - wall(site).second) % 60)
        closes = wall(site).replace(second=0, microsecond=0) + timedelta(minutes=1)
        opens = closes + timedelta(minutes=4)
        window = Window(f"{opens:%H:%M}-{closes:%H:%M}", zone="UTC")
        client = await site.client(limits=Limits({"servers.reboot": 1}))
        rollout = Rollout(group_by="tag:rack", max_unavailable=2, window=window)
        run = await client.runs.reboot(site.ids, key="k", rollout=rollout)
        await anyio.sleep(45)
        assert (await run.refresh()).held == 2
        await anyio.sleep(20)
        waits_for = (await run.refresh()).progress.waits_for
        assert waits_for is not None
        assert waits_for.startswith("outside of the window")
        batches = await client.runs._journal.run(ask, "SELECT count(*) FROM bms_async_batches")
        await anyio.sleep(160)
        if guarded:
            assert await client.runs._journal.run(ask, "SELECT count(*) FROM bms_async_batches") == batches
        report = await run
        assert counted(report) == {"SUCCEEDED": 12}
        judged(site, report, allowed=2, is_open=lambda at: not closes <= at < opens)

    with nullcontext() if guarded else pytest.raises(AssertionError, match="outside of the window"):
        at_a_site(tmp_path, main, **RACKS, limits={"servers.reboot": 1})


def test_a_canary_that_is_not_well_aborts_the_run_for_all_workers(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        site.cloud.break_down(site.ids[1])
        client = await site.client()
        await site.worker()
        run = await client.runs.reboot(site.ids, key="k", rollout=Rollout(canary=2))
        report = await run
        assert run.status is RunStatus.ABORTED
        assert report.aborted == f"canary {site.ids[1]} is not well"
        assert counted(report) == {"SUCCEEDED": 1, "FAILED": 1, "SKIPPED": 10}
        assert len(books(site).absences) == 2

    at_a_site(tmp_path, main, **RACKS)


def test_canaries_go_alone_though_the_worker_that_planned_them_died(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        first = await site.client()
        await first.runs.reboot(site.ids, key="k", rollout=Rollout(canary=2, settle=5.0))
        await anyio.sleep(10)
        second = await site.worker()
        await kill(first)
        report = await (await second.runs.get("k"))
        assert counted(report) == {"SUCCEEDED": 12}
        judged(site, report, allowed=None, canaries=site.ids[:2], settle=5.0)

    at_a_site(tmp_path, main, **RACKS)


def test_a_server_that_is_not_ready_in_time_blocks_its_rack_and_another_process_reads_why(
    tmp_path: Path, ask_the_cloud: list[Site]
) -> None:
    async def main(site: Site) -> None:
        ask_the_cloud.append(site)
        rack = racks(site.cloud.cloud)
        site.cloud.hang(site.ids[0])
        client, elsewhere = await site.client(), await site.client()
        rollout = Rollout(group_by="tag:rack", max_unavailable=1, ready=tcp_open(22), ready_timeout=120)
        await client.runs.reboot(site.ids, key="k", rollout=rollout)
        run = await elsewhere.runs.get("k")
        await anyio.sleep(60)
        assert (await run.refresh()).progress.waits_for == "1 server is not ready yet"
        outcomes = {outcome.server_id: outcome for outcome in (await run).outcomes}
        assert outcomes[site.ids[0]].state is OutcomeState.FAILED
        assert isinstance(outcomes[site.ids[0]].error, NotReadyError)
        assert "tcp 22" in str(outcomes[site.ids[0]].error)
        blocked = [each for each in outcomes.values() if each.state is OutcomeState.SKIPPED]
        assert {rack(each.server_id) for each in blocked} == {rack(site.ids[0])}
        assert len(blocked) == 3
        assert all(isinstance(each.error, GroupBlockedError) for each in blocked)
        assert site.ids[0] in str(blocked[0].error)
        judged(site, await run)

    at_a_site(tmp_path, main, **RACKS, boot_seconds=(5, 10))


def test_the_report_of_a_durable_rollout_says_in_any_process_what_became_of_each_group(
    tmp_path: Path, ask_the_cloud: list[Site]
) -> None:
    async def main(site: Site) -> None:
        ask_the_cloud.append(site)
        lost = site.ids[8]
        site.cloud.hang(lost)
        client, elsewhere = await site.client(), await site.client()
        rollout = Rollout(canary=2, group_by="tag:rack", max_unavailable=1, ready=tcp_open(22), ready_timeout=120)
        await client.runs.reboot(site.ids, key="k", rollout=rollout)
        run = await elsewhere.runs.get("k")
        await anyio.sleep(100)
        early = (await run.report_so_far()).rollout
        assert early is not None
        assert [(group.name, group.servers, group.canaries) for group in early.groups] == [("rack-0", 4, 2)]
        report = await run
        assert report.rollout is not None
        found = {group.name: group for group in report.rollout.groups}
        assert {name: (group.servers, group.allowed, group.canaries) for name, group in found.items()} == {
            "rack-0": (4, 1, 2),
            "rack-1": (4, 1, 0),
            "rack-2": (4, 1, 0),
        }
        assert [name for name, group in found.items() if group.blocked or group.lost] == ["rack-2"]
        assert found["rack-2"].by_state == {OutcomeState.FAILED: 1, OutcomeState.SKIPPED: 3}
        places = dict(zip((outcome.server_id for outcome in report.outcomes), report.rollout.places, strict=True))
        assert [server_id for server_id, place in places.items() if place.is_lost] == [lost]
        assert sorted(server_id for server_id, place in places.items() if place.is_canary) == sorted(site.ids[:2])
        rack = racks(site.cloud.cloud)
        assert all(place.group is not None and place.group.name == rack(each) for each, place in places.items())

    at_a_site(tmp_path, main, **RACKS, boot_seconds=(5, 10))


def test_a_batch_that_holds_outcomes_back_is_taken_over_and_readiness_is_checked_again(
    tmp_path: Path, ask_the_cloud: list[Site]
) -> None:
    async def main(site: Site) -> None:
        ask_the_cloud.append(site)
        first = await site.client()
        rollout = Rollout(group_by="tag:rack", max_unavailable=1, ready=tcp_open(22), ready_timeout=300)
        await first.runs.reboot(site.ids, key="k", rollout=rollout)
        # The jobs have ended, and the servers boot.
        await anyio.sleep(60)
        second = await site.worker()
        assert (await (await second.runs.get("k")).refresh()).progress.done == 0
        await kill(first)
        report = await (await second.runs.get("k"))
        assert counted(report) == {"SUCCEEDED": 12}
        judged(site, report)

    at_a_site(tmp_path, main, **RACKS, boot_seconds=(100, 120))


def test_what_another_process_cannot_call_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        with pytest.raises(InvalidRequestError, match="ready"):
            await client.runs.reboot(site.ids, key="k", rollout=Rollout(ready=site.cloud.reachable))
        assert [run async for run in client.runs.list()] == []

    at_a_site(tmp_path, main, **RACKS)


def test_functions_of_a_rollout_are_called_when_it_begins_and_never_by_a_worker(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        rack, called = racks(site.cloud.cloud), 0

        def group(server: Server) -> str:
            nonlocal called
            called += 1
            return rack(server.id)

        client = await site.client()
        reverse = {server_id: -number for number, server_id in enumerate(site.ids)}
        rollout = Rollout(group_by=group, max_unavailable=1, order_by=lambda server: reverse[server.id])
        run = await client.runs.reboot(site.ids, key="k", rollout=rollout, detach=True)
        again = await client.runs.reboot(site.ids[::-1], key="k", rollout=ONE_OF_A_RACK, detach=True)
        assert (again.id, called) == (run.id, 12)
        with pytest.raises(InvalidRequestError, match="same servers"):
            await client.runs.reboot(site.ids[:5], key="k", rollout=ONE_OF_A_RACK, detach=True)
        await site.works(client)
        report = await run
        assert called == 12
        judged(site, report)
        assert {absence.server_id for absence in books(site).absences[:3]} == {
            max((each for each in site.ids if rack(each) == name), key=site.ids.index)
            for name in set(map(rack, site.ids))
        }

    at_a_site(tmp_path, main, **RACKS)


def test_the_same_key_is_the_same_rollout_though_the_cloud_has_hidden_a_server_meanwhile(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client, ids = await site.client(), site.ids
        run = await client.runs.reboot(ids, key="k", rollout=ONE_OF_A_RACK, detach=True)
        site.cloud.remove(ids[3])
        again = await client.runs.reboot(ids, key="k", rollout=ONE_OF_A_RACK, detach=True)
        assert again.id == run.id

    at_a_site(tmp_path, main, **RACKS)


def test_a_rollout_is_aborted_when_too_many_have_failed(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        site.cloud.break_down(*site.ids)
        client = await site.client()
        run = await client.runs.reboot(site.ids, key="k", rollout=Rollout(max_unavailable=4, abort_above=0.2))
        assert run.wave_size == 2
        report = await run
        assert run.status is RunStatus.ABORTED
        assert counted(report) == {"FAILED": 2, "SKIPPED": 10}

    at_a_site(tmp_path, main, **RACKS)


def test_a_rollout_in_a_wave_that_is_smaller_than_a_call_goes_on_to_its_end(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        report = await (await client.runs.reboot(site.ids, key="k", rollout=Rollout(), wave_size=3))
        assert counted(report) == {"SUCCEEDED": 12}
        judged(site, report, group_of=lambda _: "all", allowed=3)

    at_a_site(tmp_path, main, **RACKS)


def test_what_failed_in_a_rollout_is_tried_again_by_another_one(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        site.cloud.break_down(site.ids[0])
        client = await site.client()
        run = await client.runs.reboot(site.ids, key="k", rollout=ONE_OF_A_RACK)
        assert counted(await run) == {"SUCCEEDED": 8, "FAILED": 1, "SKIPPED": 3}
        site.cloud.repair(site.ids[0])
        again = await client.runs.retry(run, rollout=ONE_OF_A_RACK)
        assert counted(await again) == {"SUCCEEDED": 4}
        assert await client.runs.prune(older_than=0) == 2
        assert not any(await client.runs._journal.run(ask, "SELECT run FROM bms_async_plans"))

    at_a_site(tmp_path, main, **RACKS)


def test_a_server_that_the_cloud_does_not_show_is_skipped_when_the_run_begins(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        begun = wall(site)
        run = await client.runs.reboot([*site.ids, "no-such-server"], key="k", rollout=ONE_OF_A_RACK)
        report = await run
        (unseen,) = [outcome for outcome in report.outcomes if outcome.server_id == "no-such-server"]
        assert unseen.state is OutcomeState.SKIPPED
        assert "its group is not known" in str(unseen.error)
        assert unseen.ended is not None
        assert timedelta(0) <= unseen.ended - begun < timedelta(minutes=1)

    at_a_site(tmp_path, main, **RACKS)
